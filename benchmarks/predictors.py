"""What predicts a student's accuracy: rungs with and without restarts, its size, or a look at it untrained.

    python benchmarks/predictors.py [CONFIG.toml] [--out reports/predictors] [--name digits] [--students 24]
        [--max-weights 30000] [--rungs 3,10] [--threads 1]

Random students of the config's space (default: digits, 30 epochs, batches of 64) are distilled in full by soft targets,
once with one long cosine and once with a warm restart at each rung. Kendall's tau with the final accuracy on
validation: of accuracy at each rung, of weights and multiply-adds, and of three similarities of the untrained student
to the teacher on 128 training samples, means over three initialisations: centred kernel alignment (Kornblith et al.
2019, arXiv:1905.00414) of embeddings and of last feature maps, and the distance of the logits' Gram matrices.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import machine_facts, markdown_table
from nas_kd.config.loading import load_config
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.recipe_rules import USUAL_EPOCHS
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.dataset import as_input
from nas_kd.engine.feature_extractor import FeatureExtractor, find_feature_points
from nas_kd.engine.numerics import training_threads
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.methods.base import Outputs
from nas_kd.nas.gate import Gate
from nas_kd.nas.supernet.architecture_sampler import ArchitectureSampler
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.intervals import kendall_tau
from nas_kd.serialization import write_atomic

SAMPLES, INITIALISATIONS = 128, 3
DIGITS: dict[str, Any] = {
    "data": {"source": "digits"},
    "distill": {"epochs": 30, "batch_size": 64, "methods": ["soft_targets"]},
}


def gram(x: Tensor) -> Tensor:
    """(B, ...) -> (B, B): centred cosine similarities of the samples."""
    rows = F.normalize(x.flatten(1), dim=1)
    centre = torch.eye(len(x)) - 1 / len(x)
    return centre @ (rows @ rows.T) @ centre


def alignment(a: Tensor, b: Tensor) -> float:
    """Of two Gram matrices: -1..1."""
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12))


@torch.no_grad()
def shown(model: nn.Module, x: Tensor) -> Outputs:
    """All that a network shows of a batch."""
    with FeatureExtractor(
        model, find_feature_points(model, x[:2]), frozenset({"features", "embedding", "logits"})
    ) as extractor:
        return extractor(x)


def untrained(distiller: Distiller, teacher: nn.Module, student: Architecture) -> list[float]:
    """How similar an untrained student is to the teacher in embedding, features and logits."""
    x = as_input(distiller.trainer.data.train.x[:SAMPLES])
    taught, sums = shown(teacher.eval(), x), np.zeros(3)
    for seed in range(INITIALISATIONS):
        said = shown(distiller.builder.build(student, seed).train(), x)
        distance = (F.normalize(gram(said.logits)) - F.normalize(gram(taught.logits))).norm()
        sums += [
            alignment(gram(said.embedding), gram(taught.embedding)),
            alignment(gram(said.features[-1]), gram(taught.features[-1])),
            -float(distance),
        ]
    return [float(s) for s in sums / INITIALISATIONS]


def measure(config: SearchConfig, students: int, max_weights: int, rungs: Sequence[int]) -> list[dict[str, float]]:
    """What is known of each student, by name; the two final accuracies last."""
    with TemporaryDirectory() as folder:
        context = RunContext.prepare(config, RunFolder(Path(folder)), Callback())
        builder = NetworkBuilder(context.data, context.space)
        teachers = [t.teacher for t in prepare_teachers(context, Gate(context, builder).of_file)]
        distiller, draws = Distiller.for_run(context, builder, teachers), ArchitectureSampler(context.space, 1)
        full = context.recipe.epochs
        rows: list[dict[str, float]] = []
        while len(rows) < students:
            student = draws.architecture(draws.random())
            if builder.parameters(student) > max_weights:
                continue
            candidate = Candidate(student, (), Recipe("soft_targets"))
            row: dict[str, float] = {}
            for name, restarts in (("one cosine", ()), ("restarts", tuple(rungs))):
                for until in (*rungs, full):
                    trained = distiller.distill(candidate, 0, full, until=until, restarts=restarts)
                    row[f"epoch {until}, {name}"] = trained.val_accuracy
            embedding, features, logits = untrained(distiller, teachers[0].model, student)
            row |= {"weights": builder.parameters(student), "multiply-adds": builder.macs(student)}
            row |= {"untrained: embedding": embedding, "untrained: feature map": features}
            rows.append(row | {"untrained: logits": logits})
            print(len(rows), {k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
        return rows


def taus(rows: Sequence[dict[str, float]], full: int) -> list[list[str]]:
    """A row for each predictor: tau with the final accuracy of either schedule."""
    trainer = [f"epoch {full}, {name}" for name in ("one cosine", "restarts")]
    table = []
    for name in rows[0]:
        found = [kendall_tau([r[name] for r in rows], [r[final] for r in rows]) for final in trainer]
        table.append([name, *("" if t is None else f"{t:.2f}" for t in found)])
    return table


def main() -> None:
    """Train the students, correlate the predictors and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("reports/predictors"))
    parser.add_argument("--name", default="digits")
    parser.add_argument("--students", type=int, default=24)
    parser.add_argument("--max-weights", type=int, default=30_000)
    parser.add_argument("--rungs", default="3,10")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    config = load_config(given.config) if given.config else SearchConfig.model_validate(DIGITS)
    rungs, full = [int(r) for r in given.rungs.split(",")], config.distill.epochs or USUAL_EPOCHS
    with training_threads(given.threads):
        rows = measure(config, given.students, given.max_weights, rungs)
    table = taus(rows, full)
    means = [np.mean([r[f"epoch {full}, {n}"] for r in rows]) for n in ("one cosine", "restarts")]
    facts = {"students": rows, "rungs": rungs, "epochs": full, "tau": table, "machine": machine_facts(given.threads)}
    write_atomic(given.out / f"{given.name}.json", json.dumps(facts, indent=1) + "\n")
    text = f"# What predicts a student's accuracy: {given.name}, {len(rows)} random students, {full} epochs\n\n"
    text += f"Mean final accuracy: {means[0]:.2%} with one cosine, {means[1]:.2%} with restarts at {given.rungs}. "
    text += "Kendall's tau with it:\n\n" + markdown_table(["predictor", "one cosine", "restarts"], table)
    write_atomic(given.out / f"{given.name}.md", text)
    print(text)


if __name__ == "__main__":
    main()
