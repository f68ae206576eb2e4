"""The training recipe by rules alone: a probe starts from it; where there is no time for one, it is the recipe."""

from math import ceil

from nas_kd.config.options import DistillOptions
from nas_kd.results.training_recipe import LEARNING_RATES, WEIGHT_DECAYS, TrainingRecipe

BATCH_SIZES = (16, 32, 64, 128)
ENOUGH_STEPS = 4000  # of a full training: more of them bring little, fewer leave a network under-trained
FEWEST_STEPS = 1500  # below it, epochs are added
USUAL_EPOCHS = 30
MOST_EPOCHS = 200


def recipe_by_rules(options: DistillOptions, n_samples: int, strength: str) -> TrainingRecipe:
    """Choose what is "auto" by the number of samples and the kind of data; what the user gives is kept.

    The batch is the largest that leaves enough steps. Few samples are shown for more epochs.

    Args:
        options: of the config's section `distill`.
        n_samples: of the training split.
        strength: of the augmentation that suits this kind of data.
    """
    epochs = options.epochs or usual_epochs(n_samples, options.batch_size)
    batch_size = options.batch_size or batch_for(n_samples * epochs)
    optimizer = options.optimizer or "sgd"
    return TrainingRecipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=options.learning_rate or LEARNING_RATES[optimizer],
        weight_decay=WEIGHT_DECAYS[optimizer] if options.weight_decay is None else options.weight_decay,
        augment=strength,
        mix=options.mix,
    )


def schedule_note(recipe: TrainingRecipe, n_samples: int, *, teacher: bool = False) -> str | None:
    """Say what is odd about a schedule: a batch larger than the data, or too few steps; None: nothing is.

    Args:
        recipe: of the run, or of a teacher.
        n_samples: of the training split.
        teacher: whether it is of a teacher, whose epochs are an option of its own.
    """
    notes = []
    if recipe.batch_size > n_samples:
        notes.append(
            f"a batch of {recipe.batch_size} is larger than the {n_samples} training samples: a step takes all of them"
        )
    steps = recipe.epochs * max(1, n_samples // recipe.batch_size)
    if steps < FEWEST_STEPS / 2:
        more = usual_epochs(n_samples, recipe.batch_size)
        smaller = (
            f", or a smaller distill.batch_size than {recipe.batch_size}" if recipe.batch_size > BATCH_SIZES[0] else ""
        )
        leaves = "leaves it under-trained" if teacher else "leaves networks under-trained"
        advice = f"{more} (teacher.epochs) are usual" if teacher else f'distill.epochs = "auto" would take {more}'
        notes.append(f"{recipe.epochs} epochs are {steps:,} training steps, which {leaves}; {advice}{smaller}")
    return "; ".join(notes) or None


def usual_epochs(n_samples: int, batch_size: int | None) -> int:
    """Epochs of a full training: the usual number, or more where that would be too few steps."""
    steps = max(1, n_samples // (batch_size or BATCH_SIZES[0]))
    return min(MOST_EPOCHS, max(USUAL_EPOCHS, ceil(FEWEST_STEPS / steps)))


def batch_for(samples_shown: int) -> int:
    """The largest usual batch that leaves enough steps, else the smallest.

    Args:
        samples_shown: samples times epochs.
    """
    return max((b for b in BATCH_SIZES if samples_shown / b >= ENOUGH_STEPS), default=BATCH_SIZES[0])
