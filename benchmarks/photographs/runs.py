"""Contestants of the photographs: each run is a process, judged by its exported file, and a line of results."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w
from safetensors.torch import load_file
from torch import nn

from benchmarks.kept_teachers import check_same_teacher, fingerprint_of, kept
from benchmarks.photographs.pictures import SIDE, TEST, VAL, Pictures, Sizes, load_pictures, split_folders
from benchmarks.photographs.teacher import fine_tuned, network
from benchmarks.runs import append_result, lock_of, results_in
from nas_kd.data.dataset import Split
from nas_kd.errors import TrialError
from nas_kd.export.onnx_classifier import accuracy
from nas_kd.export.onnx_export import export_onnx
from nas_kd.latency.device import open_device

Run = Callable[[Path], tuple[Path, dict[str, Any]]]
ROOT = Path(__file__).resolve().parents[2]
SEARCH, SCRIPT, DISTILL = "search", "script", "distill"
NO_WINNER = 3  # exit status
MAX_LATENCY_MS, MAX_SIZE_KB = 5.0, 500.0
PROBED = (2, 6)  # epochs of two short runs of `nas-kd distill`, which tell what one epoch costs
# Picked by hand before any run: the script's network, as near as the space has it.
STUDENT = {"resolution": 8, "stride": 32, "width_1": 8, "width_2": 8, "width_3": 16, "width_4": 32, "width_5": 48}
STUDENT |= {"depth_2": 2, "depth_3": 3, "depth_4": 3, "depth_5": 2, "expansion_early": 6, "expansion_late": 6}
STUDENT |= {"kernel_late": 3, "squeeze_late": 0, "crelu_early": 0, "ghost_late": 0}


@dataclass(frozen=True)
class Settings:
    """What all results of one folder have in common.

    Attributes:
        sizes: pictures to train on (None: all others), to validate and to test on.
        teacher_epochs: of the teacher's fine-tuning.
        cores: that each contestant has.
        quick: the search tries four students for two epochs and one finalist, to see whether everything runs.
    """

    sizes: Sizes = (None, VAL, TEST)
    teacher_epochs: int = 8
    cores: int = 2
    quick: bool = False


class Contest:
    """Runs of all contestants with one teacher."""

    def __init__(self, data_dir: Path, out: Path, settings: Settings) -> None:
        """Nothing is prepared before it is needed.

        Args:
            data_dir: holds flowers/CLASS/*.jpg.
            out: folder of results.
            settings: of all results in it.
        """
        self._data_dir, self._out, self.settings = data_dir, out, settings
        self._work = (out / "work").resolve()
        self._work.mkdir(parents=True, exist_ok=True)

    def search(self, minutes: float, seed: int) -> dict[str, Any]:
        """Search for `minutes` and train finalists; what it takes from start to end is what the others get."""

        def run(folder: Path) -> tuple[Path, dict[str, Any]]:
            config = self._config(folder) | {"search": {"seed": seed, "workers": self.settings.cores}}
            if self.settings.quick:
                config |= {
                    "distill": {"epochs": 2, "probe_minutes": 0},
                    "finalists": {"max": 1, "seeds": 1, "controls": False},
                }
                config["search"]["trials"] = 4
            self._nas_kd("search", config, folder, "--max-minutes", f"{minutes:g}", allowed=(0, NO_WINNER))
            front = json.loads((folder / "run" / "front.json").read_text())
            return folder / "run" / "winner" / "student.onnx", {"finalists": len(front["candidates"])}

        return self._done(SEARCH, minutes, seed, run)

    def script(self, minutes: float, seed: int, chosen: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Run the plain script for `seconds` with these options."""

        def run(folder: Path) -> tuple[Path, dict[str, Any]]:
            file = folder / "student.onnx"
            options = {"seconds": seconds, "seed": seed, "out": file, **chosen}
            command = [sys.executable, "-m", "benchmarks.photographs.plain", str(self._splits), str(self.weights)]
            for name, value in {**options, "threads": self.settings.cores}.items():
                command += [f"--{name.replace('_', '-')}", str(value)]
            log = _child(command, folder)
            return file, {"options": dict(chosen), **json.loads(log.strip().splitlines()[-1])}

        return self._done(SCRIPT, minutes, seed, run)

    def distill(self, minutes: float, seed: int, seconds: float) -> dict[str, Any]:
        """Distil the hand-picked student by `nas-kd distill` for as many epochs as `seconds` are expected to allow."""
        (few, some), (short, long) = PROBED, (self._probe(epochs)["seconds"] for epochs in PROBED)
        an_epoch = max((long - short) / (some - few), 0.05)
        epochs = max(1, int((seconds - short) / an_epoch) + few)

        def run(folder: Path) -> tuple[Path, dict[str, Any]]:
            return self._distilled(folder, epochs, seed), {"epochs": epochs}

        return self._done(DISTILL, minutes, seed, run)

    def _probe(self, epochs: int) -> dict[str, Any]:
        return self._done(
            f"probe{epochs}", 0, 0, lambda folder: (self._distilled(folder, epochs, 0), {"epochs": epochs})
        )

    def _distilled(self, folder: Path, epochs: int, seed: int) -> Path:
        config = self._config(folder) | {"distill": {"epochs": epochs}, "student": STUDENT}
        config |= {"engine": {"threads": self.settings.cores}}
        self._nas_kd("distill", config, folder, "--set", f"search.seed={seed}")
        return next((folder / "run").rglob("student.onnx"))

    def _done(self, arm: str, minutes: float, seed: int, run: Run) -> dict[str, Any]:
        """Do a run in a fresh folder, or find its result."""
        key = f"{arm}.{minutes:g}.{seed}"
        with lock_of(self._work, key):  # another process may need the same result
            done = results_in(self._out)
            check_same_teacher(done.values(), self.fingerprint)
            if key not in done:
                row = {"key": key, "arm": arm, "minutes": minutes, "seed": seed, **self._row(key, run)}
                append_result(self._out, done.setdefault(key, row))
            return done[key]

    def _row(self, key: str, run: Run) -> dict[str, Any]:
        folder = self._work / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        load, started = os.getloadavg()[0], time.time()
        file, facts = run(folder)
        row = {"seconds": round(time.time() - started, 1), **facts, **self._judged(file), "load": round(load, 2)}
        row |= {"teacher": self.fingerprint, "teacher_test": self._teacher_test}
        return row | {"settings": asdict(self.settings)}

    def _judged(self, file: Path) -> dict[str, Any]:
        """What the exported file is; without one there is no deployable student."""
        if not file.is_file():
            return {"val": None, "test": None}
        content, shape = file.read_bytes(), (3, SIDE, SIDE)
        shares = {name: accuracy(content, Split(p.x, p.y)) for name, p in self._judged_on.items()}
        latency = open_device("cpu-1t").measure(content, 1, shape).p50
        fits = latency <= MAX_LATENCY_MS and len(content) <= 1000 * MAX_SIZE_KB
        return {**shares, "size_bytes": len(content), "latency_ms": round(latency, 4), "within_budget": fits}

    def _config(self, folder: Path) -> dict[str, Any]:
        return {
            "name": folder.name,
            "data": {"source": "image_folder", "path": str(self._splits), "image_size": SIDE},
            "teacher": {"factory": "benchmarks.photographs.teacher:network", "weights": str(self.weights)},
            "space": {"name": "mobilenet_photo"},
            "budget": {"max_latency_ms": MAX_LATENCY_MS, "max_size_kb": MAX_SIZE_KB},
        }

    def _nas_kd(
        self, command: str, config: Mapping[str, Any], folder: Path, *options: str, allowed: Sequence[int] = (0,)
    ) -> None:
        path = folder / "config.toml"
        path.write_text(tomli_w.dumps(config))
        words = [sys.executable, "-m", "nas_kd", command, str(path), "--run-dir", str(folder / "run"), *options]
        _child(words, folder, allowed)

    @cached_property
    def _splits(self) -> Path:
        return split_folders(self._data_dir / "flowers", self._work / "flowers", self.settings.sizes)

    @cached_property
    def _judged_on(self) -> dict[str, Pictures]:
        return {name: load_pictures(self._splits / name) for name in ("val", "test")}

    @cached_property
    def weights(self) -> Path:
        """File of the teacher's weights; it is fine-tuned now if it is not there."""
        path, threads = self._work / "teacher.safetensors", self.settings.cores

        def train(teacher: nn.Module) -> None:
            trained = fine_tuned(load_pictures(self._splits / "train"), self.settings.teacher_epochs, threads)
            teacher.load_state_dict(trained.state_dict())

        kept(path, network, train)
        return path

    @cached_property
    def _teacher(self) -> nn.Module:
        teacher = network()
        teacher.load_state_dict(load_file(self.weights))
        return teacher.eval()

    @cached_property
    def fingerprint(self) -> str:
        """A fingerprint of the teacher's weights."""
        return fingerprint_of(self._teacher)

    @cached_property
    def _teacher_test(self) -> float:
        pictures = self._judged_on["test"]
        return accuracy(export_onnx(self._teacher, (3, SIDE, SIDE)), Split(pictures.x, pictures.y))


def _child(command: Sequence[str], folder: Path, allowed: Sequence[int] = (0,)) -> str:
    """Run a process to its end; returns what it printed.

    Raises:
        TrialError: it failed; its last line.
    """
    environment = {k: v for k, v in os.environ.items() if k not in {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = folder / "log"
    with log.open("w") as printed:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT, check=False
        )
    text = log.read_text()
    if done.returncode not in allowed:
        raise TrialError(f"exit status {done.returncode}: {(text.strip().splitlines() or ['nothing printed'])[-1]}")
    return text
