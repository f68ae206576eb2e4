from dataclasses import replace
from pathlib import Path

import pytest

from nas_kd.config.loading import load_config
from nas_kd.config.options import DataOptions, SearchConfig, SearchSection
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext, check_precisions, dataset_record
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.prepare import load_dataset
from nas_kd.errors import InputError
from nas_kd.latency.device import open_device
from tests.small_runs import (
    open_context,
    small_config,
)


def test_samples_a_call_are_the_configs_or_else_the_devices(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text("batch_size = 8")
    path = tmp_path / "config.toml"
    path.write_text("[device]\nname = 'board.toml'")
    context = RunContext.prepare(load_config(path), RunFolder(tmp_path / "run"), Callback())
    assert (context.device.name, context.batch_size) == ("board", 8)
    explicit = load_config(path, {"device.batch_size": 2})
    assert replace(context, config=explicit).batch_size == 2


def test_a_device_may_not_allow_a_precision() -> None:
    device = open_device("cpu-1t")
    check_precisions(SearchConfig(), device)
    asked = SearchSection().model_copy(update={"precisions": ("fp32", "fp8")})
    config = SearchConfig().model_copy(update={"search": asked})
    with pytest.raises(InputError, match=r"search.precisions has fp8, device cpu-1t allows fp32"):
        check_precisions(config, device)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"distill": {"methods": ["average_teachers"]}},
            "'average_teachers' needs several teachers, the config has one",
        ),
        ({"distill": {"methods": ["cross_modal"]}}, "'cross_modal' needs paired data"),
        ({"chain": {"method": "fitnets"}}, "unknown method 'fitnets'; did you mean 'fitnet'?"),
        ({"distill": {"methods": ["dafl+deep_inversion"]}}, "two parts make up their own samples"),
    ],
)
def test_what_a_method_lacks_is_an_error_before_anything_is_trained(
    sections: dict[str, dict[str, object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        open_context(small_config(**sections), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_record_says_what_each_strength_of_augmentation_does() -> None:
    record = dataset_record(load_dataset(DataOptions(), 0))
    assert record.augmentation == {  # of 8 x 8 pixels
        "none": {"crop": 0, "flip": False, "cutout": 0},
        "standard": {"crop": 1, "flip": False, "cutout": 0},
        "strong": {"crop": 1, "flip": False, "cutout": 2},
    }
    assert not record.teacher_view
