"""What a search is going to do, in numbers: the search follows this plan, and the time estimate adds it up."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log2
from typing import NamedTuple

from nas_kd.config.options import SearchConfig, SearchSection

N_INITIAL_TRIALS = 6  # from the budget's upper edge downwards, trained in full whatever they reach
# The largest of them has at most this many times the weights of the smallest. Networks of a hundredth of the budget
# cannot learn the task: trained in full, they would cost time and show nothing of the front.
MAX_INITIAL_SIZE_RATIO = 30
N_FULL_TRAININGS = N_INITIAL_TRIALS + 2  # that a limited time has to have room for
FEWEST_EPOCHS = 3  # of a schedule, however little time there is
N_EDGE_SIZES = 32  # sizes among which the largest within the budget is looked for
ELASTIC = "once-for-all"
RUN_SHARE = 0.1  # of a run's training, or of its time, that a recipe probe may take
FINALISTS_SHARE = 1 / 3  # of a run's training that goes into finalists and controls, about


@dataclass(frozen=True)
class SearchPlan:
    """How many candidates a search proposes, and how they go through the rungs.

    Attributes:
        trials: distinct candidates that are proposed at most.
        n_initial: trials, the first ones, that are trained in full whatever they reach.
        rungs: epochs after which candidates are compared, the last after all of them.
        reduction: one trial in `reduction` goes on from a rung to the next.
        n_edge_sizes: sizes among which the largest within the budget is looked for; 0: it is not looked for.
    """

    trials: int
    n_initial: int
    rungs: tuple[int, ...]
    reduction: int
    n_edge_sizes: int

    @staticmethod
    def of(config: SearchConfig, epochs: int, steps_per_epoch: int) -> "SearchPlan":
        """The plan that a config amounts to.

        Args:
            config: of the run.
            epochs: of a full training.
            steps_per_epoch: of a student's training.
        """
        search = config.search
        rungs = rung_epochs(epochs, steps_per_epoch, search)
        if search.strategy == ELASTIC:  # its candidates have been compared, and measured, already
            trials = min(search.trials, search.once_for_all.members)
            return SearchPlan(trials, 0, rungs, search.reduction, 0)
        return SearchPlan(search.trials, N_INITIAL_TRIALS, rungs, search.reduction, N_EDGE_SIZES)

    def epochs(self, candidates: int) -> tuple[int, int]:
        """Epochs that this many feasible candidates are trained for altogether, and how many reach the last rung."""
        return epochs_through_rungs(candidates, self.rungs, self.reduction, self.n_initial)

    def trained_in_full(self, number: int) -> bool:
        """Whether this trial is trained in full whatever it reaches: initial ones are, and all if there is one rung."""
        return number < self.n_initial or len(self.rungs) == 1

    def promoted(self, candidates: int) -> int:
        """How many of this many feasible candidates are trained past the first rung, or in full whatever they reach."""
        return epochs_through_rungs(candidates, self.rungs[:2], self.reduction, self.n_initial)[1]

    @property
    def edge_measurements(self) -> float:
        """Networks measured, roughly, to find the budget's edge and to begin along it."""
        return log2(self.n_edge_sizes) + self.n_initial if self.n_edge_sizes else 0.0


def probe_epochs(plan: SearchPlan, workers: int) -> float:
    """Epochs of a recipe probe, of all its trainings together: a share of what the search and its finalists take.

    Args:
        plan: of the search.
        workers: that it has, while the probe has one process.
    """
    return RUN_SHARE * plan.epochs(plan.trials)[0] / (1 - FINALISTS_SHARE) / workers


def probe_minutes(config: SearchConfig) -> float | None:
    """Most minutes of a recipe probe: as the config says, else a share of the run's; None: no limit."""
    if config.distill.probe_minutes is not None or config.search.max_minutes is None:
        return config.distill.probe_minutes
    return RUN_SHARE * config.search.max_minutes


class EpochTimes(NamedTuple):
    """Seconds that an epoch of a usual student takes.

    Attributes:
        training_s: of its training, with the teacher's outputs at hand.
        outputs_s: of the teacher's outputs, which all students share.
    """

    training_s: float
    outputs_s: float


