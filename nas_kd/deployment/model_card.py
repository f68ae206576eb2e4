"""The README beside an exported file: a model card for people, with the head that Hugging Face reads."""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nas_kd.deployment.card import input_facts, output_of
from nas_kd.deployment.facts import StudentFacts
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.markdown import Markdown, code_span, escape_markdown, paragraph
from nas_kd.results.run_record import NO_SCORE

SHOWN_CLASSES = 50
TAGS = ("nas-kd", "knowledge-distillation", "neural-architecture-search", "onnx", "onnxruntime")


def model_card(facts: StudentFacts, names: Mapping[str, str], size_bytes: int) -> str:
    """Write the README.

    Args:
        facts: about the student.
        names: of the files: `onnx`, `card`, `program`, and `weights` where they are written.
        size_bytes: of the ONNX file.
    """
    inputs, output = input_facts(facts.data), output_of(facts.data)
    probabilities = output.probabilities.replace("temperature", f"{facts.temperature:.4g}")
    shape = ", ".join(map(str, facts.data.input_shape))
    values = {
        "front_matter": Markdown(front_matter(facts)),
        "student": facts,
        "inputs": inputs,
        "files": _files(names),
        "program": Markdown(names["program"]),
        "card_name": names["card"],
        "onnx_name": names["onnx"],
        "example_shape": (1, *facts.data.input_shape),
        "input_comment": Markdown("pixels 0..255, as float32" if inputs["units"] == "pixels" else "as stored"),
        "shape": f"(batch, {shape})",
        "units": _units(inputs),
        "normalization": "Mean and standard deviation are in the graph: normalise nothing.",
        "picture": _picture(inputs),
        "score": facts.data.headline_title,
        "output": output,
        "output_shape": f"(batch, {', '.join(map(str, output.shape or [len(facts.data.classes)]))})",
        "probabilities": probabilities,
        "calibration": _calibration(facts) if "temperature" in output.probabilities else "",
        "decision": _decision(facts),
        "shown_classes": facts.data.classes[:SHOWN_CLASSES],
        "more_classes": _more(len(facts.data.classes) - SHOWN_CLASSES),
        "accuracy": [
            ("validation", facts.val.samples, percent(facts.val), percent(facts.val_over_seeds)),
            ("test", facts.test.samples, percent(facts.test), percent(facts.test_over_seeds)),
            *((f"test, {title}", v.samples, "", percent(v)) for title, v in facts.scores_over_seeds.items()),
        ],
        "parity": Markdown(f"{facts.parity:.2g}"),
        "agreement": Markdown(f"{facts.agreement:.2%}"),
        "costs": _costs(facts, size_bytes),
        "made": _made(facts),
        "limits": _small_split(facts.test, facts.data.headline_title),
        "licence": _licence(facts),
    }
    return _environment().get_template("model_card.md").render(values).strip() + "\n"


