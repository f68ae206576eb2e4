"""Section 6, how networks were trained: recipes in full and where each part comes from; teachers that need longer."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas_kd.config.options import DistillOptions
from nas_kd.report import number_format as fmt
from nas_kd.report.recipe_words import FIELD_NAMES, describe_strength, name_fields
from nas_kd.report.report_context import named_teachers, search_option
from nas_kd.report.student_friendly import student_friendly_text
from nas_kd.results.fine_tuning_record import FineTuningRecord
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.run_record import DatasetRecord, RunRecord, TeacherRecord, is_under_trained

# Options of the schedule that every run has: nothing fits them to the data.
FIXED = ("momentum", "warmup", "ema", "clip_norm")
_MIX_PARTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "mixup": ("mixup: each sample is averaged with another, and so are their labels; teachers see the same",),
    "cutmix": ("cutmix: a rectangle of each picture is another's, and labels count by area; teachers see the same",),
}
OPTION_NAMES = {"momentum": "momentum", "warmup": "warm-up", "ema": "averaging", "clip_norm": "clipping"}

_OTHER_CLASSES = (
    'Its classes are not the data\'s (label_set = "other"): accuracy does not apply to it, and its preprocessing was '
    "not checked. Methods that read its logits trained a head of the student for its classes, which is not in the file."
)


def training_facts(run: RunRecord) -> list[tuple[str, str]]:
    """State the recipe of students, and of the teachers that the tool trained, as (name, text).

    Args:
        run: of an older version, it has no recipes.
    """
    facts, data = [], run.dataset
    distill = _section(run.config.get("distill"))
    if run.recipe is not None:
        text = _recipe_text(run.recipe, distill, data, distill.get("epochs"))
        facts.append(("Training of students", f"{text}{_varied_text(run)}"))
    if (start := _section(run.config.get("space")).get("weights")) is not None:
        facts.append(("Pretrained start", _START.format(file=Path(start).name, space=run.config["space"]["name"])))
    facts += _teaching_facts(run, distill)
    own = [_section(options) for options in run.config.get("teacher") or ()]
    for place, (name, teacher) in enumerate(named_teachers(run)):
        if teacher.knows_other_classes:
            facts.append((fmt.capital(name), _OTHER_CLASSES))
        if teacher.fine_tuning is not None:
            facts.append((f"Fine-tuning of {name}", _fine_tuning_text(teacher.fine_tuning, run)))
        if teacher.student_friendly is not None:
            text = student_friendly_text(teacher.student_friendly, run.score_title)
            facts.append((f"Student-friendly training of {name}", text))
        if teacher.recipe is None:
            continue
        given = (own[place].get("epochs") if place < len(own) else None) or distill.get("epochs")
        seen = data if data is not None and not data.teacher_view else None
        text = _recipe_text(teacher.recipe, distill, seen, given)
        warning = under_trained_text(name, teacher, run.score_title)
        facts.append((f"Training of {name}", f"{text} {warning}".strip()))
    return facts


_START = (
    "Networks of space {space!r} did not start at random but from the weights in {file}, leading channels and blocks, "
    "as far as names and shapes fit (space.weights)."
)


def _fine_tuning_text(record: FineTuningRecord, run: RunRecord) -> str:
    """How a teacher was trained on the data before it taught, and how good it was after each step."""
    score, classes = run.score_title, len(run.dataset.classes) if run.dataset else 0
    sentences = []
    if record.published_classes is not None:
        sentences.append(
            f"A new head for {fmt.count(classes, 'class', 'classes')} took the place of the one for "
            f"{record.published_classes:,}."
        )
    if record.val_before is not None:
        sentences.append(f"As it was given, its {score} on validation was {fmt.percent(record.val_before)}.")
    if record.val_head is not None:
        sentences.append(
            f"Its head was trained alone, on what the other layers give for samples without augmentation "
            f"({fmt.count(record.head_epochs, 'epoch')}): {fmt.percent(record.val_head)}."
        )
    if record.trained_epochs:
        outcome = (
            f"the best epoch, number {record.epochs}, had {fmt.percent(record.val_score)}"
            if record.epochs
            else "none was better, so that this is not in use"
        )
        sentences.append(
            f"Then all layers were trained for {record.trained_epochs} of at most "
            f"{fmt.count(record.most_epochs, 'epoch')} with AdamW, batches of "
            f"{fmt.count(record.batch_size, 'sample')}, {describe_strength(record.augment)} and peak learning rates of "
            f"{record.learning_rate:g} for the head and {record.trunk_learning_rate:g} for the others: {outcome}."
        )
    sentences.append(f"Epochs are chosen by {score} on validation. It took {fmt.duration(record.seconds)}.")
    return " ".join(sentences)


def _teaching_facts(run: RunRecord, distill: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How methods were shown their teacher, and what the teacher's checkpoints know, where these are not as usual."""
    standardize, progression = distill.get("standardize") or (), distill.get("progression") or ()
    checkpoints = () if run.teacher is None else run.teacher.checkpoints
    n_offered = len(distill["checkpoint"]) if distill.get("checkpoint") else len(checkpoints) + 1
    chosen = [
        *(["standardised logits or not"] if len(standardize) > 1 else []),
        *(["the checkpoint that teaches"] if checkpoints and n_offered > 1 else []),
        *([f"progression ({', '.join(progression)})"] if len(progression) > 1 else []),
    ]
    if chosen or True in standardize or set(progression) - {"none"}:
        varied = f"The search chose {fmt.join_with_and(chosen)}. " if chosen else ""
        yield "Teaching", f"{varied}Each candidate says how it was taught; {_MEANINGS}"
    if checkpoints:
        known = "; ".join(
            f"{n}: {c.description}, {fmt.percent(c.val.mean)}" for n, c in enumerate(checkpoints, start=1)
        )
        yield "Checkpoints of the teacher", f"Accuracy on validation of each, early to late: {known}."


