"""Builds networks of the search spaces for one data set, and counts what is known of them before any training."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.data.dataset import Dataset
from nas_kd.engine.numerics import PLAIN, seeded
from nas_kd.errors import InputError, TrialError
from nas_kd.export.eval_mode import evaluating
from nas_kd.export.network_costs import count_macs, count_parameters
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.pretrained_start import PretrainedStart, Started, class_tensors, describe_start
from nas_kd.models.raw_output import LogitsOnly, find_output
from nas_kd.models.search_space import SearchSpace, identity_of, load_space, takes_stored_units
from nas_kd.models.wrappers import ContiguousLayout, Normalized, ScaledOutputs
from nas_kd.results.candidate import Architecture
from nas_kd.results.trial_record import Costs
from nas_kd.user_code import unchanged_settings

IMAGE_BATCH_DIMS = 4
N_SIZES = 32  # of a space, among which those that can be built are looked for


class NetworkBuilder:
    """Builds one data set's networks: (B, *input_shape) in stored units -> (B, C) logits, normalisation inside."""

    def __init__(self, data: Dataset, space: SearchSpace, start: PretrainedStart | None = None) -> None:
        """Build networks for these data.

        Args:
            data: gives input shape, classes and statistics.
            space: of students; others are found by name.
            start: pretrained weights of networks of `space`; None: they start at random.
        """
        self._data, self._students, self.start = data, space, start
        self._spaces = {space.name: space}
        self._counted = lru_cache(maxsize=None)(self._count)
        self._class_tensors = lru_cache(maxsize=None)(self._find_class_tensors)

    @staticmethod
    def for_run(context: RunContext, space: SearchSpace | None = None) -> "NetworkBuilder":
        """Build a run's networks, from pretrained weights where its config names some.

        Args:
            context: of the run.
            space: None: that of its students; networks of any other start at random.

        Raises:
            InputError: the weights are missing.
        """
        space = space or context.space
        of_students = space.name == context.space.name
        start = PretrainedStart.of(context.config.space, space.name) if of_students else None
        return NetworkBuilder(context.data, space, start)

    def space(self, architecture: Architecture) -> SearchSpace:
        """Find the space that an architecture belongs to."""
        name = architecture.space
        if name not in self._spaces:
            self._spaces[name] = load_space(name)
        return self._spaces[name]

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """Build a network; its initial weights depend on architecture, seed and pretrained weights, if there are any.

        Raises:
            InputError: the space does not support the data, or the architecture is not one of it.
            TrialError: the space raised anything else.
        """
        data = self._data
        body, _ = self.started(architecture, seed)
        network = trainable(body, data.input_shape, data.task.raw_shape(data.n_classes))
        if (scale := data.task.output_scale) is not None and not takes_stored_units(self.space(architecture)):
            network = ScaledOutputs(network, *scale)
        if takes_stored_units(self.space(architecture)):
            return network
        return Normalized(network, data.mean, data.std)

    @property
    def identity(self) -> dict[str, Any]:
        """What keys of networks need to have of the students' space, see `identity_of`."""
        return identity_of(self._students)

    def started(self, architecture: Architecture, seed: int = 0) -> tuple[nn.Module, Started]:
        """Build what the space builds of an architecture, without normalisation, and say what of it is pretrained.

        Raises:
            InputError: see `build`.
            TrialError: likewise.
        """
        body = self._body(architecture, self._data.n_classes, seed)
        if self.start is None or architecture.space != self.start.space:
            return body, Started(0, ())
        with as_trial_error(inputs=False):
            return body, self.start.give_to(body, self._class_tensors(architecture))

    def _body(self, architecture: Architecture, n_classes: int, seed: int) -> nn.Module:
        with as_trial_error(inputs=False), seeded(seed, 0):
            body = self.space(architecture).build(architecture, self._data.input_shape, n_classes)
        if not isinstance(body, nn.Module):
            kind = type(body).__name__
            raise TrialError(f"space {architecture.space!r}: build must return a torch.nn.Module, got {kind}")
        return body

    def _find_class_tensors(self, architecture: Architecture) -> frozenset[str]:
        n_classes = self._data.n_classes
        return class_tensors(self._body(architecture, n_classes, 0), self._body(architecture, n_classes + 1, 0))

    def parameters(self, architecture: Architecture) -> int:
        """Count the network's trained weights."""
        return self._counted(architecture).parameters

    def macs(self, architecture: Architecture) -> int:
        """Count the multiply-adds of one sample."""
        return self._counted(architecture).macs

    def counted(self, deployed: Sequence[Architecture]) -> Costs:
        """Count weights and multiply-adds of networks that are deployed as one file."""
        return Costs(parameters=sum(map(self.parameters, deployed)), macs=sum(map(self.macs, deployed)))

    def _count(self, architecture: Architecture) -> Costs:
        network = self.build(architecture, 0)
        with as_trial_error():
            return self._counts(network)

    def _counts(self, network: nn.Module) -> Costs:
        return Costs(parameters=count_parameters(network), macs=count_macs(network, self._data.input_shape))

    def description(self, architecture: Architecture) -> str:
        """Describe the network for people: `3 stages, 16-24-48 wide, 5 blocks, 21 k weights`."""
        try:
            with as_trial_error():
                described = self.space(architecture).describe(architecture)
        except TrialError:
            described = ", ".join(f"{name} {value}" for name, value in architecture.choices.items())
        if not self.can_build(architecture):
            return described
        return f"{described}, {in_thousands(self.parameters(architecture))} weights"

    def can_build(self, architecture: Architecture) -> bool:
        """Whether the network can be built and run: most spaces have members that are impossible for some data."""
        try:
            self._counted(architecture)
        except (InputError, TrialError):
            return False
        return True

    def smallest(self) -> Architecture:
        """The smallest of the students' space that can be built.

        Raises:
            InputError: none of its sizes can be built; says why the last one cannot.
        """
        return self._first_built([self.size_ladder(2)[0]]) or self._any_built(self.size_ladder(N_SIZES))

    def largest(self) -> Architecture:
        """The largest of the students' space that can be built.

        Raises:
            InputError: none of its sizes can be built; says why the last one cannot.
        """
        return self._first_built([self.size_ladder(2)[-1]]) or self._any_built(self.size_ladder(N_SIZES)[::-1])

    def ends(self) -> list[Architecture]:
        """The smallest and the largest that can be built, which may be the same."""
        return list(dict.fromkeys([self.smallest(), self.largest()]))

    def size_ladder(self, n: int) -> list[Architecture]:
        """The `size_ladder` of the students' space, see the function of the same name."""
        return size_ladder(self._students, n)

    def _first_built(self, architectures: Iterable[Architecture]) -> Architecture | None:
        return next(filter(self.can_build, architectures), None)

    def _any_built(self, ladder: Sequence[Architecture]) -> Architecture:
        if (found := self._first_built(ladder)) is not None:
            return found
        try:
            self._counted(ladder[-1])
        except (InputError, TrialError) as error:
            raise InputError(
                f"space {self._students.name!r}: none of its {len(ladder)} sizes can be built and run for samples of "
                f"shape {self._data.input_shape}; the last one: {error}"
            ) from error
        return ladder[-1]


