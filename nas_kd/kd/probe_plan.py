"""What a recipe probe tries, and for how long: a few settings around the rules' recipe, fewer and fewer of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from nas_kd.results.recipe_record import ProbeRecord
from nas_kd.results.training_recipe import TrainingRecipe, rounded

REDUCTION = 3  # one setting in three is trained on, three times as long
MAX_ROUNDS = 3
RATE_FACTOR = 3.0
SMALLEST_BATCH = 16
FEWEST_STEPS = 40  # of the first round: fewer tell nothing
# A choice other than the rules' has to be ahead by this many standard errors of its accuracy on validation: short
# trainings and few samples mislead.
MARGIN = 0.5


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
        """The most epochs of all trainings together.

        A setting that goes on is not trained again; one of each later round may be new, as `combined` makes it.
        """
        before = (0, *self.epochs[:-1])
        return sum(n * (e - b) + b for n, e, b in zip(self.settings, self.epochs, before, strict=True))

    @staticmethod
    def within(allowed_epochs: float, epochs: int, steps_per_epoch: int, n_settings: int) -> "ProbePlan | None":
        """Plan the longest probe that costs no more than this; None: not even two settings can be compared.

        Args:
            allowed_epochs: of all trainings together.
            epochs: of a full training.
            steps_per_epoch: at the rules' batch size.
            n_settings: that could be tried.
        """
        rounds = rounds_of(epochs, steps_per_epoch)
        for n_rounds in range(len(rounds), 0, -1):
            for first in range(n_settings, 1, -1):
                plan = ProbePlan(rounds[:n_rounds], tuple(_left(first, n) for n in range(n_rounds)))
                few = first < n_settings and n_rounds > 1  # rather more settings than more rounds
                if plan.total_epochs <= allowed_epochs and not few:
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


def _left(first: int, rounds_before: int) -> int:
    for _ in range(rounds_before):
        first = max(2, -(-first // REDUCTION))
    return first


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


def best_first(records: Sequence[ProbeRecord]) -> list[ProbeRecord]:
    """Order settings that were trained equally long by accuracy, then by loss; those that failed come last."""
    return sorted(records, key=_rank)


def _rank(record: ProbeRecord) -> tuple[bool, float, float]:
    loss = float("inf") if record.val_loss is None else record.val_loss
    return record.failed is not None, -record.val_accuracy, loss


def combined(base: ProbeRecord, records: Sequence[ProbeRecord]) -> TrainingRecipe:
    """Put together what each did better alone: of every field the value of the best setting that is ahead of `base`.

    Args:
        base: the rules' recipe, trained.
        records: the other settings, trained as long.
    """
    recipe, taken = base.recipe, set[str]()
    for record in best_first(records):
        changes = base.recipe.differences(record.recipe)
        if _rank(record) < _rank(base) and not taken & changes.keys():
            recipe, taken = replace(recipe, **changes), taken | changes.keys()  # type: ignore[arg-type]
    return recipe


def choose(base: ProbeRecord, records: Sequence[ProbeRecord], n_val: int) -> ProbeRecord:
    """Choose among settings that were trained equally long; the rules' recipe, unless another is clearly ahead.

    Args:
        base: the rules' recipe, trained as long as the others.
        records: all settings, `base` among them.
        n_val: samples of the validation split.
    """
    best = best_first(records)[0]
    if base.failed is not None:
        return best
    error = (max(best.val_accuracy * (1 - best.val_accuracy), 1 / n_val) / n_val) ** 0.5
    return best if best.val_accuracy - base.val_accuracy > MARGIN * error else base