_MEANINGS = (
    "standardised logits have mean 0 and standard deviation 1 in each sample, for the method alone; checkpoints and "
    "stages that take turns have equal shares of the schedule. What a method cannot use was left out of its candidates."
)


def teacher_warnings(run: RunRecord) -> tuple[str, ...]:
    """Warn of each teacher that needs longer training, or is probably shown samples in the wrong units."""
    found = []
    for name, teacher in named_teachers(run):
        advice = f"{fmt.capital(name)}: {teacher.advice}." if teacher.advice else ""
        found += [under_trained_text(name, teacher, run.score_title), advice]
    return tuple(filter(None, found))


def under_trained_text(name: str, teacher: TeacherRecord, score: str = "accuracy") -> str:
    """Say that a teacher needs longer training; empty if it does not.

    Args:
        name: of the teacher in a sentence.
        teacher: its record.
        score: what it is judged by.
    """
    gain = teacher.late_gain
    if gain is None or teacher.val_score is None or not is_under_trained(gain, teacher.val_score):
        return ""
    epochs = f"{teacher.recipe.recipe.epochs:,} epochs" if teacher.recipe else "training"
    points = fmt.percentage_points(gain).lstrip("+")
    return (
        f"{fmt.capital(name)} is under-trained: in the last fifth of its {epochs}, its {score} on validation "
        f"still rose by {points} points. Students can learn more from a teacher that is trained for longer "
        "(teacher.epochs)."
    )


def _recipe_text(
    record: RecipeRecord, distill: Mapping[str, Any], data: DatasetRecord | None, given_epochs: int | None
) -> str:
    recipe = record.recipe
    parts = [
        f"{fmt.count(recipe.epochs, 'epoch')} with batches of {fmt.count(recipe.batch_size, 'sample')}",
        f"{_optimizer_text(recipe.optimizer, distill)}, peak learning rate {recipe.learning_rate:g}, "
        f"weight decay {recipe.weight_decay:g}",
        *_schedule_parts(distill),
        describe_strength(recipe.augment) + _strength_meaning(recipe.augment, data),
        *_MIX_PARTS[recipe.mix],
    ]
    return f"{'; '.join(parts)}. {_origins_text(record, distill, given_epochs)}"


