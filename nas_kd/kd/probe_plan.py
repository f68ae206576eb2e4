"""What a recipe probe tries, and for how long: a few settings around the rules' recipe, fewer and fewer of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log
from statistics import fmean

from nas_kd.results.recipe_record import ProbeRecord
from nas_kd.results.training_recipe import TrainingRecipe, rounded

REDUCTION = 3  # a round is three times as long as the one before
MAX_ROUNDS = 3
COMPARED = (
    3,
    2,
)  # settings in the rounds after the first: the rules', what helped put together, the other augmentation
NEW_SETTINGS = 2  # of the second round, at most
FEWEST_FOR_TWO_ROUNDS = 3
RATE_FACTOR = 3.0
SMALLEST_BATCH = 16
FEWEST_STEPS = 40  # of the first round: fewer tell nothing
# What a short training shows of a full one: errors go on falling at this share of the rate, in logarithms, at which
# they fell from the round before. Augmentation looks bad at first and catches up (benchmarks/recipe).
TREND = 0.7
# A choice other than the rules' has to be ahead by this many standard errors of the error on validation (the rule of
# one standard error, Breiman et al. 1984, section 3.4.3): samples are few, and a ninth of a training misleads more
# than a third.
MARGIN, MARGIN_AFTER_ONE_ROUND = 1.0, 2.0


@dataclass(frozen=True)
class ProbePlan:
    """How a probe goes: settings are trained up to the first of these epochs, the best of them on to the next.

    Attributes:
        epochs: of each round, rising.
        settings: how many are trained in each round, falling.
    """

    epochs: tuple[int, ...]
    settings: tuple[int, ...]

    @property
    def total_epochs(self) -> int:
        """The most epochs of all trainings together; a setting that goes on is not trained again."""
        before = (0, *self.epochs[:-1])
        trained = sum(n * (e - b) for n, e, b in zip(self.settings, self.epochs, before, strict=True))
        return trained + (NEW_SETTINGS * self.epochs[0] if len(self.epochs) > 1 else 0)

    @staticmethod
    def within(allowed_epochs: float, epochs: int, steps_per_epoch: int, n_settings: int) -> "ProbePlan | None":
        """Plan the longest probe that costs no more than this; None: not even two settings can be compared.

        Rather fewer settings in two rounds than more in one; all of them where there are three.

        Args:
            allowed_epochs: of all trainings together.
            epochs: of a full training.
            steps_per_epoch: at the rules' batch size.
            n_settings: that could be tried.
        """
        rounds = rounds_of(epochs, steps_per_epoch)
        fewest = {1: 2, 2: min(FEWEST_FOR_TWO_ROUNDS, n_settings), 3: n_settings}
        for n_rounds in range(len(rounds), 0, -1):
            for first in range(n_settings, max(2, fewest[n_rounds]) - 1, -1):
                later = (min(first, n) for n in COMPARED[: n_rounds - 1])
                plan = ProbePlan(rounds[:n_rounds], (first, *later))
                if plan.total_epochs <= allowed_epochs:
                    return plan
        return None


def rounds_of(epochs: int, steps_per_epoch: int) -> tuple[int, ...]:
    """Epochs of a probe's rounds: a ninth, a third and all of a training, but enough steps in the first.

    Args:
        epochs: of a full training.
        steps_per_epoch: at the rules' batch size.
    """
    least = -(-FEWEST_STEPS // max(1, steps_per_epoch))
    shares = (max(1, least, round(epochs / REDUCTION**n)) for n in reversed(range(MAX_ROUNDS)))
    return tuple(sorted({min(epochs, share) for share in shares}))


def settings_around(
    base: TrainingRecipe, free: Collection[str], strengths: Sequence[str], n_samples: int
) -> list[TrainingRecipe]:
    """List what a probe tries, the rules' recipe first, then what most often helps.

    Args:
        base: by rules.
        free: names of the fields that the user has not given.
        strengths: of augmentation that differ on these data.
        n_samples: of the training split.
    """
    found = [base]
    if "augment" in free:
        found += [replace(base, augment=s) for s in strengths if s not in (base.augment, "strong")]
    if "learning_rate" in free:
        factors = (1 / RATE_FACTOR, RATE_FACTOR)
        found += [replace(base, learning_rate=rounded(base.learning_rate * factor)) for factor in factors]
    if {"optimizer", "learning_rate", "weight_decay"} <= set(free):
        found.append(base.with_choices({"optimizer": "adamw" if base.optimizer == "sgd" else "sgd"}))
    if "batch_size" in free:
        halved, doubled = base.batch_size // 2, 2 * base.batch_size
        if halved >= SMALLEST_BATCH:
            found.append(replace(base, batch_size=halved))
        elif doubled <= n_samples // 2:
            found.append(replace(base, batch_size=doubled))
    next_weaker = "standard" if "standard" in strengths else "none"
    if "augment" in free and "strong" in strengths and base.augment == next_weaker:
        found.append(replace(base, augment="strong"))
    return found


def expected_errors(records: Sequence[ProbeRecord], epochs: int, n_val: int) -> dict[TrainingRecipe, float]:
    """Expect each setting's error, 1 - score, after a full training, from where it is and how fast its kind got there.

    Settings with the same augmentation are taken to improve at the same rate: a lower learning rate, too, starts behind
    and catches up, but no further.

    Args:
        records: settings that were trained equally long; each is judged by its last round.
        epochs: of a full training.
        n_val: samples of the validation split. Errors are smoothed, as if two more samples had one more error.
    """
    trends: dict[str, list[float]] = {}
    for record in records:
        if record.failed is None:
            trends.setdefault(record.recipe.augment, []).append(_log_improvement(record, epochs, n_val))
    return {
        r.recipe: 1.0
        if r.failed is not None
        else _smoothed(r.val_score, n_val) * exp(TREND * fmean(trends[r.recipe.augment]))
        for r in records
    }


def _log_improvement(record: ProbeRecord, epochs: int, n_val: int) -> float:
    """Logarithm of the factor by which the error falls up to a full training at the rate of the last round, <= 0."""
    earlier = [(e, score) for e, score in record.rounds if e < record.epochs]
    if not earlier or record.epochs >= epochs:
        return 0.0
    before, score = earlier[-1]
    rate = min(0.0, log(_smoothed(record.val_score, n_val) / _smoothed(score, n_val)))
    return rate * log(epochs / record.epochs) / log(record.epochs / before)


def _smoothed(score: float, n_val: int) -> float:
    return (n_val * (1 - score) + 1) / (n_val + 2)


def best_first(records: Sequence[ProbeRecord], epochs: int, n_val: int) -> list[ProbeRecord]:
    """Order settings that were trained equally long by the error that is expected; of equal ones by their loss.

    Args:
        records: of the settings; those that failed come last.
        epochs: of a full training.
        n_val: samples of the validation split.
    """
    expected = expected_errors(records, epochs, n_val)

    def rank(record: ProbeRecord) -> tuple[bool, float, float]:
        loss = inf if record.val_loss is None else record.val_loss
        return record.failed is not None, expected[record.recipe], loss

    return sorted(records, key=rank)


def combined(base: ProbeRecord, ranked: Sequence[ProbeRecord]) -> TrainingRecipe:
    """Put together what each did better alone: of every field the value of the best setting that is ahead of `base`.

    Args:
        base: the rules' recipe, trained.
        ranked: all settings, `base` among them, the best first.
    """
    recipe, taken = base.recipe, set[str]()
    for record in ranked[: ranked.index(base)]:
        changes = base.recipe.differences(record.recipe)
        if not taken & changes.keys():
            recipe, taken = replace(recipe, **changes), taken | changes.keys()  # type: ignore[arg-type]
    return recipe


def next_settings(base: TrainingRecipe, ranked: Sequence[ProbeRecord], count: int) -> list[TrainingRecipe]:
    """Choose the settings of the second round: the rules', what helped put together, and other augmentation with that.

    Augmentation that looks worse after a short training may be better after a long one, so both go on.

    Args:
        base: the rules' recipe.
        ranked: all settings of the first round, the best first.
        count: how many go on.
    """
    usable = [r for r in ranked if r.failed is None]
    there = next((r for r in usable if r.recipe == base), None)
    kept: list[TrainingRecipe] = []
    if there is not None:
        together = combined(there, usable)
        kept = [base, together]
        others = (r.recipe.augment for r in usable if r.recipe.augment != together.augment)
        if (augment := next(others, None)) is not None:
            kept.append(replace(together, augment=augment))
    return list(dict.fromkeys([*kept, *(r.recipe for r in usable)]))[:count]


def choose(base: ProbeRecord, ranked: Sequence[ProbeRecord], epochs: int, n_val: int) -> ProbeRecord:
    """Choose among settings that were trained equally long; the rules' recipe, unless another is clearly ahead.

    Args:
        base: the rules' recipe, trained as long as the others.
        ranked: all settings, the best first.
        epochs: of a full training.
        n_val: samples of the validation split.
    """
    expected, best = expected_errors(ranked, epochs, n_val), ranked[0]
    error = expected[base.recipe]
    margin = MARGIN_AFTER_ONE_ROUND if len(base.rounds) == 1 and base.epochs < epochs else MARGIN
    noise = (error * (1 - error) / n_val) ** 0.5
    return best if error - expected[best.recipe] > margin * noise else base
