"""Section 6: what the figures rest on - data, seeds, schedule, measuring, parity, environment and config."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import tomli_w

from nas_kd.report import number_format as numbers
from nas_kd.report.report_context import ReportContext
from nas_kd.results.latency import Latency
from nas_kd.results.records import RunRecord


@dataclass(frozen=True)
class MethodologyItem:
    """A name and what is said about it."""

    name: str
    text: str


@dataclass(frozen=True)
class Methodology:
    """All of section 6."""

    facts: tuple[MethodologyItem, ...]
    unstable: tuple[str, ...]
    warnings: tuple[str, ...]
    environment: tuple[MethodologyItem, ...]
    config: str
    command: str


def methodology(context: ReportContext, command: str) -> Methodology:
    """What a sceptical reader asks for."""
    run = context.run
    device = dict(run.device.environment) if run.device else {}
    # A run's environment may repeat the device's: said once is enough.
    machine = {k: v for k, v in run.environment.items() if k not in ("device", "command")}
    facts = (
        *_data(run),
        *_seeds(run),
        *_schedule(run),
        *_choosing(run),
        *_measuring(run),
        *_prefilter(run),
        *_parity(run),
    )
    return Methodology(
        facts=tuple(MethodologyItem(name, text) for name, text in facts),
        unstable=_unstable(context),
        warnings=run.warnings,
        environment=(*_flat(machine), *_flat(device or run.environment.get("device", {}), "device.")),
        config=tomli_w.dumps(_without_none(run.config)),
        command=command or run.command,
    )


def _data(run: RunRecord) -> list[tuple[str, str]]:
    data = run.dataset
    if data is None:
        return []
    shape = "\u00d7".join(str(n) for n in data.input_shape)
    sizes = f"{data.n_train:,} to train, {data.n_val:,} to validate, {data.n_test:,} to test"
    facts = [
        ("Data", f"{data.name} ({data.source}): {len(data.classes)} classes, samples of {shape}; sha256 {data.key}"),
        ("Splits", f"{sizes}. The test split is read once, at the end, for finalists, controls and the teacher."),
    ]
    return facts + ([("Notes on the data", " ".join(n.rstrip(".") + "." for n in data.notes))] if data.notes else [])


def _seeds(run: RunRecord) -> list[tuple[str, str]]:
    seeds = sorted({s.seed for f in run.finalists for s in f.seeds})
    search = _section(run, "search").get("seed")
    text = f"The search is seeded with {search}." if search is not None else ""
    if seeds:
        names = numbers.listing(str(s) for s in seeds)
        text += f" Each finalist was trained with {'seed' if len(seeds) == 1 else 'seeds'} {names}"
        text += ", its controls with the same; the file to deploy is the seed that was best on validation."
    return [("Seeds", text.strip())] if text else []


def _schedule(run: RunRecord) -> list[tuple[str, str]]:
    distill = _section(run, "distill")
    trained = sorted({r.epochs for t in run.trials for r in t.rungs})
    parts = []
    if distill.get("epochs"):
        parts.append(
            f"full schedule {numbers.count(distill['epochs'], 'epoch')}, batches of {distill.get('batch_size', '?')}"
        )
    if trained:
        parts.append(f"in the search, candidates were judged after {numbers.listing(str(n) for n in trained)} epochs")
    controls = sorted({s.epochs for f in run.finalists for c in f.controls for s in c.seeds})
    if controls:
        parts.append(
            f"controls trained for {_span(controls)} epochs, so as to cost as many multiply-adds as their finalist "
            f"({_span([c.cost_ratio for f in run.finalists for c in f.controls])}{numbers.TIMES} of it)"
        )
    return [("Schedule", f"{'; '.join(parts)}.".capitalize())] if parts else []


def _span(values: list[Any]) -> str:
    low, high = min(values), max(values)
    texts = [f"{v:.2f}" if isinstance(v, float) else f"{v:,}" for v in (low, high)]
    return texts[0] if texts[0] == texts[1] else numbers.DASH.join(texts)


def _choosing(run: RunRecord) -> list[tuple[str, str]]:
    if not run.finalists:
        return []
    seeds, samples = run.finalists[0].test.seeds, run.finalists[0].test.samples
    return [
        (
            "Choice",
            "Fronts and winner are chosen on validation accuracy; test accuracy is reported, never used to choose.",
        ),
        (
            "Accuracy",
            f"Mean over {numbers.count(seeds, 'seed')} on {samples:,} samples, computed from the exported ONNX files "
            "through ONNX Runtime; 95 % intervals.",
        ),
    ]


def _measuring(run: RunRecord) -> list[tuple[str, str]]:
    device, timings = run.device, list(_timings(run).values())
    if device is None or not timings:
        return []
    half = [(t.high - t.low) / 2 / t.p50 for t in timings if t.p50 > 0] or [0.0]
    unstable = sum(t.unstable for t in timings)
    text = (
        f"{device.name}: {device.description}; {numbers.count(device.batch_size, 'sample')} a call. Each measurement is a "
        f"fresh process, never while this run trains on the same cores, that times the exported file and a reference "
        f"network by turns, so that changes of the machine's speed cancel; the figure is the median over moments in "
        f"which nothing slowed the reference down, p90 is over single calls. "
        f"{numbers.count(len(timings), 'measurement')}: the 95 % interval is typically "
        f"\u00b1{median(half) * 100:.1f}{numbers.NBSP}%, at worst \u00b1{max(half) * 100:.1f}{numbers.NBSP}%; "
        f"{unstable or 'none'} marked unstable. The search's candidates are left out here: they are measured for a "
        f"second at most, to \u00b110{numbers.NBSP}% where that will do."
    )
    return [("Latency", text)]


def _prefilter(run: RunRecord) -> list[tuple[str, str]]:
    """What was rejected by a prediction, and how good predictions were."""
    made = run.prefilter
    if made is None:
        return []
    error = "not known" if made.error is None else f"{made.error * 100:.1f}{numbers.NBSP}%"
    skipped, checked = numbers.count(made.skipped, "candidate"), numbers.count(made.checked, "more candidate")
    text = (
        f"{skipped} rejected unmeasured, as the lower 95 % bound of the latency expected from those before was "
        f"above the limit. {checked} like them measured all the same: {made.wrong or 'none'} within the limit. Median "
        f"error of {made.forecasts - made.skipped:,} forecasts against what was measured then: {error}. Whatever "
        "is on a front was measured."
    )
    return [("Prefilter", text)]


def _timings(run: RunRecord) -> dict[str, Latency]:
    """Of the files that were measured thoroughly."""
    found = {f.id: f.costs.latency_ms for f in run.finalists}
    if run.teacher:
        found["teacher"] = run.teacher.costs.latency_ms
    return {name: timing for name, timing in found.items() if timing is not None}


def _unstable(context: ReportContext) -> tuple[str, ...]:
    return tuple(
        f"{context.letters.get(name, name)}: {numbers.latency(t.p50)} ({numbers.latency_interval(t)})"
        for name, t in _timings(context.run).items()
        if t.unstable
    )


def _parity(run: RunRecord) -> list[tuple[str, str]]:
    precisions = dict.fromkeys(str(f.candidate["precision"]) for f in run.finalists)
    facts = [_compared(precision, run) for precision in precisions]
    notes = dict.fromkeys(
        f"{f.candidate['precision']}, {f.description}: {note}" for f in run.finalists for note in f.notes
    )
    return [*facts, *(("Kept in fp32", note) for note in notes)]


def _compared(precision: str, run: RunRecord) -> tuple[str, str]:
    """How far the exported files of a precision are from what they were made from."""
    finalists = [f for f in run.finalists if f.candidate["precision"] == precision]
    seeds = [s for f in finalists for s in (*f.seeds, *(s for c in f.controls for s in c.seeds))]
    worst, least = max(s.parity for s in seeds), min(s.agreement for s in seeds)
    exact = precision == "fp32"
    text = (
        f"{len(seeds)} exported files compared with {'PyTorch' if exact else 'the networks that they were made from'}: "
        f"logits differ by at most {worst:.1e}, and at least {numbers.percent(least, 2)} of the decisions are the same."
    )
    return ("ONNX against PyTorch" if exact else f"{precision} against PyTorch"), text


def _section(run: RunRecord, name: str) -> Mapping[str, Any]:
    found = run.config.get(name)
    return found if isinstance(found, Mapping) else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[MethodologyItem]:
    facts = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            facts += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            text = ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
            facts.append(MethodologyItem(f"{prefix}{key}", text))
    return facts


def _without_none(value: Any) -> Any:
    """TOML has no null: what was left to its default is left out."""
    if isinstance(value, Mapping):
        return {str(k): _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value if v is not None]
    return value if isinstance(value, str | int | float | bool) else str(value)
