"""Real measurements on this machine, and what `nas-kd measure` makes of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto
from torch import nn

from nas_kd.errors import InputError, TrialError
from nas_kd.export.onnx_export import export_onnx
from nas_kd.latency.device import LocalDevice
from nas_kd.latency.device_profile import load_device
from nas_kd.latency.measure import describe_device, measure_latency, measure_memory, operator_times
from nas_kd.latency.measured_file import measure_file, parse_shape
from nas_kd.latency.reference_net import reference_net
from nas_kd.results.latency import Latency
from tests.onnx_files import linear_classifier

DEVICE = load_device("cpu-1t")
HERE = LocalDevice(DEVICE)


def test_a_latency_with_everything_that_it_rests_on(content: bytes, cache: Path) -> None:
    latency = measure_latency(content, DEVICE)
    assert 0 < latency.low <= latency.p50 <= latency.high
    assert latency.p50 <= latency.p90
    assert latency.p50 < 5
    assert latency.raw_p50_ms is not None
    assert latency.speed is not None
    assert 0.4 < latency.p50 / (latency.raw_p50_ms * latency.speed) < 1.25  # raw: disturbed blocks included
    assert latency.calls >= latency.blocks >= 11
    if hasattr(os, "sched_setaffinity"):
        assert latency.pinned_to is not None
        assert {int(core) for core in latency.pinned_to.split(",")} <= os.sched_getaffinity(0)
    assert Latency.from_json(json.loads(json.dumps(latency.to_json(), allow_nan=False))) == latency
    assert list(cache.glob("reference-small-*.json"))


def test_more_work_takes_longer(make_net: Callable[..., nn.Module], content: bytes) -> None:
    small = measure_latency(content, DEVICE)
    wide = measure_latency(export_onnx(make_net(64), (3, 64, 64)), DEVICE)
    batch = measure_latency(content, DEVICE, batch_size=64)
    assert wide.low > small.high
    assert batch.p50 > 5 * small.p50


def test_a_file_that_cannot_run_fails_its_trial(identity: Callable[..., bytes]) -> None:
    with pytest.raises(TrialError, match=r"measuring latency failed: .*NoSuchOperator") as error:
        measure_latency(identity(op="NoSuchOperator"), DEVICE)
    assert "\n" not in str(error.value)


def test_a_model_that_is_too_slow_fails_its_trial(content: bytes) -> None:
    measure_latency(content, DEVICE)
    with pytest.raises(TrialError, match=r"more than 0.01 s"):
        measure_latency(content, DEVICE, timeout_s=0.01)


def test_a_device_that_is_not_there_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="cores"):
        measure_latency(content, replace(DEVICE, threads=4096))


def test_ctrl_c_takes_the_measuring_process_along(tmp_path: Path, content: bytes, cache: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    measure_latency(content, DEVICE)
    code = (
        "import signal; from pathlib import Path; from nas_kd.latency.measure import measure_latency\n"
        "from nas_kd.latency.device_profile import load_device\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background ignores it
        f"content = Path({str(path)!r}).read_bytes(); print('ready', flush=True)\n"
        "while True: measure_latency(content, load_device('cpu-1t'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        process, children = psutil.Process(parent.pid), []
        while not children:
            time.sleep(0.01)
            children = process.children()
        parent.send_signal(signal.SIGINT)  # to the parent alone
        _, error = parent.communicate(timeout=10)
    finally:
        parent.kill()  # it would keep all other measurements waiting
    assert "KeyboardInterrupt" in error
    assert not psutil.wait_procs(children, timeout=3)[1]


def test_reference_nets_never_change() -> None:
    # Stored baselines are times of exactly these networks.
    assert reference_net("small") == reference_net.__wrapped__("small")
    assert 60_000 < len(reference_net("small")) < 70_000
    assert 1_800_000 < len(reference_net("large")) < 1_900_000


def test_measuring_a_file(tmp_path: Path, content: bytes, identity: Callable[..., bytes]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    measured = measure_file(path, HERE)
    assert (measured.sizes.file, measured.input_shape, measured.n_classes) == (len(content), (3, 16, 16), 4)
    assert measured.parameters == 3 * 8 * 9 + 8 + 8 * 9 + 8 + 36 + 4  # and the normalisation's
    assert measured.latency.p50 > 0
    assert measured.samples_per_s == pytest.approx(1000 / measured.latency.p50)
    assert measured.memory.session_bytes is None or measured.memory.session_bytes > measured.sizes.weights
    assert {o.kind for o in measured.operators} >= {"Conv", "Gemm"}
    printed = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert printed["latency_ms"]["p99"] >= printed["latency_ms"]["p90"] >= printed["latency_ms"]["p50"]
    assert (printed["size_bytes"]["file"], printed["input_shape"], printed["device"]) == (
        len(content),
        [3, 16, 16],
        "cpu-1t",
    )
    assert {"cpu", "cpu_flags", "governor", "steal", "load_1m", "onnxruntime", "threads"} <= printed[
        "environment"
    ].keys()
    assert {"raw_p50_ms", "speed", "baseline_ms", "reference_ms", "blocks", "calls"} <= printed["measurement"].keys()
    assert printed["measurement"].keys().isdisjoint(printed["environment"].keys())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"shape": ("n", "w")}, "takes input .batch, .*pass one sample's shape, such as --input-shape 224$"),
        ({"shape": (8, 3)}, "exactly 8 samples a call, not 1; pass --batch-size 8"),
        ({"op": "NoSuchOperator"}, "running the file failed: .*NoSuchOperator"),
        ({"op": "Log"}, "outputs on random samples are not finite"),
        ({"op": "Foo", "domain": "my.own"}, "needs custom operators"),
    ],
)
def test_a_file_that_cannot_be_measured(
    tmp_path: Path, identity: Callable[..., bytes], bad: dict[str, Any], says: str
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(identity(**bad))
    with pytest.raises(InputError, match=says) as error:
        measure_file(path, HERE)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_dimensions_that_the_file_leaves_open_are_given(tmp_path: Path, identity: Callable[..., bytes]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(identity(shape=("n", "w")))
    measured = measure_file(path, HERE, 2, (5,))
    assert (measured.input_shape, measured.batch_size, measured.macs) == ((5,), 2, 0)
    path.write_bytes(identity(shape=("n", 3)))
    with pytest.raises(InputError, match=r"takes input .batch, 3.; --input-shape 5 does not fit it"):
        measure_file(path, HERE, None, (5,))
    with pytest.raises(InputError, match="--input-shape 3,3 does not fit it"):
        measure_file(path, HERE, None, (3, 3))


@pytest.mark.parametrize("dtype", ["FLOAT16", "DOUBLE", "UINT8", "INT32", "INT64"])
def test_files_are_run_in_their_own_number_type(dtype: str) -> None:
    weight, bias = np.ones((12, 2), np.float32), np.zeros(2, np.float32)
    form = {"dtype": TensorProto.DataType.Value(dtype), "shape": (2, 2, 3), "channels_last": True}
    model = linear_classifier(weight, bias, **form, last="Softmax", outputs=("y", "embedding"))  # type: ignore[arg-type]
    memory = measure_memory(model.SerializeToString(), DEVICE)
    assert memory.session_bytes is None or memory.session_bytes >= 0
    assert operator_times(model.SerializeToString(), DEVICE, 3)


def test_the_batch_size_is_that_of_the_device_unless_given(tmp_path: Path, identity: Callable[..., bytes]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(identity())
    assert measure_file(path, LocalDevice(replace(DEVICE, batch_size=3))).batch_size == 3
    assert measure_file(path, LocalDevice(replace(DEVICE, batch_size=3)), 2).batch_size == 2


def test_shapes_on_the_command_line() -> None:
    assert parse_shape("3,224,224") == (3, 224, 224)
    assert parse_shape(" 3, 4") == (3, 4)
    for text in ("", "3,,4", "0,3", "-1,3", "3x4", "3,4,", "1e3"):
        with pytest.raises(InputError, match="without the batch, such as 3,224,224"):
            parse_shape(text)


def test_the_description_of_a_device() -> None:
    record = describe_device(DEVICE, 1)
    assert record.name == "cpu-1t"
    assert record.environment["threads"] == 1
