"""A user's own device profile: every key is read, and every mistake is reported in one line with file and key."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from nas_kd.errors import InputError
from nas_kd.latency.device_file import KEYS, read_device_file
from nas_kd.latency.device_profile import DeviceProfile, load_device

GUIDE = Path(__file__).parent.parent.parent / "docs" / "devices.md"


def written(folder: Path, text: str) -> str:
    path = folder / "board.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_what_is_left_out_is_as_in_a_built_in_profile(tmp_path: Path) -> None:
    assert load_device(written(tmp_path, "")) == DeviceProfile("board", "the profile in board.toml")


def test_every_key(tmp_path: Path) -> None:
    text = """
        name = "Pi"
        summary = "a small board"
        provider = "CPUExecutionProvider"
        threads = "all"
        spinning = true
        optimisation = "basic"
        pinned = false
        batch_size = 8
        precisions = ["fp32"]
        integer_scheme = "s8s8"
        onnxruntime = ">=1.20"
    """
    assert load_device(written(tmp_path, text)) == DeviceProfile(
        name="Pi",
        summary="a small board",
        threads=None,
        spinning=True,
        optimisation="basic",
        pinned=False,
        batch_size=8,
        precisions=("fp32",),
        integer_scheme="s8s8",
        onnxruntime=">=1.20",
    )


def test_provider_options_are_pairs_of_text(tmp_path: Path) -> None:
    given = read_device_file(Path(written(tmp_path, 'provider_options = {second = "x", first = 1}')))
    assert given["provider_options"] == (("first", "1"), ("second", "x"))


def test_options_that_the_provider_would_ignore_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CPUExecutionProvider has no options, it ignores arena, fast; leave"):
        load_device(written(tmp_path, "provider_options = {fast = 1, arena = 2}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("thread = 1", "board.toml: thread: unknown key; did you mean 'threads'?"),
        ("[device]\nthreads = 1", "board.toml: device: unknown key; allowed: batch_size, integer_scheme, "),
        ("threads = 0", 'board.toml: threads must be a whole number >= 1, or "all" (every core), got 0'),
        ("threads = true", 'board.toml: threads must be a whole number >= 1, or "all" (every core), got True'),
        ("threads = '2'", "board.toml: threads must be a whole number >= 1"),
        ("threads = nan", "board.toml: threads must be a whole number >= 1"),
        ("spinning = 1", "board.toml: spinning must be true or false, got 1"),
        ("batch_size = 0", "board.toml: batch_size must be a whole number >= 1, got 0"),
        ("batch_size = '2'", "board.toml: batch_size must be a whole number >= 1, got '2'"),
        ("optimisation = 'basics'", "unknown optimisation of device board 'basics'; did you mean 'basic'?"),
        ("precisions = 'fp32'", "board.toml: precisions must be a list of texts, got 'fp32'"),
        ("precisions = []", "board.toml: device board: precisions must name at least one of fp32"),
        ("precisions = ['fp33']", "board.toml: unknown precision of device board 'fp33'; did you mean 'fp32'?"),
        ("integer_scheme = 'u8u8'", "unknown integer_scheme of device board 'u8u8'; did you mean 'u8s8'?"),
        ("provider_options = {a = [1]}", "board.toml: provider_options must be a table of texts and whole numbers"),
        ("provider_options = {a = true}", "board.toml: provider_options must be a table of texts and whole numbers"),
        ("onnxruntime = '1.20'", "onnxruntime must be a range of versions such as '>=1.20,<2', got '1.20'"),
        ("onnxruntime = 1.2", "board.toml: onnxruntime must be one line of text, such as '>=1.20,<2', got 1.2"),
        ("onnxruntime = '<1'", "device board needs ONNX Runtime <1, this installation has "),
        ("provider = 'NoProvider'", "device board needs ONNX Runtime's NoProvider, this installation has "),
        ("name = ' '", "board.toml: name must be one line of text, got ' '"),
        ("summary = 'a\x1b'", "board.toml: not valid TOML"),
        ('summary = "a\\nb"', "board.toml: summary must be one line of text, got 'a\\nb'"),
        ("threads", "board.toml: not valid TOML"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        load_device(written(tmp_path, text))
    assert says in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no.toml: no such file; docs/devices.md shows how to write one"):
        load_device(str(tmp_path / "no.toml"))


def test_the_guides_example_names_every_key_and_is_usable(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert load_device(written(tmp_path, example)).name == "kitchen-camera"
    named = set(re.findall(r"^(?:# )?\[?(\w+)\]?(?: =|$| +#)", example, re.MULTILINE))
    assert set(KEYS) == {field.name for field in fields(DeviceProfile)}
    assert set(KEYS) <= named


def test_profiles_are_read_without_torch_onnx_and_pydantic() -> None:
    code = (
        "import sys, nas_kd.latency.device_profile\n"
        "nas_kd.latency.device_profile.load_device('cpu-1t')\n"
        "print([m for m in ('torch', 'onnx', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
