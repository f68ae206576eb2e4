"""A teacher that has learnt its classes, and one finished search with it."""

import shutil
from pathlib import Path

import pytest
import torch

import nas_kd

from .search_toys import tiny_search
from .toys import Net, net, samples


@pytest.fixture(scope="session")
def teacher() -> Net:
    return nas_kd.distill(net(12, seed=9), train=samples(), method="none", epochs=15, batch_size=16)


@pytest.fixture(scope="session")
def teacher_file(teacher: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's weights, for other processes."""
    file: Path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(teacher.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def run_dir(teacher: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search."""
    folder: Path = tmp_path_factory.mktemp("runs") / "demo"
    tiny_search(folder, teacher)
    return folder


@pytest.fixture
def run(run_dir: Path) -> nas_kd.Run:
    """The finished search, as a program reads it."""
    return nas_kd.load_run(run_dir)


@pytest.fixture
def measured(run_dir: Path, tmp_path: Path) -> Path:
    """A folder for another run, which knows the latencies of the same networks already."""
    folder = tmp_path / "other"
    shutil.copytree(run_dir / "store" / "latency", folder / "store" / "latency")
    return folder