def _environment() -> Environment:
    # Not HTML: instead of autoescaping, every value goes through `finalize`.
    environment = Environment(
        loader=PackageLoader("nas_kd.deployment"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        finalize=lambda value: value if isinstance(value, Markdown) else escape_markdown(_encodable(str(value))),
    )
    environment.filters |= {
        "code": lambda text: Markdown(code_span(_encodable(text))),
        "paragraph": lambda text: Markdown(paragraph(_encodable(text))),
        "json": lambda value: Markdown(json.dumps(value)),
        "json_tuple": lambda value: Markdown(repr(tuple(value))),
        "markdown": Markdown,
    }
    return environment


def front_matter(facts: StudentFacts) -> str:
    """The YAML head of the README, without its fences; everything from outside is quoted."""
    card, data = facts.card, facts.data
    words = output_of(data)
    pipeline, task = words.hub_tasks.get(len(data.input_shape), (None, None))
    named = f"Test {data.headline_title} (95 % interval {facts.test.low:.4f} to {facts.test.high:.4f})"
    tags = list(dict.fromkeys([*TAGS, *card.tags]))
    lines = [f"license: {yaml_string(card.license)}"] if card.license else []
    lines += ["library_name: onnx"]
    lines += [f"pipeline_tag: {pipeline}"] if pipeline else []
    lines += ["tags:", *(f"- {yaml_string(tag)}" for tag in tags), "metrics:", f"- {words.hub_metric}"]
    results = [
        "model-index:",
        f"- name: {yaml_string(f'{data.name} {facts.candidate.id}')}",
        "  results:",
        "  - task:",
        f"      type: {pipeline or 'other'}",
        *([f"      name: {task}"] if task else []),
        "    dataset:",
        f"      name: {yaml_string(data.name)}",
        f"      type: {yaml_string(data.name)}",
        "      split: test",
        "    metrics:",
        f"    - type: {words.hub_metric}",
        f"      value: {facts.test.mean!r}",
        f"      name: {yaml_string(named)}",
    ]
    return "\n".join([*lines, *results]) + "\n"


def yaml_string(text: str) -> str:
    """Quote text as a YAML string that every parser reads back unchanged."""
    return "".join(['"', *map(_yaml_character, _encodable(text)), '"'])


def _yaml_character(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    printable = 0x20 <= code <= 0x7E or 0xA0 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code > 0xFFFF
    if printable and code not in {0x2028, 0x2029, 0xFEFF}:
        return character
    return f"\\u{code:04x}"


def _encodable(text: str) -> str:
    """Text without the lone surrogates that stand for undecodable bytes in the names of files."""
    return text.encode("utf-8", "replace").decode()


def percent(accuracy: Accuracy) -> str:
    """An accuracy with its 95 % interval: `97.1 % (95.0 to 98.4)`."""
    return f"{accuracy.mean * 100:.1f} % ({accuracy.low * 100:.1f} to {accuracy.high * 100:.1f})"


def _files(names: Mapping[str, str]) -> list[tuple[str, str]]:
    what = {
        "onnx": "the network, one file without external data",
        "card": "all facts for programs: input, output, classes, calibration, accuracy, versions, sha256",
        "program": "runs it on pictures and arrays with numpy, pillow and onnxruntime alone",
        "weights": "the same weights for PyTorch, as safetensors",
    }
    return [(names[kind], text) for kind, text in what.items() if kind in names]


def _units(inputs: Mapping[str, Any]) -> str:
    if inputs["units"] == "pixels":
        colour = f" ({inputs['colour']})" if inputs["colour"] else ""
        return f"pixels 0..255{colour}" + (f", layout {inputs['layout']}" if inputs["layout"] == "NCHW" else "")
    known = inputs["range"]
    return "in the units of the training data" + (f", {known[0]:.6g} to {known[1]:.6g}" if known else "")


def _picture(inputs: Mapping[str, Any]) -> list[str]:
    steps = inputs["picture"]
    if steps is None:
        return []
    ways = {
        "crop": "the centre of the target's shape is cut out and resized",
        "letterbox": "the whole picture is resized, with bars",
        "stretch": "the whole picture is resized, whatever its shape",
    }
    height, width = steps["image_size"]
    size = f"{width} x {height} pixels (width x height)"
    origin = "as in training" if steps["as_in_training"] else "assumed: the training data came as arrays"
    return [
        f"Pictures: {ways[steps['resize']]} to {size}, {steps['interpolation']}; {steps['convert']}; "
        f"{steps['orientation']} ({origin})."
    ]


def _calibration(facts: StudentFacts) -> str:
    record = facts.calibration
    if record is None:
        return "The temperature was not fitted."
    test = record.ece.get("test")
    error = "" if test is None else f" Expected calibration error on test: {test.before:.3f}"
    if not record.fitted:
        return f"The temperature was not fitted: {record.note}.{error + '.' if error else ''}"
    after = "" if test is None else f" without it, {test.after:.3f} with it"
    return f"The temperature was fitted on {record.samples:,} validation samples.{error}{after}."


def _costs(facts: StudentFacts, size_bytes: int) -> list[str]:
    costs, latency = facts.costs, facts.costs.latency_ms
    lines = [
        f"Size: {size_bytes / 1000:.4g} kB, {costs.parameters:,} weights, "
        f"{costs.macs:,} multiply-adds a sample, precision {facts.candidate.precision}"
    ]
    if latency is not None:
        device = facts.device
        where = f" on {device.name} ({device.description}), batch {device.batch_size}" if device else ""
        stable = "; unstable: the machine was disturbed" if latency.unstable else ""
        lines.append(
            f"Latency: median {latency.p50:.4g} ms a call (95 % interval {latency.low:.4g} to {latency.high:.4g} ms)"
            f"{where}{stable}"
        )
        if device and (cpu := device.environment.get("cpu")):
            lines.append(f"Measured on: {cpu}")
    if facts.decoding_ms is not None:
        lines.append(
            f"Beside the graph: predict.py takes {facts.decoding_ms:.3g} ms a sample to read its output, in NumPy on "
            "one core of the machine that trained it (median); the latency above is without it"
        )
    return lines


def _made(facts: StudentFacts) -> list[str]:
    recipe = facts.candidate.recipe
    parameters = ", ".join(f"{name} {value:.4g}" for name, value in recipe.params.items())
    lines = [f"Student: {facts.description} (space {facts.candidate.student.space})"]
    if recipe.distills and facts.teacher is not None:
        accuracy = facts.teacher.test or facts.teacher.val
        split = "test" if facts.teacher.test else "validation"
        known = NO_SCORE if accuracy is None else percent(accuracy)
        lines.append(f"Teacher: {facts.teacher.description}, {split} {facts.data.headline_title} {known}")
    chain = f", over {len(facts.candidate.assistants)} assistants: {facts.chain_description}"
    assistants = chain if facts.candidate.assistants else ""
    lines.append(f"Method: {recipe.method_name}{f' ({parameters})' if parameters else ''}{assistants}")
    if teaching := recipe.teaching.describe():
        lines.append(f"Taught with: {teaching}")
    if facts.recipe:
        lines.append("Training: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in facts.recipe.items()))
    data = facts.data
    unlabelled = (
        f"{data.n_unlabelled:,} unlabelled (with the teacher's outputs as targets), " if data.n_unlabelled else ""
    )
    lines.append(
        f"Data: {data.name}, {data.n_train:,} training, {unlabelled}{data.n_val:,} validation, "
        f"{data.n_test:,} test samples"
    )
    versions = ", ".join(f"{package} {version}" for package, version in facts.versions.items())
    return [*lines, *([f"Versions: {versions}"] if versions else [])]


def _licence(facts: StudentFacts) -> list[str]:
    card = facts.card
    lines = [
        f"This file: {card.license or 'not stated'}",
        f"Training data ({facts.data.name}): {card.dataset_license or 'not stated'}",
    ]
    return [*lines, *([f"Author: {card.author}"] if card.author else [])]


def _decision(facts: StudentFacts) -> list[str]:
    rule = facts.decision
    if "floor" in rule:
        return [
            f"Boxes of a probability from {rule['floor']:.2f} on are taken for true: so they had the largest F1 on "
            f"validation, {rule['f1']:.1%}, with right ones those that overlap by half."
        ]
    if "threshold" not in rule:
        return []
    return [
        f"Two samples are taken for one identity from a {rule['similarity']} of {rule['threshold']:.4f} on: "
        f"{rule['false_alarms']:.1%} of the pairs of two identities in the validation split are, too."
    ]


def _small_split(test: Accuracy, score: str) -> str:
    points = (test.high - test.low) * 50
    return f"The test split has {test.samples:,} samples: its {score} is known to about {points:.1f} percentage points."


def _more(number: int) -> str:
    return f" and {number:,} more" if number > 0 else ""
