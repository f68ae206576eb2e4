"""What a precision costs in accuracy, and brings in size and speed, beside fp32.

    python benchmarks/precision.py --data DIR [--out reports/precision] [--parts accuracy,speed] [--rows 10000]
        [--epochs 16] [--teacher-epochs 24] [--seeds 0,1,2] [--spaces resnet,mobilenet] [--places 1,3]
    python benchmarks/precision.py --report-only [--out reports/precision]

What is done stands at the head of the report (`precision_report.py`). Each part leaves OUT/PART.json: the one of
accuracy may be made on a busy machine, the one of speed should not. Trainings lie in OUT/work and are not done again;
timings are.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is all that Python adds

import torch

from benchmarks.common import machine_facts, numbers
from benchmarks.precision_report import PRECISIONS, TIMED, write_report
from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.run_context import RunContext
from nas_kd.context.run_folder import RunFolder
from nas_kd.engine.numerics import training_threads
from nas_kd.errors import InputError, TrialError
from nas_kd.export.verify import accuracy
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.kd.teachers import prepare_teachers
from nas_kd.nas.gate import Gate
from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.serialization import write_atomic

LADDER = 8
CALIBRATIONS: dict[str, dict[str, Any]] = {  # options of [quantization], beside its defaults
    "percentile": {"calibration": "percentile"},
    "entropy": {"calibration": "entropy"},
    "16 samples": {"samples": 16},
    "1 sample": {"samples": 1},
}
REPEATS = 5  # measurements of each file whose speed is compared, by turns


@dataclass(frozen=True)
class Settings:
    """What all figures have in common."""

    rows: int
    epochs: int
    teacher_epochs: int
    seeds: tuple[int, ...]
    spaces: tuple[str, ...]
    places: tuple[int, ...]

    def config(self, space: str, data: Path) -> SearchConfig:
        """Of a search in that space; the teacher is the same in all."""
        return SearchConfig.model_validate(
            {
                "data": {
                    "source": "parquet",
                    "train": data / "cifar10-train.parquet",
                    "test": data / "cifar10-test.parquet",
                    "train_rows": self.rows,
                },
                "teacher": {"space": "resnet", "epochs": self.teacher_epochs},
                "space": {"name": space},
                "distill": {"epochs": self.epochs, "batch_size": 64, "methods": ["soft_targets"], "probe_minutes": 0},
                "search": {"precisions": list(PRECISIONS)},
                "store": {"max_gb": 20},
            }
        )


@contextmanager
def engine(config: SearchConfig, work: Path) -> Iterator[tuple[RunContext, NetworkBuilder]]:
    """What a search in that space works with; its store stays in `work`."""
    context = RunContext.prepare(config, RunFolder(work), Callback())
    with training_threads(context.threads):
        yield context, NetworkBuilder(context.data, context.space)


def accuracies(settings: Settings, data: Path, work: Path) -> dict[str, Any]:
    """Of every student in every precision."""
    students, samples = [], 0
    for space in settings.spaces:
        with engine(settings.config(space, data), work) as (context, builder):
            teachers = [ready.teacher for ready in prepare_teachers(context, Gate(context, builder).of_file)]
            distiller, samples = Distiller.for_run(context, builder, teachers), len(context.data.test)
            ladder = context.space.size_ladder(LADDER)
            for place in settings.places:
                student = judge(context, distiller, ladder[place], settings.seeds, settings.epochs)
                students.append({"space": space, "place": place, **student})
    return {"settings": asdict(settings), "test_samples": samples, "students": students}


def speeds(settings: Settings, data: Path, work: Path) -> dict[str, Any]:
    """Of every network of every ladder."""
    ladders = {}
    for space in settings.spaces:
        with engine(settings.config(space, data), work) as (context, builder):
            ladders[space] = time_ladder(context, builder)
    return {"repeats": REPEATS, "ladders": ladders}


def judge(
    context: RunContext, distiller: Distiller, student: Architecture, seeds: Sequence[int], epochs: int
) -> dict[str, Any]:
    """Accuracy of a student's files over seeds, and the size of the first seed's."""
    files, test = ArtifactBuilder.for_run(context), context.data.test
    found: dict[str, Any] = {
        "description": distiller.builder.description(student),
        "parameters": distiller.builder.parameters(student),
    }
    for precision in PRECISIONS:
        candidate = Candidate(student, (), Recipe("soft_targets"), precision)
        trained = [distiller.distill(candidate, seed, epochs) for seed in seeds]
        made = [files.verified_file(t, precision) for t in trained]
        if precision == "int8":
            found["calibrations"] = {
                name: [accuracy(other.verified_file(t, precision).onnx, test) for t in trained]
                for name, other in calibrated(context).items()
            }
        found[precision] = {
            "test": [accuracy(file.onnx, test) for file in made],
            "size_bytes": len(made[0].onnx),
            "agreement": min(file.agreement for file in made),
        }
        print(f"{found['description']}, {precision}: {fmean(found[precision]['test']):.2%}", flush=True)
    return found


def calibrated(context: RunContext) -> dict[str, ArtifactBuilder]:
    """Files whose ranges of activations are found in other ways than the default one."""
    config = context.config
    options = {name: config.quantization.model_copy(update=changes) for name, changes in CALIBRATIONS.items()}
    return {
        name: ArtifactBuilder.for_run(replace(context, config=config.model_copy(update={"quantization": chosen})))
        for name, chosen in options.items()
    }


def time_ladder(context: RunContext, builder: NetworkBuilder) -> list[dict[str, Any]]:
    """Bytes and latencies (ms) of every network of the ladder, each file `REPEATS` times, by turns."""
    files, rows = ArtifactBuilder.for_run(context), []
    for architecture in context.space.size_ladder(LADDER):
        untrained = [builder.build(architecture, 0)]
        contents = {precision: files.untrained_file(untrained, precision).content for precision in TIMED}
        times: dict[str, list[float]] = {precision: [] for precision in TIMED}
        for _ in range(REPEATS):
            for precision, content in contents.items():
                times[precision].append(context.device.measure(content, context.batch_size).p50)
        macs = builder.macs(architecture)
        sizes = {precision: len(content) for precision, content in contents.items()}
        rows.append({"parameters": builder.parameters(architecture), "macs": macs, "bytes": sizes, "ms": times})
        print(f"{macs:,} multiply-adds: " + ", ".join(f"{p} {median(times[p]):.4g} ms" for p in TIMED), flush=True)
    return rows


PARTS: dict[str, Callable[[Settings, Path, Path], dict[str, Any]]] = {"accuracy": accuracies, "speed": speeds}


def names(text: str) -> tuple[str, ...]:
    """Split a list such as `a,b` at its commas."""
    return tuple(text.split(","))


def main() -> int:
    """Distil and judge, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="folder of cifar10-train.parquet and -test.parquet")
    parser.add_argument("--out", type=Path, default=Path("reports/precision"))
    parser.add_argument("--parts", type=names, default=tuple(PARTS), help=" and ".join(PARTS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--teacher-epochs", type=int, default=24)
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2))
    parser.add_argument("--spaces", type=names, default=("resnet", "mobilenet"))
    parser.add_argument("--places", type=numbers, default=(1, 3), help=f"on each ladder of {LADDER}; 0: the smallest")
    parser.add_argument("--report-only", action="store_true", help="write the report of what is in OUT/*.json")
    given = parser.parse_args()
    if given.data is None and not given.report_only:
        parser.error("--data is missing")
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"--parts: {', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    settings = Settings(given.rows, given.epochs, given.teacher_epochs, given.seeds, given.spaces, given.places)
    try:
        for part in () if given.report_only else given.parts:
            work: Path = given.out / "work"
            work.mkdir(parents=True, exist_ok=True)
            write_atomic(work / ".gitignore", "*\n")
            found = PARTS[part](settings, given.data, work) | {"machine": machine_facts(torch.get_num_threads())}
            write_atomic(given.out / f"{part}.json", json.dumps(found, indent=1) + "\n")
        write_report(given.out)
    except (InputError, TrialError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
