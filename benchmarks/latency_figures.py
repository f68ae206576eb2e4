"""What the raw results of `benchmarks/latency.py` say: pure functions of the runs, by name."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from nas_kd.results.intervals import kendall_tau

Run = Mapping[str, Any]
SCENES = ("quiet", "busy")
DISTURBED = 1.1  # times the fastest: a plain loop that was never left alone


def spread(values: Sequence[float]) -> float:
    """Largest / smallest - 1."""
    return max(values) / min(values) - 1


def coverage(runs: Sequence[Run]) -> tuple[int, int]:
    """How many of all pairs (earlier, later) have the later median within the earlier interval; how many there are."""
    pairs = [(a, b) for place, a in enumerate(runs) for b in runs[place + 1 :]]
    return sum(a["low_ms"] <= b["p50_ms"] <= a["high_ms"] for a, b in pairs), len(pairs)


def by_file(runs: Mapping[str, Run]) -> dict[str, dict[str, list[Run]]]:
    """Finished runs of each file and scene ("quiet", "busy", "plain"), in order of time; names are `r03.quiet.FILE`."""
    found: dict[str, dict[str, list[Run]]] = {}
    for name in sorted(n for n, run in runs.items() if n.startswith("r") and n.count(".") == 2 and "error" not in run):
        _, scene, file = name.split(".")
        found.setdefault(file, {}).setdefault(scene, []).append(runs[name])
    return found


def scene_figures(runs: Sequence[Run]) -> dict[str, Any]:
    """Of one file in one scene."""
    covered, pairs = coverage(runs)
    return {
        "p50_ms": median(r["p50_ms"] for r in runs),
        "spread": spread([r["p50_ms"] for r in runs]),
        "uncorrected_spread": spread([r["raw_p50_ms"] for r in runs]),
        "half_width": median((r["high_ms"] - r["low_ms"]) / 2 / r["p50_ms"] for r in runs),
        "covered": covered,
        "pairs": pairs,
        "unstable": sum(r["unstable"] for r in runs),
        "measurements": len(runs),
    }


def file_figures(scenes: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Of one file: each scene, and how far the quiet median is from that of the plain loop."""
    figures: dict[str, Any] = {scene: scene_figures(scenes[scene]) for scene in SCENES if scenes.get(scene)}
    if scenes.get("plain") and "quiet" in figures:
        best = [r["undisturbed_ms"] for r in scenes["plain"]]
        figures["plain_p50_ms"] = median(ms for ms in best if ms <= DISTURBED * min(best))
        figures["against_plain"] = figures["quiet"]["p50_ms"] / figures["plain_p50_ms"] - 1
    if "quiet" in figures and "busy" in figures:
        figures["busy_against_quiet"] = figures["busy"]["p50_ms"] / figures["quiet"]["p50_ms"] - 1
    return figures


def occasions(runs: Mapping[str, Run]) -> tuple[list[float], list[float]]:
    """Medians (ms) of the candidates that were measured on both occasions: runs `rank1.NUMBER` and `rank2.NUMBER`."""
    first, second = (
        {n.split(".")[1]: r["p50_ms"] for n, r in runs.items() if n.startswith(start) and "error" not in r}
        for start in ("rank1.", "rank2.")
    )
    both = sorted(first.keys() & second.keys())
    return [first[n] for n in both], [second[n] for n in both]


def int8_speed_ups(files: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How many times as fast as fp32 int8 is, by space and size; below 1 it is slower."""
    names = [name.removesuffix("-int8") for name in files if name.endswith("-int8")]
    found = {n: (files.get(f"{n}-fp32", {}).get("quiet"), files[f"{n}-int8"].get("quiet")) for n in names}
    return {n: fp32["p50_ms"] / int8["p50_ms"] for n, (fp32, int8) in found.items() if fp32 and int8}


def figures(runs: Mapping[str, Run]) -> dict[str, Any]:
    """All of it; what has no runs yet is left out, or None."""
    files = {name: file_figures(scenes) for name, scenes in by_file(runs).items()}
    first, second = occasions(runs)
    took = [r["seconds"] for n, r in runs.items() if n.startswith("rank") and "error" not in r]
    gate = runs.get("gate", {})
    whole: dict[str, Any] = {
        "files": files,
        "int8_speed_up": int8_speed_ups(files),
        "candidates": len(first),
        "tau": kendall_tau(first, second) if len(first) > 1 else None,
        "candidate_s": median(took) if took else None,
        "gated": len(gate.get("seconds", ())),
        "gate_s": gate.get("total_s"),
        "gate_candidate_s": median(gate["seconds"]) if "seconds" in gate else None,
    }
    for scene in SCENES:
        told = [f[scene] for f in files.values() if scene in f]
        pairs = sum(f["pairs"] for f in told)
        whole[f"{scene}_spread"] = max((f["spread"] for f in told), default=None)
        whole[f"{scene}_covered"] = sum(f["covered"] for f in told) / pairs if pairs else None
        whole[f"{scene}_unstable"] = sum(f["unstable"] for f in told)
    whole["against_plain"] = max(
        (abs(f["against_plain"]) for f in files.values() if "against_plain" in f), default=None
    )
    return whole
