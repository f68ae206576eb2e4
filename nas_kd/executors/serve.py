"""The main program of a worker: `python -m nas_kd.executors.serve` does jobs, one JSON line each, until its input ends.

The first line names what serves, and for which process: `{"target": "package.module:Class", "setup": {...}, "core": 1,
"coordinator": 4711, "objects": "..."}`. The class is created with `setup` and `on_message`; each further line is passed
to its `handle`, whose result is sent back. What the class passes to `on_message` meanwhile is sent as progress, unless
the coordinator has not read for long. What user code prints goes to stderr.
"""

import base64
import contextlib
import ctypes
import json
import logging
import os
import pickle
import select
import signal
import sys
from functools import partial
from typing import Any, TextIO

from nas_kd.errors import InputError
from nas_kd.plugins import import_object, remember_all

PR_SET_PDEATHSIG = 1
LOG = logging.getLogger("nas_kd.worker")


def main() -> None:
    """Do the jobs that arrive on this process's standard input."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on, only results are written where results are read
    _die_with_parent()
    # Ctrl-C reaches all of a terminal's processes: the coordinator ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = json.loads(sys.stdin.readline() or "null")
    if first is None or os.getppid() != first["coordinator"]:
        return  # the coordinator was killed before this process could be bound to its life
    _bind(first["core"])
    try:
        if first["objects"]:  # from the coordinator's own memory, over a pipe that only it can write to
            remember_all(pickle.loads(base64.b64decode(first["objects"])))
        served: Any = import_object(first["target"])(**first["setup"], on_message=partial(_send_progress, output))
    except InputError as error:
        _send(output, {"refused": str(error)})
        return
    except (Exception, SystemExit) as error:  # another worker would fail in the same way
        LOG.exception("a worker cannot be set up")
        _send(output, {"refused": f"a worker cannot be set up: {_in_one_line(error)}"})
        return
    _send(output, {"ready": os.getpid()})
    for line in sys.stdin:
        try:
            _send(output, {"result": served.handle(json.loads(line))})
        except (Exception, SystemExit) as error:  # user code may call exit()
            LOG.exception("a job failed")
            _send(output, {"error": _in_one_line(error)})


def _send_progress(output: TextIO, what: Any) -> None:
    """Send a message only if it certainly fits into the pipe: one that is not read must not hold up the work."""
    message = {"progress": what}
    if len(json.dumps(message)) < select.PIPE_BUF and select.select([], [output], [], 0)[1]:
        _send(output, message)


def _die_with_parent() -> None:
    """Let not even a stopped worker outlive the coordinator, where the system supports it (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _bind(core: int | None) -> None:
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _send(output: TextIO, message: dict[str, Any]) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()


if __name__ == "__main__":
    main()
