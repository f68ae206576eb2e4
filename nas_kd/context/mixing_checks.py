"""Which ways of mixing samples a run allows: its samples, and the views and kinds of its teachers, decide."""

from nas_kd.config.options import SearchConfig
from nas_kd.data.dataset import Dataset
from nas_kd.data.mixing import why_not_mixed
from nas_kd.errors import InputError
from nas_kd.results.training_recipe import MIXES

OPTION, SEARCHED = "distill.mix", "mix in search.recipe"


def check_mix_options(config: SearchConfig) -> None:
    """Refuse mixing with a teacher that cannot be shown mixed samples.

    Args:
        config: of the run.

    Raises:
        InputError: a teacher is known by its outputs alone.
    """
    if (asked := _asked(config)) and any(teacher.outputs is not None for teacher in config.teacher):
        raise InputError(
            f"{asked}: a teacher given by teacher.outputs has outputs for samples as they are, not for mixed ones: "
            "leave it out, or give the teacher as a network"
        )


def check_mixes(config: SearchConfig, data: Dataset) -> None:
    """Refuse mixing that the samples do not allow.

    Args:
        config: of the run.
        data: that it trains on.

    Raises:
        InputError: says why, and what is allowed.
    """
    if config.distill.mix != "none" and (reason := _why_not(data, config.distill.mix)):
        raise InputError(f"{OPTION} = {config.distill.mix!r}: {reason}")
    if "mix" in config.search.recipe and len(possible_mixes(data)) == 1 and (reason := _why_not(data, "mixup")):
        raise InputError(f"{SEARCHED}: {reason}")


def possible_mixes(data: Dataset) -> tuple[str, ...]:
    """List the ways of mixing that samples allow, "none" first.

    Args:
        data: that networks are trained on.
    """
    return tuple(mix for mix in MIXES if mix == "none" or _why_not(data, mix) is None)


def _asked(config: SearchConfig) -> str:
    if config.distill.mix != "none":
        return f"{OPTION} = {config.distill.mix!r}"
    return SEARCHED if "mix" in config.search.recipe else ""


def _why_not(data: Dataset, mix: str) -> str | None:
    """Why these samples cannot be mixed; None: they can be."""
    for one in (data, data.teacher_view):
        if one is None:
            continue
        dtype = one.stored_dtype or str(one.train.x.dtype).removeprefix("torch.")
        if reason := why_not_mixed(mix, one.input_shape, dtype, data.task.moving):
            return reason if one is data else f"the teacher's view: {reason}"
    view = data.teacher_view
    if mix == "cutmix" and view is not None and view.input_shape[1:] != data.input_shape[1:]:
        return (
            f"cutmix pastes the same pixels for teacher and student, which see {_size(view)} and {_size(data)} of "
            "them: use mixup"
        )
    return None


def _size(data: Dataset) -> str:
    return "x".join(map(str, data.input_shape[1:]))
