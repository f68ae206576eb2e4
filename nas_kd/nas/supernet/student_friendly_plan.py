"""How a teacher is trained together with cuts of itself: which cuts take part, which are compared, and the recipe."""

from dataclasses import dataclass
from statistics import fmean

from nas_kd.context.run_context import RunContext
from nas_kd.errors import InputError
from nas_kd.kd.network_builder import N_SIZES, NetworkBuilder
from nas_kd.kd.training_work import CountsWork
from nas_kd.models.derived.derived_space import FRESH
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.results.candidate import Architecture
from nas_kd.results.training_recipe import WEIGHT_DECAYS, TrainingRecipe

LEARNING_RATE = 1e-3  # of AdamW, a tenth of what networks are trained from scratch with
LEAST_COST = 0.1  # multiply-adds of the smallest cut, as a share of the teacher's: smaller ones would only pull at it
POOL_SIZE, MAX_DRAWS = 64, 512  # cuts that random ones are taken from, and draws until there are as many
DRAWN_PER_STEP = 2
COMPARED_COSTS = (0.5, 0.2)  # of the cuts that decide whether it paid, as shares of the teacher's


@dataclass(frozen=True)
class StudentFriendlyPlan:
    """The cuts that a teacher is trained together with, and those that it is judged by.

    Attributes:
        whole: the teacher, as an architecture of its own space.
        smallest: the cut that takes part in every step.
        pool: cuts that two more are drawn from in every step.
        compared: cuts that decide whether it paid, the largest first.
    """

    whole: Architecture
    smallest: Architecture
    pool: tuple[Architecture, ...]
    compared: tuple[Architecture, ...]

    @staticmethod
    def of(context: RunContext, builder: NetworkBuilder) -> "StudentFriendlyPlan":
        """Choose the cuts by their cost.

        Args:
            context: of the run, with the space that is made of its teacher.
            builder: of networks of that space.

        Raises:
            InputError: the teacher has no smaller cuts that could take part.
        """
        whole = builder.largest()
        cost = builder.macs(whole)
        ladder = [a for a in builder.size_ladder(N_SIZES) if a != whole and builder.can_build(a)]

        def at(share: float) -> Architecture:
            return min(ladder, key=lambda a: abs(builder.macs(a) - share * cost))

        if not ladder:
            raise InputError("teacher.student_friendly_epochs: the teacher is too small for cuts of it to take part")
        smallest = at(LEAST_COST)
        pool = _pool(context, builder, builder.macs(smallest))
        return StudentFriendlyPlan(
            whole, smallest, tuple(pool) or (smallest,), tuple(dict.fromkeys(map(at, COMPARED_COSTS)))
        )

    def macs(self, builder: CountsWork) -> list[float]:
        """Multiply-adds of each network of a step; those drawn are taken to be like the mean of their pool."""
        drawn = fmean(map(builder.macs, self.pool))
        return [float(builder.macs(self.whole)), float(builder.macs(self.smallest)), *[drawn] * DRAWN_PER_STEP]


def student_friendly_recipe(context: RunContext) -> TrainingRecipe:
    """How a teacher is trained together with cuts of itself.

    Args:
        context: of the run, with the recipe that follows from rules.
    """
    usual = context.for_teacher().recipe
    return TrainingRecipe(
        epochs=context.config.teacher[0].student_friendly_epochs,
        batch_size=usual.batch_size,
        optimizer="adamw",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAYS["adamw"],
        augment=usual.augment,
    )


def _pool(context: RunContext, builder: NetworkBuilder, least: int) -> list[Architecture]:
    """Draw different cuts that cost at least so much, in random order."""
    sampler, found = ArchitectureSampler(context.space, context.seed), dict[Architecture, None]()
    for _ in range(MAX_DRAWS):
        drawn = sampler.draw()
        inherited = {FRESH: 0} if FRESH in drawn.choices else {}
        cut = Architecture(drawn.space, {**drawn.choices, **inherited})
        if builder.can_build(cut) and builder.macs(cut) >= least:
            found[cut] = None
        if len(found) == POOL_SIZE:
            break
    return list(found)
