"""A run as an object: its record, its fronts as tables and pictures, and its finalists as modules and ONNX files."""

from html import escape
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas_kd.commands.load_run import read_run
from nas_kd.commands.write_winner import choose_finalist, deployed_seed, write_files, write_weights
from nas_kd.config.loading import load_config
from nas_kd.config.options import Budget
from nas_kd.context.run_folder import RunFolder, read_json
from nas_kd.deployment.bundle import BundlePaths
from nas_kd.errors import InputError
from nas_kd.kd.load_model import build_model, load_weights
from nas_kd.kd.own_space import OWN, space_of_run
from nas_kd.plugins import IN_MEMORY, display_name, remembered
from nas_kd.report.render import candidates_table, front_figure, write_report
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord
from nas_kd.results.fronts import best_score_first, front_members, winner
from nas_kd.results.run_record import RunRecord
from nas_kd.results.trial_record import Costs, TrialRecord
from nas_kd.store.store import Store
from nas_kd.tasks.base import load_task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

Front = Literal["size", "latency", "joint"]


class Finalist:
    """A student that was trained in full over several seeds, with everything that is known of it.

    Examples:
        >>> import nas_kd
        >>> winner = nas_kd.load_run("runs/demo").winner
        >>> winner.test.low <= winner.test.mean <= winner.test.high
        True
        >>> student = winner.load_model()  # a torch.nn.Module in eval mode
        >>> student.training, winner.export("student.onnx").name
        (False, 'student.onnx')
    """

    def __init__(self, record: FinalistRecord, run: "Run") -> None:
        self.record, self._run = record, run

    @property
    def id(self) -> str:
        """The candidate's id: 12 hex digits."""
        return self.record.id

    @property
    def trial(self) -> int:
        """Number of the trial that proposed it."""
        return self.record.trial

    @property
    def candidate(self) -> Candidate:
        """Student architecture, chain, recipe and precision."""
        return self.record.candidate

    @property
    def description(self) -> str:
        """The student in words: `3 stages, 16-24-48 wide, 5 blocks, 21 k weights`."""
        return self.record.description

    @property
    def costs(self) -> Costs:
        """Size, latency and other costs of the deployed file."""
        return self.record.costs

    @property
    def val(self) -> Accuracy:
        """Validation accuracy over seeds, 0..1, with its interval."""
        return self.record.val

    @property
    def test(self) -> Accuracy:
        """Test accuracy over seeds, 0..1, with its interval."""
        return self.record.test

    @property
    def val_score(self) -> Accuracy:
        """The run's score (`data.score`) on validation over seeds, 0..1, with its interval; it decides."""
        return self.record.val_score

    @property
    def test_score(self) -> Accuracy:
        """The score on the test split, with its interval."""
        return self.record.test_score

    @property
    def controls(self) -> tuple[ControlRecord, ...]:
        """The student without distillation, without assistants, or by smoothed labels, at equal cost, with gains."""
        return self.record.controls

    @property
    def within_budget(self) -> bool:
        """Whether the deployed file's costs are within the run's budget."""
        return self.record.within_budget

    def load_model(self, space: Any = None) -> "nn.Module":
        """Load the deployed student as a module in eval mode: (B, ...) in the data's own units -> (B, C) logits.

        Args:
            space: of the student, where the search was given an object that this program has not passed to a search.

        Raises:
            InputError: its weights are gone, or its space is not known here.
        """
        data, folder = self._run.record.dataset, self._run.folder
        if data is None:
            raise InputError(f"{folder.path}: the run has not loaded its data yet")
        weights = load_weights(Store(folder.store), deployed_seed(self.record).weights_key)
        wanted = load_config(folder.config).space.name if space is None else space
        if isinstance(wanted, str) and wanted.startswith(IN_MEMORY) and not remembered(wanted):
            raise InputError(f"the space {display_name(wanted)!r} was given in Python: pass it, load_model(space=...)")
        if wanted == OWN:
            wanted = space_of_run(load_config(folder.config), folder)
        return build_model(
            self.candidate, weights, data.input_shape, len(data.classes), wanted, task=load_task(data.task)
        )

    def export(self, path: Path | str) -> Path:
        """Write the verified ONNX file, with its card (`.json`), README and `predict.py` beside it; returns its path.

        Raises:
            InputError: the store no longer has the file.
        """
        out = Path(path)
        write_files(self._run.folder, self._run.record, self.record, BundlePaths.beside(out))
        return out

    def save_weights(self, path: Path | str) -> Path:
        """Write the trained weights as safetensors; returns the file's path.

        Raises:
            InputError: the store no longer has them.
        """
        out = Path(path)
        write_weights(self._run.folder, self._run.record, self.record, out)
        return out

    def __repr__(self) -> str:
        latency = self.costs.latency_ms
        cost = f"{latency.p50:.4g} ms, " if latency else ""
        size = f"{self.costs.size_bytes / 1000:.4g} kB" if self.costs.size_bytes is not None else ""
        return f"<Finalist {self.id}: {self.test.mean:.1%} on test, {cost}{size}: {self.description}>"


