"""A look before a search: what a space costs on a device, whether the budget is reachable, how long it will take."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import FrameType

from nas_kd.commands.time_estimate import TimeEstimate, estimate_time
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.config.unused import refuse_student
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import InputError, TrialError
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.config_checks import checked_config
from nas_kd.kd.network_builder import NetworkBuilder, note_start
from nas_kd.kd.own_space import dimensions_of, with_own_space
from nas_kd.kd.teachers import untrained_teachers
from nas_kd.kd.usable_methods import with_usable_methods
from nas_kd.nas.feasibility import log_excess
from nas_kd.nas.gate import Gate
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.results.candidate import Architecture, Precision
from nas_kd.results.intervals import wilson_interval
from nas_kd.results.limits import CostName, cost_values, ratios, within_budget
from nas_kd.results.trial_record import Costs

N_SIZES = 6  # networks from the smallest to the largest, measured beside the random ones


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
        time: of a whole search; None: nothing that was measured is within the budget, or there was no time left.
        stopped: whether time was over before all was done.
        planned: networks that were to be measured, in all precisions.
        dimensions: of a space made of the teacher, what each of them is, by name.
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
    stopped: bool = False
    planned: int = 0
    dimensions: Mapping[str, str] = field(default_factory=dict)


class OutOfTime(BaseException):
    """Time was over; not an `Exception`, which users' networks might catch."""


OnCosts = Callable[[str, Precision, Costs, bool], None]


def _ignore(*_costs: object) -> None:
    """Do nothing with the costs of a network."""


def profile_space(
    config: SearchConfig,
    sample: int,
    callback: Callback | None = None,
    *,
    max_minutes: float | None = None,
    on_costs: OnCosts = _ignore,
) -> SpaceProfile:
    """Measure networks of the config's space, and time a few training steps; nothing is trained in full or kept.

    Args:
        config: space, device, budget and everything that a search would use.
        sample: networks to draw at random, beside a few from the smallest to the largest.
        callback: receives how far this has come.
        max_minutes: stop by then with what was measured; None: no limit. In another thread than the main one, the
            network that is being measured is finished first.
        on_costs: called with each network as it is measured: its description, the precision, the costs, and whether
            they are within the budget.

    Raises:
        OutOfTime: nothing was measured by then.
        InputError: config, data, teacher or device are not usable.
        TrialError: none of the networks can be exported and run.
    """
    refuse_student(config, "profile")
    if max_minutes is not None and not 0 < max_minutes < inf:
        raise InputError(f"--max-minutes must be > 0, got {max_minutes:g}")
    config = checked_config(config)
    callback = callback or Callback()
    with TemporaryDirectory(prefix="nas-kd-profile-") as folder, _Deadline(max_minutes) as deadline:
        context = RunContext.prepare(config, RunFolder(Path(folder)), callback)
        with training_threads(context.threads):
            return _profile(context, sample, deadline, on_costs)


class _Deadline:
    """Raises `OutOfTime` inside when time is over."""

    def __init__(self, minutes: float | None) -> None:
        self._until = inf if minutes is None else time.monotonic() + 60 * minutes
        self._alarm = minutes is not None and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "_Deadline":
        if self._alarm:
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, self._until - time.monotonic()))
        return self

    def __exit__(self, *_error: object) -> None:
        if self._alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def _ring(self, _signal: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):  # a module imported by half is of no use
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                return
            frame = frame.f_back
        raise OutOfTime

    def check(self) -> None:
        """Raise if time is over."""
        if time.monotonic() >= self._until:
            raise OutOfTime


