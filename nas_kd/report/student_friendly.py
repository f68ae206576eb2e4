"""What a report says of a teacher that was trained together with cuts of itself before the search."""

from collections.abc import Mapping

from nas_kd.report import number_format as fmt
from nas_kd.report.recipe_words import describe_strength
from nas_kd.results.student_friendly_record import BeforeAfter, CutComparison, StudentFriendlyRecord

_AS_IT_WAS = "so the teacher as it was taught, and students began with its weights."
_OUTCOMES: Mapping[str, str] = {
    "kept": "It taught like this, and students began with these weights.",
    "teacher worse": f"It was clearly worse, {_AS_IT_WAS}",
    "cut worse": f"A cut was clearly worse, {_AS_IT_WAS}",
    "no cut better": f"No cut was clearly better, {_AS_IT_WAS}",
    "student worse": f"A student was worse, {_AS_IT_WAS}",
    "no student better": f"No student was clearly better, {_AS_IT_WAS}",
}


def student_friendly_text(record: StudentFriendlyRecord, score: str) -> str:
    """Say how it was trained, what that was worth, and which of the two teachers is in use.

    Args:
        record: of the training.
        score: what networks are judged by, in sentences.
    """
    sentences = (
        f"Before the search it was trained for {fmt.count(record.epochs, 'epoch')} together with cuts of itself (Park "
        f"et al. 2021, arXiv:2102.07650): in every step the whole network, from the labels, and "
        f"{record.networks_per_step - 1} cuts, from the whole network's outputs; AdamW, batches of "
        f"{fmt.count(record.batch_size, 'sample')}, peak learning rate {record.learning_rate:g}, "
        f"{describe_strength(record.augment)}.",
        f"Its {score} on validation: {_change(record.teacher)}.",
        f"Cuts with its weights, not trained themselves: {'; '.join(map(_cut_text, record.cuts))}.",
        _students_text(record),
        _OUTCOMES[record.outcome],
        f"The training took {fmt.duration(record.seconds)}, comparing {fmt.duration(record.compared_s)}.",
        "Elsewhere in this report the teacher is the network as it was.",
    )
    return " ".join(filter(None, sentences))


def _cut_text(cut: CutComparison) -> str:
    share = f"{100 * cut.cost:.0f}{fmt.NBSP}% of its multiply-adds"
    return f"{cut.description} ({share}), {_change(cut.inherited)}"


def _students_text(record: StudentFriendlyRecord) -> str:
    distilled = [_change(cut.distilled) for cut in record.cuts if cut.distilled is not None]
    if not distilled:
        return ""
    return f"The same cuts, distilled for {fmt.count(record.student_epochs, 'epoch')}: {'; '.join(distilled)}."


def _change(scores: BeforeAfter) -> str:
    before, after = fmt.percent(scores.before.mean), fmt.percent(scores.after.mean)
    return f"{before} before and {after} after, {fmt.gain_with_interval(scores.gain)} points"
