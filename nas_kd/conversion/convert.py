"""Turns a pickled checkpoint into safetensors without trusting it: another process reads it, and its output is checked.

The process gets the checkpoint and its output as open descriptors, no environment, an empty folder, limits of memory,
time and size, and on Linux with Landlock no access to files or the network at all.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from nas_kd.errors import InputError

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 60  # for any file, and as many more as reading it slowly takes
BYTES_PER_S = 20e6
MAX_HEADER = 100_000_000
BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "C64": 64},
    **{"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8},
    **{"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4},
}
KEPT = ("LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")  # of the environment


@dataclass(frozen=True)
class Converted:
    """What was made of a checkpoint.

    Attributes:
        path: of the safetensors file.
        tensors: in it.
        size_bytes: of the file.
        key: of the checkpoint's table that the weights were in; "": the checkpoint is a state dict.
        prefix: that all names began with, and which was stripped.
        tied: tensors that were another one under a second name; each is stored.
        left_out: what else the checkpoint has, with kinds.
        places: keys of further tables with tensors.
        landlock: whether the kernel kept the reading process from all files.
    """

    path: Path
    tensors: int
    size_bytes: int
    key: str
    prefix: str
    tied: int
    left_out: tuple[str, ...]
    places: tuple[str, ...]
    landlock: bool


def convert_checkpoint(checkpoint: Path, out: Path, key: str | None = None, *, force: bool = False) -> Converted:
    """Convert a checkpoint of `torch.save` to safetensors.

    Args:
        checkpoint: a pickled state dict, or a dict that holds one.
        out: file to write, as a whole or not at all.
        key: dotted key of the state dict in the checkpoint; None: look at the usual ones.
        force: replace a file that is there.

    Raises:
        InputError: the checkpoint is missing or no tensors, needs too much, or `out` is there already.
    """
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such file")
    if out.exists() and not (force and out.is_file()):
        raise InputError(f"{out}: exists already; choose another --out, or replace it with --force")
    if out.exists() and out.samefile(checkpoint):
        raise InputError(f"{out}: is the checkpoint itself; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{uuid4().hex}")
    try:
        answer = _run(checkpoint, unfinished, key)
        if "refused" in answer:
            raise InputError(f"{checkpoint}: {answer['refused']}")
        _check_output(unfinished, answer)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return Converted(
        path=out,
        tensors=answer["tensors"],
        size_bytes=answer["bytes"],
        key=answer["key"],
        prefix=answer["prefix"],
        tied=answer["tied"],
        left_out=tuple(answer["left_out"]),
        places=tuple(answer["places"]),
        landlock=answer["landlock"] > 0,
    )


def _run(checkpoint: Path, unfinished: Path, key: str | None) -> dict[str, Any]:
    size = checkpoint.stat().st_size
    seconds = SECONDS + int(size / BYTES_PER_S)
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    with (
        TemporaryDirectory(prefix="nas-kd-convert-") as folder,
        checkpoint.open("rb") as source,
        unfinished.open("xb") as out,
    ):
        job = {
            "source": source.fileno(),
            "out": out.fileno(),
            "size": size,
            "key": key,
            "seconds": seconds,
            "path": [path for path in sys.path if path and os.path.isdir(path)],
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(WORKER)],
                input=json.dumps(job).encode() + b"\n",
                capture_output=True,
                check=False,
                cwd=folder,
                env=environment,
                pass_fds=(source.fileno(), out.fileno()),
                start_new_session=True,
                timeout=3 * seconds,
            )
        except subprocess.TimeoutExpired:
            return {"refused": f"could not be read within {3 * seconds} s"}
    return _answer(done)


def _answer(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        return {"refused": f"the process that reads it ended with {reason}: it is damaged, or made to do harm"}
    return answer if isinstance(answer, dict) else {"refused": "the process that reads it gave no answer"}


def _check_output(path: Path, answer: dict[str, Any]) -> None:
    """Trust nothing of the process but what its file says: a header, and exactly the bytes that this names.

    Raises:
        InputError: the file is not sound.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ValueError("its header has no proper length")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            begin, after = entry["data_offsets"]
            bits = BITS[entry["dtype"]]
            for side in entry["shape"]:
                bits *= side
            if begin != end or after - begin != bits // 8:
                raise ValueError(f"tensor {name!r} does not have the size of its shape")
            end = after
        if end != size - 8 - length or len(header) != answer["tensors"] or size != answer["bytes"]:
            raise ValueError("its parts do not make up the whole")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the converted file is not sound ({error}), and was not kept") from error


def describe_converted(converted: Converted) -> list[str]:
    """Describe in a few lines what was made of a checkpoint."""
    c = converted
    lines = [f"{c.path}: {c.tensors} tensors, {c.size_bytes / 1000:,.1f} kB"]
    if c.key:
        also = f"; also there, by --key: {', '.join(c.places[:5])}" if c.places else ""
        lines.append(f"taken from {c.key!r} of the checkpoint{also}")
    if c.prefix:
        lines.append(f"stripped the prefix {c.prefix!r}, which all names had")
    if c.tied:
        lines.append(f"{c.tied} tied tensors are stored under each of their names")
    if c.left_out:
        more = f", and {len(c.left_out) - 8} more" if len(c.left_out) > 8 else ""
        lines.append(f"left out: {', '.join(c.left_out[:8])}{more}")
    if not c.landlock:
        lines.append("note: this system has no Landlock; the checkpoint was read under limits of memory and time alone")
    return lines
