"""Of the networks that a method trains, the best one is deployed."""

import pytest

from nas_kd.data.dataset import Split
from nas_kd.testing.rules import first_difference
from nas_kd.testing.toy_training import N_CLASSES, toy_samples

from .conftest import each_method, trained

pytestmark = pytest.mark.usefixtures("one_thread")


@each_method
def test_the_best_on_validation_is_deployed(name: str) -> None:
    training, split = trained(name).training, toy_samples(64)
    averaged = training.averaged_students()
    accuracies = [training.accuracy(network, split) for network in averaged]
    network, accuracy = training.deployed(split)
    assert accuracy == max(accuracies)
    assert first_difference(network.state_dict(), averaged[accuracies.index(accuracy)].state_dict()) is None


@each_method
def test_a_peer_is_deployed_where_the_student_fails(name: str) -> None:
    training = trained(name).training
    split = toy_samples(64)
    floats = [path for path, tensor in training.student.state_dict().items() if tensor.is_floating_point()]
    averages = dict(zip(floats, training.average, strict=False))  # the student's come first
    for path, tensor in averages.items():
        if path.endswith(("classifier.weight", "classifier.bias")):
            tensor.zero_()
    rare = N_CLASSES - 1
    bias = next(tensor for path, tensor in averages.items() if path.endswith("classifier.bias"))
    bias[rare] = 1.0  # the student now names this class, always
    split = Split(split.x[split.y != rare], split.y[split.y != rare])
    accuracies = [training.accuracy(network, split) for network in training.averaged_students()]
    assert accuracies[0] == 0
    _, accuracy = training.deployed(split)
    assert (accuracy > 0) == (len(accuracies) > 1)
    assert accuracy == max(accuracies)