def epochs_within(usual: int, left_s: float, times: EpochTimes, workers: int) -> int:
    """Epochs of the full schedule that leave time for the trainings that a search begins with, and a few more.

    Args:
        usual: epochs where there is no limit; there are never more.
        left_s: seconds until the run's time is over, of which a share is the recipe probe's.
        times: of an epoch.
        workers: that train at the same time.
    """
    rounds = ceil(N_FULL_TRAININGS / workers)
    affordable = (1 - RUN_SHARE) * left_s / (times.outputs_s + rounds * times.training_s)
    return min(usual, max(FEWEST_EPOCHS, int(affordable)))


def rung_epochs(epochs: int, steps_per_epoch: int, options: SearchSection) -> tuple[int, ...]:
    """Epochs of the full schedule at each rung, rising up to all of it: whole epochs, with enough steps.

    A rung has 1 / `reduction` of the next one's steps. Rungs of fewer than `rung_steps` steps are left out, as they
    rank by chance: over 24 networks on the digits Kendall's tau with the accuracy after 540 steps was 0.2 after 54
    steps, 0.7 after 180.

    Args:
        epochs: of the full schedule.
        steps_per_epoch: of a student's training.
        options: how many rungs there are at most, and how far apart.
    """
    steps = [epochs * steps_per_epoch / options.reduction**level for level in range(1, options.rungs)]
    levels = {max(1, round(n / steps_per_epoch)) for n in steps}
    there = sorted(level for level in levels if level < epochs and level * steps_per_epoch >= options.rung_steps)
    return (*there, epochs)


def epochs_through_rungs(candidates: int, rungs: Sequence[int], reduction: int, n_initial: int = 0) -> tuple[int, int]:
    """Epochs that candidates are trained for altogether, and how many of them reach the last rung.

    Args:
        candidates: how many there are.
        rungs: epochs of each.
        reduction: one trial in `reduction` goes on from a rung to the next.
        n_initial: candidates that are trained in full whatever they reach.
    """
    n_initial = min(n_initial, candidates)
    there = candidates - n_initial
    total = n_initial * rungs[-1] + there * rungs[0]
    for before, after in pairwise(rungs):
        there = min(there, max(1, there // reduction))
        total += there * (after - before)
    return total, n_initial + there


@dataclass(frozen=True)
class SupernetPlan:
    """How an elastic network is trained, and how its sub-networks are searched.

    Attributes:
        epochs: of the elastic network.
        pool_size: sub-networks that take part in its training.
        drawn_per_step: of them, beside the largest and the smallest.
        ladder_size: networks from the smallest to the largest that the cost model starts from.
        n_sampled: random networks that it starts from besides.
        evaluations: sub-networks judged with inherited weights.
        population: of a generation.
        measured_per_generation: new ones measured, to keep the cost model accurate where the search is.
        members: the front's first, which are distilled properly.
        judging_share: of the time left for judging sub-networks and distilling the best of them.
    """

    epochs: int
    evaluations: int
    members: int
    pool_size: int = 256
    drawn_per_step: int = 2
    ladder_size: int = 8
    n_sampled: int = 24
    population: int = 64
    measured_per_generation: int = 4
    judging_share: float = 0.5

    @staticmethod
    def of(config: SearchConfig, epochs: int) -> "SupernetPlan":
        """The plan that a config amounts to; an elastic network is trained twice as long as a student by default.

        Args:
            config: of the run.
            epochs: of a student's full training.
        """
        options = config.search.once_for_all
        return SupernetPlan(options.epochs or 2 * epochs, options.evaluations, options.members)

    @property
    def networks_per_step(self) -> int:
        """Sub-networks trained in every step: the largest, the smallest, and those drawn."""
        return 2 + self.drawn_per_step

    @property
    def initial_measurements(self) -> int:
        """Number of networks measured before training."""
        return self.ladder_size + self.n_sampled

    @property
    def later_measurements(self) -> int:
        """Networks measured during the search, and for its best members, at most."""
        return -(-self.evaluations // self.population) * self.measured_per_generation + self.members