class Run:
    """A search and everything it left in its folder, finished or not.

    Examples:
        >>> import nas_kd
        >>> run = nas_kd.load_run("runs/demo")
        >>> run.state, len(run.trials)
        ('finished', 3)
        >>> sizes = [finalist.costs.size_bytes for finalist in run.front("size")]
        >>> sizes == sorted(sizes)
        True
        >>> run.plot("size").savefig("front.png")
    """

    def __init__(self, record: RunRecord, folder: RunFolder) -> None:
        self.record, self.folder = record, folder

    @staticmethod
    def read(run_dir: Path | str) -> "Run":
        """Read a run from its folder.

        Raises:
            InputError: the folder is not a run's, or another version has written it.
        """
        folder = RunFolder(Path(run_dir))
        return Run(read_run(folder), folder)

    @property
    def name(self) -> str:
        """The run's name, as in its config."""
        return self.record.name

    @property
    def state(self) -> str:
        """How far it has come: searching, finalists, finished, or unreachable."""
        return self.record.state

    @property
    def budget(self) -> Budget:
        """The limits that the run was searched under."""
        return load_config(self.folder.config).budget

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All proposals of the search and what became of them, by number."""
        return self.record.trials

    @property
    def finalists(self) -> list[Finalist]:
        """Members of the search's front, trained in full over several seeds; the most accurate on validation first."""
        return [Finalist(record, self) for record in sorted(self.record.finalists, key=best_score_first)]

    @property
    def winner(self) -> Finalist | None:
        """The best finalist within the run's budget; None: none is, or the run is not finished."""
        best = winner(self.record.finalists, self.budget)
        return None if best is None else Finalist(best, self)

    def front(self, which: Front = "joint") -> list[Finalist]:
        """Members of a Pareto front of the validation score against costs, the smallest or fastest first.

        Args:
            which: "size", "latency", or "joint" (both).

        Raises:
            InputError: there is no such front.
        """
        members = front_members(self.record.finalists)
        if which not in members:
            raise InputError(f"front must be one of {', '.join(members)}, got {which!r}")
        chosen = [f for f in self.finalists if f.id in members[which]]
        return sorted(chosen, key=lambda f: _cost(f.costs, which))

    def export(self, path: Path | str, budget: Budget | None = None, *, trial: int | None = None) -> Finalist:
        """Write the best finalist under a budget (None: the run's own), or a trial's, as ONNX; nothing is trained.

        Args:
            path: the ONNX file to write; its card goes beside it.
            budget: limits of costs.
            trial: this trial's candidate, whatever the budget.

        Raises:
            InputError: there is no finalist yet, or the trial is not a finalist's.
            BudgetError: no finalist is within the budget.
        """
        chosen = Finalist(choose_finalist(self.record, budget or self.budget, trial), self)
        chosen.export(path)
        return chosen

    def to_pandas(self) -> "pd.DataFrame":
        """A table with a row for every trial: the columns of the report's candidates.csv.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise InputError("to_pandas needs pandas: pip install pandas") from error
        table: pd.DataFrame = pandas.read_csv(StringIO(candidates_table(self.record)))
        return table

    def plot(self, front: Literal["size", "latency"] = "latency") -> "Figure":
        """Draw the score against latency or size: finalists with intervals, controls, budget, teacher and candidates.

        Args:
            front: the cost on the horizontal axis.

        Returns:
            A matplotlib figure; a notebook shows it.
        """
        return front_figure(self.record, front)

    def write_report(self, out: Path | str | None = None) -> Path:
        """Write the report (HTML, Markdown, CSV, PNG); returns the path of its page.

        Args:
            out: the folder to write; None: the run's own `report/`.
        """
        card = read_json(self.folder.winner / "card.json")
        sha256 = str(card.get("sha256", ""))
        return write_report(self.record, Path(out) if out else self.folder.report, file_sha256=sha256)

    def __repr__(self) -> str:
        best = self.winner
        found = f", winner {best!r}" if best else ""
        counts = f"{len(self.trials)} trials, {len(self.record.finalists)} finalists"
        return f"<Run {self.name!r}: {self.state}, {counts}{found}>"

    def _repr_html_(self) -> str:
        """The run as a notebook shows it: a line, and a table of finalists."""
        best = self.winner
        rows = "".join(_html_row(f, best) for f in self.finalists)
        head = "".join(f"<th>{title}</th>" for title in _COLUMNS)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<p><b>{escape(self.name)}</b>: {escape(self.state)}, {len(self.trials)} trials</p>{table}"


_COLUMNS = ("", "student", "method", "precision", "test accuracy", "size", "latency")


def _html_row(finalist: Finalist, best: Finalist | None) -> str:
    costs, test = finalist.costs, finalist.test
    latency = f"{costs.latency_ms.p50:.4g} ms" if costs.latency_ms else ""
    size = f"{costs.size_bytes / 1000:.4g} kB" if costs.size_bytes is not None else ""
    mark = "winner" if best is not None and best.id == finalist.id else ""
    accuracy = f"{test.mean:.1%} ({test.low:.1%} to {test.high:.1%})"
    recipe, precision = display_name(finalist.candidate.recipe.method), finalist.candidate.precision
    cells = (mark, finalist.description, recipe, precision, accuracy, size, latency)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _cost(costs: Costs, which: str) -> tuple[float, float]:
    size = float(costs.size_bytes or 0)
    latency = costs.latency_ms.p50 if costs.latency_ms else 0.0
    return (size, latency) if which == "size" else (latency, size)
