"""What the agent measures, where it runs, and which files it never opens."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.errors import InputError, TrialError
from nas_kd.latency.measurement_job import OperatorTime, SessionMemory
from nas_kd.results.latency import Latency

from .file_watch import watch_files
from .raw_requests import describe, measure, post, send

IMPORTS = """
import sys
import nas_kd.agent.command as command
from nas_kd.agent.measurement_queue import MeasurementQueue
MeasurementQueue(command._profiles([]), 1, 1, 1).describe()
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))))
"""


def test_it_needs_python_numpy_onnxruntime_and_packaging_only() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    # The last two belong to ONNX Runtime, which installs them.
    others = set(done.stdout.split()) - {"numpy", "onnxruntime", "packaging", "nas_kd", "google", "flatbuffers"}
    assert {n for n in others if not n.startswith("_")} <= {"sitecustomize", "usercustomize", "__main__"}
    for heavy in ("torch", "optuna", "onnx", "pydantic", "typer", "rich"):
        assert heavy not in done.stdout.split()


def test_it_measures_a_latency_with_everything_that_it_rests_on(agent: AgentProcess, content: bytes) -> None:
    latency = Latency.from_json(measure(agent, content)["measured"])
    assert 0 < latency.low <= latency.p50 <= latency.high
    assert None not in (latency.baseline_ms, latency.reference_ms, latency.raw_p50_ms, latency.p99)
    assert (latency.reference_size, latency.attempts) == ("small", 1)
    with pytest.raises(TrialError, match=r"measuring latency failed: .*NoSuchOperator"):
        measure(agent, _unknown_operator())


def test_it_measures_memory_and_operators(agent: AgentProcess, content: bytes) -> None:
    memory = SessionMemory.from_json(measure(agent, content, quantity="memory")["measured"])
    assert memory.runtime_bytes is None or memory.runtime_bytes > 1_000_000
    operators = [OperatorTime.from_json(row) for row in measure(agent, content, quantity="operators")["measured"]]
    assert [(o.kind, o.share) for o in operators] == [("MatMul", 1.0)]
    for quantity, says in (("memory", "running the file failed"), ("operators", "profiling the file failed")):
        with pytest.raises(TrialError, match=rf"{says}: .*NoSuchOperator"):
            measure(agent, _unknown_operator(), quantity=quantity)


def _unknown_operator() -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "g", [value], [target])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def _external(path: str) -> bytes:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", path), ("offset", "0"), ("length", "12")):
        weights.external_data.add(key=key, value=value)
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [source], [target], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_no_file_of_the_board_is_opened_whatever_a_model_names(agent: AgentProcess, folder: Path) -> None:
    secret = folder / "weights.bin"
    secret.write_bytes(np.arange(3, dtype=np.float32).tobytes())
    home = agent.log.parent / "weights.bin"  # in the agent's own working folder
    home.write_bytes(secret.read_bytes())
    up = os.path.relpath(secret, "/tmp/x")
    with watch_files(secret, home) as watch:
        secret.read_bytes()
        assert watch.was_opened(), "the watch works"
        for path in (str(secret), up, "../" * 20 + str(secret)[1:], "weights.bin", "./weights.bin"):
            with pytest.raises(TrialError, match="external data"):
                measure(agent, _external(path))
        assert not watch.was_opened()


def test_a_model_that_never_ends_is_stopped(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "board", ["--time-limit", "4"]) as agent_4s:
        with pytest.raises(TrialError, match="more than 4 s here; given up"):
            measure(agent_4s, _endless())
        assert describe(agent_4s)


def _endless() -> bytes:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, (1, 3)),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, (1, 3)),
        ],
    )
    rounds = helper.make_tensor("rounds", TensorProto.INT64, (), [2**62])
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)
    graph = helper.make_graph([loop], "g", [source], [target], [rounds])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_a_request_with_wrong_values_is_refused(agent: AgentProcess, content: bytes) -> None:
    with pytest.raises(InputError, match="there is no such profile; there are cpu-1t"):
        measure(agent, content, profile="../../etc/passwd")
    with pytest.raises(InputError, match="have changed"):
        measure(agent, content, device_key="0" * 64)
    for wrong in (
        {"batch_size": 0},
        {"attempts": 0},
        {"attempts": 99},
        {"tolerance": 0.0},
        {"seconds": 0.0},
        {"seconds": 1e9},
        {"reference_size": "../x"},
        {"batch_size": True},
    ):
        with pytest.raises(InputError):
            measure(agent, content, **wrong)
    with pytest.raises(InputError, match="quantity must be one of latency, memory, operators"):
        measure(agent, content, quantity="accuracy")
    for shape in ([], [0], [True], ["3"], [1.0], 3, "3", [3] * 9):
        with pytest.raises(InputError, match="input_shape must"):
            measure(agent, content, input_shape=shape)
    assert send(agent, post(b"{}\nabc")).status == 400


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        ([], {}, "no token in NAS_KD_DEVICE_TOKEN"),
        ([], {"NAS_KD_DEVICE_TOKEN": "short"}, "16 or more"),
        ([], {"NAS_KD_DEVICE_TOKEN": "sixteen and more characters"}, "no spaces"),
        (["--token-file", "nowhere"], {}, "cannot read the token file nowhere: No such file"),
        (["--port", "99999"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "--port must be"),
        (["--host", "no.such.host.invalid"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "cannot listen at no.such.host.invalid"),
        (["--time-limit", "0"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "--time-limit"),
        (["--max-mb", "nan"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "--max-mb"),
        (["--key", "k.pem"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "--key goes with --certificate"),
        (["--certificate", "c.pem"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "certificate c.pem"),
        (["--profile", "nowhere"], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "unknown device 'nowhere'"),
        (["--token", TOKEN], {"NAS_KD_DEVICE_TOKEN": TOKEN}, "token"),
    ],
)
def test_it_does_not_start_without_what_it_needs(
    arguments: list[str], variables: dict[str, str], says: str, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "NAS_KD_DEVICE_TOKEN"} | variables
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "nas_kd.agent", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
