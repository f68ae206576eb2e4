"""Writes what a finished run leaves: front.json, the winner's files and card; and a winner under another budget."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_kd.commands.load_run import read_run
from nas_kd.config.card_options import CardOptions
from nas_kd.config.loading import load_config
from nas_kd.config.options import Budget
from nas_kd.context.run_folder import RunFolder
from nas_kd.deployment.bundle import BundlePaths, write_bundle
from nas_kd.deployment.card import student_facts
from nas_kd.deployment.facts import StudentFacts
from nas_kd.errors import BudgetError, InputError
from nas_kd.kd.load_model import load_weights, weights_file
from nas_kd.results.finalist_record import Accuracy, FinalistRecord, SeedRecord
from nas_kd.results.front_document import front_document
from nas_kd.results.fronts import describe_closest_finalists, winner
from nas_kd.results.intervals import measured_accuracy
from nas_kd.results.run_record import DatasetRecord, RunRecord
from nas_kd.scores.base import load_score
from nas_kd.serialization import write_atomic
from nas_kd.store.store import Store


def write_results(folder: RunFolder, run: RunRecord) -> None:
    """Write front.json, and winner/ where a finalist met the budget.

    Args:
        folder: of the run.
        run: its record.
    """
    write_atomic(folder.front, json.dumps(front_document(run), indent=1, allow_nan=False))
    budget = load_config(folder.config).budget
    best = winner(run.finalists, budget)
    if best is not None:
        paths = BundlePaths.in_folder(folder.winner)
        write_files(folder, run, best, paths)
        write_weights(folder, run, best, folder.winner / "student.safetensors")


def deployed_seed(finalist: FinalistRecord) -> SeedRecord:
    """The training whose file is deployed: the best on validation."""
    return next(s for s in finalist.seeds if s.seed == finalist.deployed_seed)


def write_files(
    folder: RunFolder,
    run: RunRecord,
    finalist: FinalistRecord,
    paths: BundlePaths,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a finalist's ONNX file with its metadata, and beside it its card, its README and `predict.py`.

    Args:
        folder: of the run.
        run: its record.
        finalist: whose file.
        paths: of the files to write.
        card: options of `[card]` in place of the run's, by name.

    Raises:
        InputError: the store no longer has the file.
    """
    stored = Store(folder.store).find_bytes("file", deployed_seed(finalist).sha256)
    if stored is None:
        raise InputError(
            f"{folder.store}: the finalist's file is gone; run the search again on this folder to restore it"
        )
    facts = _facts(folder, run, finalist)
    write_bundle(paths, stored, replace(facts, card=CardOptions(**facts.card.model_dump() | dict(card or {}))))


def _facts(folder: RunFolder, run: RunRecord, finalist: FinalistRecord) -> StudentFacts:
    data, deployed = _dataset(run), deployed_seed(finalist)
    recipe = run.recipe.recipe.with_choices(finalist.candidate.recipe.training).to_json() if run.recipe else {}
    return StudentFacts(
        candidate=finalist.candidate,
        description=finalist.description,
        chain_description=finalist.chain_description,
        data=data,
        val=finalist.deployed_val or measured_accuracy(deployed.val_accuracy, data.n_val),
        test=finalist.deployed_test or measured_accuracy(deployed.test_accuracy, data.n_test),
        val_over_seeds=finalist.val,
        test_over_seeds=finalist.test,
        scores_over_seeds=_other_scores(run, finalist),
        seed=deployed.seed,
        parity=deployed.parity,
        agreement=deployed.agreement,
        costs=finalist.costs,
        calibration=finalist.calibration,
        decision=finalist.decision,
        notes=finalist.notes,
        decoding_ms=finalist.decoding_ms,
        device=run.device,
        teacher=run.teacher,
        recipe=recipe,
        versions=run.environment.get("versions", {}),
        card=load_config(folder.config).card,
        details={"grad_ratios": deployed.grad_ratios},
    )


