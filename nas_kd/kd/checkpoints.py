"""Trainings that can be stopped at any moment: their state is kept in the store while they run."""

import time

from nas_kd.context.run_context import Context
from nas_kd.engine.training import Training

CHECKPOINT_EVERY_S = 20.0


def run_from_checkpoint(context: Context, training: Training, what: str, key: str, until: int) -> None:
    """Train up to epoch `until`, from the checkpoint under `key` if there is one; leave one where more may follow.

    `what`: the network, in words.
    """
    store, epochs = context.store, training.setup.schedule.epochs
    if (checkpoint := store.load("checkpoint", key)) is not None and checkpoint.meta["epoch"] <= until:
        training.restore(checkpoint.tensors)
    saved_at = time.monotonic()

    def after_epoch(running: Training) -> None:
        nonlocal saved_at
        context.callback.on_progress(f"training {what}: epoch", running.epoch, until)
        rest = running.epoch < epochs
        if rest and (running.epoch == until or time.monotonic() - saved_at >= CHECKPOINT_EVERY_S):
            state = {k: v.contiguous() for k, v in running.state().items()}
            store.save("checkpoint", key, state, {"epoch": running.epoch})
            saved_at = time.monotonic()

    training.run(until, after_epoch)
