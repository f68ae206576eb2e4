"""Names of methods, and what is said when one is wrong."""

import pytest

from nas_kd.errors import InputError
from nas_kd.methods.combine import make_method


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fitnets", "unknown method 'fitnets'; did you mean 'fitnet'?"),
        ("soft_targets+similarty", "unknown method 'similarty'; did you mean 'similarity'?"),
        ("dkd+dkd", "method 'dkd+dkd' names a part twice"),
        ("nas_kd.serialization:sha256", "'nas_kd.serialization:sha256' is not a nas_kd.methods.base.Method class"),
        ("no_such_package.x:Y", "cannot import 'no_such_package.x'"),
    ],
)
def test_a_wrong_name_is_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make_method(name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_users_own_method_is_found_by_its_path() -> None:
    assert make_method("nas_kd.methods.response.dkd:DecoupledKD").name == "dkd"
