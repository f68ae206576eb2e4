"""Whatever taught it: what is deployed is the student's own architecture and nothing else, and the best there is."""

from functools import cache
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from nas_kd.data.dataset import Split
from nas_kd.engine.evaluation import accuracy_of
from nas_kd.export.onnx_export import export_onnx

from .conftest import (
    FP32,
    PAIRS,
    SMALL,
    Pair,
    build,
    digits,
    each_method,
    each_pair,
    finished,
    same,
    setup_of,
    started,
    state_of,
    uninterrupted,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@each_method
def test_the_student_comes_first_and_no_peer_starts_like_it(name: str) -> None:
    training = started(name, PAIRS[0], setup_of())
    first, *peers = [state_of(network) for network in training.averaged_students()]
    assert same(first, state_of(training.student))
    assert training.method.train_cost_factor >= 1 + len(peers)
    assert all(peer.keys() == first.keys() for peer in peers)
    assert not any(same(a, b) for i, a in enumerate(peers) for b in (first, *peers[:i]))


def graph_of(network: nn.Module) -> list[Any]:
    """Operations in their order, initialisers with names and shapes, inputs and outputs."""
    graph = onnx.load_from_string(export_onnx(network, (1, 8, 8))).graph
    nodes = [(n.op_type, list(n.input), list(n.output)) for n in graph.node]
    weights = [(i.name, i.data_type, list(i.dims)) for i in graph.initializer]
    return [nodes, weights, [str(v) for v in (*graph.input, *graph.output)]]


@cache
def untouched_graph(kind: str) -> list[Any]:
    network = build(kind, SMALL, 1)
    with torch.no_grad():  # equal tensors would be shared in the file; trained ones never are
        for i, (name, tensor) in enumerate(network.named_parameters()):
            tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(i)) + 0.1 * len(name))
    return graph_of(network)


@each_pair
@each_method
def test_what_is_deployed_has_the_untouched_students_graph_and_no_hooks(name: str, pair: Pair) -> None:
    training = uninterrupted(name, pair)
    for network in training.averaged_students():
        assert graph_of(network) == untouched_graph(pair[0])
    networks = [*training.networks, *training.averaged_students(), *(t.teacher.model for t in training._teachers)]
    assert [p for n in networks for p, m in n.named_modules() if m._forward_hooks or m._forward_pre_hooks] == []
    assert not any(p._backward_hooks for n in networks for p in n.parameters())


@each_method
def test_the_best_on_validation_is_deployed(name: str) -> None:
    training = finished(name, PAIRS[0], setup_of(epochs=1))
    split = Split(digits().train.x[:64], digits().train.y[:64])
    averaged = training.averaged_students()
    accuracies = [accuracy_of(network, split, FP32) for network in averaged]
    network, accuracy = training.deployed(split)
    assert accuracy == max(accuracies)
    assert same(state_of(network), state_of(averaged[accuracies.index(accuracy)]))


@each_method
def test_a_peer_is_deployed_where_the_student_fails(name: str) -> None:
    training = finished(name, PAIRS[0], setup_of(epochs=1))
    split = Split(digits().train.x[:64], digits().train.y[:64])
    count = sum(v.is_floating_point() for v in training.student.state_dict().values())
    names = [k for k, v in training.student.state_dict().items() if v.is_floating_point()]
    for i, tensor in enumerate(training.average[:count]):
        if names[i].endswith(("classifier.weight", "classifier.bias")):
            tensor.zero_()
    rare = int(torch.bincount(split.y, minlength=10).argmin())
    bias = names.index(next(n for n in names if n.endswith("classifier.bias")))
    training.average[bias][rare] = 1.0  # the student now names the rarest class, always
    split = Split(split.x[split.y != rare], split.y[split.y != rare])
    accuracies = [accuracy_of(network, split, FP32) for network in training.averaged_students()]
    assert accuracies[0] == 0
    _, accuracy = training.deployed(split)
    assert (accuracy > 0) == (len(accuracies) > 1)
    assert accuracy == max(accuracies)
