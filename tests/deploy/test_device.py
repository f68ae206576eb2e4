"""Device profiles: what they allow, what they refuse, and what their key depends on."""

from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from nas_kd.errors import InputError
from nas_kd.latency.device import LocalDevice, open_device
from nas_kd.latency.device_profile import DeviceProfile, built_in_precisions, load_device, usable_cores
from nas_kd.plugins import available


def test_the_default_is_there() -> None:
    assert load_device("cpu-1t").n_threads == 1
    assert load_device("cpu-all").n_threads == usable_cores()


def test_keys_tell_settings_apart() -> None:
    profiles = [*available("device").values(), replace(available("device")["cpu-1t"], optimisation="basic")]
    settings = {(p.n_threads, p.spinning, p.optimisation) for p in profiles}
    assert len({p.key() for p in profiles}) >= len(settings)


def test_what_the_machine_lacks_is_an_error_not_a_fallback() -> None:
    base = available("device")["cpu-1t"]
    with pytest.raises(InputError, match=f"needs {usable_cores() + 1} cores, this process may use {usable_cores()}"):
        replace(base, threads=usable_cores() + 1).check()
    missing = next(p for p in onnxruntime.get_all_providers() if p not in onnxruntime.get_available_providers())
    with pytest.raises(InputError, match=f"needs ONNX Runtime's {missing}"):
        replace(base, provider=missing).check()


def test_the_version_of_the_runtime_must_be_in_the_range() -> None:
    base = available("device")["cpu-1t"]
    replace(base, onnxruntime=f"=={onnxruntime.__version__}").check()
    with pytest.raises(InputError, match=f"needs ONNX Runtime <1, this installation has {onnxruntime.__version__}"):
        replace(base, onnxruntime="<1").check()
    with pytest.raises(InputError, match=r"device cpu-1t: onnxruntime must be a range of versions such as .*got '1.2'"):
        replace(base, onnxruntime="1.2")


def test_the_integer_scheme_follows_from_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, scheme in (("x86_64", "u8s8"), ("AMD64", "u8s8"), ("aarch64", "s8s8"), ("armv7l", "s8s8")):
        monkeypatch.setattr("platform.machine", lambda name=machine: name)
        assert DeviceProfile("d", "s").integer_scheme == scheme
    assert DeviceProfile("d", "s", integer_scheme="u8s8").integer_scheme == "u8s8"


def test_a_files_latency_does_not_depend_on_what_the_search_may_do() -> None:
    base = available("device")["cpu-1t"]
    assert base.key() == replace(base, batch_size=4, onnxruntime=">1", integer_scheme="s8s8").key()
    assert base.key() != replace(base, provider_options=(("a", "1"),)).key()


def test_settings_that_are_not_valid_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size must be >= 1"):
        DeviceProfile("d", "s", batch_size=0)
    with pytest.raises(InputError, match="precisions must name at least one of fp32"):
        DeviceProfile("d", "s", precisions=())
    with pytest.raises(InputError, match="unknown precision of device d 'fp33'; did you mean 'fp32'"):
        DeviceProfile("d", "s", precisions=("fp33",))
    with pytest.raises(InputError, match="unknown integer_scheme of device d 'u8u8'; did you mean 'u8s8'"):
        DeviceProfile("d", "s", integer_scheme="u8u8")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threads must be >= 1"):
        DeviceProfile("d", "s", threads=0)
    with pytest.raises(InputError, match="did you mean 'basic'"):
        DeviceProfile("d", "s", optimisation="basics")  # type: ignore[arg-type]


def test_a_profile_can_be_given_as_an_object() -> None:
    mine = DeviceProfile("mine", "m", optimisation="basic")
    assert load_device(mine) is mine
    assert isinstance(open_device(mine), LocalDevice)
    assert open_device(mine).key() == mine.key()
    with pytest.raises(InputError, match="device mine needs ONNX Runtime's NoProvider"):
        load_device(replace(mine, provider="NoProvider"))
    with pytest.raises(InputError, match=r"must be a .*DeviceProfile, got int"):
        load_device(3)  # type: ignore[arg-type]


def test_precisions_are_those_of_the_registry() -> None:
    assert set(built_in_precisions()) == set(available("precision")), "a precision's name is its module's, with dashes"
    assert DeviceProfile("d", "s").precisions == built_in_precisions()
    assert DeviceProfile("d", "s", precisions=("fp32", "my.module:Float8")).precisions[1] == "my.module:Float8"


def test_names_and_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = [
        "from nas_kd.latency.device_profile import DeviceProfile",
        "MINE = DeviceProfile('mine', 'm')",
        "OTHER = 3",
    ]
    Path("own_device.py").write_text("\n".join(lines))
    assert load_device("own_device:MINE").name == "mine"
    with pytest.raises(InputError, match=r"must be a .*DeviceProfile, got int"):
        load_device("own_device:OTHER")
    with pytest.raises(InputError, match="did you mean 'cpu-1t'"):
        load_device("cpu-1")
