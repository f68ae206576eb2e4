"""What a user types, and the answer when it is wrong: one line, exit code 2, nothing written."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from nas_kd.cli.app import app
from nas_kd.config.loading import dump_config
from tests.small_runs import Seed, small_config

SEARCH = ["search", "--run-dir", "run"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A classifier of any number of classes, and a place for the speed of the machine that runs it."""
    monkeypatch.setenv("NAS_KD_CACHE", str(tmp_path_factory.mktemp("cache")))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", "w")) for name in ("x", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["logits"])], "g", values[:1], values[1:])
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return model


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result) -> str:
    """The one line of the error."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.output
    assert "Traceback" not in result.output
    return lines[0]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[distill]\nepoch = 3", "did you mean 'epochs'?"),
        ("[distil]\nepochs = 3", "did you mean 'distill'?"),
        ("[distill]\nepochs = 'many'", "distill.epochs must be a whole number or \"auto\", got 'many'"),
        ("[budget]\nmax_latency_ms = -1", "budget.max_latency_ms must be > 0, got -1"),
        ("[distill]\nmethods = ['fitnets']", "unknown method 'fitnets'; did you mean 'fitnet'?"),
        ("[space]\nname = 'resnets'", "unknown space 'resnets'; did you mean 'resnet'?"),
        ("[device]\nname = 'cpu-1'", "unknown device 'cpu-1'; did you mean 'cpu-1t'?"),
        ("[device]\nname = 'board.toml'", "board.toml: no such file; docs/devices.md shows how to write one"),
        ("[data]\nsource = 'digit'", "did you mean 'digits'?"),
        ("[search]\nsampler = 'tpee'", "did you mean 'tpe'?"),
        ("[search]\nworkers = 0", "search.workers"),
        ("[teacher]\nspace = 'resnet'\nonnx = 't.onnx'", "give one of space, factory, onnx"),
        ("[teacher]\nfactory = 'a.b:c'", "factory and weights go together"),
        ("[teacher]\nonnx = 't.onnx'", "t.onnx"),
        (
            "[teacher]\nonnx = 't.onnx'\n[distill]\nmethods = ['similarity']",
            'provides its logits only; set distill.methods = ["soft_targets", "dkd"]',
        ),
        ("[teacher]\nonnx = 't.onnx'\n[distill]\nmethods = ['dkd']", "t.onnx"),
        ("[data]\nsource = 'npz'\npath = 'no.npz'", "no.npz"),
        ("[teacher]\nspace = 'resnet'\narchitecture = {width_1 = 5}", "space 'resnet'"),
        ("epochs = ", "not valid TOML"),
    ],
)
def test_a_wrong_config_is_one_clear_line(toml: str, message: str) -> None:
    Path("config.toml").write_text(toml)
    line = refused(call("search", "config.toml", "--run-dir", "run"))
    assert message in line


def test_a_config_that_failed_does_not_claim_the_folder() -> None:
    Path("config.toml").write_text("[data]\nsource = 'npz'\npath = 'no.npz'\n")
    assert "no.npz" in refused(call("search", "config.toml", "--run-dir", "run"))
    Path("config.toml").write_text("[data]\nsource = 'npz'\npath = 'other.npz'\n")
    assert "other.npz" in refused(call("search", "config.toml", "--run-dir", "run"))
    assert "the teacher is not ready" in refused(call("report", "run"))


@pytest.mark.parametrize(
    ("file", "toml", "folder"),
    [("my net.toml", "", "runs/my-net"), ("a.toml", "name = 'named'\n", "runs/named"), ("..x.toml", "", "runs/x")],
)
def test_the_run_folder_is_named_after_the_config(file: str, toml: str, folder: str) -> None:
    Path(file).write_text(toml + "[data]\nsource = 'npz'\npath = 'no.npz'\n")
    assert "no.npz" in refused(call("search", file))
    assert [p.as_posix() for p in Path("runs").iterdir()] == [folder]


def test_a_missing_config() -> None:
    assert "nowhere.toml" in refused(call("search", "nowhere.toml"))


def test_wrong_overrides() -> None:
    assert "section.key=value" in refused(call(*SEARCH, "--set", "trials"))
    assert "did you mean 'trials'?" in refused(call(*SEARCH, "--set", "search.trial=3"))
    assert "must be > 0" in refused(call(*SEARCH, "--max-size-kb", "0"))


@pytest.mark.parametrize("command", [["report"], ["export", "--out", "x.onnx"]])
def test_a_folder_that_is_no_run(command: list[str]) -> None:
    Path("stranger").mkdir()
    Path("stranger/file.txt").write_text("mine")
    name, *rest = command
    assert "no such run folder" in refused(call(name, "missing", *rest))
    assert "not a nas-kd run" in refused(call(name, "stranger", *rest))
    assert "not a nas-kd run and not empty" in refused(call("search", "--run-dir", "stranger"))
    assert sorted(p.name for p in Path("stranger").iterdir() if p.name != ".lock") == ["file.txt"]


def test_flags_of_the_budget_are_checked_as_the_config_is() -> None:
    for flag, value, message in (
        ("--max-macs", "0", "budget.max_macs must be > 0"),
        ("--max-memory-kb", "-1", "budget.max_memory_kb must be > 0"),
        ("--min-accuracy", "90", "budget.min_accuracy must be <= 1, got 90"),
    ):
        assert message in refused(call(*SEARCH, flag, value))
        assert message in refused(call("export", "run", "--out", "x.onnx", flag, value))
    assert not Path("run").exists()


def test_export_refuses_a_negative_limit() -> None:
    assert "max_latency_ms must be > 0, got -2" in refused(
        call("export", "run", "--out", "x.onnx", "--max-latency-ms", "-2")
    )


def test_a_run_folder_below_a_file() -> None:
    Path("file").write_text("")
    assert "cannot be written" in refused(call("search", "--run-dir", "file/run"))


def test_init_writes_a_config_that_is_the_default_and_never_overwrites() -> None:
    assert call("init", "my.toml").exit_code == 0
    text = Path("my.toml").read_text()
    assert "max_latency_ms" in text
    assert "exists already" in refused(call("init", "my.toml"))
    assert Path("my.toml").read_text() == text


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", ["none", "soft_targets", "dkd", "fitnet", "attention_transfer", "similarity"]),
        ("spaces", ["resnet", "mobilenet"]),
        ("datasets", ["digits", "parquet", "image_folder", "npz"]),
        ("devices", ["cpu-1t"]),
        ("precisions", ["fp32", "int8"]),
        ("policies", ["sequential", "dense", "residual"]),
        ("samplers", ["auto", "tpe", "random"]),
        ("executors", ["local"]),
    ],
)
def test_list(kind: str, names: list[str]) -> None:
    result = call("list", kind)
    assert result.exit_code == 0
    assert all(name in result.output for name in names)
    assert "did you mean" in refused(call("list", kind[:-1]))


def test_the_list_of_devices_shows_what_this_machine_can_run() -> None:
    output = call("list", "devices").output
    assert "yes" in output
    assert f"onnxruntime {onnxruntime.__version__}; providers " in output
    assert "CPUExecutionProvider" in output


def test_measure_on_a_device_of_ones_own(identity: bytes) -> None:
    Path("model.onnx").write_bytes(identity)
    Path("board.toml").write_text("name = 'my board'\nbatch_size = 2\nspinning = true\n")
    result = call("measure", "model.onnx", "--device", "board.toml", "--input-shape", "7", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["device"], printed["batch_size"], printed["input_shape"]) == ("my board", 2, [7])
    assert printed["environment"]["spinning"] is True
    shown = call("measure", "model.onnx", "--device", "board.toml", "--input-shape", "7").output
    for description in (
        "latency p99",
        "samples/s at 2 a call",
        "peak memory",
        "multiply-adds",
        "Identity",
        "measured on: ",
    ):
        assert description in shown


@pytest.mark.parametrize(
    ("board", "arguments", "message"),
    [
        ("thread = 1", [], "board.toml: thread: unknown key; did you mean 'threads'?"),
        ("provider = 'CUDAExecutionProvider'", [], "device board needs ONNX Runtime's CUDAExecutionProvider"),
        ("", [], "pass one sample's shape, such as --input-shape 224"),
        ("", ["--input-shape", "3x4"], "without the batch, such as 3,224,224, got '3x4'"),
        ("", ["--input-shape", "3,4"], "--input-shape 3,4 does not fit it"),
    ],
)
def test_measure_refuses_what_is_wrong(identity: bytes, board: str, arguments: list[str], message: str) -> None:
    Path("model.onnx").write_bytes(identity)
    Path("board.toml").write_text(board)
    assert message in refused(call("measure", "model.onnx", "--device", "board.toml", *arguments))


def test_measure_refuses_what_is_no_onnx_file() -> None:
    Path("model.onnx").write_bytes(b"not a model")
    assert "model.onnx" in refused(call("measure", "model.onnx"))
    assert "missing.onnx" in refused(call("measure", "missing.onnx"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.full((40, 1, 8, 8), np.nan, np.float32), "y_train": np.arange(40) % 2}, "NaN"),
        ({"x_train": np.zeros((40, 1, 8, 8), np.uint8), "y_train": np.zeros(40, int)}, "class"),
        ({"x_train": np.zeros((40, 1, 8, 8), np.uint8), "y_train": -np.arange(40)}, "label"),
        ({"x_train": np.zeros((40, 1, 8, 8), np.uint8)}, "y_train"),
        ({"x_train": np.zeros((40, 64), np.float32) + np.arange(40)[:, None], "y_train": np.arange(40) % 2}, "images"),
    ],
)
def test_wrong_data(arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez("data.npz", **arrays)
    Path("config.toml").write_text("[data]\nsource = 'npz'\npath = 'data.npz'\n")
    assert message in refused(call("search", "config.toml", "--run-dir", "run"))


@pytest.mark.usefixtures("brief_measurements")
def test_a_budget_out_of_reach_ends_early_with_the_closest_and_exit_code_3(with_teachers: Seed) -> None:
    Path("config.toml").write_text(dump_config(small_config()))
    with_teachers(Path("run"))
    result = call("search", "config.toml", "--run-dir", "run", "--max-size-kb", "1")
    assert result.exit_code == 3, result.output
    assert "no candidate can meet the budget; closest: the smallest network of space 'resnet' has 5." in result.output
    assert "BUDGET" not in result.output
    assert '"winner": null' in Path("run/front.json").read_text()
    assert Path("run/report/index.html").is_file()
    assert "no finalist yet" in refused(call("export", "run", "--out", "x.onnx"))
    assert call("report", "run").exit_code == 0


@pytest.mark.parametrize("name", ["cuda:0", "cuda", "gpu", "mps", "cpu", "CUDA:1"])
def test_a_device_of_torch_is_answered_with_what_a_device_is_here(name: str) -> None:
    Path("model.onnx").write_bytes(b"")
    for arguments in (["search", "--device", name, "--run-dir", "run"], ["measure", "model.onnx", "--device", name]):
        line = refused(call(*arguments))
        assert line.startswith(f"error: device {name!r}: here the device is where latency is measured, not where")
        assert "has cpu-1t, cpu-2t, cpu-all (`nas-kd list devices`)" in line
        assert line.endswith("trainings run on the CPU of this machine")


def test_options_of_another_command_are_refused() -> None:
    Path("student.toml").write_text("[student]\nwidth_1 = 8")
    Path("search.toml").write_text("[search]\ntrials = 3")
    assert "remove [student]" in refused(call("search", "student.toml", "--run-dir", "run"))
    assert "remove [student]" in refused(call("profile", "student.toml"))
    assert "search.trials: of no use to `nas-kd distill`" in refused(call("distill", "search.toml", "--run-dir", "run"))
    assert not Path("run").exists()


def test_one_config_is_shared_by_all_commands() -> None:
    Path("c.toml").write_text('[student]\nwidth_1 = 8\n[search]\ntrials = 3\n[data]\nsource = "npz"\npath = "no.npz"')
    for command, section in (("search", "student"), ("profile", "student"), ("distill", "search")):
        assert f"--ignore {section}" in refused(call(command, "c.toml"))
        assert "no.npz" in refused(call(command, "c.toml", "--ignore", section))
    assert "refuses no section but [search]" in refused(call("distill", "c.toml", "--ignore", "finalists"))


@pytest.mark.parametrize("value", ["[0.0, 1.0]", "[8, 1]"])
def test_a_range_that_cannot_be_searched_claims_no_folder(value: str) -> None:
    line = refused(call("search", "--run-dir", "run", "--set", f"distill.strength={value}"))
    assert line.startswith("error: distill.strength: must ")
    assert not Path("run").exists()
