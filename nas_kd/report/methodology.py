"""Section 6, methodology: data, seeds, schedule, measuring protocol, parity, environment and config."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import tomli_w

from nas_kd.plugins import display_name
from nas_kd.report import number_format as fmt
from nas_kd.report.report_context import ReportContext
from nas_kd.report.training_facts import training_facts
from nas_kd.results.latency import Latency
from nas_kd.results.mixed_plan import MixedPlan
from nas_kd.results.run_record import DatasetRecord, RunRecord
from nas_kd.results.split_notes import small_split_notes


@dataclass(frozen=True)
class Fact:
    """A statement on how the run was done, under a short name."""

    name: str
    text: str


@dataclass(frozen=True)
class Methodology:
    """All of section 6. `unstable`: final latencies that did not reach a narrow interval; `config`: as TOML."""

    facts: tuple[Fact, ...]
    unstable: tuple[str, ...]
    warnings: tuple[str, ...]
    environment: tuple[Fact, ...]
    config: str
    command: str


def build_methodology(context: ReportContext, command: str) -> Methodology:
    """Collect what a sceptical reader asks for.

    Args:
        context: the run.
        command: how to run it again; by default what the run recorded.
    """
    run = context.run
    device = dict(run.device.environment) if run.device else {}
    # A run's environment may repeat the device's, which is listed once.
    machine = {k: v for k, v in run.environment.items() if k not in ("device", "command")}
    facts = (
        *_data_facts(run),
        *_seed_facts(run),
        *training_facts(run),
        *_schedule_facts(run),
        *_assistant_facts(run),
        *_finalist_plan_facts(run),
        *_selection_facts(run),
        *_latency_facts(run),
        *_prefilter_facts(run),
        *_parity_facts(run),
    )
    return Methodology(
        facts=tuple(Fact(name, text) for name, text in facts),
        unstable=_unstable_measurements(context),
        warnings=run.warnings,
        environment=(*_flatten(machine), *_flatten(device or run.environment.get("device", {}), "device.")),
        config=tomli_w.dumps(_without_none(run.config)),
        command=command or run.command,
    )


def _data_facts(run: RunRecord) -> list[tuple[str, str]]:
    data = run.dataset
    if data is None:
        return []
    shape = "\u00d7".join(str(n) for n in data.input_shape)
    sizes = f"{data.n_train:,} training, {data.n_val:,} validation and {data.n_test:,} test samples"
    source, outputs = display_name(data.source), f"{len(data.classes)} {data.items}"
    counts = data.class_counts.get("train", ())
    facts = [
        ("Data", f"{data.name} ({source}): {outputs}, samples of {shape}; sha256 {data.key}"),
        ("Splits", f"{sizes}. The test split is used once, at the end, for finalists, controls and the teacher."),
    ]
    if data.n_unlabelled:
        facts.append(("Unlabelled data", _unlabelled_text(data, run)))
    if counts:
        spread = f"{min(counts):,} to {max(counts):,} training samples each"
        verdict = ": unbalanced (a factor of 2 or more)" if data.is_unbalanced else ""
        facts.append(("Classes", f"{spread}{verdict}."))
    small = small_split_notes(data.split_sizes, data.headline_title)
    facts += [("Small splits", f"{fmt.capital(note)}.") for note in small]
    return facts + ([("Notes on the data", " ".join(n.rstrip(".") + "." for n in data.notes))] if data.notes else [])


def _unlabelled_text(data: DatasetRecord, run: RunRecord) -> str:
    """What unlabelled samples there were, and how they took part."""
    taken = f"about {data.unlabelled_share:.0%} of the samples"
    if run.recipe is not None:  # a batch has whole samples, one of each kind at least, and no more than there are
        plan = MixedPlan(data.n_train, data.n_unlabelled, data.unlabelled_share)
        rows = plan.rows(run.recipe.recipe.batch_size)
        taken = f"{rows.unlabelled:,} of the {sum(rows):,} samples"
    text = (
        f"{data.n_unlabelled:,} samples without labels took {taken} of each batch of students that learn from a "
        "teacher. These learn from the teacher's outputs on them; there is no label loss. A student's epoch has as "
        f"many steps as one pass over all {data.n_train + data.n_unlabelled:,} samples, an epoch of a teacher trained "
        f"here one pass over the {data.n_train:,} labelled ones. Students that learn from labels "
        "alone get as many steps, on these. Validation and test have none of the unlabelled samples."
    )
    copies = ", ".join(f"{count:,} in {split}" for split, count in data.unlabelled_duplicates.items())
    return f"{text} Exact copies of labelled samples were left out: {copies}." if copies else text


def _seed_facts(run: RunRecord) -> list[tuple[str, str]]:
    seeds = sorted({s.seed for f in run.finalists for s in f.seeds})
    search = _config_section(run, "search").get("seed")
    text = f"Seed of the search: {search}." if search is not None else ""
    if seeds:
        names = fmt.join_with_and(str(s) for s in seeds)
        text += f" Each finalist was trained with {'seed' if len(seeds) == 1 else 'seeds'} {names}"
        text += f", and its controls with the same; the seed with the best validation {run.score_title} is deployed."
    return [("Seeds", text.strip())] if text else []


def _schedule_facts(run: RunRecord) -> list[tuple[str, str]]:
    distill = _config_section(run, "distill")
    trained = sorted({r.epochs for t in run.trials for r in t.rungs})
    parts = []
    if distill.get("epochs") and run.recipe is None:
        parts.append(
            f"full schedule {fmt.count(distill['epochs'], 'epoch')}, batches of {distill.get('batch_size', '?')}"
        )
    if trained:
        parts.append(
            f"in the search, candidates were compared after {fmt.join_with_and(str(n) for n in trained)} epochs"
        )
    controls = sorted({s.epochs for f in run.finalists for c in f.controls for s in c.seeds})
    if controls:
        parts.append(
            f"controls trained for {_range_text(controls)} epochs, to cost as many multiply-adds as their finalist "
            f"({_range_text([c.cost_ratio for f in run.finalists for c in f.controls])}{fmt.TIMES} of it)"
        )
    return [("Schedule", f"{'; '.join(parts)}.".capitalize())] if parts else []


def _assistant_facts(run: RunRecord) -> list[tuple[str, str]]:
    """When assistants were trained, if there were rungs before that."""
    if not any(r.without_assistants for t in run.trials for r in t.rungs):
        return []
    text = (
        "Up to the first rung, candidates with assistants are trained without them; one that is promoted starts again "
        "from the first epoch, behind assistants trained in full. Finalists are trained with theirs throughout."
    )
    return [("Assistants", text)]


def _range_text(values: list[Any]) -> str:
    low, high = min(values), max(values)
    texts = [f"{v:.2f}" if isinstance(v, float) else f"{v:,}" for v in (low, high)]
    return texts[0] if texts[0] == texts[1] else fmt.EN_DASH.join(texts)


def _finalist_plan_facts(run: RunRecord) -> list[tuple[str, str]]:
    """Which share of the training finalists and controls are, and what was left out to keep to the share allowed."""
    plan = run.finalist_plan
    if plan is None:
        return []
    share, most = fmt.percent(plan.share, 0), fmt.percent(plan.max_share, 0)
    text = (
        f"Finalists and controls take {share} of the run's training, counted in multiply-adds and the fixed part of "
        "each step."
    )
    if plan.reductions:
        text += f" finalists.max_share allows {most}, so less was trained than the other options ask for: "
        text += f"{fmt.join_with_and(plan.reductions)}."
        text += " No run trains less than this." if plan.share > plan.max_share else ""
    return [("Finalists", text)]


def _selection_facts(run: RunRecord) -> list[tuple[str, str]]:
    if not run.finalists:
        return []
    seeds, samples = run.finalists[0].test.seeds, run.finalists[0].test.samples
    return [
        (
            "Selection",
            f"Fronts and winner are chosen on validation {run.score_title}; test {run.score_title} is reported, never "
            "used to choose.",
        ),
        (
            fmt.capital(run.score_title),
            f"{_score_meaning(run)}Mean over {fmt.count(seeds, 'seed')} on {samples:,} samples, computed "
            "from the exported ONNX files through ONNX Runtime; 95 % intervals.",
        ),
    ]


def _score_meaning(run: RunRecord) -> str:
    """What the score is and what guessing gets, where it is not accuracy on balanced classes."""
    metric = run.metric
    if metric is None or (run.decides_on_headline and not (run.dataset and run.dataset.is_unbalanced)):
        return ""
    unit = fmt.capital(metric.unit)
    return f"{unit}; a network that learned nothing gets {fmt.percent(metric.chance)} on validation. "


def _latency_facts(run: RunRecord) -> list[tuple[str, str]]:
    device, timings = run.device, list(_final_latencies(run).values())
    if device is None or not timings:
        return []
    half = [(t.high - t.low) / 2 / t.p50 for t in timings if t.p50 > 0] or [0.0]
    unstable = sum(t.unstable for t in timings)
    text = (
        f"{device.name}: {device.description}; {fmt.count(device.batch_size, 'sample')} per call. Each measurement "
        "runs in a fresh process, never while this run trains on the same cores. It times the exported file and a "
        "reference network in alternation, so that changes in the machine's speed cancel out. The figure is the median "
        "over the periods in which the reference was not slowed down; p90 is over single calls. "
        f"{fmt.count(len(timings), 'measurement')}: the 95 % interval is typically "
        f"\u00b1{median(half) * 100:.1f}{fmt.NBSP}%, at worst \u00b1{max(half) * 100:.1f}{fmt.NBSP}%; "
        f"{unstable or 'none'} marked unstable. The search's trials are not included: they are measured for a second "
        f"at most, to \u00b110{fmt.NBSP}% unless they are near a limit."
    )
    return [("Latency", text)]


def _prefilter_facts(run: RunRecord) -> list[tuple[str, str]]:
    """How many trials were infeasible by prediction alone, and how accurate the predictions were."""
    made = run.prefilter
    if made is None:
        return []
    error = "not known" if made.error is None else f"{made.error * 100:.1f}{fmt.NBSP}%"
    skipped, checked = fmt.count(made.skipped, "candidate"), fmt.count(made.checked, "more candidate")
    text = (
        f"{skipped} infeasible without a measurement, as the lower 95 % bound of the latency predicted from earlier "
        f"candidates was above the limit. {checked} like them measured as a check: {made.wrong or 'none'} within the "
        f"limit. Median error of {made.forecasts - made.skipped:,} predictions against later measurements: {error}. "
        "Every candidate on a front was measured."
    )
    return [("Prefilter", text)]


def _final_latencies(run: RunRecord) -> dict[str, Latency]:
    """Latencies that were measured in full, of finalists and teacher, by candidate id or "teacher"."""
    found = {f.id: f.costs.latency_ms for f in run.finalists}
    if run.teacher:
        found["teacher"] = run.teacher.costs.latency_ms
    return {name: timing for name, timing in found.items() if timing is not None}


def _unstable_measurements(context: ReportContext) -> tuple[str, ...]:
    return tuple(
        f"{context.letters.get(name, name)}: {fmt.latency(t.p50)} ({fmt.latency_interval(t)})"
        for name, t in _final_latencies(context.run).items()
        if t.unstable
    )


def _parity_facts(run: RunRecord) -> list[tuple[str, str]]:
    precisions = dict.fromkeys(str(f.candidate.precision) for f in run.finalists)
    facts = [_parity_of(precision, run) for precision in precisions]
    notes = dict.fromkeys(
        f"{f.candidate.precision}, {f.description}: {note}" for f in run.finalists for note in f.notes
    )
    return [*facts, *(("Kept in fp32", note) for note in notes)]


def _parity_of(precision: str, run: RunRecord) -> tuple[str, str]:
    """How far the exported files of one precision are from the networks that they were exported from."""
    finalists = [f for f in run.finalists if f.candidate.precision == precision]
    seeds = [s for f in finalists for s in (*f.seeds, *(s for c in f.controls for s in c.seeds))]
    worst, least = max(s.parity for s in seeds), min(s.agreement for s in seeds)
    exact = precision == "fp32"
    reference = "PyTorch" if exact else "the networks that they were quantized from"
    text = (
        f"{len(seeds)} exported files compared with {reference}: "
        f"outputs differ by at most {worst:.1e}, and at least {fmt.percent(least, 2)} of the decisions are the same."
    )
    return ("ONNX against PyTorch" if exact else f"{precision} against PyTorch"), text


def _config_section(run: RunRecord, name: str) -> Mapping[str, Any]:
    found = run.config.get(name)
    return found if isinstance(found, Mapping) else {}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[Fact]:
    facts = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            facts += _flatten(value, f"{prefix}{key}.")
        elif value is not None:
            text = ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
            facts.append(Fact(f"{prefix}{key}", text))
    return facts


def _without_none(value: Any) -> Any:
    """Leave out None, which TOML does not have: such options were left to their defaults."""
    if isinstance(value, Mapping):
        return {str(k): _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value if v is not None]
    return value if isinstance(value, str | int | float | bool) else str(value)