def note_start(builder: NetworkBuilder, callback: Callback) -> None:
    """Note what of a run's networks starts from pretrained weights, if its config names some.

    Args:
        builder: of the run's networks.
        callback: receives the note.

    Raises:
        InputError: none of the weights fits.
    """
    if builder.start is not None:
        ends = zip(("the smallest", "the largest"), builder.ends(), strict=False)
        started = [(name, builder.started(architecture)[1]) for name, architecture in ends]
        callback.on_note(describe_start(builder.start, started))


def size_ladder(space: SearchSpace, n: int) -> list[Architecture]:
    """Architectures of a space, log-spaced in size from the smallest, whether they can be built or not.

    Args:
        space: any.
        n: how many, or as many as there are.

    Raises:
        InputError: the space raised an error, or gave no architectures.
    """
    try:
        with as_trial_error():
            ladder = list(space.size_ladder(n))
    except TrialError as error:
        raise InputError(f"space {space.name!r}: size_ladder({n}) failed: {error}") from error
    if not ladder or not all(isinstance(size, Architecture) for size in ladder):
        raise InputError(f"space {space.name!r}: size_ladder({n}) must return a list of architectures")
    return ladder


def trainable(network: nn.Module, input_shape: tuple[int, ...], output_shape: Sequence[int | None]) -> nn.Module:
    """The network itself, or wrapped where it returns more than the task asks for or cannot take images channels last.

    A network that cannot be run at all is returned as it is.

    Args:
        network: in any mode; left as it was.
        input_shape: of one sample.
        output_shape: of what the task asks for, of one sample; see `Task.raw_shape`.

    Raises:
        TrialError: there is no such output.
    """
    example = torch.zeros(2, *input_shape)
    try:
        with as_trial_error(), evaluating(network):
            raw = network(example)
    except TrialError:
        return network
    with as_trial_error():
        reader = find_output(raw, 2, output_shape, "the network")
    return in_any_layout(network if reader.is_plain else LogitsOnly(network, reader), example)


def in_any_layout(network: nn.Module, x: Tensor) -> nn.Module:
    """The network itself, or behind a wrapper if it cannot take images that are laid out channels last, as with `view`.

    Args:
        network: in any mode; left as it was.
        x: (B, ...) samples that it can be run on.
    """
    if x.dim() != IMAGE_BATCH_DIMS:
        return network
    layout = replace(PLAIN, channels_last=True)
    try:
        with unchanged_settings(), torch.no_grad():
            layout.place(deepcopy(network).eval())(layout.to_layout(x.clone()))
    except Exception:  # of `view`, or of `deepcopy`; any other was raised in the usual layout, too
        return ContiguousLayout(network)
    return network


def in_thousands(n: int) -> str:
    """Write a count as people do: `950`, `2.1 k`, `21 k`, `1.3 M`."""
    for limit, scale, unit, digits in ((1e3, 1, "", 0), (1e4, 1e3, " k", 1), (1e6, 1e3, " k", 0)):
        if n < limit:
            return f"{n / scale:.{digits}f}{unit}"
    return f"{n / 1e6:.1f} M"
