"""What runs in a worker: `python -m nas_kd.executors.serve` answers jobs, one JSON line each, until its input ends.

The first line says what to serve, and for which process: `{"target": "package.module:Class", "setup": {...}, "core": 1,
"coordinator": 4711}`. The class is made with `setup` and `tell`; each further line is given to its `handle`, whose
result is the answer. What it gives `tell` meanwhile is passed on, unless the coordinator has long not listened. What
user code prints goes to stderr.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import traceback
from functools import partial
from typing import Any, TextIO

from nas_kd.errors import InputError
from nas_kd.plugins import import_object

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve this process's standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on, nothing but answers is written where answers are read
    _die_with_parent()
    # Ctrl-C reaches all of a terminal's processes: it is the coordinator who ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = json.loads(sys.stdin.readline() or "null")
    if first is None or os.getppid() != first["coordinator"]:
        return  # it was killed before anybody could be told to die with it
    _bind(first["core"])
    try:
        served: Any = import_object(first["target"])(**first["setup"], tell=partial(_tell, answers))
    except InputError as error:
        _answer(answers, {"refused": str(error)})
        return
    except Exception as error:  # another worker would fare no better
        traceback.print_exc()
        _answer(answers, {"refused": f"a worker cannot be set up: {_in_one_line(error)}"})
        return
    _answer(answers, {"ready": os.getpid()})
    for line in sys.stdin:
        try:
            _answer(answers, {"result": served.handle(json.loads(line))})
        except Exception as error:
            traceback.print_exc()
            _answer(answers, {"error": _in_one_line(error)})


def _tell(answers: TextIO, what: Any) -> None:
    """What nobody reads must not hold up the work: it is said only where it certainly fits into the pipe."""
    message = {"told": what}
    if len(json.dumps(message)) < select.PIPE_BUF and select.select([], [answers], [], 0)[1]:
        _answer(answers, message)


def _die_with_parent() -> None:
    """Not even a stopped worker outlives the coordinator, where the system can see to it (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _bind(core: int | None) -> None:
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _answer(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
