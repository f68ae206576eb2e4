"""What a Python program calls; the command line calls the same."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_kd.commands.distill import DistillResult, distill_one
from nas_kd.commands.load_run import read_run
from nas_kd.commands.search import search as run_search
from nas_kd.commands.write_winner import export_winner
from nas_kd.config.loading import load_config
from nas_kd.config.options import Budget, SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_folder import RunFolder, read_json
from nas_kd.errors import BudgetError
from nas_kd.plugins import search_folder
from nas_kd.report import write_report
from nas_kd.results.records import RunRecord

__all__ = ["distill", "export_winner", "load_run", "read_config", "report", "search"]
DEMO = Path(__file__).parent / "config" / "demo.toml"


def search(
    config: SearchConfig | Path | str | None = None,
    *,
    budget: Budget | None = None,
    run_dir: Path | str | None = None,
    callback: Callback | None = None,
) -> RunRecord:
    """Search for a student within the budget, write the winner and the report, and return all that is known of the run.

    Args:
        config: options, a config.toml, or None for the digits demo.
        budget: replaces the config's.
        run_dir: where everything is kept; an unfinished run in it is resumed. Default: runs/NAME.
        callback: receives what happens.

    Raises:
        InputError: something given is not usable.
        BudgetError: no candidate can meet the budget.
    """
    options = _options(config, budget)
    folder = Path(run_dir) if run_dir is not None else default_run_dir(options)
    try:
        run_search(options, folder, callback)
    except BudgetError:
        report(folder)
        raise
    return report(folder)


def distill(
    config: SearchConfig | Path | str | None = None,
    *,
    run_dir: Path | str | None = None,
    callback: Callback | None = None,
) -> DistillResult:
    """Distil one student (the config's `[student]`, else a middle rung of the ladder) and write it to `run_dir`.

    Raises:
        InputError: something given is not usable.
        TrialError: the student cannot be trained.
    """
    options = _options(config, None)
    folder = Path(run_dir) if run_dir is not None else default_run_dir(options, "-distill")
    return distill_one(options, folder, callback or Callback())


def load_run(run_dir: Path | str) -> RunRecord:
    """All that is known of a run, finished or not.

    Raises:
        InputError: the folder is not a run's.
    """
    return read_run(RunFolder(Path(run_dir)))


def report(run_dir: Path | str, out: Path | None = None) -> RunRecord:
    """Write the report of a run, finished or not, to `out` (default: its folder's `report/`)."""
    run, folder = load_run(run_dir), RunFolder(Path(run_dir))
    card = read_json(folder.winner / "card.json")
    write_report(run, out or folder.report, file_sha256=str(card.get("sha256", "")))
    return run


def read_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> SearchConfig:
    """The config at `path` (None: the digits demo) with overrides by dotted key; its name is the file's by default.

    Raises:
        InputError: it cannot be read or is not valid.
    """
    if path is not None:
        search_folder(path.parent)  # users' modules lie beside their config
    config = load_config(path or DEMO, overrides)
    if config.name is not None:
        return config
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", (path or DEMO).stem).lstrip("._-")
    return config.model_copy(update={"name": stem or "run"})


def default_run_dir(options: SearchConfig, suffix: str = "") -> Path:
    """runs/NAME."""
    return Path("runs") / f"{options.name or 'run'}{suffix}"


def _options(config: SearchConfig | Path | str | None, budget: Budget | None) -> SearchConfig:
    options = config if isinstance(config, SearchConfig) else read_config(Path(config) if config else None)
    return options if budget is None else options.model_copy(update={"budget": budget})
