"""A distillation method under test, with the trainings that several rules look at."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from nas_kd.methods.base import Method
from nas_kd.testing.generators import other_draws
from nas_kd.testing.toy_training import PAIRS, SEED, Pair, ToySettings, ToyTraining, start
from nas_kd.testing.watched import WatchedTraining

MakeMethod = Callable[[float | None, float], Method]


class MethodCase:
    """Makes fresh methods and trains them on one pair of networks; what is trained once is kept.

    Attributes:
        make: the method's class, or a function of temperature (None: its default) and strength.
        pair: families of student and teachers.
    """

    def __init__(self, make: MakeMethod, pair: Pair = PAIRS[0]) -> None:
        self.make, self.pair = make, pair

    @cached_property
    def method(self) -> Method:
        """One that nothing is attached to, for what it declares."""
        return self.fresh()

    def fresh(self, temperature: float | None = None, strength: float = 1.0) -> Method:
        """A method that nothing is attached to yet."""
        return self.make(temperature, strength)

    def start(self, **changes: Any) -> ToyTraining:
        """A training of a fresh method that has not begun; `changes`: see `ToySettings`."""
        return start(self.fresh(), self._settings(**changes))

    @cached_property
    def watched(self) -> WatchedTraining:
        """Two epochs under watch, whatever came of them."""
        return WatchedTraining(self.fresh(), self._settings(), until=2)

    @cached_property
    def repeated(self) -> WatchedTraining:
        """The first of these epochs once more, after other random numbers have been drawn."""
        with other_draws():
            return WatchedTraining(self.fresh(), self._settings(), until=1).ended_well()

    @cached_property
    def reseeded(self) -> WatchedTraining:
        """The first epoch with another seed."""
        return WatchedTraining(self.fresh(), self._settings(seed=SEED + 1), until=1).ended_well()

    def _settings(self, **changes: Any) -> ToySettings:
        calibrated = self.pair == PAIRS[0]  # takes as long as two epochs: one pair is enough
        return ToySettings(**{"pair": self.pair, "calibrated": calibrated, **changes})
