"""What trainings with a distillation method must hold: seeds, checkpoints, parameters, hard batches, deployed files."""

from functools import cache
from typing import Any

import onnx
import torch
from safetensors.torch import load, save
from torch import nn

from nas_kd.errors import InputError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.testing.generators import other_draws
from nas_kd.testing.method_case import MethodCase
from nas_kd.testing.method_rules import not_finite
from nas_kd.testing.rules import first_difference
from nas_kd.testing.toy_networks import SIDE, Family
from nas_kd.testing.toy_training import MIXED, TOKENS, Pair, ToySettings, start, student_of
from nas_kd.testing.watched import with_equal_outputs

SHAPE = (1, SIDE, SIDE)


def repeats_itself(case: MethodCase) -> str | None:
    """One seed gives one training, bit for bit, whatever was drawn before."""
    changed = first_difference(case.watched.halfway, case.repeated.halfway)
    return f"two trainings with one seed differ in {changed}" if changed else None


def travels_in_checkpoints(case: MethodCase) -> str | None:
    """A training restored from a checkpoint ends as one that was never stopped, bit for bit."""
    written = save({name: tensor.contiguous() for name, tensor in case.repeated.checkpoint.items()})
    with other_draws():
        toy = case.start()
    toy.training.restore(load(written))
    changed = first_difference(case.watched.ended, toy.run().state())
    return f"stopped after one of two epochs and restored, it ends with another {changed}" if changed else None


def follows_its_seed(case: MethodCase) -> str | None:
    """Another seed gives another training: torch's generator is drawn from and never seeded."""
    first, other = case.repeated, case.reseeded
    for when in ("attached", "stepped"):
        if torch.equal(first.generators[when], other.generators[when]):
            return f"once {when}, torch's generator is in one state for two seeds"
    weights = [run.toy.student.state_dict() for run in (first, other)]
    return None if first_difference(*weights) else "two trainings with two seeds give one student"


def obeys_its_parameters(case: MethodCase) -> str | None:
    """Temperature and strength change the student where they are listed as tunable, and nowhere else."""
    settings = ToySettings(calibrated=False)
    low, hot, strong = (
        start(case.fresh(temperature, strength), settings).run(until=1).student.state_dict()
        for temperature, strength in ((1.0, 1.0), (3.0, 1.0), (1.0, 3.0))
    )
    for parameter, changed in (("temperature", hot), ("strength", strong)):
        differ = first_difference(low, changed) is not None
        if not differ and parameter in case.method.tunable:
            return f"{parameter} is listed as tunable and ignored: at 1 and 3 the student is the same"
        # With no cross-entropy beside it, strength scales the whole loss, as the learning rate does: no choice.
        alone = parameter == "strength" and case.method.ce_weight == 0
        if differ and parameter not in case.method.tunable and not alone:
            return f"{parameter} is not listed as tunable, and the student at 1 differs from that at 3"
    return None


def survives_small_batches(case: MethodCase) -> str | None:
    """Batches of two samples leave finite weights."""
    return not_finite(case.start(samples=5, batch_size=2, calibrated=False).run(until=1).state())


def survives_equal_samples(case: MethodCase) -> str | None:
    """Batches of one image twice, so that embeddings are equal, leave finite weights."""
    return not_finite(case.start(samples=5, batch_size=2, equal=True).run(until=1).state())


def survives_equal_outputs(case: MethodCase) -> str | None:
    """Outputs that are equal, logits of zero among them, leave finite weights."""
    toy = case.start(calibrated=False)
    for part in toy.method.parts():
        part.register_forward_pre_hook(with_equal_outputs)
    return not_finite(toy.run(until=1).state())


def survives_bf16(case: MethodCase) -> str | None:
    """Under bfloat16 autocast weights stay finite, and averages stay in float32."""
    toy = case.start(bf16=True, calibrated=False).run(until=1)
    kinds = {t.dtype for t in toy.training.average} - {torch.float32}
    return f"averaged weights are {kinds.pop()}" if kinds else not_finite(toy.state())


def works_on_tokens(case: MethodCase) -> str | None:
    """Networks without feature maps are trained, or refused in one line that names the method."""
    return _trained_or_refused(case, TOKENS)


def works_across_families(case: MethodCase) -> str | None:
    """So are a convolutional student of a transformer, and a transformer that learns from a convolutional network."""
    found = {" of ".join(pair): _trained_or_refused(case, pair) for pair in MIXED}
    return next((f"{pair}: {problem}" for pair, problem in found.items() if problem), None)


def _trained_or_refused(case: MethodCase, pair: Pair) -> str | None:
    try:
        return not_finite(case.start(pair=pair, calibrated=False).run(until=1).state())
    except InputError as error:
        text, methods = str(error), (case.method, *case.method.parts())
        named = any(text.startswith(f"method {method.name!r} ") for method in methods)
        return None if named and text.isprintable() else f"refused with {text!r}"


def has_peers_of_its_own(case: MethodCase) -> str | None:
    """Peers have the student's architecture and initial weights of their own, and count in `train_cost_factor`."""
    first, *peers = case.watched.initial
    if (counted := case.watched.toy.method.train_cost_factor) < 1 + len(peers):
        return f"train_cost_factor is {counted}, with {len(peers)} peers beside the student"
    for i, peer in enumerate(peers):
        if {k: v.shape for k, v in peer.items()} != {k: v.shape for k, v in first.items()}:
            return f"peer {i} has another architecture than the student"
        if any(first_difference(peer, other) is None for other in (first, *peers[:i])):
            return f"peer {i} starts with the weights of another network"
    return None


def adds_nothing_to_the_file(case: MethodCase) -> str | None:
    """The exported file has the graph and the size of one that was trained without the method."""
    graph, size = untouched_file(case.pair[0])
    for network in case.watched.toy.deployable:
        content = export_onnx(network, SHAPE)
        if len(content) != size:
            return f"the file has {len(content):,} bytes, without the method {size:,}"
        if graph_of(content) != graph:
            return "the file's graph differs from that without the method"
    return None


def leaves_no_hooks(case: MethodCase) -> str | None:
    """No hook is left on any network once a training has ended."""
    toy = case.watched.toy
    networks = {"student": toy.student} | {f"peer {i}": peer for i, peer in enumerate(toy.method.peers())}
    networks |= {f"teacher {i}": teacher for i, teacher in enumerate(toy.teachers)}
    for owner, network in networks.items():
        if found := _hooked(network):
            return f"a hook is left on the {owner}'s {found[0] or 'outermost module'}"
    return None


@cache
def untouched_file(family: Family) -> tuple[list[Any], int]:
    """Graph and bytes of a student that no method has seen.

    Its weights are made all different: equal tensors would share their place in the file, and trained ones never do.
    """
    network = student_of(family)
    with torch.no_grad():
        for i, (name, tensor) in enumerate(network.named_parameters()):
            tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(i)) + 0.1 * len(name))
    content = export_onnx(network, SHAPE)
    return graph_of(content), len(content)


def graph_of(content: bytes) -> list[Any]:
    """A file's operations in their order, its initialisers' names and shapes, its inputs and outputs."""
    graph = onnx.load_from_string(content).graph
    nodes = [(n.op_type, list(n.input), list(n.output)) for n in graph.node]
    weights = [(i.name, i.data_type, list(i.dims)) for i in graph.initializer]
    return [nodes, weights, [str(v) for v in (*graph.input, *graph.output)]]


def _hooked(network: nn.Module) -> list[str]:
    modules = [path for path, m in network.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    return modules + [path for path, p in network.named_parameters() if p._backward_hooks]
