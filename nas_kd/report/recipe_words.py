"""Training recipes in words, for all sections that name one."""

from collections.abc import Mapping
from statistics import fmean

from nas_kd.report import number_format as fmt
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.training_recipe import Choice, TrainingRecipe

FIELD_NAMES = {
    "epochs": "epochs",
    "batch_size": "batch size",
    "optimizer": "optimizer",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
    "augment": "augmentation",
    "mix": "mixing",
}


def describe_choices(choices: Mapping[str, Choice]) -> str:
    """Describe some fields of a recipe: `batch 32, sgd 0.3, weight decay 0.05, no augmentation, mixup`.

    Args:
        choices: values by field; a learning rate without its optimiser is named as such.
    """
    words = []
    if "batch_size" in choices:
        words.append(f"batch {choices['batch_size']}")
    rate = f"{choices['learning_rate']:g}" if "learning_rate" in choices else ""
    if "optimizer" in choices:
        words.append(f"{choices['optimizer']} {rate}".strip())
    elif rate:
        words.append(f"learning rate {rate}")
    if "weight_decay" in choices:
        words.append(f"weight decay {choices['weight_decay']:g}")
    if "augment" in choices:
        words.append(describe_strength(str(choices["augment"])))
    if "mix" in choices:
        words.append("samples not mixed" if choices["mix"] == "none" else str(choices["mix"]))
    if "epochs" in choices:
        words.append(fmt.count(int(choices["epochs"]), "epoch"))
    return ", ".join(words)


def describe_setting(recipe: TrainingRecipe) -> str:
    """Describe a recipe without its length and weight decay: `batch 16, sgd 0.1, augmentation standard`."""
    fields, named = recipe.to_json(), ("batch_size", "optimizer", "learning_rate", "augment", "mix")
    return describe_choices({n: fields[n] for n in named if n in fields})


def describe_strength(strength: str) -> str:
    """Describe a strength of augmentation: `augmentation standard`, `no augmentation`."""
    return "no augmentation" if strength == "none" else f"augmentation {strength}"


def training_text(candidate: Candidate) -> str:
    """Describe what of the run's recipe a candidate has otherwise: `batch 32, sgd 0.3`; empty if nothing."""
    return describe_choices(candidate.recipe.training)


def name_fields(fields: tuple[str, ...]) -> str:
    """Name fields of a recipe as a sentence does: `batch size, optimizer and learning rate`."""
    return fmt.join_with_and(FIELD_NAMES.get(name, name) for name in fields)


def grad_ratios_text(finalist: FinalistRecord) -> str:
    """Describe how strong its method was, over seeds: `similarity 3.4 times the gradient of the labels' loss`."""
    found = [seed.grad_ratios for seed in finalist.seeds if seed.grad_ratios]
    if not found:
        return ""
    means = {name: fmean(ratios[name] for ratios in found) for name in found[0]}
    parts = [f"{name} {mean:.2g}{fmt.NBSP}times" for name, mean in means.items()]
    return f"{fmt.join_with_and(parts)} the gradient of the labels' loss, when calibrated"