def _profile(context: RunContext, sample: int, deadline: _Deadline, on_costs: OnCosts) -> SpaceProfile:
    teachers = untrained_teachers(context)  # first, as this is where a config may be wrong yet
    context = with_usable_methods(with_own_space(context, teachers), teachers)
    space, builder, budget = context.space, NetworkBuilder.for_run(context), context.config.budget
    note_start(builder, context.callback)
    gate, sampler = Gate(context, builder), ArchitectureSampler(space, context.seed)
    drawn = [sampler.draw() for _ in range(sample)]
    ladder = builder.size_ladder(N_SIZES)
    wanted = list(dict.fromkeys([ladder[0], ladder[-1], *drawn, *ladder]))  # the ends first, in case time is short
    measured: dict[Precision, _Measured] = {}
    estimate, stopped = None, False
    try:
        for precision in context.config.search.precisions:
            context.callback.on_stage(f"measuring networks, {precision}")
            measured[precision] = _Measured(precision, wanted)
            measured[precision].run(gate, builder, context, deadline, on_costs)
        gate_s = median(s for one in measured.values() for s in one.seconds)
        reachable = [one.costs for one in measured.values() if one.is_reachable(budget)]
        if reachable:
            with as_trial_error(inputs=False):
                estimate = estimate_time(context, builder, teachers, reachable[0], gate_s)
    except OutOfTime:
        stopped = True
    found = [one for one in measured.values() if one.costs]
    if not found:
        raise OutOfTime
    return SpaceProfile(
        space=space.name,
        device=context.device.name,
        cardinality=space.cardinality(),
        macs=_range([float(costs.macs) for one in found for costs in one.costs.values()]),
        precisions=tuple(_of_precision(one, drawn, budget) for one in found),
        budget=budget,
        reachable=any(one.is_reachable(budget) for one in found),
        gate_s=median(s for one in found for s in one.seconds),
        time=estimate,
        stopped=stopped,
        planned=len(wanted) * len(context.config.search.precisions),
        dimensions=dimensions_of(space),
    )


@dataclass
class _Measured:
    """Networks that are measured in one precision, as far as this has come."""

    precision: Precision
    wanted: Sequence[Architecture]
    tried: int = 0
    costs: dict[Architecture, Costs] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def is_reachable(self, budget: Budget) -> bool:
        return any(within_budget(costs, budget) for costs in self.costs.values())

    def run(
        self, gate: Gate, builder: NetworkBuilder, context: RunContext, deadline: _Deadline, on_costs: OnCosts
    ) -> None:
        """Measure all, except those that cannot be exported and run."""
        failure: TrialError | None = None
        said = set[str]()
        callback, budget = context.callback, context.config.budget
        for architecture in self.wanted:
            deadline.check()
            started = time.perf_counter()
            try:
                costs = gate.all_costs(architecture, precision=self.precision, quick=True)
                self.costs[architecture] = costs
                self.seconds.append(time.perf_counter() - started)
                on_costs(builder.description(architecture), self.precision, costs, within_budget(costs, budget))
            except TrialError as error:
                if str(error) not in said:  # many networks may have the same problem
                    callback.on_note(f"a network is left out: {error}")
                said.add(str(error))
                failure = error
            self.tried += 1
            callback.on_measured(self.tried, len(self.wanted))
        if failure is not None and not self.costs:
            raise TrialError(
                f"none of {len(self.wanted)} networks can be measured; the last one: {failure}"
            ) from failure


def _of_precision(one: _Measured, drawn: Sequence[Architecture], budget: Budget) -> PrecisionProfile:
    precision, measured = one.precision, one.costs
    tried = set(one.wanted[: one.tried])
    drawn = [a for a in drawn if a in tried]
    # A network drawn twice counts twice: the share is that of the draws.
    random = [measured[a] for a in drawn if a in measured]
    within = sum(within_budget(costs, budget) for costs in random)
    interval = wilson_interval(within / len(drawn), len(drawn)) if drawn else (0.0, 1.0)
    missed = Counter(name for c in random for name, ratio in ratios(cost_values(c), budget).items() if ratio > 1)
    memory = [float(c.memory_bytes) for c in measured.values() if c.memory_bytes is not None]
    return PrecisionProfile(
        precision=precision,
        measured=len(measured),
        failed=one.tried - len(measured),
        size_bytes=_range([float(c.require_size()) for c in measured.values()]),
        latency_ms=_range([c.latency_ms.p50 for c in measured.values() if c.latency_ms is not None]),
        memory_bytes=_range(memory) if memory else None,
        share=FeasibleShare(within, len(drawn), *interval),
        missed=dict(missed),
        binding=next((name for name, _ in missed.most_common(1)), None),
        nearest=exp(min((log_excess(c, budget) for c in measured.values()), default=inf)),
        reachable=any(within_budget(c, budget) for c in measured.values()),
    )


def _range(values: Sequence[float]) -> CostRange:
    return CostRange(min(values), median(values), max(values))
