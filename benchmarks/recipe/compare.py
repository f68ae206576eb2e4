"""The automatic recipe beside the defaults of before and the grid's best, on every case: three students, three seeds.

    python -m benchmarks.recipe.compare --data-dir DATA [--cases digits,crop] [--report-only]

The grid (`benchmarks.recipe.grid`) comes first. The probe is the one of a search of 20 trials with the case's epochs,
on the middle student, and on the small one for its augmentation. Results are lines in OUT/trainings/CASE.jsonl, as the
grid's; OUT/report.md has the tables.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import filelock

from benchmarks.common import markdown_table
from benchmarks.recipe.cases import CASES, Case
from benchmarks.recipe.grid import METHOD, OUT, CaseRuns, Run
from nas_kd.config.options import SearchConfig
from nas_kd.engine.numerics import training_threads
from nas_kd.kd.choose_recipe import ProbeBudget, choose_recipe, student_recipe_key
from nas_kd.kd.training_work import TrainingWork
from nas_kd.nas.search_plan import SearchPlan, probe_epochs
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.training_recipe import TrainingRecipe
from nas_kd.serialization import write_atomic

SEEDS = (1, 2, 3)  # none of them has a part in choosing the grid's best settings but by their validation accuracy
MORE_SEEDS, FEW_TEST_SAMPLES = (4, 5, 6), 1000  # for the middle student, where one test sample is a tenth of a point
TRIALS = 20
SIZES = ("small", "middle", "large")
ARMS = {"auto": "automatic", "defaults": "defaults of before", "grid0": "grid's best", "grid1": "grid's second"}


def defaults_of_before(epochs: int) -> TrainingRecipe:
    """What every training used before recipes were fitted to the data."""
    return TrainingRecipe(epochs, 128, "sgd", 0.1, 5e-4, "standard")


def automatic(runs: CaseRuns) -> RecipeRecord:
    """The recipe of a search on this case."""
    context, teacher = runs.context, runs.teacher
    search = SearchConfig.model_validate({"search": {"trials": TRIALS}})
    plan = SearchPlan.of(search, context.recipe.epochs, context.steps_per_epoch)
    started = time.perf_counter()
    record = choose_recipe(
        context,
        runs.builder,
        [teacher],
        key=student_recipe_key(context, [teacher]),
        network=lambda: runs.architecture("middle"),
        method=METHOD,
        budget=ProbeBudget(probe_epochs(plan, 1)),
        small=lambda: runs.architecture("small"),
    )
    wall_s = round(time.perf_counter() - started, 2)
    planned = plan.epochs(TRIALS)[0]
    runs.write(
        {"key": "automatic", "record": record.model_dump(mode="json"), "wall_s": wall_s, "planned_epochs": planned}
    )
    return record


def arms_of(runs: CaseRuns, record: RecipeRecord, size: str) -> dict[str, TrainingRecipe]:
    """The recipes that are compared on a student."""
    best, weights = runs.halve(), runs.builder.parameters(runs.architecture(size))
    changes = {} if record.small is None else record.small.changes(weights)
    return {
        "auto": record.recipe.with_choices(changes),
        "defaults": defaults_of_before(runs.case.epochs),
        "grid0": best[0],
        "grid1": best[1],
    }


def figures(runs: CaseRuns, sizes: Sequence[str]) -> dict[str, Any]:
    """Test accuracies by student and arm; a training is shared by all arms with its recipe."""
    record, epochs, teacher = automatic(runs), runs.case.epochs, runs.done["teacher"]["test"]
    found: dict[str, Any] = {"recipes": {}, "test": {}}
    for size in sizes:
        arms = arms_of(runs, record, size)
        found["recipes"][size] = {arm: recipe.to_json() for arm, recipe in arms.items()}
        for arm, recipe in arms.items():
            more = size == "middle" and len(runs.context.data.test) < FEW_TEST_SAMPLES
            seeds = SEEDS + (MORE_SEEDS if more else ())
            rows = [runs.train(Run(size, recipe, epochs, seed)) for seed in seeds]
            found["test"].setdefault(size, {"teacher": teacher})[arm] = [r["test"] for r in rows]
    spent, small = float(record.epochs_spent), record.small
    if small is not None:
        work = TrainingWork(runs.builder, record.recipe.batch_size)
        of_small, of_middle = (work.macs(runs.architecture(size)) for size in ("small", "middle"))
        spent += small.choice.epochs_spent * of_small / of_middle
    found["probe"] = {
        "origin": record.origin,
        "settings": len(record.settings) + (0 if small is None else len(small.choice.settings)),
        "epochs": round(spent, 1),
        "share": spent / (1.5 * runs.done["automatic"]["planned_epochs"]),
        "wall_s": runs.done["automatic"]["wall_s"],
    }
    return found


def report(results: dict[str, dict[str, Any]]) -> str:
    """The tables, cases that recipes were fitted on and those held out apart."""
    parts = []
    for title, held_out in (("Cases that the rules were fitted on", False), ("Cases held out to the end", True)):
        names = [n for n in results if CASES[n].held_out == held_out]
        if names:
            parts += [f"## {title}", _table(names, results), _gaps(names, results)]
    recipes = [[n, *_recipes(results[n]["recipes"])] for n in results]
    parts += ["## Recipes", markdown_table(["case", "automatic", "of the small student", "grid's best"], recipes)]
    probes = [
        [n, p["origin"], str(p["settings"]), str(p["epochs"]), f"{100 * p['share']:.1f} %"]
        for n, p in ((n, results[n]["probe"]) for n in results)
    ]
    parts.append(
        "## What the probe cost\n\nEpochs of all its trainings together, in those of the middle student, and their "
        "share of a search of 20 trials.\n"
    )
    parts.append(markdown_table(["case", "chosen by", "settings", "epochs", "of the search"], probes))
    return "\n".join(parts)


def _table(names: Sequence[str], results: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name in names:
        test = results[name]["test"]
        for size in (s for s in SIZES if s in test):
            found = [fmean(test[size][arm]) for arm in ARMS] + [test[size]["teacher"]]
            rows.append([name, size, *(f"{100 * share:.1f}" for share in found)])
    return markdown_table(["case", "student", *ARMS.values(), "teacher"], rows)


def gap(result: dict[str, Any], size: str, arm: str = "auto") -> float:
    """Points of test accuracy that an arm is ahead of the grid's best."""
    test = result["test"][size]
    return 100 * (fmean(test[arm]) - fmean(test["grid0"]))


