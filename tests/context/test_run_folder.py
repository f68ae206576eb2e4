"""A run's folder belongs to one command: a search, or a single student."""

from pathlib import Path

import pytest

from nas_kd.config.options import SearchConfig
from nas_kd.context.run_folder import RunFolder, locked
from nas_kd.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_search_does_not_go_into_the_folder_of_a_student(folder: RunFolder) -> None:
    with locked(folder, SearchConfig(), is_search=False):
        (folder.path / "student.onnx").write_bytes(b"")
    before = folder.config.read_text()
    with (
        pytest.raises(InputError, match=r"run: holds a distilled student; choose another --run-dir$"),
        locked(folder, SearchConfig(name="other")),
    ):
        pass
    assert folder.config.read_text() == before
    with pytest.raises(InputError, match=r"holds a distilled student, no search; README\.md and card\.json"):
        folder.require_run()
    with locked(folder, SearchConfig(), is_search=False) as resumed:
        assert not resumed


def test_a_student_does_not_go_into_the_folder_of_a_search(folder: RunFolder) -> None:
    with locked(folder, SearchConfig()):
        folder.study.write_bytes(b"")
    with (
        pytest.raises(InputError, match=r"run: holds a search; choose another --run-dir$"),
        locked(folder, SearchConfig(), is_search=False),
    ):
        pass
    with locked(folder, SearchConfig()) as resumed:
        assert resumed
