"""Records of recipe probes, shaped like real ones."""

from dataclasses import replace
from typing import Any

from nas_kd.results.recipe_record import ProbeRecord, RecipeRecord
from nas_kd.results.training_recipe import TrainingRecipe

RULES = TrainingRecipe(
    epochs=27, batch_size=16, optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, augment="standard"
)
HIGHER = replace(RULES, learning_rate=0.3)
CHANGES: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.3},
    {"augment": "none"},
    {"learning_rate": 0.033},
    {"optimizer": "adamw"},
    {"batch_size": 32},
    {"augment": "strong"},
    {"learning_rate": 0.3, "augment": "none"},
    {"batch_size": 8},
    {"learning_rate": 1.0},
)


def setting(recipe: TrainingRecipe, epochs: int, accuracy: float, **other: Any) -> ProbeRecord:
    """A setting whose accuracy has risen fast at first, then slowly."""
    curve = tuple(round(accuracy * (1 - 0.5 ** (n + 1)) / (1 - 0.5**epochs), 4) for n in range(epochs))
    fields = {"val_loss": 0.5, "curve": curve, "seconds": 0.7 * epochs}
    return ProbeRecord(recipe=recipe, epochs=epochs, val_accuracy=accuracy, **(fields | other))


def probe(count: int, **other: Any) -> RecipeRecord:
    """A probe of 2 to 10 settings: the rules' and a higher learning rate, which wins, go on for longest.

    Args:
        count: settings.
        other: fields in place of those.
    """
    settings = [setting(RULES, 9, 0.90), setting(HIGHER, 9, 0.93)]
    for n, changes in enumerate(CHANGES[1 : count - 1]):
        settings.append(setting(RULES.with_choices(changes), 3 if n % 2 else 1, round(0.80 + 0.01 * n, 4)))
    fields: dict[str, Any] = {
        "recipe": HIGHER,
        "origin": "probe",
        "given": ("batch_size",),
        "rules": RULES,
        "network": "3 stages, 8-8-20 wide",
        "settings": tuple(settings),
        "compared_epochs": 9,
        "gain": 0.03,
        "augmentation_gain": 0.012,
        "epochs_spent": sum(s.epochs for s in settings),
        "seconds": 42.0,
    }
    return RecipeRecord(**(fields | other))
