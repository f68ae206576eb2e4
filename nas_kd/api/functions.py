"""What a Python program calls; the command line calls the same."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas_kd.api.in_memory import (
    budget_options,
    data_options,
    device_name,
    method_names,
    space_name,
    task_name,
    teacher_options,
    with_groups,
    with_unlabelled,
)
from nas_kd.api.run import Run
from nas_kd.commands.distill import DistillResult, distill_one
from nas_kd.commands.search import search as run_search
from nas_kd.config import demo
from nas_kd.config.loading import load_config, merged
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.config.unused import refuse_search_options, refuse_student
from nas_kd.context.callbacks import Callback, StopRun, as_callback
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import BudgetError, InputError
from nas_kd.serialization import fingerprint


def search(
    config: SearchConfig | Path | str | None = None,
    *,
    teacher: Any = None,
    data: Any = None,
    space: Any = None,
    methods: Any = None,
    budget: Budget | Mapping[str, float] | None = None,
    device: Any = None,
    trials: int | None = None,
    workers: int | None = None,
    max_minutes: float | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    run_dir: Path | str | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    unlabelled: Any = None,
    task: Any = None,
    group: Any = None,
) -> Run:
    """Search for the most accurate student within a budget; write the winner and the report into the run's folder.

    Everything may be given as an object or as a name of the config file. Objects are identified by their content: the
    same call, in this process or another, goes on with an unfinished run in the same folder.

    Args:
        config: options, a config.toml, or None: the defaults; with no other argument, the digits demo.
        teacher: a `torch.nn.Module` (float32, on the CPU; it stays as it is), the path of an `.onnx` file, or a mapping
            of `[teacher]` options, in which `module` may be a module, `{"module": net, "mean": "imagenet"}`, and
            `space` an object. A list: several teachers. None: the config's, else one is trained.
        data: `(x, y)` of arrays or tensors, x (N, C, H, W) or any (N, ...), y (N,) class numbers or names; a map-style
            `torch.utils.data.Dataset` of such pairs, read once into memory; a mapping of "train", "val", "test" to
            either; a source object; a function that returns arrays; or a source's name. Missing validation and test
            data are carved from train.
        space: of students: a name, "package.module:Name", or a `SearchSpace`.
        methods: distillation methods to choose from: names, `a+b` for sums, or `Method` classes.
        budget: limits of the device: a `Budget`, or a mapping of its limits by name.
        device: where latency is measured: a name, a `.toml` file, an agent's URL, or a `DeviceProfile`.
        trials: candidates to propose.
        workers: candidates trained at the same time.
        max_minutes: stop proposing after this long; finalists follow.
        seed: root of every random choice.
        options: any other option of the config file by dotted key, such as `{"distill.epochs": 60}`.
        run_dir: folder that keeps everything; an unfinished run in it is resumed. Default: runs/NAME.
        callbacks: receive what happens; one may stop the run by raising `StopRun`.
        unlabelled: samples without labels: students learn from the teacher's outputs on them. An array, a tensor
            or a Dataset beside `data` given in Python; or the path of a folder of pictures, of Parquet files (a list),
            or of an .npy or .npz array.
        task: what the data ask of a network: "classification" (the default), "multi_label", "regression",
            "segmentation", "detection", "embedding", "package.module:Name", or a `Task`. y of multi_label: (N, C), 1
            where a sample has a label, else 0; of regression: numbers, (N,) or (N, k); of segmentation: masks (N, H,
            W); of detection: boxes (N, M, 5), class and corners, class -1 for none; of embedding: identities.
        group: what no two splits may share when they are carved, such as patients: (N,) names or numbers for the
            training samples, or these by split; or a name, see `data.group`.

    Returns:
        The run, finished, or as far as it came before a callback stopped it.

    Raises:
        InputError: something given is not usable; the message is one line.
        BudgetError: no candidate can meet the budget; `load_run` shows how close they come.
        CallbackError: a callback raised; nothing finished is lost.

    Examples:
        >>> import nas_kd
        >>> run = nas_kd.search("config.toml", run_dir="runs/demo")  # again, once it is finished: it is read
        >>> run.state, run.winner.export("student.onnx").name
        ('finished', 'student.onnx')
        >>> budget = nas_kd.Budget(max_latency_ms=0.5, max_size_kb=100)
        >>> run = nas_kd.search(teacher=net, data=(x, y), budget=budget, trials=60)  # doctest: +SKIP
    """
    data, named_group = with_groups(data, group)
    data, files = with_unlabelled(data, unlabelled)
    given: dict[str, Any] = {
        "teacher": None if teacher is None else teacher_options(teacher),
        "data": None if data is None else data_options(data),
        "data.unlabelled": files,
        "data.group": named_group,
        "data.task": None if task is None else task_name(task),
        "space.name": None if space is None else space_name(space),
        "distill.methods": None if methods is None else method_names(methods),
        "budget": None if budget is None else budget_options(budget),
        "device.name": None if device is None else device_name(device),
        "search.trials": trials,
        "search.workers": workers,
        "search.max_minutes": max_minutes,
        "search.seed": seed,
        **_checked_options(options),
    }
    resolved = _resolved(config, {k: v for k, v in given.items() if v is not None}, run_dir)
    refuse_student(resolved, "search")
    folder = Path(run_dir) if run_dir is not None else default_run_dir(resolved)
    callback = as_callback(callbacks)
    try:
        run_search(resolved, folder, callback)
    except StopRun as stop:
        return _stopped(folder, stop)
    except BudgetError:
        Run.read(folder).write_report()
        raise
    run = Run.read(folder)
    run.write_report()
    return run


def _checked_options(options: Any) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        kind = type(options).__name__
        raise InputError(f'options must be a mapping of dotted keys, such as {{"distill.epochs": 60}}, got {kind}')
    return dict(options)


def _stopped(folder: Path, stop: StopRun) -> Run:
    if not RunFolder(folder).study.is_file():
        raise InputError(f"{folder}: stopped ({stop}) before the teacher was ready; the same call goes on") from stop
    run = Run.read(folder)
    run.write_report()
    return run


def load_run(run_dir: Path | str) -> Run:
    """Read a run, finished or not, from its folder; nothing is written.

    Args:
        run_dir: the folder.

    Raises:
        InputError: the folder is not a run's, or another version has written it.

    Examples:
        >>> import nas_kd
        >>> run = nas_kd.load_run("runs/demo")
        >>> all(finalist.within_budget for finalist in run.front("latency"))
        True
    """
    return Run.read(run_dir)


def distill_config(
    config: SearchConfig | Path | str,
    *,
    run_dir: Path | str | None = None,
    callbacks: Callback | Sequence[Callback] = (),
) -> DistillResult:
    """Distill the one student that a config describes, without a search, and write it to `run_dir`.

    Args:
        config: options or a config.toml; `[student]` is the architecture, else a middle size of the space.
        run_dir: folder to write. Default: runs/NAME-distill.
        callbacks: receive what happens.

    Raises:
        InputError: something given is not usable.
        TrialError: the student cannot be trained or exported.
    """
    options = _resolved(config, {}, run_dir)
    folder = Path(run_dir) if run_dir is not None else default_run_dir(options, "-distill")
    callback = as_callback(callbacks)
    for note in refuse_search_options(options):
        callback.on_note(note)
    return distill_one(options, folder, callback)


def read_config(
    path: Path | None, overrides: Mapping[str, Any] | None = None, *, task: str | None = None
) -> SearchConfig:
    """Read a config file (None: a demo) with overrides by dotted key; its name is the file's by default.

    Args:
        path: of the file.
        overrides: values by dotted key; None: not given.
        task: of the data; without a file, that of the demo.

    Raises:
        InputError: it cannot be read or is not valid, or the task has no demo.
    """
    file = demo.demo_of(task) if path is None else path
    config = load_config(file, dict(overrides or {}) | ({} if path is None or task is None else {"data.task": task}))
    if config.name is not None:
        return config
    return config.model_copy(update={"name": _as_name(file.stem)})


def default_run_dir(options: SearchConfig, suffix: str = "") -> Path:
    """The folder of a run that is given none: runs/NAME."""
    return Path("runs") / f"{options.name or 'run'}{suffix}"


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("._-") or "run"


def _resolved(
    config: SearchConfig | Path | str | None, given: Mapping[str, Any], run_dir: Path | str | None
) -> SearchConfig:
    """The config with what was given in Python; it has a name, even where it came from no file."""
    if not isinstance(config, SearchConfig | Path | str | None):
        kind = type(config).__name__
        raise InputError(f"config must be a nas_kd.SearchConfig or the path of a config.toml, got {kind}; see options=")
    if isinstance(config, SearchConfig):
        base = config
    elif config is None and not given.keys() & {"teacher", "data", "space.name"}:
        base = read_config(None)
    else:
        base = read_config(Path(config)) if config is not None else load_config(None)
    resolved = merged(base, given)
    if resolved.name is None:
        resolved = resolved.model_copy(update={"name": _name_for(resolved, run_dir)})
    return resolved


def _name_for(config: SearchConfig, run_dir: Path | str | None) -> str:
    """A run's name: that of its folder, also after this was moved; by the config's content where no folder is given."""
    if run_dir is None:
        return f"run-{fingerprint(config.model_dump(mode='json'))[:8]}"
    folder, stored = RunFolder(Path(run_dir)), None
    if folder.config.is_file():
        with suppress(InputError):  # the search refuses the folder
            stored = load_config(folder.config).name
    return stored or _as_name(folder.path.resolve().name)
