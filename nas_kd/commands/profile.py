"""A look before a search: what a space costs on a device, whether the budget is reachable, how long it will take."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from nas_kd.commands.time_estimate import TimeEstimate, estimate_time
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.config.unused import refuse_student
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import TrialError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import untrained_teachers
from nas_kd.nas.feasibility import log_excess
from nas_kd.nas.gate import Gate
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.results.candidate import Architecture, Precision
from nas_kd.results.intervals import wilson_interval
from nas_kd.results.limits import CostName, cost_values, ratios, within_budget
from nas_kd.results.trial_record import Costs

N_SIZES = 6  # networks from the smallest to the largest, measured beside the random ones

Measured = Mapping[Architecture, Costs]


@dataclass(frozen=True)
class CostRange:
    """Smallest, median and largest value of all networks that were measured."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class FeasibleShare:
    """How many of the networks drawn at random meet the budget; `low`, `high`: 95 % interval of that share (0..1)."""

    within: int
    drawn: int
    low: float
    high: float


@dataclass(frozen=True)
class PrecisionProfile:
    """Costs of a space's networks in one precision.

    Attributes:
        precision: of the exported files.
        measured: networks that were measured.
        failed: networks that could not be exported and run.
        size_bytes: of the files.
        latency_ms: median of a call.
        memory_bytes: peak of a session; None where the budget does not limit it.
        share: of the networks drawn at random that meet the budget.
        missed: how many of them are above each limit.
        binding: the limit that most of them miss; None: they meet all, or there is none.
        nearest: smallest ratio of cost to limit, by the worst limit of each network; up to 1: within the budget.
        reachable: whether a measured network is within the budget.
    """

    precision: Precision
    measured: int
    failed: int
    size_bytes: CostRange
    latency_ms: CostRange
    memory_bytes: CostRange | None
    share: FeasibleShare
    missed: Mapping[CostName, int]
    binding: CostName | None
    nearest: float
    reachable: bool


@dataclass(frozen=True)
class SpaceProfile:
    """What a space offers on a device, known before a search.

    Attributes:
        space: its name.
        device: that latency was measured on.
        cardinality: how many different students the space has.
        macs: multiply-adds of a sample.
        precisions: costs in each precision.
        budget: the limits that networks were compared with.
        reachable: whether a measured network is within the budget, at any precision.
        gate_s: seconds, median, to export and measure one network.
        time: of a whole search; None: nothing that was measured is within the budget.
    """

    space: str
    device: str
    cardinality: int
    macs: CostRange
    precisions: tuple[PrecisionProfile, ...]
    budget: Budget
    reachable: bool
    gate_s: float
    time: TimeEstimate | None


def profile_space(config: SearchConfig, sample: int, callback: Callback | None = None) -> SpaceProfile:
    """Measure networks of the config's space, and time a few training steps; nothing is trained in full or kept.

    Args:
        config: space, device, budget and everything that a search would use.
        sample: networks to draw at random, beside a few from the smallest to the largest.
        callback: receives how far this has come.

    Raises:
        InputError: config, data, teacher or device are not usable.
        TrialError: none of the networks can be exported and run.
    """
    refuse_student(config, "profile")
    callback = callback or Callback()
    with TemporaryDirectory(prefix="nas-kd-profile-") as folder:
        context = RunContext.prepare(config, RunFolder(Path(folder)), callback)
        with training_threads(context.threads):
            return _profile(context, sample)


def _profile(context: RunContext, sample: int) -> SpaceProfile:
    space, builder, budget = context.space, NetworkBuilder(context.data, context.space), context.config.budget
    teachers = untrained_teachers(context)  # first, as this is where a config may be wrong yet
    gate, sampler = Gate(context, builder), ArchitectureSampler(space, context.seed)
    drawn = [sampler.architecture(sampler.random()) for _ in range(sample)]
    wanted = list(dict.fromkeys([*space.size_ladder(N_SIZES), *drawn]))
    found: dict[Precision, Measured] = {}
    seconds: list[float] = []
    for precision in context.config.search.precisions:
        context.callback.on_stage(f"measuring networks, {precision}")
        found[precision] = _measure(gate, wanted, precision, seconds, context.callback)
    precisions = tuple(_of_precision(p, measured, wanted, drawn, budget) for p, measured in found.items())
    gate_s = median(seconds)
    reachable = [costs for costs in found.values() if any(within_budget(c, budget) for c in costs.values())]
    estimate = estimate_time(context, builder, teachers, reachable[0], gate_s) if reachable else None
    return SpaceProfile(
        space=space.name,
        device=context.device.name,
        cardinality=space.cardinality(),
        macs=_range([float(builder.macs(a)) for a in wanted]),
        precisions=precisions,
        budget=budget,
        reachable=bool(reachable),
        gate_s=gate_s,
        time=estimate,
    )


def _measure(
    gate: Gate, wanted: Sequence[Architecture], precision: Precision, seconds: list[float], callback: Callback
) -> Measured:
    """Costs of those that can be exported and run; the time of each is appended to `seconds`."""
    found: dict[Architecture, Costs] = {}
    failure: TrialError | None = None
    for done, architecture in enumerate(wanted, start=1):
        started = time.perf_counter()
        try:
            found[architecture] = gate.all_costs(architecture, precision=precision, quick=True)
            seconds.append(time.perf_counter() - started)
        except TrialError as error:
            failure = error
            callback.on_note(f"a network is left out: {error}")
        callback.on_measured(done, len(wanted))
    if failure is not None and not found:
        raise TrialError(f"none of {len(wanted)} networks can be measured; the last one: {failure}") from failure
    return found


def _of_precision(
    precision: Precision,
    measured: Measured,
    wanted: Sequence[Architecture],
    drawn: Sequence[Architecture],
    budget: Budget,
) -> PrecisionProfile:
    # A network drawn twice counts twice: the share is that of the draws.
    random = [measured[a] for a in drawn if a in measured]
    within = sum(within_budget(costs, budget) for costs in random)
    missed = Counter(name for c in random for name, ratio in ratios(cost_values(c), budget).items() if ratio > 1)
    memory = [float(c.memory_bytes) for c in measured.values() if c.memory_bytes is not None]
    return PrecisionProfile(
        precision=precision,
        measured=len(measured),
        failed=len(wanted) - len(measured),
        size_bytes=_range([float(c.require_size()) for c in measured.values()]),
        latency_ms=_range([c.latency_ms.p50 for c in measured.values() if c.latency_ms is not None]),
        memory_bytes=_range(memory) if memory else None,
        share=FeasibleShare(within, len(drawn), *wilson_interval(within / len(drawn), len(drawn))),
        missed=dict(missed),
        binding=next((name for name, _ in missed.most_common(1)), None),
        nearest=exp(min((log_excess(c, budget) for c in measured.values()), default=inf)),
        reachable=any(within_budget(c, budget) for c in measured.values()),
    )


def _range(values: Sequence[float]) -> CostRange:
    return CostRange(min(values), median(values), max(values))
