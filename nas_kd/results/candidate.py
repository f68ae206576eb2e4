"""What the search proposes: a student architecture, a chain of assistants, a recipe and a precision."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from nas_kd.plugins import display_name
from nas_kd.results.teaching import Teaching
from nas_kd.serialization import canonical_json, fingerprint

Choice = int | float | str
Precision = str  # a name in the registry of precisions, `nas-kd list precisions`
IntegerScheme = Literal["u8s8", "s8s8"]  # types of an int8 network's activations and weights
DEFAULT_POLICY = "sequential"  # of candidates without assistants, and what the JSON leaves out


@dataclass(frozen=True, eq=False)
class Architecture:
    """A point of a search space: the value of each of the space's dimensions, in canonical form.

    `choices` maps a dimension's name to its value, exactly as `SearchSpace.suggest` named them, so that an
    architecture can be enqueued as an Optuna trial.
    """

    space: str
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """`{"space": ..., <dimension>: <value>, ...}`."""
        return {"space": self.space, **self.choices}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Architecture":
        """Read the architecture that `to_json` wrote."""
        return Architecture(value["space"], {k: v for k, v in value.items() if k != "space"})

    @cached_property
    def _canonical(self) -> str:
        return canonical_json(self.to_json())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._canonical == other._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)


NO_DISTILLATION, LABEL_SMOOTHING = "none", "label_smoothing"  # the methods that learn from labels alone


@dataclass(frozen=True)
class Recipe:
    """How a link of the chain is distilled.

    Attributes:
        method: of distillation; `a+b` sums two.
        params: its parameters.
        training: fields of the run's `TrainingRecipe` that are other ones here.
        teaching: how the teacher's knowledge is shown to the method.
    """

    method: str
    params: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Choice] = field(default_factory=dict)
    teaching: Teaching = field(default_factory=Teaching)

    @property
    def distills(self) -> bool:
        """Whether the network learns from anything but labels."""
        return self.method not in (NO_DISTILLATION, LABEL_SMOOTHING)

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON: `{"method": ..., "params": {...}}`, and what else is not the default."""
        return {"method": self.method, "params": dict(self.params), **self.not_default()}

    def not_default(self) -> dict[str, Any]:
        """`training` and `teaching` as JSON, each left out at its default."""
        parts = {"training": dict(self.training), "teaching": self.teaching.to_json()}
        return {name: part for name, part in parts.items() if part}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Recipe":
        """Read the recipe that `to_json` wrote, also where it stands among other fields."""
        return Recipe(
            value["method"],
            dict(value["params"]),
            dict(value.get("training", {})),
            Teaching.from_json(value.get("teaching", {})),
        )

    @property
    def method_name(self) -> str:
        """The method as its author named it, also where its class was given in Python."""
        return display_name(self.method)


@dataclass(frozen=True)
class Candidate:
    """One proposal of the search: a student and how it is trained.

    Attributes:
        student: what is deployed.
        assistants: the chain, largest first; empty: the student learns straight from the teacher.
        recipe: how the student is distilled.
        precision: of the exported file.
        policy: name of the chain policy; the default where there are no assistants.
    """

    student: Architecture
    assistants: tuple[Architecture, ...]
    recipe: Recipe
    precision: Precision = "fp32"
    policy: str = DEFAULT_POLICY

    def direct(self) -> "Candidate":
        """The same student and recipe without assistants."""
        return replace(self, assistants=(), policy=DEFAULT_POLICY)

    def to_json(self) -> dict[str, Any]:
        """The candidate as the study, `front.json` and the exported file carry it; what is the default is left out."""
        value = {
            "student": self.student.to_json(),
            "assistants": [a.to_json() for a in self.assistants],
            "method": self.recipe.method,
            "params": dict(self.recipe.params),
            "precision": self.precision,
            **self.recipe.not_default(),
        }
        return value if self.policy == DEFAULT_POLICY else value | {"policy": self.policy}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Candidate":
        """Read the candidate that `to_json` wrote."""
        return Candidate(
            student=Architecture.from_json(value["student"]),
            assistants=tuple(Architecture.from_json(a) for a in value["assistants"]),
            recipe=Recipe.from_json(value),
            precision=value["precision"],
            policy=value.get("policy", DEFAULT_POLICY),
        )

    @property
    def kind(self) -> str:
        """sha256 of all but the recipe's numbers: candidates of one kind differ in these alone."""
        return fingerprint(self.to_json() | {"params": None, "training": None})

    def fingerprint(self) -> str:
        """sha256 of the canonical JSON: candidates with equal fingerprints are the same and are never trained twice."""
        return fingerprint(self.to_json())

    @property
    def id(self) -> str:
        """The first 12 hex digits of the fingerprint: how reports and commands name the candidate."""
        return self.fingerprint()[:12]
