from dataclasses import replace
from pathlib import Path

import numpy as np
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


def test_everything_about_the_data_is_said_once_and_recorded(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    signs = np.where(np.arange(40) % 2, 1, -1)
    np.savez(tmp_path / "d.npz", train_images=x, train_labels=signs, test_images=x[:4], test_labels=signs[:4], extra=x)
    said: list[str] = []

    class Listener(Callback):
        def on_note(self, text: str) -> None:
            said.append(text)

    config = small_config(data={"source": "npz", "path": tmp_path / "d.npz", "layout": "hw", "train_rows": None})
    context = RunContext.prepare(config, RunFolder(tmp_path / "run"), Listener())
    about = said[: len(context.data.notes)]
    assert about == [
        "arrays that were read: train_images as x_train, train_labels as y_train, test_images as x_test, "
        "test_labels as y_test",
        "arrays that were not read: extra",
        "samples were read as (H, W), grey pictures",
        "labels -1 and 1 were read as two classes, in this order",
        "val: 6 of the 40 training samples, the same share of each class, drawn by seed 0",
        about[-1],
    ]
    assert about[-1].startswith("duplicates: 4 of 4 test samples are in train or val")
    record = dataset_record(context.data)
    assert record.notes == tuple(about)
    assert (record.layout, record.duplicates, record.picture_steps) == ("hw", {"test": 4}, None)
    assert record.label_encoding == about[3]
