"""What every test can rely on, and the small run that many of them share."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.context.run_folder import RunFolder
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.results.run_record import RunRecord
from tests.small_runs import SMALL_TEACHER, MakeOnce, Seed, measured_briefly, open_context, small_config

# How long an example takes says more about the machine, which may be shared, than about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> None:
    """Training flushes subnormal numbers to zero for the whole process; tests after it start with IEEE 754 again."""
    torch.set_flush_denormal(False)


@pytest.fixture
def brief_measurements() -> Iterator[None]:
    """The gate measures for a moment only."""
    with measured_briefly():
        yield


@pytest.fixture(scope="session")
def make_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Make a folder once for all tests, in whichever of pytest-xdist's processes they run; tests may only read it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if hasattr(request.config, "workerinput") else own

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path, unfinished = shared / name, shared / f"{name}.unfinished"
        with FileLock(shared / f"{name}.lock"):
            if not path.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                with measured_briefly():
                    make(unfinished)
                unfinished.rename(path)
        return path

    return folder


@pytest.fixture(scope="session")
def teachers_dir(make_once: MakeOnce) -> Path:
    """A folder whose store has two small teachers, trained and measured; the first is that of `small_config()`."""

    def prepare(folder: Path) -> None:
        context = open_context(small_config(teacher=[SMALL_TEACHER, SMALL_TEACHER]), folder)
        prepare_teachers(context, Gate(context, NetworkBuilder(context.data, context.space)).of_file)

    return make_once("teachers", prepare)


@pytest.fixture(scope="session")
def run_dir(make_once: MakeOnce, teachers_dir: Path) -> Path:
    """The folder of a finished small run, that of `small_config()`."""

    def run(folder: Path) -> None:
        shutil.copytree(teachers_dir / "store", folder / "store")
        search(small_config(), folder)

    return make_once("small", run)


@pytest.fixture(scope="session")
def finished(run_dir: Path) -> RunRecord:
    """What is known of it."""
    return read_run(RunFolder(run_dir))


@pytest.fixture
def with_teachers(teachers_dir: Path) -> Seed:
    """Give a folder a store that has the small teachers, trained and measured."""

    def seed(folder: Path) -> Path:
        shutil.copytree(teachers_dir / "store", folder / "store")
        return folder

    return seed


@pytest.fixture
def with_latencies(with_teachers: Seed, run_dir: Path) -> Seed:
    """Give a folder a store that has the small teachers, and the exports and latencies of the small run."""

    def seed(folder: Path) -> Path:
        with_teachers(folder)
        for kind in ("export", "latency"):
            shutil.copytree(run_dir / "store" / kind, folder / "store" / kind, dirs_exist_ok=True)
        return folder

    return seed
