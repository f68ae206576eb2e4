"""What can be changed in how a teacher is shown to any method, and for which methods it means something.

- Standardised logits (Sun et al. 2024, arXiv:2403.01427): a method that compares logits of student and teacher sees
  them z-scored per sample, before its own temperature; cross-entropy sees the logits themselves. The published weights
  are kept, without calibration: z-scores have one scale on all networks, and the gradient on the student grows with 1 /
  the deviation of its logits. That is 0.1 or less in an untrained network, so that a factor found there would leave
  hardly anything of the term later. Digits, soft targets, a student of 766 weights, two seeds: 57.5 % with such a
  factor, 81.3 % without.
- A checkpoint of the teacher in place of the final one (Cho & Hariharan 2019, arXiv:1910.01348).
- Progression over the schedule: through the teacher's checkpoints, early to late (Jin et al. 2019, arXiv:1904.09149),
  or through the stages of the networks (`nas_kd.methods.stage_wise`).
"""

from dataclasses import replace

from nas_kd.methods.base import Method
from nas_kd.methods.combine import Combined
from nas_kd.methods.stage_wise import StageWise
from nas_kd.results.teaching import Teaching


def standardizable_parts(method: Method) -> list[Method]:
    """List the parts of a method whose terms mean the same on standardised logits.

    None without cross-entropy: nothing else then tells the student how large its logits are to be.

    Args:
        method: one, or a sum.
    """
    if method.ce_weight == 0:
        return []
    return [p for p in method.parts() if p.standardizes and "logits" in p.needs and p.teachers != "none"]


def can_go_by_stage(part: Method) -> bool:
    """Whether a method can be shown one stage's features after another's; `part`: one method, not a sum.

    Not one that is copied for each stage although it has optimisers, samples or networks of its own; nor one without
    cross-entropy, which would have no loss at all in the last share of the schedule.
    """
    own = part.has_own_optimizers or type(part).draw is not Method.draw or type(part).peers is not Method.peers
    return part.by_stage and not own and "features" in part.needs and part.teachers != "none" and part.ce_weight > 0


def can_go_through_stages(method: Method) -> bool:
    """Whether a part of a method, or the whole, can be shown one stage after another.

    Not in a sum that makes up its own samples, whose batches do not say how much of the schedule is done.
    """
    parts = method.parts()
    return any(map(can_go_by_stage, parts)) and all(type(part).draw is Method.draw for part in parts)


def learns_from_checkpoints(method: Method) -> bool:
    """Whether it matters which checkpoint of the run's teacher teaches; methods with several teachers have no say."""
    return method.teachers == "one" and not method.generations


def can_follow_checkpoints(method: Method) -> bool:
    """Whether one checkpoint after another can teach: not samples that are made up to suit one of them."""
    return learns_from_checkpoints(method) and all(type(part).draw is Method.draw for part in method.parts())


def usable_teaching(teaching: Teaching, method: Method, *, n_assistants: int = 0) -> Teaching:
    """Leave out what makes no difference, so that no candidate is trained twice under two names.

    Args:
        teaching: as it was drawn or asked for.
        method: of the student; one, or a sum.
        n_assistants: in front of the student. Where there are any, the final teacher teaches: they bridge the gap that
            an early checkpoint would.
    """
    if not standardizable_parts(method):
        teaching = replace(teaching, standardize=False)
    progresses = {
        "none": True,
        "checkpoints": not n_assistants and can_follow_checkpoints(method),
        "stages": can_go_through_stages(method),
    }
    if not progresses[teaching.progression]:
        teaching = replace(teaching, progression="none")
    if n_assistants or not learns_from_checkpoints(method) or teaching.progression == "checkpoints":
        teaching = replace(teaching, checkpoint=None)
    return teaching


def with_teaching(method: Method, teaching: Teaching) -> Method:
    """Prepare a method for what it will be shown; checkpoints are the trainer's to choose.

    Args:
        method: not attached yet; changed in place where it sees standardised logits.
        teaching: what of it the method cannot use is ignored.
    """
    parts, on_logits = list(method.parts()), standardizable_parts(method)
    for part in parts:
        part.sees_standardized = teaching.standardize and part in on_logits
    if teaching.progression == "stages" and can_go_through_stages(method):
        parts = [StageWise(part) if can_go_by_stage(part) else part for part in parts]
        return parts[0] if len(parts) == 1 else Combined(parts)
    return method
