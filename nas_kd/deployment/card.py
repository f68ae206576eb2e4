"""The card beside an exported file: all facts for programs, of which `metadata.py` puts some into the file itself."""

from collections.abc import Mapping
from typing import Any

from nas_kd.data.picture_steps import PictureSteps
from nas_kd.deployment.facts import StudentFacts
from nas_kd.export.onnx_export import get_opset
from nas_kd.results.calibration import ECE_DEFINITION
from nas_kd.results.output_record import OutputRecord
from nas_kd.results.run_record import DatasetRecord
from nas_kd.serialization import sha256
from nas_kd.tasks.classification import CLASSIFICATION

COLOURS = {1: "grey", 3: "RGB"}
PREPROCESSING = "none; normalisation is in the graph"


def student_facts(facts: StudentFacts) -> dict[str, Any]:
    """Collect what is needed to run a student, and where it comes from, under names that begin with `nas_kd.`."""
    data, known = facts.data, data_facts(facts.data)
    return {
        **known,
        "nas_kd.candidate": {"id": facts.candidate.id, **facts.candidate.to_json()},
        "nas_kd.accuracy": {
            "this_file": {"val": facts.val.mean, "test": facts.test.mean},
            "over_seeds": {
                "val": facts.val_over_seeds.model_dump(),
                "test": facts.test_over_seeds.model_dump(),
            },
        },
        "nas_kd.scores": {title: {"test": value.model_dump()} for title, value in facts.scores_over_seeds.items()},
        "nas_kd.output": known["nas_kd.output"] | {"temperature": facts.temperature} | dict(facts.decision),
        "nas_kd.calibration": _calibration(facts),
        "nas_kd.dataset": {
            "name": data.name,
            "source": data.source,
            "samples": {"train": data.n_train, "val": data.n_val, "test": data.n_test}
            | ({"unlabelled": data.n_unlabelled} if data.n_unlabelled else {}),
            "license": facts.card.dataset_license,
        },
        "nas_kd.about": facts.card.model_dump(mode="json"),
        "nas_kd.parity": {"max_abs_difference": facts.parity, "top1_agreement": facts.agreement},
        "nas_kd.versions": dict(facts.versions),
    }


def data_facts(data: DatasetRecord) -> dict[str, Any]:
    """Collect those of `student_facts` that follow from the data, and are the same for all students of a run."""
    output = output_of(data)
    return {
        "nas_kd.classes": [] if output.width else list(data.classes),
        "nas_kd.preprocessing": PREPROCESSING,
        "nas_kd.input": input_facts(data),
        "nas_kd.normalization": {
            "in_graph": True,
            "mean": _listed(data.mean),
            "std": _listed(data.std),
            "units": "of the input",
        },
        "nas_kd.output": {
            "name": output.name,
            "dtype": "float32",
            "shape": ["batch", *(output.shape or [len(data.classes)])],
            "kind": output.kind,
            **{name: value for name in ("probabilities", "strides") if (value := getattr(output, name))},
        },
    }


def output_of(data: DatasetRecord) -> OutputRecord:
    """What networks of a run return; those of older versions classify."""
    return data.output or CLASSIFICATION.describe_output(data.classes)


def input_facts(data: DatasetRecord) -> dict[str, Any]:
    """Name, type, shape, units and range of the input, and the steps from a picture to it."""
    pixels = data.scale > 1
    image = len(data.input_shape) == 3
    return {
        "name": "input",
        "dtype": "float32",
        "shape": ["batch", *data.input_shape],
        "layout": "NCHW" if image else "N" + "".join(f"D{i}" for i in range(1, len(data.input_shape) + 1)),
        "units": "pixels" if pixels else "as stored in the training data",
        "range": [0, 255] if pixels else _listed(data.value_range),
        "colour": COLOURS.get(data.input_shape[0]) if image else None,
        "image_size": {"height": data.input_shape[1], "width": data.input_shape[2]} if image else None,
        "picture": _picture(data) if image and pixels else None,
    }


def _picture(data: DatasetRecord) -> dict[str, Any] | None:
    """Steps from an image file to the input; assumed where the data came as arrays of pixels."""
    channels, height, width = data.input_shape
    if channels not in COLOURS:
        return None
    steps = data.picture_steps or PictureSteps.of_arrays((channels, height, width)).to_json()
    convert = "8-bit grey" if channels == 1 else "8-bit RGB; a grey picture gives three equal channels"
    return {
        **steps,
        "orientation": "EXIF orientation applied",
        "convert": convert,
        "as_in_training": data.picture_steps is not None,
    }


def _calibration(facts: StudentFacts) -> dict[str, Any]:
    record = facts.calibration
    if record is None:
        return {
            "method": "none",
            "temperature": 1.0,
            "fitted": False,
            "note": "not fitted: an older version trained it",
        }
    return {
        "method": "temperature scaling: negative log likelihood minimised on the validation split",
        **record.model_dump(),
        "ece_definition": ECE_DEFINITION,
    }


def build_card(facts: StudentFacts, onnx: bytes, file_name: str) -> dict[str, Any]:
    """Build the card of a file.

    Args:
        facts: about the student.
        onnx: the file as it is written.
        file_name: of the file, beside which the card lies.
    """
    costs = facts.costs
    return {
        "schema": 1,
        **student_facts(facts),
        "file": file_name,
        "sha256": sha256(onnx),
        "size_bytes": len(onnx),
        "opset": get_opset(onnx),
        "input_shape": list(facts.data.input_shape),
        "pixels": facts.data.scale > 1,
        "description": facts.description,
        "chain_description": facts.chain_description,
        "candidate": facts.candidate.to_json(),
        "classes": [] if output_of(facts.data).width else list(facts.data.classes),
        "accuracy": {"val": facts.val.mean, "test": facts.test.model_dump()},
        "accuracy_by_split": {"val": facts.val.model_dump(), "test": facts.test.model_dump()},
        "seed": facts.seed,
        "notes": list(facts.notes),
        "parity": {"max_abs_difference": facts.parity, "top1_agreement": facts.agreement},
        "latency_ms": costs.latency_ms.figures() if costs.latency_ms else None,
        **({} if facts.decoding_ms is None else {"decoding_ms": facts.decoding_ms}),
        "memory_bytes": costs.memory_bytes,
        "macs": costs.macs,
        "parameters": costs.parameters,
        "device": facts.device.model_dump(mode="json") if facts.device else None,
        "teacher": _teacher(facts),
        "recipe": dict(facts.recipe),
        "versions": dict(facts.versions),
        **facts.details,
    }


def _teacher(facts: StudentFacts) -> Mapping[str, Any] | None:
    teacher = facts.teacher
    if teacher is None:
        return None
    val, test = (None if a is None else a.model_dump() for a in (teacher.val, teacher.test))
    return {"description": teacher.description, "val": val, "test": test}


def _listed(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)
