"""Mixup and cutmix of training data as a user passes them to `distill`."""

from dataclasses import replace

from nas_kd.data.mixing import MixedView, Mixer, why_not_mixed
from nas_kd.engine.batch_source import ArrayBatches, BatchSource
from nas_kd.engine.dataset_batches import DatasetBatches
from nas_kd.engine.user_data import ArrayData, UserData
from nas_kd.errors import InputError
from nas_kd.tasks.moving import MovingTargets


def check_mixing(mix: str, train: UserData, moving: MovingTargets | None) -> None:
    """Refuse training data whose samples cannot be mixed.

    Args:
        mix: none, mixup or cutmix.
        train: the training data.
        moving: how targets move with samples; None: they have no places in these.

    Raises:
        InputError: says why.
    """
    if mix == "none":
        return
    if not train.numbered:
        raise InputError(
            f"mix = {mix!r} goes with arrays or a Dataset as train, not with a {train.kind}, whose samples have no "
            "numbers by which partners could be drawn"
        )
    if moving is not None and train.kind != ArrayData.kind:
        raise InputError(f"mix = {mix!r}: targets that have places in pictures want train as arrays")
    example = train.example()
    if not example.is_floating_point():
        raise InputError(f"mix = {mix!r}: samples of train are whole numbers (ids), and half of an id is none")
    if reason := why_not_mixed(mix, tuple(example.shape[1:]), "float32", moving):
        raise InputError(f"mix = {mix!r}: {reason}")


def mixed_source(source: BatchSource, train: UserData, mix: str, seed: int) -> BatchSource:
    """Mix the samples of a source with each other.

    Args:
        source: of the batches of `train`.
        train: the training data, which `check_mixing` accepts.
        mix: none, mixup or cutmix.
        seed: of the partners and their shares.
    """
    if mix == "none":
        return source
    mixer = Mixer(mix, len(train), tuple(train.example().shape[1:]), seed)
    if isinstance(source, ArrayBatches):
        return ArrayBatches(MixedView(source.augmenter, mixer), source.labels, source.moving)
    if isinstance(source, DatasetBatches):
        return replace(source, mixer=mixer)
    return source
