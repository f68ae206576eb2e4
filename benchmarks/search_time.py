"""How good `nas-kd profile`'s estimate of a search's time is: the estimate, then the search, on the clock.

    python -m benchmarks.search_time CONFIG... [--out reports/search_time/result.json]

Each config is profiled and then searched in a folder that is removed afterwards. The time should lie in the
range.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nas_kd.api.functions import read_config
from nas_kd.commands.profile import profile_space
from nas_kd.commands.search import search
from nas_kd.serialization import write_atomic

SAMPLE = 20


def compared(path: Path, sample: int) -> dict[str, Any]:
    """Seconds expected of the search of one config, and taken; also by parts, which the run counts in other ways."""
    config = read_config(path)
    expected = profile_space(config, sample).time
    if expected is None:
        raise SystemExit(f"{path}: nothing that was measured is within the budget")
    with TemporaryDirectory() as folder:
        started = time.monotonic()
        run = search(config, Path(folder) / "run")
        seconds = time.monotonic() - started
    return {
        "config": path.name,
        "expected_s": [round(expected.low_s, 1), round(expected.high_s, 1)],
        "taken_s": round(seconds, 1),
        "met": expected.low_s <= seconds <= expected.high_s,
        "parts_expected_s": {name: [round(s, 1) for s in span] for name, span in expected.parts.items()},
        "parts_taken_s": {name: round(s, 1) for name, s in run.seconds.items()},
    }


def main() -> None:
    """Compare the searches, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("configs", type=Path, nargs="+")
    parser.add_argument("--sample", type=int, default=SAMPLE)
    parser.add_argument("--out", type=Path, default=Path("reports/search_time/result.json"))
    arguments = parser.parse_args()
    results = []
    for path in arguments.configs:
        results.append(compared(path, arguments.sample))
        low, high = results[-1]["expected_s"]
        print(f"{path.name}: expected {low:.0f} to {high:.0f} s, taken {results[-1]['taken_s']:.0f} s", flush=True)
        write_atomic(arguments.out, json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