def _optimizer_text(optimizer: str, distill: Mapping[str, Any]) -> str:
    momentum = distill.get("momentum")
    if optimizer == "adamw":
        return "AdamW" if momentum is None else f"AdamW with first beta {momentum:g}"
    return "SGD" if not momentum else f"SGD with Nesterov momentum {momentum:g}"


def _schedule_parts(distill: Mapping[str, Any]) -> Iterator[str]:
    if (warmup := distill.get("warmup")) is not None:
        begin = f"linear warm-up over {_percent(warmup)} of the schedule, then " if warmup else ""
        yield f"{begin}cosine decay to 0"
    if (ema := distill.get("ema")) is not None:
        yield f"weights averaged with a time constant of {_percent(ema)} of the schedule"
    if (norm := distill.get("clip_norm")) is not None and distill.get("calibrate", True):
        yield f"gradients clipped to a norm of {norm:g} where the method allows it"


def _percent(share: float) -> str:
    return f"{share * 100:g}{fmt.NBSP}%"


def _strength_meaning(strength: str, data: DatasetRecord | None) -> str:
    """What a strength of augmentation does with these samples, if the run recorded it."""
    change = None if data is None or strength == "none" else data.augmentation.get(strength)
    if change is None:
        return ""
    crop, cutout, colour = change.get("crop"), change.get("cutout"), change.get("colour")
    kept, operations, erase = change.get("resized_crop"), change.get("operations"), change.get("erase")
    words = [
        *([f"random crops of {_percent(kept)} of the area and more, resized"] if kept else []),
        *([f"random shifts of up to {fmt.count(int(crop), 'pixel')}"] if crop else []),
        *(["mirroring"] if change.get("flip") else []),
        *([f"colours changed by up to {_percent(colour)}"] if colour else []),
        *([fmt.count(int(operations), "random operation")] if operations else []),
        *([f"a blanked square of {cutout}{fmt.TIMES}{cutout} pixels"] if cutout else []),
        *([f"a blanked rectangle in {_percent(erase)} of the samples"] if erase else []),
    ]
    return f" ({fmt.join_with_and(words)})" if words else " (which changes nothing on these data)"


def _origins_text(record: RecipeRecord, distill: Mapping[str, Any], given_epochs: int | None) -> str:
    """Where each part comes from: given, found by short trainings, proposed by rules, or the tool's default."""
    values = [asdict(s.recipe) for s in record.settings if s.failed is None] if record.origin == "probe" else []
    tried = {name for name in FIELD_NAMES if len({v[name] for v in values}) > 1}
    given = {*record.given, *({"epochs"} if given_epochs else ())}
    changed = {name for name in FIXED if distill.get(name) not in (None, DistillOptions.model_fields[name].default)}
    kept = {name for name in FIXED if distill.get(name) is not None} - changed
    groups = (
        ("Given", [*(n for n in FIELD_NAMES if n in given), *(OPTION_NAMES[n] for n in FIXED if n in changed)]),
        ("found by short trainings", [n for n in FIELD_NAMES if n in tried]),
        ("proposed by rules", [n for n in FIELD_NAMES if n not in tried | given | {"mix"}]),
        ("defaults", [OPTION_NAMES[n] for n in FIXED if n in kept]),
    )
    text = "; ".join(f"{title}: {name_fields(tuple(names))}" for title, names in groups if names)
    return f"{fmt.capital(text)}."


def _varied_text(run: RunRecord) -> str:
    varied = search_option(run, "recipe")
    if not varied:
        return ""
    return f" The search varied {name_fields(tuple(varied))}; a candidate that differs from the above says in what."


def _section(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