def _gaps(names: Sequence[str], results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for size in SIZES:
        there = [n for n in names if size in results[n]["test"]]
        if there:
            gaps = {n: gap(results[n], size) for n in there}
            worst = min(gaps, key=gaps.__getitem__)
            before = fmean(gap(results[n], size, "defaults") for n in there)
            lines.append(
                f"- {size} student: automatic minus the grid's best {fmean(gaps.values()):+.2f} points on average, "
                f"worst {gaps[worst]:+.2f} ({worst}); defaults of before {before:+.2f}."
            )
    return "\n".join(lines) + "\n"


def _recipes(of_case: dict[str, Any]) -> list[str]:
    """The automatic recipe, what is another for the small student, and the grid's best."""
    usual = of_case["middle"]["auto"]
    small = of_case.get("small", of_case["middle"])["auto"]
    return [_words(usual), "the same" if small == usual else _words(small), _words(of_case["middle"]["grid0"])]


def _words(recipe: dict[str, Any]) -> str:
    return f"batch {recipe['batch_size']}, {recipe['optimizer']} {recipe['learning_rate']:g}, {recipe['augment']}"


def result_of(case: Case, data_dir: Path | None, out: Path, sizes: Sequence[str]) -> None:
    """Do what is missing of one case, and write its result; students that are not asked for keep theirs."""
    found = figures(CaseRuns(case, data_dir, out), sizes)
    path = out / "results" / f"{case.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        before = json.loads(path.read_text())
        found |= {part: before[part] | found[part] for part in ("recipes", "test")}
    write_atomic(path, json.dumps(found, indent=1) + "\n")


def main() -> int:
    """Run the cases that no other process runs, and write the report of what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    (given.out / "work").mkdir(parents=True, exist_ok=True)
    for name in [] if given.report_only else given.cases.split(","):
        lock = filelock.FileLock(given.out / "work" / f"{name}.lock")
        with suppress(filelock.Timeout), lock.acquire(blocking=False), training_threads(given.threads):
            result_of(CASES[name], given.data_dir, given.out, given.sizes.split(","))
            print(name, "done", flush=True)
    paths = {n: given.out / "results" / f"{n}.json" for n in CASES}
    results = {n: json.loads(p.read_text()) for n, p in paths.items() if p.exists()}
    (given.out / "report.md").write_text(f"# {(__doc__ or '').splitlines()[0]}\n\n{report(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
