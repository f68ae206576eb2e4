"""How a teacher is shown to the method, as a part of the search."""

from typing import cast

from optuna.trial import BaseTrial

from nas_kd.methods.base import Method
from nas_kd.methods.teaching import usable_teaching
from nas_kd.methods.teaching_choices import TeachingChoices, teaching_of
from nas_kd.results.candidate import Choice
from nas_kd.results.teaching import Teaching


class TeachingDimensions:
    """Draws how a candidate is taught; there is a parameter for each part that has several choices."""

    def __init__(self, choices: TeachingChoices) -> None:
        """Open the dimensions.

        Args:
            choices: of the config.
        """
        values = choices.by_name()
        self._opened = {name: several for name, several in values.items() if len(several) > 1}
        self._first = {name: several[0] for name, several in values.items()}

    def suggest(self, trial: BaseTrial, method: Method, n_assistants: int) -> Teaching:
        """Draw; what makes no difference to the candidate is left out.

        Args:
            trial: Optuna's.
            method: of the candidate.
            n_assistants: in its chain.
        """
        drawn = {name: cast(Choice, trial.suggest_categorical(name, values)) for name, values in self._opened.items()}
        return usable_teaching(teaching_of(self._first | drawn), method, n_assistants=n_assistants)

    def unchanged(self) -> dict[str, Choice]:
        """Parameters that stand for the first choice of each part."""
        return {name: self._first[name] for name in self._opened}
