"""The predictor of costs: right where costs are what it assumes, and honest about its error."""

from math import exp, log

import numpy as np
import pytest

from nas_kd.config.options import Budget
from nas_kd.data.prepare import load_dataset
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.models.search_space import load_space
from nas_kd.nas.cost_model import CostModel
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.results.candidate import Architecture
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs
from tests.small_runs import small_config


@pytest.fixture(scope="module")
def builder() -> NetworkBuilder:
    return NetworkBuilder(load_dataset(small_config().data, 0), load_space("resnet"))


@pytest.fixture(scope="module")
def architectures() -> list[Architecture]:
    draws = ArchitectureSampler(load_space("resnet"), 0)
    return [draws.architecture(draws.random()) for _ in range(40)]


def costs_of(builder: NetworkBuilder, architecture: Architecture, noise: float = 0.0) -> Costs:
    """Size: 4 bytes a weight; latency: a power of the multiply-adds."""
    ms = exp(0.5 * log(1 + builder.macs(architecture)) - 8 + noise)
    latency = Latency(p50=ms, p90=ms, low=ms, high=ms)
    parameters = builder.parameters(architecture)
    macs = builder.macs(architecture)
    return Costs(size_bytes=4 * parameters, latency_ms=latency, parameters=parameters, macs=macs)


def test_it_predicts_networks_that_it_has_not_seen(builder: NetworkBuilder, architectures: list[Architecture]) -> None:
    model = CostModel(builder, Budget())
    model.fit({a: costs_of(builder, a) for a in architectures[:32]})
    for architecture in architectures[32:]:
        expected = costs_of(builder, architecture)
        size, latency = model.predict(architecture)
        assert expected.latency_ms is not None
        assert size == pytest.approx(log(expected.size_bytes or 0), abs=0.1)
        assert latency == pytest.approx(log(expected.latency_ms.p50), abs=0.1)


def test_its_error_is_that_of_leaving_each_one_out(builder: NetworkBuilder, architectures: list[Architecture]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 16)
    known = {a: costs_of(builder, a, float(n)) for a, n in zip(architectures, noise, strict=False)}
    model, missed = CostModel(builder, Budget()), []
    for left_out, costs in known.items():
        model.fit({a: c for a, c in known.items() if a != left_out})
        assert costs.latency_ms is not None
        missed.append(abs(costs.latency_ms.p50 / exp(model.predict(left_out)[1]) - 1))
    model.fit(known)
    assert model.latency_error == pytest.approx(float(np.median(missed)), rel=0.35)


def test_excess_is_the_worst_ratio_to_the_limits(builder: NetworkBuilder, architectures: list[Architecture]) -> None:
    known = {a: costs_of(builder, a) for a in architectures}
    some = architectures[0]
    model = CostModel(builder, Budget(max_latency_ms=1.0, max_size_kb=100))
    model.fit(known)
    size, latency = model.predict(some)
    assert model.log_excess(some) == pytest.approx(max(size - log(100_000), latency, -1.0))
    unlimited = CostModel(builder, Budget())
    unlimited.fit(known)
    assert unlimited.log_excess(some) == -1.0


def test_it_needs_something_to_learn_from(builder: NetworkBuilder, architectures: list[Architecture]) -> None:
    with pytest.raises(ValueError, match="two measured networks"):
        CostModel(builder, Budget()).fit({architectures[0]: costs_of(builder, architectures[0])})
