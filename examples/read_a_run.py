"""Read finished runs: figures, fronts, a table of all trials, a picture; and compare several runs.

Shows: `nas_kd.load_run`, which changes nothing, and the objects that it returns.
Run:   python read_a_run.py RUN_DIR [RUN_DIR ...]     of quick_start.py, say
Takes: 4 seconds of CPU.
"""

import sys
from importlib.util import find_spec

import nas_kd


def show(run: nas_kd.Run) -> None:
    """Print what is in a run, and draw its front."""
    print(f"{run.name}: {run.state}, {len(run.trials)} trials, budget {run.budget.model_dump(exclude_none=True)}")
    for trial in run.trials:
        accuracy = "not trained" if trial.val_accuracy is None else f"validation accuracy {trial.val_accuracy:.1%}"
        print(f"  trial {trial.number}: {trial.status}, {trial.description}, {accuracy}")
    for finalist in run.front("latency"):
        latency = finalist.costs.require_latency()
        print(f"  on the front: {finalist.id}, {latency.p50:.4f} ms ({latency.low:.4f} to {latency.high:.4f})")
        for control in finalist.controls:
            print(f"    gain over {control.kind}: {control.gain.mean:+.1%}")
    if find_spec("pandas"):
        print(run.to_pandas().head())  # a row for each trial; also report/candidates.csv
    run.plot("latency").savefig(f"{run.name}.png")


def compare(runs: list[nas_kd.Run]) -> None:
    """Print a table of winners."""
    print(f"{'run':16} {'winner':12} {'test':>7} {'size':>9} {'latency':>10}")
    for run in runs:
        if (winner := run.winner) is None:
            print(f"{run.name:16} none")
            continue
        size, latency = winner.costs.require_size() / 1000, winner.costs.require_latency().p50 * 1000
        print(f"{run.name:16} {winner.id} {winner.test.mean:7.1%} {size:6.1f} kB {latency:7.1f} us")


def main() -> None:
    """Show every run that is named, and compare them."""
    runs = [nas_kd.load_run(folder) for folder in sys.argv[1:]]
    if not runs:
        sys.exit(__doc__)
    for run in runs:
        show(run)
    compare(runs)


if __name__ == "__main__":
    main()
