"""Early stopping on validation: a training goes on while it gets better, and its best epoch is what is kept."""

from collections.abc import Callable
from copy import deepcopy

from torch import nn

from nas_kd.context.callbacks import Callback
from nas_kd.engine.training import Training
from nas_kd.kd.training_job import run_from_checkpoint
from nas_kd.results.trial_record import Judged
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store


class BestEpoch:
    """The best state that a network has been in, from before its training on; the store keeps it over a killed run.

    Attributes:
        epoch: number of epochs that it was trained for; 0: none.
        score: on validation, 0..1.
        first: the score before the training.
    """

    def __init__(
        self,
        network: nn.Module,
        judge: Callable[[nn.Module], Judged],
        store: Store,
        key: str,
        *,
        patience: int,
    ) -> None:
        """Judge a network before it is trained.

        Args:
            network: to be trained.
            judge: judges a network on validation.
            store: keeps the best state.
            key: of the training.
            patience: epochs without a better one after which the training ends.
        """
        self._judge_network, self._store, self._patience = judge, store, patience
        self._training_key, self._key = key, fingerprint([key, "best epoch"])
        self._judged: tuple[int, Judged] | None = None
        self._network = network
        self.first = judge(network).score
        known = store.load("checkpoint", self._key)
        self.epoch: int = known.meta["epoch"] if known else 0
        self.score: float = known.meta["score"] if known else self.first
        self._state = known.tensors if known else deepcopy(network.state_dict())

    def train(self, training: Training, callback: Callback, description: str) -> None:
        """Train the network until no better epoch is in sight, and leave it in the best state.

        Args:
            training: of the network, not begun; goes on from its checkpoint, if there is one.
            callback: receives how far it has come.
            description: of the network, for people.
        """
        run_from_checkpoint(
            training,
            self._store,
            self._training_key,
            training.setup.schedule.epochs,
            callback=callback,
            description=description,
            judge=self._judge,
            enough=self._is_enough,
        )
        self._network.load_state_dict(self._state)
        self._network.eval()

    def forget(self) -> None:
        """Remove from the store what only an unfinished training needs."""
        for key in (self._training_key, self._key):
            self._store.remove("checkpoint", key)

    def _judge(self, training: Training) -> Judged:
        if self._judged is None or self._judged[0] != training.epoch:
            self._judged = training.epoch, self._judge_network(training.averaged_students()[0])
        return self._judged[1]

    def _is_enough(self, training: Training) -> bool:
        judged = self._judge(training)
        if judged.score > self.score:
            (network,) = training.averaged_students()
            self.epoch, self.score = training.epoch, judged.score
            self._state = {name: t.clone().contiguous() for name, t in network.state_dict().items()}
            self._store.save("checkpoint", self._key, self._state, {"epoch": self.epoch, "score": self.score})
        return training.epoch - self.epoch >= self._patience
