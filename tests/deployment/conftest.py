"""A student that `nas-kd distill` made of a folder of photographs."""

from pathlib import Path

import pytest

from nas_kd.commands.distill import distill_one
from nas_kd.context.callbacks import Callback
from tests.deployment.photos import write_photos
from tests.small_runs import MakeOnce, small_config


@pytest.fixture(scope="session")
def photos(make_once: MakeOnce) -> Path:
    """The folder of photographs."""
    return make_once("photos", write_photos)


@pytest.fixture(scope="session")
def distilled_dir(make_once: MakeOnce, photos: Path) -> Path:
    """The folder that `nas-kd distill` wrote."""
    config = small_config(
        name="photos",
        data={"source": "image_folder", "path": photos, "image_size": 16, "train_rows": None, "augment": {}},
        distill={"methods": ["soft_targets"], "epochs": 6, "batch_size": 16},
        card={"license": "cc-by-4.0", "author": "A | B", "dataset_license": "cc0-1.0", "tags": ["photos: all"]},
    )
    return make_once("distilled", lambda folder: distill_one(config, folder, Callback()))
