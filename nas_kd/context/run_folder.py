"""The run's folder: what lies where, who may write there, and which config it belongs to."""

import errno
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
from optuna.exceptions import StorageInternalError

from nas_kd.config.card_options import CardOptions
from nas_kd.config.loading import differing_keys, dump_config, load_config, path_options
from nas_kd.config.options import SearchConfig
from nas_kd.errors import InputError
from nas_kd.serialization import write_atomic

PACKAGES = ("nas-kd", "torch", "optuna", "onnx", "onnxruntime", "numpy", "pillow")
MAY_CHANGE = frozenset(
    {"name", "search.trials", "search.max_minutes", "search.workers", "engine.threads", "device.wait_s", "plugin_dir"}
    | {"data.cache", "data.cache_gb"}
    | {f"card.{name}" for name in CardOptions.model_fields}
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files in a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config, as the run uses it."""
        return self.path / "config.toml"

    @property
    def environment(self) -> Path:
        """Machine, versions and command of the run."""
        return self.path / "environment.json"

    @property
    def study(self) -> Path:
        """The Optuna study, which is the record of the run."""
        return self.path / "study.db"

    @property
    def log(self) -> Path:
        """What happened, with warnings and tracebacks."""
        return self.path / "run.log"

    @property
    def store(self) -> Path:
        """Trained weights, teachers' outputs, exports and latencies."""
        return self.path / "store"

    @property
    def front(self) -> Path:
        """The fronts as JSON, for programs."""
        return self.path / "front.json"

    @property
    def winner(self) -> Path:
        """The folder with the winner's files and card."""
        return self.path / "winner"

    @property
    def report(self) -> Path:
        """The folder with the report."""
        return self.path / "report"

    @property
    def has_student(self) -> bool:
        """Whether it is the folder of a distilled student, not of a search."""
        return not self.study.exists() and (self.path / "student.onnx").exists()

    def require_run(self) -> None:
        """Check that this is the folder of a run that has begun.

        Raises:
            InputError: it is not.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such run folder")
        if not self.config.is_file():
            raise InputError(f"{self.path}: not a nas-kd run (no config.toml in it)")
        if self.has_student:
            raise InputError(f"{self.path}: holds a distilled student, no search; README.md and card.json describe it")
        if not self.study.is_file():
            raise InputError(f"{self.path}: nothing to show yet, the teacher is not ready; go on with `nas-kd search`")


@contextmanager
def locked(folder: RunFolder, config: SearchConfig, *, is_search: bool = True) -> Iterator[bool]:
    """Hold the folder for this process; yields whether an earlier run is resumed.

    Args:
        folder: of the run.
        config: that it is for.
        is_search: a search, not a single student.

    Raises:
        InputError: another process has it, it belongs to another config, holds something else, or cannot be written.
    """
    _require_text(folder.path)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.path / ".lock")
        with lock.acquire(blocking=False):
            resumed = _claim(folder, config, is_search)
            yield resumed
    except filelock.Timeout as error:
        raise InputError(f"{folder.path}: another process is working on this run; wait for it or stop it") from error
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder.path}: cannot be written: {error.strerror}") from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EROFS, errno.ELOOP):
            raise
        raise InputError(f"{folder.path}: {error.strerror}; choose another --run-dir") from error
    except StorageInternalError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(
            f"{folder.study}: cannot be written ({reason}); the same command goes on once it can"
        ) from error


def _require_text(path: Path) -> None:
    """Refuse a path that cannot be written to config.toml.

    Raises:
        InputError: it is not UTF-8, or has a NUL.
    """
    text = str(path)
    try:
        encoded = str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!a}: the name of a run folder must be UTF-8; choose another --run-dir") from error
    if b"\0" in encoded:
        raise InputError(f"{text!a}: a path cannot have a NUL; choose another --run-dir")


def _claim(folder: RunFolder, config: SearchConfig, is_search: bool) -> bool:
    _require_same_command(folder, is_search)
    if not folder.config.exists():
        if strangers := [p.name for p in folder.path.iterdir() if p.name not in {".lock", "store", ".study.new"}]:
            raise InputError(
                f"{folder.path}: not a nas-kd run and not empty (has {strangers[0]}); choose another --run-dir"
            )
        _write_config(folder, config)
        return False
    resumed, stored = folder.study.exists(), _stored_config(folder)
    moved = path_options(stored).keys() & path_options(config).keys()  # their content decides, see `inputs.py`
    differing = [k for k in differing_keys(stored, config) if k not in MAY_CHANGE | moved]
    if resumed and differing:
        raise InputError(
            f"{folder.path}: holds a run with another config (differs in {', '.join(differing)}); "
            "use the same config to resume it, or another --run-dir"
        )
    _write_config(folder, config)
    return resumed


def _require_same_command(folder: RunFolder, is_search: bool) -> None:
    """Refuse to search in the folder of a distilled student, and to distill in that of a search."""
    if folder.has_student if is_search else folder.study.exists():
        holds = "a distilled student" if is_search else "a search"
        raise InputError(f"{folder.path}: holds {holds}; choose another --run-dir")


def _stored_config(folder: RunFolder) -> SearchConfig:
    try:
        return load_config(folder.config)
    except InputError as error:
        raise InputError(
            f"{folder.path}: holds a run whose config this version cannot read ({error}); "
            "a run of nas-kd 0.1 goes on with nas-kd 0.1"
        ) from error


def _write_config(folder: RunFolder, config: SearchConfig) -> None:
    text = dump_config(config, folder.path)
    if not folder.config.exists() or folder.config.read_text() != text:
        write_atomic(folder.config, text)


def package_versions() -> dict[str, str]:
    """Versions of nas-kd and of the libraries that its results depend on, by package."""
    return {package: version(package) for package in PACKAGES}


def write_environment(folder: RunFolder, device: dict[str, Any], threads: int) -> dict[str, Any]:
    """Record machine, versions and command; returns what was written."""
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "training_threads": threads,
        "versions": package_versions(),
        "device": device,
        "command": shlex.join(["nas-kd", *sys.argv[1:]]) if Path(sys.argv[0]).name == "nas-kd" else "",
    }
    write_atomic(folder.environment, json.dumps(environment, indent=1))
    return environment


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where the file is not there (yet)."""
    return dict(json.loads(path.read_text())) if path.is_file() else {}
