"""What a search costs: nas-kd against a plain Optuna script, its levers one by one, and samplers without rungs.

    python benchmarks/search_cost.py --case digits|mnist|cifar10 [--data DIR] [--out reports/search_cost] [--seeds 0,1]
        [--trials 40] [--rows N] [--epochs N] [--max-latency-ms X] [--max-size-kb X] [--workers 2] [--script-threads N]
        [--judge-seeds 100,101] [--ablation | --samplers] [--arm NAME:section.key=value,...] [--minutes 4]
        [--report-only]

For each seed: the script (`plain_optuna.py`), then a search through the command line for as long as the script took,
then the judge, one after the other; nothing else should run beside. Both start as fresh processes, and their clocks
with them: imports, loading of data and everything else is in the figures, but for the teacher, which is trained once
before and read from a file by both. Each leaves OUT/runs/CASE.SEED.ARM.json; what is there is not done again. OUT/work
is ignored by git. `--ablation`: instead, searches of equal time with all levers and with one off; `--arm` adds one of
your own. `--samplers`: instead, searches with rungs against samplers without, compared after equal training seconds.
"""

import argparse
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

from filelock import Timeout

from benchmarks.common import numbers
from benchmarks.runs import lock_of
from benchmarks.search_cost_cases import CASES, LIVE
from benchmarks.search_cost_report import write_report
from benchmarks.search_cost_runs import Overrides, Place, do, run_judge, run_script, run_search
from nas_kd.errors import InputError
from nas_kd.serialization import write_atomic

UNLIMITED = 1e9
MEMBERS = 60  # of an elastic network's parts: about as many as there is time to train
ABLATION: dict[str, Overrides] = {
    "all_levers": {},
    "fp32": {"engine.precision": "fp32"},
    "one_rung": {"search.rungs": 1},
    "one_worker": {"search.workers": 1},
    "random_sampler": {"search.sampler": "random"},
    "live_teacher": {"distill.methods": f'["{LIVE}"]'},
    "once_for_all": {"search.strategy": "once-for-all"},
    "no_gate": {"budget.max_latency_ms": UNLIMITED, "budget.max_size_kb": UNLIMITED},
}
SAMPLERS: dict[str, Overrides] = {
    "trials": {},
    "tpe_with_rungs": {"search.sampler": "tpe"},
    "random": {"search.rungs": 1, "search.sampler": "random"},
    "tpe": {"search.rungs": 1, "search.sampler": "tpe"},
    "nsga2": {"search.rungs": 1, "search.sampler": "nsga2"},
    "once_for_all": {"search.strategy": "once-for-all", "search.once_for_all.members": MEMBERS},
}
LONGER = {  # who trains during less of its time: let it reach the same training seconds
    "random": 1.25,
    "tpe": 1.25,
    "nsga2": 1.25,
    "once_for_all": 2.25,  # its elastic network is trained by one process
}


def race(place: Place, seed: int) -> bool:
    """The script, our search, the judge; whether all went well."""
    if not do(place, seed, "plain", partial(run_script, place, seed)):
        return False
    minutes = place.result(seed, "plain")["trials"][-1]["elapsed_s"] / 60
    good = do(place, seed, "ours", partial(run_search, place, seed, "ours", minutes, {}))
    return good and do(place, seed, "judged", partial(run_judge, place, seed))


def ablate(place: Place, seed: int, arms: Mapping[str, Overrides], minutes: float) -> bool:
    """Our search, and the same with each lever off, all for the same time; whether all went well."""
    good = True
    for name, overrides in arms.items():
        arm = f"arm_{name}"
        good &= do(place, seed, arm, partial(run_search, place, seed, arm, minutes, overrides))
    return good


