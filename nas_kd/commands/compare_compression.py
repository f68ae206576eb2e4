"""Compares compressed networks with their teacher and with each other, from what they decided on the test samples.

All figures come from the same draws, so that differences are paired: test samples are drawn anew for all networks and
the teacher alike, seeds for all networks that were trained with them, latencies for all networks of the same file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log, sqrt
from statistics import fmean

import numpy as np

from nas_kd.models.search_space import SearchSpace, techniques_of_space
from nas_kd.quantization.precision import load_precision
from nas_kd.results.candidate import Candidate
from nas_kd.results.compression import TEACHER_FACTORS, CompressionDraws, Draws, difference, estimate
from nas_kd.results.compression_record import CompressionRecord, Family, FamilyPair, NetworkScore
from nas_kd.results.intervals import Z_95
from nas_kd.results.latency import Latency
from nas_kd.results.limits import CostName, cost_values
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import RESAMPLES, Evidence, Score

COSTS: tuple[CostName, ...] = ("size", "latency")
DISTILLATION, SCRATCH, QUANTIZATION = "distillation", "training from scratch", "quantization"
FINE_TUNING = "fine-tuning"  # by labels alone, of a network that begins with the teacher's weights


@dataclass(frozen=True)
class JudgedNetwork:
    """A compressed network that was judged.

    Attributes:
        id: in the run's results.
        techniques: by which it was compressed.
        decisions: on the test samples, by seed.
        val_score: mean over seeds on validation, 0..1.
        costs: of its file.
        within_budget: whether these are within the budget.
    """

    id: str
    techniques: tuple[str, ...]
    decisions: Mapping[int, Evidence]
    val_score: float
    costs: Costs
    within_budget: bool

    @property
    def family(self) -> str:
        """Name of its family: the techniques, joined by plus signs."""
        return " + ".join(self.techniques)


def techniques_of(candidate: Candidate, space: SearchSpace) -> tuple[str, ...]:
    """Name the techniques that a candidate of the search is compressed by; `space`: of its student."""
    made = techniques_of_space(space, candidate.student)
    training = DISTILLATION if candidate.recipe.distills else FINE_TUNING if made else SCRATCH
    return (*made, training, *(() if load_precision(candidate.precision).exact else (QUANTIZATION,)))


def compare(
    networks: Iterable[JudgedNetwork], teacher: TeacherRecord, tested: Evidence | None, score: Score, chance: float
) -> CompressionRecord:
    """Score networks and families of them.

    Args:
        networks: all that were judged.
        teacher: the reference.
        tested: what it did with the test samples.
        score: that decides.
        chance: what guessing gets on test.
    """
    names = tuple(name for name in COSTS if cost_values(teacher.costs)[name])
    if tested is None:
        return CompressionRecord(undefined="the teacher has no score on the test samples")
    if "size" not in names:
        return CompressionRecord(undefined="the teacher's size is unknown")
    if (reached := score.value(tested)) <= chance:
        return CompressionRecord(undefined="the teacher is no better than guessing on the test samples")
    known = [n for n in networks if all(cost_values(n.costs)[name] for name in names)]
    draws = _draw(known, teacher.costs, tested, names=names, score=score, chance=chance)
    families = _families(known, draws)
    return CompressionRecord(
        costs=names,
        teacher_score=reached,
        chance=chance,
        teacher_size_bytes=teacher.costs.size_bytes,
        teacher_latency_ms=teacher.costs.require_latency().p50 if "latency" in names else None,
        networks=_network_scores(known, draws),
        families=families,
        pairs=_pairs(known, families, draws),
    )


def _draw(
    networks: Sequence[JudgedNetwork],
    teacher: Costs,
    tested: Evidence,
    *,
    names: Sequence[CostName],
    score: Score,
    chance: float,
) -> CompressionDraws:
    """What was measured of all networks, and `RESAMPLES` draws from its errors."""
    generator = np.random.default_rng(0)
    scores = _draw_scores([*(n.decisions for n in networks), {0: tested}], score, generator)
    latencies = {
        found: _draw_latency(found, generator)
        for costs in (teacher, *(n.costs for n in networks))
        if (found := costs.latency_ms) is not None
    }

    def drawn(costs: Costs, name: CostName) -> Draws:
        if name == "latency":
            return latencies[costs.require_latency()]
        return np.full(1 + RESAMPLES, float(costs.require_size()))

    paid = [[drawn(n.costs, name) for name in names] for n in networks]
    table = np.array(paid).reshape(len(networks), len(names), 1 + RESAMPLES)
    teachers = np.array([drawn(teacher, name) for name in names])
    return CompressionDraws.of(scores[:, :-1], scores[:, -1], chance, table.transpose(2, 0, 1), teachers.T)


def _draw_scores(networks: Sequence[Mapping[int, Evidence]], score: Score, generator: np.random.Generator) -> Draws:
    """(D, n) mean scores over seeds; row 0 as measured.

    The test samples are resampled. The mean over n seeds varies by Student's t with n - 1 degrees of freedom: the sum
    of z_s (score_s - mean) / sqrt(n (n - 1)) over the seeds, times sqrt((n - 1) / chi2), where z_s is normal and drawn
    once for each seed. So the difference of two networks that were trained with the same seeds varies as paired seeds
    do. One sample more may go either way: networks that happen to agree do not claim an exact tie.
    """
    flat = [d for by_seed in networks for d in by_seed.values()]
    measured, resampled = [score.value(d) for d in flat], score.resampled(flat)
    seeds = sorted({seed for by_seed in networks for seed in by_seed})
    shared = {seed: generator.standard_normal(RESAMPLES) for seed in seeds}
    scales = {
        n: np.sqrt((n - 1) / generator.chisquare(n - 1, RESAMPLES)) for n in sorted({*map(len, networks)}) if n > 1
    }
    columns, start = [], 0
    for by_seed in networks:
        n, rows = len(by_seed), slice(start, start + len(by_seed))
        values, mean = measured[rows], fmean(measured[rows])
        drawn = resampled[rows].mean(axis=0) + generator.standard_normal(RESAMPLES) / flat[0].samples
        if n > 1:
            spread = sum(shared[seed] * (value - mean) for seed, value in zip(by_seed, values, strict=True))
            drawn = drawn + spread * scales[n] / sqrt(n * (n - 1))
        columns.append(np.concatenate([[mean], drawn]))
        start += n
    return np.stack(columns, axis=1)


def _draw_latency(latency: Latency, generator: np.random.Generator) -> Draws:
    """(D,) medians, log-normal with the wider side of the interval; row 0 as measured."""
    sides = [log(latency.high / latency.p50), log(latency.p50 / latency.low) if latency.low > 0 else 0.0]
    errors = generator.standard_normal(RESAMPLES) * max(sides) / Z_95
    return np.asarray(latency.p50 * np.exp(np.concatenate([[0.0], errors])))


def _network_scores(networks: Sequence[JudgedNetwork], draws: CompressionDraws) -> tuple[NetworkScore, ...]:
    scores = draws.scores
    return tuple(
        NetworkScore(
            id=network.id,
            family=network.family,
            retention=estimate(draws.retention[:, n], least=0.0),
            score=estimate(scores[:, n]),
        )
        for n, network in enumerate(networks)
    )


def _families(networks: Sequence[JudgedNetwork], draws: CompressionDraws) -> tuple[Family, ...]:
    found = []
    for name in dict.fromkeys(n.family for n in networks):
        places = [place for place, network in enumerate(networks) if network.family == name]
        members = [networks[place] for place in places]
        best = max(members, key=lambda n: (n.within_budget, n.val_score))
        volumes = draws.hypervolumes(places)
        found.append(
            Family(
                name=name,
                members=tuple(n.id for n in members),
                best=best.id,
                best_within_budget=best.within_budget,
                hypervolume=estimate(volumes[:, -1], least=0.0),
            )
        )
    return tuple(sorted(found, key=lambda f: (-f.hypervolume.value, f.name)))


def _pairs(
    networks: Sequence[JudgedNetwork], families: Sequence[Family], draws: CompressionDraws
) -> tuple[FamilyPair, ...]:
    places = {network.id: place for place, network in enumerate(networks)}
    elsewhere = [draws.with_teacher_costs(factor) for factor in TEACHER_FACTORS]

    def pair(first: Family, second: Family) -> FamilyPair:
        members = min(len(first.members), len(second.members))
        sides = [[places[name] for name in family.members] for family in (first, second)]

        def gap(of: CompressionDraws) -> Draws:
            """(D, members) differences of hypervolumes, for 1, 2, ... members."""
            larger, smaller = (of.hypervolumes(side)[:, :members] for side in sides)
            return larger - smaller

        def best_gap(of: CompressionDraws) -> Draws:
            return of.scores[:, places[first.best]] - of.scores[:, places[second.best]]

        volumes = gap(draws)
        return FamilyPair(
            first=first.name,
            second=second.name,
            members=members,
            hypervolume=difference(volumes[:, -1], [gap(e)[0, -1] for e in elsewhere], volumes[0, :-1]),
            score=difference(best_gap(draws), [best_gap(e)[0] for e in elsewhere]),
        )

    return tuple(pair(first, second) for first, second in combinations(families, 2))
