"""The handler of the tests' workers."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas_kd.errors import InputError


class Jobs:
    """Does what a job asks for."""

    def __init__(self, greeting: str, on_message: Callable[[Any], None]) -> None:
        if greeting == "no":
            raise InputError("no such greeting")
        if greeting == "broken":
            raise OSError("out of\ngreetings")
        self.greeting, self.on_message = greeting, on_message

    def handle(self, job: Mapping[str, Any]) -> Any:
        match job["do"]:
            case "greet":
                print("not an answer")
                return [self.greeting, os.getpid(), sorted(os.sched_getaffinity(0))]
            case "sleep":
                time.sleep(job["seconds"])
                return os.getpid()
            case "send":
                for number in range(job["times"]):
                    self.on_message({"number": number, "description": job["description"]})
                Path(job["mark"]).touch()
                return "sent"
            case "raise":
                raise ValueError("two\nlines")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once":
                mark = Path(job["mark"])
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return "survived"
        return None