def sample(place: Place, seed: int, minutes: float) -> bool:
    """Our search with rungs, samplers without, and an elastic network; whether all went well."""
    good = True
    for name, overrides in SAMPLERS.items():
        arm, limit = f"sampler_{name}", minutes * LONGER.get(name, 1)
        good &= do(place, seed, arm, partial(run_search, place, seed, arm, limit, overrides))
    return good


def arm_of(text: str) -> tuple[str, Overrides]:
    """`inherit:search.inherit=false` -> ("inherit", {"search.inherit": "false"}).

    Raises:
        ValueError: anything else.
    """
    name, colon, settings = text.partition(":")
    pairs = [pair.partition("=") for pair in settings.split(",")]
    if not colon or not name.isidentifier() or not all(key and equals for key, equals, _ in pairs):
        raise ValueError(text)
    return name, {key: value for key, _, value in pairs}


def arguments() -> argparse.Namespace:
    """Parse the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--data", type=Path, help="folder of the parquet files; digits need none")
    parser.add_argument("--out", type=Path, default=Path("reports/search_cost"))
    parser.add_argument("--seeds", type=numbers, default=(0,), metavar="0,1,...")
    parser.add_argument("--trials", type=int, help="of the script")
    parser.add_argument("--rows", type=int, help="of the training file")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--teacher-epochs", type=int)
    parser.add_argument("--max-latency-ms", type=float)
    parser.add_argument("--max-size-kb", type=float)
    parser.add_argument("--script-threads", type=int, help="default: 1 on digits, elsewhere torch's own")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--judge-seeds", type=numbers, default=(100, 101), metavar="100,101,...")
    parser.add_argument("--arm", type=arm_of, action="append", default=[], metavar="NAME:section.key=value,...")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--ablation", action="store_true")
    instead.add_argument("--samplers", action="store_true")
    parser.add_argument("--minutes", type=float, default=4.0, help="of each search of --ablation or --samplers")
    parser.add_argument("--report-only", action="store_true")
    given = parser.parse_args()
    if given.arm and not given.ablation:
        parser.error("--arm is one of --ablation")
    return given


def place_of(given: argparse.Namespace) -> Place:
    """The case as asked for.

    Raises:
        InputError: the data folder is missing, or a number makes no sense.
    """
    if given.case != "digits" and (given.data is None or not given.data.is_dir()) and not given.report_only:
        raise InputError(f"--case {given.case} needs --data, the folder of {given.case}-train.parquet")
    names = ("trials", "rows", "epochs", "teacher_epochs", "max_latency_ms", "max_size_kb", "script_threads")
    changes = {name: getattr(given, name) for name in names}
    for name, value in {**changes, "workers": given.workers, "minutes": given.minutes}.items():
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be > 0, got {value:g}")
    return Place(CASES[given.case].changed(**changes), given.data, given.out, given.workers, given.judge_seeds)


def run_all(given: argparse.Namespace, place: Place) -> bool:
    """What is missing of all seeds; whether all went well."""
    place.work.mkdir(parents=True, exist_ok=True)
    write_atomic(place.work / ".gitignore", "*\n")
    arms = ABLATION | dict(given.arm)
    if given.case == "digits":
        arms.pop("fp32")  # images so small are trained in fp32 anyway
    good = True
    for seed in given.seeds:
        if given.samplers:
            good &= sample(place, seed, given.minutes)
        elif given.ablation:
            good &= ablate(place, seed, arms, given.minutes)
        else:
            good &= race(place, seed)
        write_report(place.out)
    return good


def main() -> int:
    """Run what is missing, then report on all there is."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child is ended too
    try:
        place, good = place_of(given), True
        if not given.report_only:
            with lock_of(given.out / "work", "machine").acquire(timeout=0):  # beside another run times mean nothing
                good = run_all(given, place)
        write_report(given.out)
    except (InputError, Timeout) as error:
        description = "another process is at it" if isinstance(error, Timeout) else error
        print(f"search_cost.py: {description}", file=sys.stderr)
        return 2
    print(f"wrote {given.out}/report.md")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
