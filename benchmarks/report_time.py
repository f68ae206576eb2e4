"""Measures how long the report of a large run takes, and how large it is.

    PYTHONPATH=. python benchmarks/report_time.py [--trials 5000] [--out reports/report_time/result.json]

The run is synthetic (its figures are random); the report is written as for a real run. Claim: <= 15 s for 5,000
trials.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_kd.report import write_report
from nas_kd.serialization import write_atomic
from tests.report.synthetic import synthetic_run


def main() -> None:
    """Write the report five times; print the times and sizes, and save them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("reports/report_time/result.json"))
    arguments = parser.parse_args()
    run, seconds, size = synthetic_run(arguments.trials), [], 0
    with TemporaryDirectory() as folder:
        for _ in range(5):
            started = time.perf_counter()
            write_report(run, Path(folder))
            seconds.append(round(time.perf_counter() - started, 3))
        size = sum(p.stat().st_size for p in Path(folder).iterdir())
    print(f"{arguments.trials} trials: {sorted(seconds)} s, {size / 1e6:.2f} MB")
    write_atomic(arguments.out, json.dumps({"trials": arguments.trials, "seconds": seconds, "bytes": size}, indent=1))


if __name__ == "__main__":
    main()