def _other_scores(run: RunRecord, finalist: FinalistRecord) -> dict[str, Accuracy]:
    """Balanced accuracy, and what the run decided on, by title; accuracy apart."""
    found = {} if finalist.balanced is None else {"balanced accuracy": finalist.balanced}
    found |= {load_score(name).title: value for name, value in finalist.further.items()}
    return found if run.decides_on_headline else found | {run.score_title: finalist.test_score}


def write_weights(folder: RunFolder, run: RunRecord, finalist: FinalistRecord, out: Path) -> None:
    """Write a finalist's trained weights as safetensors, with its candidate and classes in the header.

    Args:
        folder: of the run.
        run: its record.
        finalist: whose weights.
        out: the file to write.

    Raises:
        InputError: the store no longer has them.
    """
    weights = load_weights(Store(folder.store), deployed_seed(finalist).weights_key)
    card = student_facts(_facts(folder, run, finalist)) | {"input_shape": list(_dataset(run).input_shape)}
    write_atomic(out, weights_file(weights, card))


def _dataset(run: RunRecord) -> DatasetRecord:
    if run.dataset is None:
        raise InputError(f"{run.run_dir}: the run has not loaded its data yet")
    return run.dataset


def choose_finalist(run: RunRecord, budget: Budget, trial: int | None = None) -> FinalistRecord:
    """Choose the best finalist under a budget, or a trial's.

    Args:
        run: the record of a run.
        budget: limits of costs.
        trial: this trial's candidate, whatever the budget.

    Raises:
        InputError: there is no finalist yet, the trial is not a finalist's, or the budget asks for an accuracy of a run
            that decides on another score.
        BudgetError: no finalist is within the budget.
    """
    if not run.finalists:
        command = f"nas-kd search --run-dir {shlex.quote(run.run_dir)}"
        raise InputError(f"{run.run_dir}: no finalist yet; go on with `{command}` until it is finished")
    if trial is not None:
        chosen = next((f for f in run.finalists if f.trial == trial), None)
        if chosen is None:
            trials = ", ".join(str(f.trial) for f in run.finalists)
            raise InputError(f"trial {trial} is not a finalist, its weights were not kept; finalists: trial {trials}")
        return chosen
    if budget.min_accuracy is not None and not run.decides_on_headline:
        raise InputError(f"min_accuracy asks for an accuracy, this run decides on {run.score_title}: give min_score")
    chosen = winner(run.finalists, budget)
    if chosen is None:
        raise BudgetError(f"no finalist meets the budget; closest: {describe_closest_finalists(run.finalists, budget)}")
    return chosen


def export_winner(
    run_dir: Path | str,
    out: Path | str,
    budget: Budget | None = None,
    *,
    trial: int | None = None,
    card: Mapping[str, Any] | None = None,
) -> FinalistRecord:
    """Write the best finalist under a budget, or a trial's, to an ONNX file; nothing is trained.

    Beside FILE.onnx go its card FILE.json, its model card FILE.README.md, and `predict.py`, which reads the card.

    Args:
        run_dir: folder of a run.
        out: the ONNX file to write.
        budget: limits of costs; None: the run's own.
        trial: this trial's candidate, whatever the budget.
        card: options of `[card]` in place of the run's, such as {"license": "mit"}.

    Returns:
        The record of the finalist that was written.

    Raises:
        InputError: the folder is not a run's, it has no finalist yet, or the trial is not a finalist's.
        BudgetError: no finalist is within the budget.

    Examples:
        >>> import nas_kd
        >>> finalist = nas_kd.export_winner("runs/demo", "small.onnx", nas_kd.Budget(max_size_kb=50))
        >>> finalist.costs.size_bytes <= 50_000
        True
    """
    folder, out = RunFolder(Path(run_dir)), Path(out)
    run = read_run(folder)
    limits = load_config(folder.config).budget if budget is None else budget
    chosen = choose_finalist(run, limits, trial)
    write_files(folder, run, chosen, BundlePaths.beside(out), card)
    return chosen
