"""Configs of the demos: a full search on scikit-learn's handwritten digits, and a small one for each other task."""

from pathlib import Path

from nas_kd.errors import InputError, unknown

PATH = Path(__file__).with_name("demo.toml")
OF_TASKS = Path(__file__).with_name("demos")
DIGITS = "classification"


def demo_of(task: str | None) -> Path:
    """The config of a task's demo, a file in `demos/` of the task's name.

    Args:
        task: its name; None: classification.

    Raises:
        InputError: it has none.
    """
    found = {path.stem: path for path in sorted(OF_TASKS.glob("*.toml"))} | {DIGITS: PATH}
    if task is None:
        return PATH
    if task not in found:
        if ":" in task:
            raise InputError(f"task {task!r} has no demo; write a config (`nas-kd init`)")
        raise unknown("task with a demo", task, found)
    return found[task]
