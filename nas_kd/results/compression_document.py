"""The parts of front.json on other compression, and on how all compressed networks compare."""

from collections.abc import Mapping
from typing import Any

from nas_kd.results.compression import REFERENCE_RETENTION
from nas_kd.results.compression_record import CompressionRecord, Difference, Estimate, Family, FamilyPair, NetworkScore
from nas_kd.results.run_record import RunRecord

DECIMALS = 6
FORMULAS: Mapping[str, str] = {
    "retention": "max(0, (score - chance) / (teacher's score - chance)), on test",
    "compression_score": "retention x log2 of the geometric mean of times smaller and times faster than the teacher",
    "hypervolume": "volume dominated above 0 in (retention - r) / (1 - r), log10 of times smaller and of times faster",
}
FORMULAS_OF_SIZE: Mapping[str, str] = {  # beside a teacher of unknown latency
    "retention": FORMULAS["retention"],
    "compression_score": "retention x log2 of times smaller than the teacher, whose latency is unknown",
    "hypervolume": "area dominated above 0 in (retention - r) / (1 - r) and log10 of times smaller",
}
TEACHER: Mapping[str, float] = {
    "value": 0.0,
    "low": 0.0,
    "high": 0.0,
    "retention": 1.0,
    "retention_low": 1.0,
    "retention_high": 1.0,
}


def formulas(compression: CompressionRecord) -> Mapping[str, str]:
    """What the figures are, in words: with latency, or by size alone."""
    return FORMULAS if "latency" in compression.costs else FORMULAS_OF_SIZE


def score_json(run: RunRecord, name: str) -> dict[str, Any] | None:
    """The compression score of a network by its id, with the retention that it is made of; None if it has none."""
    found = run.compression.score_of(name) if run.compression else None
    return None if found is None else _score_json(found)


def teacher_score_json(run: RunRecord) -> dict[str, Any] | None:
    """The teacher's own score: 0 by definition, where scores are defined."""
    return None if run.compression is None or run.compression.undefined else dict(TEACHER)


def compression_json(run: RunRecord) -> dict[str, Any] | None:
    """Formulas, reference point, families and pairs of families; None before the test split is read."""
    found = run.compression
    if found is None:
        return None
    if found.undefined:
        return {"undefined": found.undefined}
    return {
        "formulas": dict(formulas(found)),
        "reference": {
            "retention": REFERENCE_RETENTION,
            "teacher_score": round(found.teacher_score, DECIMALS),
            "chance": round(found.chance, DECIMALS),
            "size_bytes": found.teacher_size_bytes,
            "latency_ms": found.teacher_latency_ms and round(found.teacher_latency_ms, DECIMALS),
        },
        "costs": list(found.costs),
        "controls": {n.id: _score_json(n) for n in found.networks if n.id in _controls(run)},
        "families": [_family_json(family) for family in found.families],
        "pairs": [_pair_json(pair) for pair in found.pairs],
    }


def _controls(run: RunRecord) -> set[str]:
    return {f"{f.id}/{c.kind}" for f in run.finalists for c in f.controls}


def _score_json(network: NetworkScore) -> dict[str, Any]:
    kept = _estimate_json(network.retention)
    return {
        **_estimate_json(network.score),
        "retention": kept["value"],
        "retention_low": kept["low"],
        "retention_high": kept["high"],
        "family": network.family,
    }


def _family_json(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "members": list(family.members),
        "best": family.best,
        "best_within_budget": family.best_within_budget,
        "hypervolume": _estimate_json(family.hypervolume),
    }


def _pair_json(pair: FamilyPair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "members": pair.members,
        "hypervolume": _difference_json(pair.hypervolume) | {"holds_for_fewer": pair.hypervolume.holds_for_fewer},
        "compression_score": _difference_json(pair.score),
    }


def _difference_json(value: Difference) -> dict[str, Any]:
    return {**_estimate_json(value), "certain": value.certain, "holds_for_teachers": value.holds_for_teachers}


def _estimate_json(value: Estimate) -> dict[str, Any]:
    return {name: round(getattr(value, name), DECIMALS) for name in ("value", "low", "high")}
