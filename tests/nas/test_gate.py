"""The gate takes the cheapest costs first, and stops where the budget is missed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.latency.device import LocalDevice
from nas_kd.latency.measurement_job import SessionMemory
from nas_kd.latency.reference_net import reference_net
from nas_kd.latency.stable_timing import MeasurementBudget
from nas_kd.nas.feasibility import log_excess
from nas_kd.nas.gate import Gate
from nas_kd.results.latency import Latency
from nas_kd.results.trial_record import Costs
from tests.nas.gated import NETWORK, Gated, stored
from tests.small_runs import BRIEF, open_context, small_config


def test_too_many_multiply_adds_are_neither_exported_nor_measured(tmp_path: Path) -> None:
    gated = Gated(tmp_path, max_macs=10, max_size_kb=1)
    builder = gated.builder
    assert gated.gate.costs(NETWORK) == Costs(parameters=builder.parameters(NETWORK), macs=builder.macs(NETWORK))
    assert not stored(tmp_path, "export")


@pytest.mark.usefixtures("brief_measurements")
def test_what_is_too_large_is_not_measured_unless_all_is_asked_for(tmp_path: Path) -> None:
    gate = Gated(tmp_path, max_size_kb=1).gate
    costs = gate.costs(NETWORK)
    assert costs.size_bytes is not None
    assert costs.latency_ms is None
    assert not stored(tmp_path, "latency")
    whole = gate.all_costs(NETWORK)
    assert whole.latency_ms is not None
    assert whole.model_copy(update={"latency_ms": None}) == costs


def test_what_is_too_large_with_its_metadata_only_is_not_trained(tmp_path: Path) -> None:
    unlimited = Gated(tmp_path / "a")
    size = unlimited.gate.costs(NETWORK, with_latency=False).require_size()
    plain = unlimited.exported_size(NETWORK)
    assert 0 < size - plain < 1500
    gated = Gated(tmp_path / "b", max_size_kb=(plain + size) / 2000)
    record = gated.check(NETWORK)
    assert (record.status, record.costs and record.costs.size_bytes) == ("infeasible", size)
    assert not stored(tmp_path / "b", "latency")
    assert not log_excess(gated.gate.costs(NETWORK, with_latency=False), Budget(max_size_kb=size / 1000)) > 0


@pytest.mark.usefixtures("brief_measurements")
def test_memory_is_measured_where_it_is_limited_and_before_latency(tmp_path: Path) -> None:
    roomy, tight = Gated(tmp_path / "a", max_memory_kb=10**6).gate, Gated(tmp_path / "b", max_memory_kb=1).gate
    costs, too_much = roomy.costs(NETWORK), tight.costs(NETWORK)
    assert costs.memory_bytes is not None
    assert 10_000 < costs.memory_bytes < 10**8
    assert costs.latency_ms is not None
    assert too_much.memory_bytes is not None
    assert too_much.latency_ms is None
    assert roomy.costs(NETWORK) == costs


def test_an_unstable_measurement_is_repeated_with_all_workers_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real measurement; that it was unstable the first time is made up, as no machine is on demand."""
    context = open_context(small_config(search={"workers": 3}), tmp_path)
    measured = context.device.measure(reference_net("small"), 1, None, None, BRIEF)
    stopped: list[int] = []

    @contextmanager
    def pausing(count: int) -> Iterator[None]:
        stopped.append(count)
        yield
        stopped.remove(count)

    def measure(*_: object, pause_neighbours: Callable[[], None], measurement_budget: MeasurementBudget) -> Latency:
        assert stopped == [1]
        pause_neighbours()
        assert stopped == [1, 3]
        return measured

    gate = Gate(context, NetworkBuilder(context.data, context.space), pausing)
    monkeypatch.setattr(LocalDevice, "measure", measure)
    assert gate.all_costs(NETWORK).latency_ms == measured
    assert not stopped


@pytest.mark.usefixtures("brief_measurements")
def test_a_limit_on_what_cannot_be_measured_is_the_trials_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gated(tmp_path, max_memory_kb=10**6).gate
    monkeypatch.setattr(LocalDevice, "memory", lambda *_: SessionMemory(None, None))
    with pytest.raises(TrialError, match="peak memory"):
        gate.costs(NETWORK)
