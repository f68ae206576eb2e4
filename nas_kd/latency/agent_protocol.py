"""What a device agent and those who ask it agree on. Needs the standard library only.

`GET /v1/device` tells the environment and the profiles. `POST /v1/measure` takes a line of JSON (a `Job`), then the
ONNX file, then the reference network; it answers with the environment and with what was `measured`: a `Settled`
latency, `Memory`, or a list of `Operator`. Errors are `{"error": "..."}` under a status of 400 and above. Every request
carries `Authorization: Bearer TOKEN`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from nas_kd.errors import InputError

VERSION = 1
DEVICE_PATH = f"/v{VERSION}/device"
MEASURE_PATH = f"/v{VERSION}/measure"
DEFAULT_PORT = 8765
DEFAULT_PROFILE = "cpu-1t"
TOKEN_VARIABLE = "NAS_KD_DEVICE_TOKEN"
SHORTEST_TOKEN = 16
MAX_JOB_BYTES = 4096
MAX_BATCH = 65_536
MAX_SECONDS = 30.0
MAX_ATTEMPTS = 10
MAX_SIDES = 8
What = Literal["latency", "memory", "operators"]


@dataclass(frozen=True)
class MeasureRequest:
    """A measurement that is asked for.

    `key`: of the profile, as the agent told it (it refuses if that has changed); `input_shape`: one sample's, for a
    file whose input leaves more than the batch open; `reference`: "small" or "large"; `seconds`, `attempts`,
    `tolerance`: of a latency, see `Effort`; sizes are in bytes.
    """

    what: What
    profile: str
    key: str
    batch_size: int
    input_shape: tuple[int, ...] | None
    seconds: float
    attempts: int
    tolerance: float
    reference: str
    candidate_bytes: int
    reference_bytes: int

    def body(self, content: bytes, reference: bytes) -> bytes:
        """What is sent."""
        return json.dumps(asdict(self)).encode() + b"\n" + content + reference

    @staticmethod
    def read(body: bytes) -> tuple["MeasureRequest", bytes, bytes]:
        """The job, the file and the reference out of what was sent.

        Raises:
            ValueError: anything about it is not as it must be.
        """
        end = body.find(b"\n", 0, MAX_JOB_BYTES)
        if end < 0:
            raise ValueError(f"the body must begin with a line of JSON of at most {MAX_JOB_BYTES} bytes")
        job = MeasureRequest._checked(body[:end])
        middle = end + 1 + job.candidate_bytes
        if len(body) != middle + job.reference_bytes:
            raise ValueError("the body is not as long as its first line says")
        return job, body[end + 1 : middle], body[middle:]

    @staticmethod
    def _checked(line: bytes) -> "MeasureRequest":
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body's first line is not JSON") from error
        names = [f.name for f in fields(MeasureRequest)]
        if not isinstance(values, dict) or values.keys() != set(names):
            raise ValueError(f"the body's first line must hold exactly {', '.join(names)}")
        for name, kind in _KINDS.items():
            if type(values[name]) is not kind:
                raise ValueError(f"{name} must be of type {kind.__name__}")
        if values["what"] not in get_args(What):
            raise ValueError(f"what must be one of {', '.join(get_args(What))}")
        job = MeasureRequest(**values | {"input_shape": _shape(values["input_shape"])})
        effort = 0 < job.seconds <= MAX_SECONDS and 1 <= job.attempts <= MAX_ATTEMPTS and 0 < job.tolerance <= 1
        if not (effort and 1 <= job.batch_size <= MAX_BATCH) or min(job.candidate_bytes, job.reference_bytes) < 1:
            limits = f"seconds at most {MAX_SECONDS:g}, attempts 1 to {MAX_ATTEMPTS}, tolerance at most 1"
            raise ValueError(f"batch_size must be 1 to {MAX_BATCH}, {limits}, and both files there")
        if job.reference not in ("small", "large"):
            raise ValueError('reference must be "small" or "large"')
        return job


_KINDS: dict[str, type] = {"what": str} | {f.name: f.type for f in fields(MeasureRequest) if isinstance(f.type, type)}


def _shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SIDES:
        raise ValueError(f"input_shape must be null or a list of 1 to {MAX_SIDES} sides")
    if not all(type(side) is int and side >= 1 for side in value):
        raise ValueError("input_shape must hold whole numbers >= 1")
    return tuple(value)


def read_token(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The token that asker and agent share: out of a file, else out of the environment.

    Raises:
        InputError: there is none, it is too short to be safe, or no header can carry it.
    """
    try:
        token = environment.get(TOKEN_VARIABLE, "") if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the token file {file}: {getattr(error, 'strerror', 'not text')}") from error
    token, source = token.strip(), TOKEN_VARIABLE if file is None else str(file)
    if not token:
        raise InputError(
            f"no token in {source}; make one with: python3 -c 'import secrets; print(secrets.token_hex())'"
        )
    if len(token) < SHORTEST_TOKEN or not all("!" <= c <= "~" for c in token):
        raise InputError(
            f"the token in {source} must be {SHORTEST_TOKEN} or more printable ASCII characters, no spaces"
        )
    return token


def read_error(answer: Any) -> str:
    """The reason in an answer that is an error; empty if it is not one of an agent."""
    return str(answer["error"])[:500] if isinstance(answer, dict) and "error" in answer else ""
