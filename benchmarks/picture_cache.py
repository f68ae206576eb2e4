"""How long a folder of photographs takes to load once it was decoded, and how much memory it takes then.

    python -m benchmarks.picture_cache [--pictures 50000] [--side 224] [--folder DIR] [--out FILE.json]

Makes different JPEGs of mixed sides, decodes them into a cache in a first process, and loads them in three further
ones as a run does (`RunContext.prepare`). The last also shows a student augmented training batches, judges it on 2,000
validation samples and reads calibration samples: all that reads pictures. Claim: start-up <= 5 s after the first
decode, and <= 2 GiB of memory beyond the model.

Memory is what a process has of its own (`RssAnon` in /proc/self/status, read every 20 ms): pages of the mapped file
are the system's cache of files, which it takes back when it likes; they stand beside (`RssFile`). Start-up is timed
from the start of the process, so that importing torch counts; seconds of the processor stand beside, for machines that
are busy.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
from PIL import Image

from nas_kd.serialization import write_atomic

N_CLASSES = 10
SIDES = (1.1, 1.9)  # of the pictures, as multiples of the samples' side
PER_TASK = 500
SAMPLE_EVERY_S = 0.02
STEPS, BATCH, JUDGED = 12, 64, 2000


def make_pictures(task: tuple[Path, range, int]) -> None:
    """Write pictures of these numbers: soft random blobs, each of sides of its own."""
    folder, numbers, side = task
    for number in numbers:
        random = np.random.default_rng(number)
        width, height = (int(side) for side in side * random.uniform(*SIDES, 2))
        blobs = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
        path = folder / f"class_{number % N_CLASSES}" / f"{number:06}.jpg"
        blobs.save(path, "JPEG", quality=85)


def make_folder(folder: Path, count: int, side: int) -> None:
    """Write `count` pictures, evenly in classes."""
    for c in range(N_CLASSES):
        (folder / f"class_{c}").mkdir(parents=True)
    tasks = [(folder, range(start, min(start + PER_TASK, count)), side) for start in range(0, count, PER_TASK)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(make_pictures, tasks))


class MemoryWatch:
    """The largest sizes of this process while it runs, in bytes: its own memory, and mapped files."""

    def __init__(self) -> None:
        self.largest = {"RssAnon": 0, "RssFile": 0}
        self._done = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self.look()

    def look(self) -> dict[str, int]:
        """Read the sizes of now."""
        lines = Path("/proc/self/status").read_text().splitlines()
        now = {name: int(line.split()[1]) * 1024 for line in lines if (name := line.split(":")[0]) in self.largest}
        self.largest = {name: max(size, self.largest[name]) for name, size in now.items()}
        return now

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.look()


def load(folder: Path, cache: Path, side: int, *, read: bool) -> dict[str, Any]:
    """Load as a run does, in this process, and perhaps read pictures; returns times and memory."""
    from nas_kd.config.options import SearchConfig  # noqa: PLC0415 (importing is a part of what is timed)
    from nas_kd.context.callbacks import Callback  # noqa: PLC0415
    from nas_kd.context.run_context import RunContext, dataset_record  # noqa: PLC0415
    from nas_kd.context.run_folder import RunFolder  # noqa: PLC0415

    began = psutil.Process().create_time()
    data = {"source": "image_folder", "path": folder, "cache": cache, "image_size": side}
    config = SearchConfig.model_validate(
        {
            "data": data,
            "space": {"name": "resnet"},
            "distill": {"batch_size": BATCH, "probe_minutes": 0},
            "engine": {"threads": 1},
        }
    )
    with TemporaryDirectory() as place, MemoryWatch() as watch:
        imported = watch.look()["RssAnon"]
        times = {"imported_s": time.time() - began, "imported_cpu_s": time.process_time()}
        context = RunContext.prepare(config, RunFolder(Path(place)), Callback(), check_device=False)
        record = dataset_record(context.data)
        times |= {"loaded_s": time.time() - began, "loaded_cpu_s": time.process_time()}
        loaded = dict(watch.largest)
        if read:
            read_pictures(context)
            times["read_s"] = time.time() - began
    return {
        **{name: round(seconds, 2) for name, seconds in times.items()},
        "key": record.key,
        "samples": [record.n_train, record.n_val, record.n_test],
        "own_bytes_imported": imported,
        "own_bytes_loaded": loaded["RssAnon"],
        "own_bytes_peak": watch.largest["RssAnon"],
        "mapped_bytes_peak": watch.largest["RssFile"],
    }


def read_pictures(context: Any) -> None:
    """Show the space's smallest student some batches, judge it, and read what int8 is calibrated on."""
    import torch  # noqa: PLC0415

    from nas_kd.data.dataset import Split  # noqa: PLC0415
    from nas_kd.engine.batch_source import Order  # noqa: PLC0415
    from nas_kd.engine.evaluation import accuracy_of  # noqa: PLC0415
    from nas_kd.kd.distiller import Distiller  # noqa: PLC0415
    from nas_kd.kd.network_builder import NetworkBuilder  # noqa: PLC0415

    distiller = Distiller.for_run(context, NetworkBuilder(context.data, context.space))
    training = distiller.untrained("none", context.space.size_ladder(5)[0])
    samples = training.setup.source.epoch(0, BATCH, Order(training.method, 0))
    with torch.no_grad():
        for step in range(STEPS):
            training.student(context.numerics.to_layout(samples(step).x))
    val = context.data.val
    accuracy_of(training.student, Split(val.x[:JUDGED], val.y[:JUDGED]), context.numerics)
    context.data.train.x[torch.randperm(len(context.data.train))[: context.config.quantization.samples]]


def in_new_process(folder: Path, cache: Path, side: int, *, read: bool) -> dict[str, Any]:
    """`load` in a process of its own."""
    arguments = [str(folder), str(cache), str(side), str(int(read))]
    command = [sys.executable, "-m", "benchmarks.picture_cache", "--load", *arguments]
    result: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return result


def measure(place: Path, count: int, side: int) -> dict[str, Any]:
    """Make pictures, decode them, and load them again."""
    from benchmarks.common import machine_facts  # noqa: PLC0415

    pictures, cache = place / "pictures", place / "cache"
    started = time.perf_counter()
    make_folder(pictures, count, side)
    made_s = time.perf_counter() - started
    time.sleep(3)  # files that were written a moment ago would be read again
    first = in_new_process(pictures, cache, side, read=False)
    later = [in_new_process(pictures, cache, side, read=read) for read in (False, False, True)]
    if {run["key"] for run in later} != {first["key"]}:
        raise RuntimeError("the data have another key after the first decoding")
    return {
        "pictures": count,
        "side": side,
        "jpeg_bytes": sum(path.stat().st_size for path in pictures.rglob("*.jpg")),
        "cache_bytes": sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()),
        "made_s": round(made_s, 1),
        "first": first,
        "later": later,
        "machine": machine_facts(1),
    }


def main() -> None:
    """Measure, print, and save as JSON; the pictures are removed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--folder", type=Path, default=Path("picture-cache-benchmark"))
    parser.add_argument("--out", type=Path, default=Path("reports/picture_cache/result.json"))
    parser.add_argument("--load", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        folder, cache, side, read = given.load
        print(json.dumps(load(Path(folder), Path(cache), int(side), read=bool(int(read)))))
        return
    given.folder.mkdir(parents=True)
    try:
        result = measure(given.folder.resolve(), given.pictures, given.side)
    finally:
        shutil.rmtree(given.folder)
    print(json.dumps(result, indent=1))
    write_atomic(given.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
