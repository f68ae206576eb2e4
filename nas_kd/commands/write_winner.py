"""Writes what a finished run leaves: front.json, the winner's files and card; and a winner under another budget."""

import json
from pathlib import Path
from typing import Any

from nas_kd.commands.load_run import read_run
from nas_kd.commands.winner_texts import PREDICT, winner_readme
from nas_kd.config.loading import load_config
from nas_kd.config.options import Budget
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import BudgetError, InputError
from nas_kd.export.onnx_export import get_opset, set_metadata
from nas_kd.kd.load_model import load_weights, weights_file
from nas_kd.results.finalist_record import FinalistRecord, SeedRecord
from nas_kd.results.front_document import front_document
from nas_kd.results.fronts import describe_closest_finalists, winner
from nas_kd.results.run_record import DatasetRecord, RunRecord
from nas_kd.serialization import sha256, write_atomic
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
        write_file(folder, run, best, folder.winner / "student.onnx", folder.winner / "card.json")
        write_weights(folder, run, best, folder.winner / "student.safetensors")
        data = _dataset(run)
        write_atomic(folder.winner / "README.md", winner_readme(best, data, _preprocessing(data)))
        write_atomic(folder.winner / "predict.py", PREDICT)


def deployed_seed(finalist: FinalistRecord) -> SeedRecord:
    """The training whose file is deployed: the best on validation."""
    return next(s for s in finalist.seeds if s.seed == finalist.deployed_seed)


def write_file(folder: RunFolder, run: RunRecord, finalist: FinalistRecord, out: Path, card: Path) -> None:
    """Write a finalist's ONNX file with its metadata, and the card that repeats them.

    Args:
        folder: of the run.
        run: its record.
        finalist: whose file.
        out: the ONNX file to write.
        card: the JSON file to write.

    Raises:
        InputError: the store no longer has the file.
    """
    deployed = deployed_seed(finalist)
    stored = Store(folder.store).find_bytes("file", deployed.sha256)
    if stored is None:
        raise InputError(
            f"{folder.store}: the finalist's file is gone; run the search again on this folder to restore it"
        )
    metadata = _metadata(run, finalist)
    onnx = set_metadata(stored, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    write_atomic(out, onnx)
    facts = {
        "schema": 1,
        **metadata,
        "input_shape": list(_dataset(run).input_shape),
        "pixels": _dataset(run).scale > 1,
        "file": out.name,
        "sha256": sha256(onnx),
        "size_bytes": len(onnx),
        "size_bytes_without_metadata": len(stored),
        "opset": get_opset(stored),
        "notes": list(finalist.notes),
        "seed": deployed.seed,
        "parity": {"max_abs_difference": deployed.parity, "top1_agreement": deployed.agreement},
        "latency_ms": finalist.costs.latency_ms.figures() if finalist.costs.latency_ms else None,
        "memory_bytes": finalist.costs.memory_bytes,
        "macs": finalist.costs.macs,
        "device": run.device.model_dump(mode="json") if run.device else None,
        "versions": run.environment.get("versions", {}),
    }
    write_atomic(card, json.dumps(facts, indent=1, allow_nan=False))


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
    card = _metadata(run, finalist) | {"input_shape": list(_dataset(run).input_shape)}
    write_atomic(out, weights_file(weights, card))


def _dataset(run: RunRecord) -> DatasetRecord:
    if run.dataset is None:
        raise InputError(f"{run.run_dir}: the run has not loaded its data yet")
    return run.dataset


def _metadata(run: RunRecord, finalist: FinalistRecord) -> dict[str, Any]:
    deployed, data = deployed_seed(finalist), _dataset(run)
    return {
        "nas_kd.candidate": {"id": finalist.id, **finalist.candidate.to_json()},
        "nas_kd.classes": list(data.classes),
        "nas_kd.preprocessing": _preprocessing(data),
        "nas_kd.accuracy": {
            "this_file": {"val": deployed.val_accuracy, "test": deployed.test_accuracy},
            "over_seeds": {"val": finalist.val.model_dump(), "test": finalist.test.model_dump()},
        },
    }


def _preprocessing(data: DatasetRecord) -> str:
    shape = ", ".join(map(str, data.input_shape))
    units = "pixels 0..255" if data.scale > 1 else "as in the training file"
    return f"none: feed float32 (batch, {shape}) in the data's own units ({units}); normalisation is in the graph"


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
        raise InputError(
            f"{run.run_dir}: no finalist yet; go on with `nas-kd search --run-dir {run.run_dir}` until it is finished"
        )
    if trial is not None:
        chosen = next((f for f in run.finalists if f.trial == trial), None)
        if chosen is None:
            trials = ", ".join(str(f.trial) for f in run.finalists)
            raise InputError(f"trial {trial} is not a finalist, its weights were not kept; finalists: trial {trials}")
        return chosen
    if budget.min_accuracy is not None and not run.decides_on_accuracy:
        raise InputError(f"min_accuracy asks for an accuracy, this run decides on {run.score_title}: give min_score")
    chosen = winner(run.finalists, budget)
    if chosen is None:
        raise BudgetError(f"no finalist meets the budget; closest: {describe_closest_finalists(run.finalists, budget)}")
    return chosen


def export_winner(
    run_dir: Path | str, out: Path | str, budget: Budget | None = None, *, trial: int | None = None
) -> FinalistRecord:
    """Write the best finalist under a budget, or a trial's, to an ONNX file with a card beside it; nothing is trained.

    Args:
        run_dir: folder of a run.
        out: the ONNX file to write.
        budget: limits of costs; None: the run's own.
        trial: this trial's candidate, whatever the budget.

    Returns:
        The record of the finalist that was written.

    Raises:
        InputError: the folder is not a run's, it has no finalist yet, or the trial is not a finalist's.
        BudgetError: no finalist is within the budget.

    Example:
        >>> import nas_kd
        >>> finalist = nas_kd.export_winner("runs/demo", "small.onnx", nas_kd.Budget(max_size_kb=50))
        >>> finalist.costs.size_bytes <= 50_000
        True
    """
    folder, out = RunFolder(Path(run_dir)), Path(out)
    run = read_run(folder)
    limits = load_config(folder.config).budget if budget is None else budget
    chosen = choose_finalist(run, limits, trial)
    write_file(folder, run, chosen, out, out.with_suffix(".json"))
    return chosen
