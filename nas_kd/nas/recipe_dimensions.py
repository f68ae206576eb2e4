"""The training recipe as a part of the search: dimensions around the recipe that suits most candidates."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import cast

from optuna.trial import BaseTrial

from nas_kd.context.mixing_checks import possible_mixes
from nas_kd.context.run_context import RunContext
from nas_kd.kd.choose_recipe import given_fields
from nas_kd.results.candidate import Choice
from nas_kd.results.recipe_record import SmallStudentsRecord
from nas_kd.results.training_recipe import MIXES, OPTIMIZERS, TrainingRecipe, rounded

RATE_FACTORS = (0.25, 4.0)  # of the learning rate
SMALLEST_BATCH = 8


class RecipeDimensions:
    """Draws what of a run's recipe is another for one candidate; the parameters are the same for every trial."""

    def __init__(
        self,
        opened: Sequence[str],
        recipe: TrainingRecipe,
        strengths: Sequence[str],
        n_samples: int,
        given: Collection[str] = (),
        *,
        mixes: Sequence[str] = MIXES,
        small: SmallStudentsRecord | None = None,
    ) -> None:
        """Open dimensions around a recipe.

        Args:
            opened: names as in the option `search.recipe`.
            recipe: of the run.
            strengths: of augmentation that differ on its data.
            n_samples: of the training split.
            given: names of the fields that the user gave; weight decay is kept where it is one of them.
            mixes: ways of mixing that its samples allow, none among them.
            small: what of the recipe is another for small students, unless it is opened; None: nothing is.
        """
        self._recipe, self._small = recipe, small
        self._kept: dict[str, Choice] = {"weight_decay": recipe.weight_decay} if "weight_decay" in given else {}
        batch = recipe.batch_size
        sizes = {b for b in (batch // 2, batch, 2 * batch) if SMALLEST_BATCH <= b <= n_samples // 2} | {batch}
        choices: dict[str, Sequence[Choice]] = {
            "optimizer": OPTIMIZERS,
            "batch_size": sorted(sizes),
            "augment": tuple(strengths),
            "mix": tuple(mixes),
        }
        self._choices = {name: values for name, values in choices.items() if name in opened}
        self._scales_rate = "learning_rate" in opened

    @staticmethod
    def of(context: RunContext, small: SmallStudentsRecord | None = None) -> "RecipeDimensions":
        """The dimensions that a run's config opens."""
        opened, strengths = context.config.search.recipe, context.data.augmentation.strengths
        n_samples, mixes = context.data.epoch_samples, possible_mixes(context.data)
        given = given_fields(context)
        return RecipeDimensions(opened, context.recipe, strengths, n_samples, given, mixes=mixes, small=small)

    def suggest(self, trial: BaseTrial, weights: Callable[[], int]) -> dict[str, Choice]:
        """Draw a recipe.

        Args:
            trial: to draw from.
            weights: counts those of the student, if the recipe depends on it.

        Returns:
            Its fields that are not as in the run's.
        """
        drawn = {
            name: cast(Choice, trial.suggest_categorical(f"recipe.{name}", values))
            for name, values in self._choices.items()
        }
        recipe = self._recipe.with_choices(drawn | self._kept)
        if self._scales_rate:
            factor = trial.suggest_float("recipe.learning_rate", *RATE_FACTORS, log=True)
            recipe = replace(recipe, learning_rate=rounded(recipe.learning_rate * factor))
        of_size = {} if self._small is None else self._small.changes(weights())
        return of_size | self._recipe.differences(recipe)

    def unchanged(self) -> dict[str, Choice]:
        """Parameters that stand for the run's own recipe."""
        parameters: dict[str, Choice] = {f"recipe.{name}": getattr(self._recipe, name) for name in self._choices}
        return parameters | ({"recipe.learning_rate": 1.0} if self._scales_rate else {})
