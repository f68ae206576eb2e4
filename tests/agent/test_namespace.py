"""An agent in a network namespace of its own, which can be reached by TCP only."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.agent_process import AgentProcess
from benchmarks.network_namespace import Namespace, network_namespace
from nas_kd.errors import InputError
from nas_kd.latency.device import open_device


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network_namespace())
        except OSError as error:
            pytest.skip(f"no network namespace can be made here: {error}")
        yield made


def test_an_agent_in_another_network_measures(namespace: Namespace, tmp_path: Path, content: bytes) -> None:
    with AgentProcess(tmp_path / "board", ["--host", namespace.address], namespace.prefix) as agent:
        assert open_device(agent.url).measure(content, 1).p50 > 0
        with pytest.raises(InputError, match="cannot be reached"):
            open_device(f"http://127.0.0.1:{agent.port}").check()
