from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from nas_kd.deploy.device import DeviceProfile, load_device, usable_cores
from nas_kd.errors import InputError
from nas_kd.plugins import found


@pytest.mark.parametrize("name", found("device"))
def test_every_profile_keeps_the_contract(name: str) -> None:
    profile = found("device")[name]
    assert isinstance(profile, DeviceProfile)
    assert profile.name == name
    assert profile.summary
    assert "\n" not in profile.summary
    assert profile.n_threads >= 1
    assert profile.key() == profile.key() == replace(profile, name="x", summary="y").key()


def test_the_default_is_there() -> None:
    assert load_device("cpu-1t").n_threads == 1
    assert load_device("cpu-all").n_threads == usable_cores()


def test_keys_tell_settings_apart() -> None:
    profiles = [*found("device").values(), replace(found("device")["cpu-1t"], optimisation="basic")]
    settings = {(p.n_threads, p.spinning, p.optimisation) for p in profiles}
    assert len({p.key() for p in profiles}) >= len(settings)


def test_what_the_machine_lacks_is_an_error_not_a_fallback() -> None:
    base = found("device")["cpu-1t"]
    with pytest.raises(InputError, match=f"needs {usable_cores() + 1} cores, this process may use {usable_cores()}"):
        replace(base, threads=usable_cores() + 1).check()
    missing = next(p for p in onnxruntime.get_all_providers() if p not in onnxruntime.get_available_providers())
    with pytest.raises(InputError, match=f"needs ONNX Runtime's {missing}"):
        replace(base, provider=missing).check()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="threads must be >= 1"):
        DeviceProfile("d", "s", threads=0)
    with pytest.raises(InputError, match="did you mean 'basic'"):
        DeviceProfile("d", "s", optimisation="basics")  # type: ignore[arg-type]


def test_names_and_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = ["from nas_kd.deploy.device import DeviceProfile", "MINE = DeviceProfile('mine', 'm')", "OTHER = 3"]
    Path("own_device.py").write_text("\n".join(lines))
    assert load_device("own_device:MINE").name == "mine"
    with pytest.raises(InputError, match=r"must be a .*DeviceProfile, got int"):
        load_device("own_device:OTHER")
    with pytest.raises(InputError, match="did you mean 'cpu-1t'"):
        load_device("cpu-1")
