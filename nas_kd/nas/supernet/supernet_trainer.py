"""Trains an elastic network that contains every student of a space.

Cai et al. 2019 (arXiv:1908.09791), in one stage by the sandwich rule (Yu et al. 2020, BigNAS, arXiv:2003.11142).
"""

from collections.abc import Callable, Sequence

from nas_kd.context.callbacks import Callback
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.engine.training import Training
from nas_kd.errors import TrialError
from nas_kd.kd.trainer import Trainer
from nas_kd.kd.training_job import run_from_checkpoint
from nas_kd.methods.sandwich import Sandwich
from nas_kd.models.supernet import Supernet
from nas_kd.nas.search_plan import SupernetPlan
from nas_kd.results.candidate import Architecture
from nas_kd.store.store import Entry, Store


class SupernetTrainer:
    """Trains the elastic network of one space; its weights, averaged, are kept in the store."""

    def __init__(
        self,
        trainer: Trainer,
        teacher: Teacher,
        plan: SupernetPlan,
        *,
        seed: int,
        callback: Callback,
    ) -> None:
        """Train with these parts.

        Args:
            trainer: of the run.
            teacher: that every sub-network learns from.
            plan: epochs, and sub-networks a step.
            seed: of initial weights and of training.
            callback: receives how far training has come.
        """
        self._trainer, self._teacher = trainer, teacher
        self._plan, self._seed, self._callback = plan, seed, callback

    def train(self, pool: Sequence[Architecture]) -> tuple[str, float]:
        """Train the elastic network, or find it in the store.

        Args:
            pool: sub-networks within the budget that take part, in random order.

        Returns:
            The key of its weights in the store, and the seconds that training took.

        Raises:
            TrialError: the pool is empty, or the network cannot be trained.
        """
        if not pool:
            raise TrialError("no sub-network is within the budget as predicted")
        builder, seed, store = self._trainer.builder, self._seed, self._trainer.cache.store
        smallest, largest = builder.smallest(), builder.largest()
        shown = max(pool, key=builder.macs)
        recipe = self._trainer.recipe
        schedule = Schedule.of(self._trainer.options, recipe, self._plan.epochs)
        facts = {"elastic": [a.to_json() for a in (smallest, shown, *pool)], "seed": seed}
        key = self._trainer.cache.key_of(facts, schedule, self._trainer.augmentation_key(recipe), [self._teacher])

        def begin() -> Training:
            elastic = Supernet(lambda a: builder.build(a, seed), largest, shown)
            method = Sandwich(smallest, pool, self._plan.drawn_per_step)
            setup = self._trainer.setup(schedule, recipe, seed, method)
            return Training(elastic, [self._trainer.outputs.of(self._teacher)], method, setup, lambda _: elastic)

        entry = trained_supernet(store, key, begin, callback=self._callback, description="the elastic network")
        return key, float(entry.meta["seconds"])


def trained_supernet(
    store: Store, key: str, begin: Callable[[], Training], *, callback: Callback, description: str
) -> Entry:
    """Train an elastic network, or find it in the store; a training that was interrupted goes on.

    Args:
        store: keeps checkpoints, then the averaged weights of the whole network, and the seconds that training took.
        key: of the weights.
        begin: sets up the training of a `Supernet`.
        callback: receives how far it has come.
        description: of the network, for people.
    """
    with store.lock("weights", key):
        if (entry := store.load("weights", key)) is None:
            training = begin()
            epochs = training.setup.schedule.epochs
            run_from_checkpoint(training, store, key, epochs, callback=callback, description=description)
            (averaged,) = training.averaged_students()
            state = {k: v.contiguous() for k, v in averaged.get_submodule("weights").state_dict().items()}
            store.save("weights", key, state, {"seconds": training.seconds})
            store.remove("checkpoint", key)
            entry = store.load("weights", key)
    if entry is None:
        raise OSError(f"{store.root}: {description} was written and cannot be read")
    return entry
