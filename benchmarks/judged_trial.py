"""What a candidate of a finished search is worth on test that was no finalist: trained as these are, over three seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.judged_trial RUN --trial N --out FILE.json

Tells, for example, what a student of another size brings where validation is too small to tell sizes apart.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from nas_kd.commands.load_run import read_run
from nas_kd.config.loading import load_config
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.evaluation import evidence_of
from nas_kd.errors import InputError
from nas_kd.kd.choose_recipe import known_recipe, student_recipe_key
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import load_teachers
from nas_kd.serialization import write_atomic

SEEDS = (1, 2, 3)  # those of finalists


def judged(folder: RunFolder, number: int) -> dict[str, Any]:
    """Scores on test of a candidate, over the seeds, and of its teacher.

    Raises:
        InputError: the run has no such candidate, or has not chosen its recipe.
    """
    context = RunContext.prepare(load_config(folder.config), folder, Callback(), check_device=False)
    teachers = load_teachers(context)
    recipe = known_recipe(context, student_recipe_key(context, teachers))
    trial = next((trial for trial in read_run(folder).trials if trial.number == number), None)
    if recipe is None or trial is None or trial.costs is None:
        raise InputError(f"{folder.path} has no trial {number} that was measured, or is not finished")
    context = context.with_recipe(recipe.recipe)
    distiller = Distiller.for_run(context, NetworkBuilder.for_run(context), teachers)
    data, epochs = context.data, context.recipe.epochs
    networks = [distiller.distill(trial.candidate, seed, epochs).model for seed in SEEDS]
    shown = [evidence_of(network, data.test, data.task, context.numerics) for network in networks]
    taught = evidence_of(teachers[0].model, data.test, data.task, context.numerics)
    return {
        "trial": number,
        "student": trial.description,
        "size_bytes": trial.costs.size_bytes,
        "seeds": SEEDS,
        "scores": {
            score.name: {
                "student": score.over_seeds(shown).model_dump(),
                "each": [score.value(one) for one in shown],
                "teacher": score.of(taught).model_dump(),
            }
            for score in {s.name: s for s in (data.task.headline_score, context.score)}.values()
        },
    }


def main() -> int:
    """Judge a candidate and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("--trial", type=int, required=True, metavar="N")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    text = json.dumps(judged(RunFolder(given.run), given.trial), indent=1) + "\n"
    write_atomic(given.out, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
