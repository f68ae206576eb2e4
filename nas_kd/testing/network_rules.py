"""What the networks of a search space must hold: initial weights, shapes, training, nesting, refusals, export."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.export.verify import verify
from nas_kd.models.subnetwork import cut_weights
from nas_kd.results.candidate import Architecture
from nas_kd.testing.generators import generator_states, moved_generators, other_draws
from nas_kd.testing.rules import copied, first_difference, one_line
from nas_kd.testing.space_case import InputShape, SpaceCase

ODD_SHAPES: tuple[InputShape, ...] = ((64,), (1, 8), (3, 0, 8), (1, 2, 3, 4))
BATCHES = (1, 2, 5)


def builds_from_the_seed_alone(case: SpaceCase) -> str | None:
    """Initial weights follow from torch's global generator alone, and no other generator moves."""
    architecture = case.space.size_ladder(3)[1]
    before = generator_states()
    first = case.build(architecture).state_dict()
    if moved := moved_generators(before):
        return moved
    with other_draws():
        again = case.build(architecture).state_dict()
    if changed := first_difference(first, again):
        return f"{changed} differs between two networks of one seed"
    if first_difference(first, case.build(architecture, seed=8).state_dict()) is None:
        return "two seeds give one network"
    return None


def gives_logits(case: SpaceCase) -> str | None:
    """Every network gives finite logits (B, n_classes), or what the task asks for, for every input and batch size."""
    for shape in case.input_shapes:
        for architecture in (*case.space.size_ladder(3), case.draws[0].architecture):
            network = case.build(architecture, shape).eval()
            for n in BATCHES:
                with torch.no_grad():
                    logits = network(case.samples(n, shape))
                if fault := _fault_of_logits(logits, (n, *case.output_shape)):
                    return f"{fault} for a batch {(n, *shape)}"
    return None


def trains_in_bf16(case: SpaceCase) -> str | None:
    """Every network trains under bfloat16 autocast, channels last, and all its parameters get finite gradients."""
    for shape in case.input_shapes:
        for architecture in (*case.space.size_ladder(3), *(draw.architecture for draw in case.draws[:2])):
            network, x = case.build(architecture, shape).train(), case.samples(4, shape)
            if x.ndim == 4:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x)
            _backward(logits, case.n_classes)
            for name, parameter in network.named_parameters():
                if parameter.grad is None or not torch.isfinite(parameter.grad).all():
                    kind = "no gradient" if parameter.grad is None else "a gradient that is not finite"
                    return f"{name} gets {kind} on samples of shape {shape}"
    return None


def every_layer_learns(case: SpaceCase) -> str | None:
    """Three steps of training change the weights of every layer."""
    network = case.build(case.space.size_ladder(2)[1]).train()
    before = copied({name: p for name, p in network.named_parameters() if p.ndim > 1})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        _backward(network(case.samples(16)), case.n_classes)
        optimizer.step()
        optimizer.zero_grad()
    still = [name for name, weight in before.items() if torch.equal(weight, network.get_parameter(name))]
    return f"{still[0]} stays as it was" if still else None


def nests_smaller_networks(case: SpaceCase) -> str | None:
    """Every network of the size ladder is a leading part of the next, and of itself all."""
    if not case.nested:
        return None
    ladder = case.space.size_ladder(4)
    for architecture, larger in zip(ladder, ladder[1:] + ladder[-1:], strict=True):
        whole, part = case.build(larger).state_dict(), case.build(architecture, seed=8)
        try:
            cut = cut_weights(whole, part)
        except InputError as error:
            return str(error)
        part.load_state_dict(cut)
        if architecture == larger and (changed := first_difference(whole, cut)):
            return f"cut out of a network of its own architecture, {changed} is another"
    return None


def refuses_wrong_architectures(case: SpaceCase) -> str | None:
    """An architecture with a missing, unknown or impossible choice or space is refused by an InputError in one line."""
    right = case.space.size_ladder(2)[0]
    name = next(iter(right.choices))
    others = {n: v for n, v in right.choices.items() if n != name}
    wrong = {
        "another space": Architecture(f"{case.space.name}-2", right.choices),
        f"no {name}": Architecture(right.space, others),
        "a choice 'no such choice'": Architecture(right.space, {**right.choices, "no such choice": 1}),
        f"{name} = -7919": Architecture(right.space, {**right.choices, name: -7919}),
        f"{name} = 'no such value'": Architecture(right.space, {**right.choices, name: "no such value"}),
    }
    for what, architecture in wrong.items():
        shape = case.input_shapes[0]
        if fault := _not_refused(lambda a=architecture, s=shape: case.build(a, s)):  # type: ignore[misc]
            return f"given an architecture with {what}, build {fault}"
    return None


def refuses_wrong_shapes(case: SpaceCase) -> str | None:
    """An input shape is either taken or refused by an InputError in one line."""
    ladder = case.space.size_ladder(2)
    for shape in ODD_SHAPES:
        if 0 in shape:
            fault = _not_refused(lambda s=shape: case.build(ladder[0], s))  # type: ignore[misc]
        else:
            fault = _neither_runs_nor_is_refused(case, ladder[0], shape)
        if fault:
            return f"given samples of shape {shape}, build {fault}"
    return None


def exports(case: SpaceCase) -> str | None:
    """The exported ONNX file of every network of the size ladder gives the network's own logits."""
    shape = case.input_shapes[0]
    for architecture in case.space.size_ladder(3):
        network = case.build(architecture).eval()
        content = export_onnx(network, shape, axes=1 + len(case.output_shape))
        verify(content, network, case.samples(8), case.task)
    return None


def _fault_of_logits(logits: object, shape: tuple[int | None, ...]) -> str | None:
    if not isinstance(logits, Tensor):
        return f"a network gives {type(logits).__name__}"
    sides = tuple(logits.shape)
    if len(sides) != len(shape) or any(w not in (None, s) for s, w in zip(sides, shape, strict=True)):
        return f"a network gives {tuple(logits.shape)}, not {shape},"
    return None if bool(torch.isfinite(logits).all()) else "a network's logits are not finite"


def _backward(logits: Tensor, n_classes: int) -> None:
    rows = logits.float().movedim(1, -1).flatten(0, -2)
    labels = torch.arange(len(rows)) % n_classes
    nn.functional.cross_entropy(rows, labels).backward()  # type: ignore[no-untyped-call]


def _not_refused(build: Callable[[], object]) -> str | None:
    """What happens in the place of an InputError in one line, or None."""
    try:
        build()
    except InputError as error:
        return None if str(error).isprintable() else f"says more than a line: {str(error)!r}"
    except Exception as error:  # what a user would see as a traceback
        return f"raises {one_line(error)}"
    return "accepts it"


def _neither_runs_nor_is_refused(case: SpaceCase, architecture: Architecture, shape: InputShape) -> str | None:
    try:
        network = case.build(architecture, shape).eval()
    except InputError as error:
        return None if str(error).isprintable() else f"says more than a line: {str(error)!r}"
    try:
        with torch.no_grad():
            fault = _fault_of_logits(network(case.samples(2, shape)), (2, *case.output_shape))
    except Exception as error:  # such a shape should have been refused
        fault = f"the network raises {one_line(error)}"
    return fault and f"accepts it, and {fault}"
