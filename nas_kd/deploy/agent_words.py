"""What a device agent and those who ask it agree on. Needs the standard library only.

`GET /v1/device` tells the environment and the profiles. `POST /v1/measure` takes a line of JSON (a `Job`), then the
ONNX file, then the reference network; it answers with a `Settled` measurement and the environment. Errors are
`{"error": "..."}` under a status of 400 and above. Every request carries `Authorization: Bearer TOKEN`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Job:
    """A measurement that is asked for.

    `key`: of the profile, as the agent told it (it refuses if that has changed); `reference`: "small" or "large";
    `seconds`: at which a measurement stops that has not settled; sizes are in bytes.
    """

    profile: str
    key: str
    batch_size: int
    seconds: float
    reference: str
    candidate_bytes: int
    reference_bytes: int

    def body(self, content: bytes, reference: bytes) -> bytes:
        """What is sent."""
        return json.dumps(asdict(self)).encode() + b"\n" + content + reference

    @staticmethod
    def read(body: bytes) -> tuple["Job", bytes, bytes]:
        """The job, the file and the reference out of what was sent.

        Raises:
            ValueError: anything about it is not as it must be.
        """
        end = body.find(b"\n", 0, MAX_JOB_BYTES)
        if end < 0:
            raise ValueError(f"the body must begin with a line of JSON of at most {MAX_JOB_BYTES} bytes")
        job = Job._checked(body[:end])
        middle = end + 1 + job.candidate_bytes
        if len(body) != middle + job.reference_bytes:
            raise ValueError("the body is not as long as its first line says")
        return job, body[end + 1 : middle], body[middle:]

    @staticmethod
    def _checked(line: bytes) -> "Job":
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body's first line is not JSON") from error
        kinds = {f.name: f.type for f in fields(Job)}
        if not isinstance(values, dict) or values.keys() != kinds.keys():
            raise ValueError(f"the body's first line must hold exactly {', '.join(kinds)}")
        for name, kind in kinds.items():
            if type(values[name]) is not kind:
                raise ValueError(f"{name} must be of type {getattr(kind, '__name__', kind)}")
        job = Job(**values)
        in_range = 1 <= job.batch_size <= MAX_BATCH and 0 < job.seconds <= MAX_SECONDS
        if not in_range or min(job.candidate_bytes, job.reference_bytes) < 1:
            raise ValueError(
                f"batch_size must be 1 to {MAX_BATCH}, seconds at most {MAX_SECONDS:g}, and both files there"
            )
        if job.reference not in ("small", "large"):
            raise ValueError('reference must be "small" or "large"')
        return job


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
