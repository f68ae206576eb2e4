"""What a finished run leaves: front.json, the winner's file and its card; and another winner under another budget."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import load_config
from nas_kd.context.run_folder import RunFolder
from nas_kd.errors import BudgetError, InputError
from nas_kd.export.onnx_export import get_opset, set_metadata
from nas_kd.results.fronts import describe_closest_finalists, front_document, winner
from nas_kd.results.records import DatasetRecord, FinalistRecord, RunRecord
from nas_kd.serialization import sha256, write_atomic
from nas_kd.store.store import Store


def write_results(folder: RunFolder, run: RunRecord) -> None:
    """Write front.json, and winner/ where something met the budget."""
    write_atomic(folder.front, json.dumps(front_document(run), indent=1, allow_nan=False))
    budget = load_config(folder.config).budget
    best = winner(run.finalists, budget)
    if best is not None:
        write_file(folder, run, best, folder.winner / "student.onnx", folder.winner / "card.json")


def write_file(folder: RunFolder, run: RunRecord, finalist: FinalistRecord, out: Path, card: Path) -> None:
    """Write a finalist's ONNX file with its metadata, and the card that repeats them."""
    deployed = next(s for s in finalist.seeds if s.seed == finalist.deployed_seed)
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
        "file": out.name,
        "sha256": sha256(onnx),
        "size_bytes": len(onnx),
        "size_bytes_without_metadata": len(stored),
        "opset": get_opset(stored),
        "notes": list(finalist.notes),
        "seed": deployed.seed,
        "parity": {"max_abs_difference": deployed.parity, "top1_agreement": deployed.agreement},
        "latency_ms": finalist.costs.latency_ms.model_dump() if finalist.costs.latency_ms else None,
        "memory_bytes": finalist.costs.memory_bytes,
        "macs": finalist.costs.macs,
        "device": run.device.model_dump(mode="json") if run.device else None,
        "versions": run.environment.get("versions", {}),
    }
    write_atomic(card, json.dumps(facts, indent=1, allow_nan=False))


def _metadata(run: RunRecord, finalist: FinalistRecord) -> dict[str, Any]:
    deployed = next(s for s in finalist.seeds if s.seed == finalist.deployed_seed)
    data = run.dataset
    if data is None:
        raise InputError(f"{run.run_dir}: the run has not loaded its data yet")
    return {
        "nas_kd.results.candidate": {"id": finalist.id, **finalist.candidate},
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


def export_winner(
    run_dir: Path, out: Path, budget: Mapping[str, float | None], trial: int | None = None
) -> FinalistRecord:
    """Write the best finalist under a budget (or one trial's) to `out`, with a card beside it; nothing is trained.

    Args:
        run_dir: a run's folder.
        out: the ONNX file to write.
        budget: options of the config's `[budget]`, such as `max_size_kb`; where all are missing, the run's own.
        trial: this trial's candidate, whatever the budget.

    Raises:
        InputError: no budget, not a run, no finalist yet, or the trial is not a finalist's.
        BudgetError: no finalist is within the budget.
    """
    given = {f"budget.{k}": v for k, v in budget.items() if v is not None}
    wanted = load_config(None, given).budget
    folder = RunFolder(run_dir)
    run = read_run(folder)
    if not run.finalists:
        raise InputError(
            f"{run_dir}: no finalist yet; go on with `nas-kd search --run-dir {run_dir}` until it is finished"
        )
    limits = wanted if given else load_config(folder.config).budget
    if trial is not None:
        chosen = next((f for f in run.finalists if f.trial == trial), None)
        if chosen is None:
            trials = ", ".join(str(f.trial) for f in run.finalists)
            raise InputError(f"trial {trial} is not a finalist, its weights were not kept; finalists: trial {trials}")
    else:
        chosen = winner(run.finalists, limits)
        if chosen is None:
            raise BudgetError(
                f"no finalist meets the budget; closest: {describe_closest_finalists(run.finalists, limits)}"
            )
    write_file(folder, run, chosen, out, out.with_suffix(".json"))
    return chosen
