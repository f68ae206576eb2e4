"""Export for other budgets than the one searched for: every finalist is trained already, so there is no new search.

Shows: `Run.export` under another budget, what happens if nothing meets it, and a finalist's weights.
Run:   python retarget_and_export.py RUN_DIR          of quick_start.py, say
Takes: 3 seconds of CPU.
"""

import sys

import nas_kd


def main() -> None:
    """Write a file for each of several devices."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = nas_kd.load_run(sys.argv[1])
    largest = max(finalist.costs.require_size() for finalist in run.finalists)
    devices = {
        "gateway": nas_kd.Budget(max_latency_ms=1.0),
        "camera": nas_kd.Budget(max_latency_ms=1.0, max_size_kb=(largest - 1) / 1000),
        "door_bell": nas_kd.Budget(max_size_kb=0.5),
    }
    for name, budget in devices.items():
        try:
            chosen = run.export(f"{name}.onnx", budget=budget)  # and its card, NAME.json
        except nas_kd.BudgetError as error:
            print(f"{name}: {error}")
        else:
            print(f"{name}: {chosen.description}, {chosen.costs.require_size() / 1000:.1f} kB")
    if run.winner is not None:
        run.winner.save_weights("winner.safetensors")  # for PyTorch


if __name__ == "__main__":
    main()
