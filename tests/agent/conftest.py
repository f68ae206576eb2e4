"""A real agent in another process, and files to send to it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.latency.agent_protocol import TOKEN_VARIABLE


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One agent for all tests that do not restart it."""
    with AgentProcess(tmp_path_factory.mktemp("agent") / "board") as running:
        yield running


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the clients in this process the agent's token."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    return TOKEN


@pytest.fixture(scope="session")
def model() -> onnx.ModelProto:
    """A matrix product: (n, 3) -> (n, 2)."""
    weights = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ("n", 3))
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("n", 2))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["logits"])], "g", [source], [target], [weights]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
def content(model: onnx.ModelProto) -> bytes:
    """The model as a file."""
    return model.SerializeToString()


def _one_operator(kind: str) -> bytes:
    """A file of one operator: (n, w) -> (n, w), both dimensions open."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", "w")) for name in ("x", "logits")]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["logits"])], "g", values[:1], values[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="session")
def identity() -> bytes:
    """A classifier with any number of classes whose logits are its input."""
    return _one_operator("Identity")


@pytest.fixture(scope="session")
def not_finite() -> bytes:
    """A file whose outputs are logarithms of numbers that may be negative."""
    return _one_operator("Log")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that must not be opened."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep this machine's baselines in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_KD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
