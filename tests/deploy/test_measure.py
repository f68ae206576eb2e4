import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from torch import nn

from nas_kd.deploy.device import load_device
from nas_kd.deploy.export import export_onnx
from nas_kd.deploy.measure import describe_device, measure_latency
from nas_kd.deploy.model_file import measure_file
from nas_kd.deploy.reference_net import reference_net
from nas_kd.deploy.target import ThisMachine
from nas_kd.errors import InputError, TrialError

DEVICE = load_device("cpu-1t")


def test_a_latency_with_all_that_it_rests_on(content: bytes, cache: Path) -> None:
    measured = measure_latency(content, DEVICE)
    latency = measured.latency
    assert 0 < latency.low <= latency.p50 <= latency.high
    assert latency.p50 <= latency.p90
    assert latency.p50 < 5
    assert latency.p50 == pytest.approx(measured.raw_p50_ms * measured.speed, rel=0.25)
    assert measured.calls >= measured.blocks >= 11
    assert {"cpu", "onnxruntime", "load_1m", "steal", "pinned_to"} <= measured.environment.keys()
    if hasattr(os, "sched_setaffinity"):
        assert int(str(measured.environment["pinned_to"])) in os.sched_getaffinity(0)
    json.dumps(dict(measured.environment), allow_nan=False)
    assert list(cache.glob("reference-small-*.json"))


def test_more_work_takes_longer(make_net: Callable[..., nn.Module], content: bytes) -> None:
    small = measure_latency(content, DEVICE).latency
    wide = measure_latency(export_onnx(make_net(64), (3, 16, 16)), DEVICE).latency
    batch = measure_latency(content, DEVICE, batch_size=64).latency
    assert wide.low > small.high
    assert batch.p50 > 5 * small.p50


def test_a_file_that_cannot_run_fails_its_trial(identity: Callable[..., bytes]) -> None:
    with pytest.raises(TrialError, match=r"latency cannot be measured: .*NoSuchOperator") as error:
        measure_latency(identity(op="NoSuchOperator"), DEVICE)
    assert "\n" not in str(error.value)


def test_a_model_that_is_too_slow_is_given_up(content: bytes) -> None:
    measure_latency(content, DEVICE)
    with pytest.raises(TrialError, match=r"took more than 0.01 s"):
        measure_latency(content, DEVICE, limit_s=0.01)


def test_a_device_that_is_not_there_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="cores"):
        measure_latency(content, replace(DEVICE, threads=4096))


def test_ctrl_c_takes_the_measuring_process_along(tmp_path: Path, content: bytes, cache: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    measure_latency(content, DEVICE)
    code = (
        "import sys; from pathlib import Path; from nas_kd.deploy.measure import measure_latency\n"
        "from nas_kd.deploy.device import load_device; import nas_kd.deploy.latency_worker\n"
        f"content = Path({str(path)!r}).read_bytes(); print('ready', flush=True)\n"
        "while True: measure_latency(content, load_device('cpu-1t'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    process, children = psutil.Process(parent.pid), []
    while not children:
        time.sleep(0.01)
        children = process.children()
    parent.send_signal(signal.SIGINT)  # to the parent alone
    _, error = parent.communicate(timeout=10)
    assert "KeyboardInterrupt" in error
    assert not psutil.wait_procs(children, timeout=3)[1]


def test_reference_nets_never_change() -> None:
    # Kept speeds are times of exactly these networks.
    assert reference_net("small") == reference_net.__wrapped__("small")
    assert 60_000 < len(reference_net("small")) < 70_000
    assert 1_800_000 < len(reference_net("large")) < 1_900_000


def test_measuring_a_file(tmp_path: Path, content: bytes, identity: Callable[..., bytes]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    measured = measure_file(path, ThisMachine(DEVICE))
    assert (measured.size_bytes, measured.input_shape, measured.n_classes) == (len(content), (3, 16, 16), 4)
    assert measured.parameters == 3 * 8 * 9 + 8 + 8 * 9 + 8 + 36 + 4  # and the normalisation's
    assert measured.latency.p50 > 0
    for bad, says in (
        (identity(shape=("n", "w")), "only the batch"),
        (identity(shape=(8, 3)), "exactly 8 samples"),
        (b"", "not an"),
    ):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=says):
            measure_file(path, ThisMachine(DEVICE))


def test_a_device_in_words() -> None:
    record = describe_device(DEVICE, 1)
    assert record.name == "cpu-1t"
    assert record.environment["threads"] == 1
