"""Runs of a benchmark that can be killed, resumed, split over processes and continued on another machine.

Every run is a process of its own and ends as one small JSON file, written in one piece.
"""

import json
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from filelock import FileLock, Timeout

from nas_kd.errors import InputError, TrialError
from nas_kd.serialization import write_atomic

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BUSY = 75  # exit status of a run that another process is at


class SharedWork(Protocol):
    """What the runs of one benchmark share."""

    def forget(self) -> None:
        """Remove what a finished run no longer needs."""


Shared = TypeVar("Shared", bound=SharedWork)


def bind(folder: Path, settings: "DataclassInstance") -> None:
    """Let `folder` hold results of these settings and no others.

    Raises:
        InputError: it holds others.
    """
    path, wanted = folder / "settings.json", json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        write_atomic(path, json.dumps(wanted, indent=1) + "\n")
    elif (there := json.loads(path.read_text())) != wanted:
        other = ", ".join(f"{k} {there.get(k)!r} (now {v!r})" for k, v in wanted.items() if there.get(k) != v)
        raise InputError(f"{folder} holds results of other settings: {other}; take another --out")


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """All results so far, by name; those of failed runs have "error"."""
    return {p.stem: json.loads(p.read_text()) for p in sorted((folder / "runs").glob("*.json"))}


def is_done(folder: Path, name: str) -> bool:
    """Whether the run ended well."""
    path = folder / "runs" / f"{name}.json"
    return path.exists() and "error" not in json.loads(path.read_text())


def lock_of(work: Path, name: str) -> FileLock:
    """Held by the process that is at this run."""
    (work / "locks").mkdir(parents=True, exist_ok=True)
    return FileLock(work / "locks" / f"{name}.lock")


def record(
    folder: Path,
    work: Path,
    name: str,
    prepare: Callable[[], Shared],
    run: Callable[[str, Shared], dict[str, Any]],
) -> int:
    """Do one run and write what it gives, or why it failed; the process's exit status."""
    try:
        with lock_of(work, name).acquire(timeout=0):
            if is_done(folder, name):
                return 0
            path, shared = folder / "runs" / f"{name}.json", prepare()
            try:
                result = run(name, shared)
            except (InputError, TrialError, ValueError, RuntimeError) as error:
                traceback.print_exc()
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                write_atomic(path, json.dumps({"error": reason}, indent=1) + "\n")
                return 1
            write_atomic(path, json.dumps(result, indent=1) + "\n")
            shared.forget()
            return 0
    except Timeout:
        return BUSY


def is_busy(work: Path, name: str) -> bool:
    """Whether another process is at this run."""
    try:
        with lock_of(work, name).acquire(timeout=0):
            return False
    except Timeout:
        return True


def run_all(
    folder: Path,
    work: Path,
    names: Sequence[str],
    worker: tuple[int, int],
    line: Callable[[dict[str, Any]], str],
) -> int:
    """Start this script again for each name that is not done, one after another; how many failed.

    Args:
        folder: of results.
        work: of what runs share.
        names: in order.
        worker: (i, n): every n-th name, from the i-th on.
        line: what to print of a result.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child is ended too
    index, count = worker
    mine = list(names)[index::count]
    failed = 0
    for position, name in enumerate(mine, start=1):
        if is_done(folder, name) or is_busy(work, name):
            continue
        started = time.monotonic()
        status = subprocess.run([sys.executable, *sys.argv, "--run", name], check=False).returncode
        told = "another process is at it" if status == BUSY else f"FAILED (exit status {status})"
        if status == 0:
            told = line(json.loads((folder / "runs" / f"{name}.json").read_text()))
        failed += status not in (0, BUSY)
        print(f"[{position}/{len(mine)}] {name}: {told}; {time.monotonic() - started:.0f} s", flush=True)
    return failed


def worker_of(text: str) -> tuple[int, int]:
    """`0/2` -> (0, 2).

    Raises:
        ValueError: anything else, or i >= n.
    """
    index, count = (int(part) for part in text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return index, count


def results_in(out: Path) -> dict[str, dict[str, Any]]:
    """All results that `append_result` kept in a folder, by key; a last line that was cut off is left out."""
    path, found = out / "results.jsonl", {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"]] = row
    return found


def append_result(out: Path, row: dict[str, Any]) -> None:
    """Keep a result of a benchmark whose runs share a process: a line of `results.jsonl`, written by one at a time.

    Args:
        out: folder of the results.
        row: JSON-able; `key` tells it apart.
    """
    (out / "work").mkdir(parents=True, exist_ok=True)
    with FileLock(out / "work" / "results.lock"), (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
