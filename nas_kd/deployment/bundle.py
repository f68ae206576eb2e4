"""Writes an exported student with all that goes with it: ONNX file, card, README and the program that runs it."""

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nas_kd.deployment.card import build_card, output_of
from nas_kd.deployment.facts import StudentFacts
from nas_kd.deployment.metadata import with_metadata
from nas_kd.deployment.model_card import model_card
from nas_kd.serialization import write_atomic

SOURCES = files("nas_kd.deployment")
PROGRAM = SOURCES.joinpath("predict.py").read_text(encoding="utf-8")
RESULTS = files("nas_kd.results")
COPIED = re.compile(r"^from nas_kd\.results\.(\w+) import", re.MULTILINE)  # modules that need NumPy alone
RUNS, JOINT = '\n\nif __name__ == "__main__":', "# --- below this line ---\n"  # where another file's text goes


def program_of(kind: str) -> str:
    """The program that runs networks with this kind of output: `predict.py`, with what `predict_KIND.py` adds to it.

    Args:
        kind: `OutputRecord.kind`.
    """
    added = SOURCES.joinpath(f"predict_{kind}.py")
    if not added.is_file():
        return PROGRAM
    shared, _, _ = PROGRAM.rpartition(RUNS)
    imports, _, own = added.read_text(encoding="utf-8").partition(JOINT)
    parts = [RESULTS.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in COPIED.findall(imports)]
    return "".join([shared, *(part.partition(JOINT)[2].rstrip() + "\n" for part in parts), own])


@dataclass(frozen=True)
class BundlePaths:
    """Where the files of an exported student are written.

    Attributes:
        onnx: the network.
        card: its facts as JSON, in the same folder.
        readme: the model card.
        program: `predict.py`, which reads the card beside it.
        weights: the same weights for PyTorch; named in the README only.
    """

    onnx: Path
    card: Path
    readme: Path
    program: Path
    weights: Path | None = None

    @staticmethod
    def in_folder(folder: Path) -> "BundlePaths":
        """Paths of a folder that holds one student and nothing else of the kind."""
        return BundlePaths(
            onnx=folder / "student.onnx",
            card=folder / "card.json",
            readme=folder / "README.md",
            program=folder / "predict.py",
            weights=folder / "student.safetensors",
        )

    @staticmethod
    def beside(onnx: Path) -> "BundlePaths":
        """Paths beside a file of any name in any folder; several files in a folder share `predict.py`."""
        return BundlePaths(
            onnx=onnx,
            card=onnx.with_suffix(".json"),
            readme=onnx.with_suffix(".README.md"),
            program=onnx.with_name("predict.py"),
        )


def write_bundle(paths: BundlePaths, onnx: bytes, facts: StudentFacts) -> None:
    """Write all files of a student but its weights.

    A `predict.py` that is not nas-kd's own is left as it is.

    Args:
        paths: where to.
        onnx: the exported file, without metadata.
        facts: about the student.
    """
    content = with_metadata(onnx, facts)
    card = build_card(facts, content, paths.onnx.name)
    names = {kind: path.name for kind, path in vars(paths).items() if path is not None}
    readme = model_card(facts, names, len(content))
    write_atomic(paths.onnx, content)
    write_atomic(paths.card, json.dumps(card, indent=1, allow_nan=False))
    write_atomic(paths.readme, readme)
    if _may_write(paths.program):
        write_atomic(paths.program, program_of(output_of(facts.data).kind))


def _may_write(program: Path) -> bool:
    """Whether there is no such file, or one that a nas-kd of this or another version has written."""
    if not program.exists():
        return True
    first_line = PROGRAM.partition("\n")[0].split(" with ")[0]
    return program.is_file() and program.read_text(encoding="utf-8", errors="replace").startswith(first_line)
