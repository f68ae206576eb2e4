"""One small run, finished, that many tests look at."""

from pathlib import Path

import pytest

from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search
from nas_kd.context.run_folder import RunFolder
from nas_kd.results.run_record import RunRecord
from tests.small_runs import small_config


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small run."""
    folder: Path = tmp_path_factory.mktemp("runs") / "small"
    search(small_config(), folder)
    return folder


@pytest.fixture(scope="session")
def finished(run_dir: Path) -> RunRecord:
    """What is known of it."""
    return read_run(RunFolder(run_dir))
