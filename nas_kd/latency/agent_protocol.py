"""The protocol between a device agent and its clients. Needs the standard library only.

`GET /v2/device` answers with the environment and the profiles. `POST /v2/measure` takes a line of JSON (a
`MeasureRequest`), then the ONNX file, then the reference network; it answers with what was `measured`: a `Latency`, a
`SessionMemory`, or a list of `OperatorTime`. Errors are `{"error": "..."}` with a status of 400 or above. Every request
carries `Authorization: Bearer TOKEN`. Paths begin with the version of the protocol: an agent does not know the paths of
another version.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from nas_kd.errors import InputError
from nas_kd.results.latency import ReferenceSize

PROTOCOL_VERSION = 2
DEVICE_PATH = f"/v{PROTOCOL_VERSION}/device"
MEASURE_PATH = f"/v{PROTOCOL_VERSION}/measure"
DEFAULT_PORT = 8765
DEFAULT_PROFILE = "cpu-1t"
TOKEN_VARIABLE = "NAS_KD_DEVICE_TOKEN"
MIN_TOKEN_LENGTH = 16
MAX_REQUEST_LINE_BYTES = 4096
MAX_BATCH = 65_536
MAX_SECONDS = 30.0
MAX_ATTEMPTS = 10
MAX_DIMENSIONS = 8
Quantity = Literal["latency", "memory", "operators"]


@dataclass(frozen=True)
class MeasureRequest:
    """A request to measure one file.

    Attributes:
        quantity: What to measure.
        profile: Name of the agent's device profile.
        device_key: Key of the profile when the client asked for it; the agent refuses if it has changed since.
        batch_size: Samples a call.
        input_shape: Shape of one sample; needed only for a file that leaves more dimensions than the batch open.
        seconds: Longest duration of an attempt, of a latency; see `MeasurementBudget`.
        attempts: Largest number of attempts, of a latency.
        tolerance: Half-width of the interval that is narrow enough, of a latency, relative to the median.
        reference_size: Which reference network is sent.
        candidate_bytes: Size of the ONNX file.
        reference_bytes: Size of the reference network's file.
    """

    quantity: Quantity
    profile: str
    device_key: str
    batch_size: int
    input_shape: tuple[int, ...] | None
    seconds: float
    attempts: int
    tolerance: float
    reference_size: ReferenceSize
    candidate_bytes: int
    reference_bytes: int

    def encode(self, content: bytes, reference: bytes) -> bytes:
        """Make the body of the HTTP request from both files."""
        return json.dumps(asdict(self)).encode() + b"\n" + content + reference

    @staticmethod
    def decode(body: bytes) -> tuple["MeasureRequest", bytes, bytes]:
        """Split a body into the request, the file and the reference network; the inverse of `encode`.

        Raises:
            ValueError: Anything in the body is not as it must be.
        """
        end = body.find(b"\n", 0, MAX_REQUEST_LINE_BYTES)
        if end < 0:
            raise ValueError(f"the body must begin with a line of JSON of at most {MAX_REQUEST_LINE_BYTES} bytes")
        request = MeasureRequest._parse(body[:end])
        middle = end + 1 + request.candidate_bytes
        if len(body) != middle + request.reference_bytes:
            raise ValueError("the body's length differs from the sizes in its first line")
        return request, body[end + 1 : middle], body[middle:]

    @staticmethod
    def _parse(line: bytes) -> "MeasureRequest":
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body's first line is not JSON") from error
        names = [f.name for f in fields(MeasureRequest)]
        if not isinstance(values, dict) or values.keys() != set(names):
            raise ValueError(f"the body's first line must hold exactly {', '.join(names)}")
        for name, kind in _TYPES.items():
            if type(values[name]) is not kind:
                raise ValueError(f"{name} must be of type {kind.__name__}")
        for name, allowed in _CHOICES.items():
            if values[name] not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {values[name]!r:.100}")
        request = MeasureRequest(**values | {"input_shape": _parse_shape(values["input_shape"])})
        request._check_ranges()
        return request

    def _check_ranges(self) -> None:
        in_budget = 0 < self.seconds <= MAX_SECONDS and 1 <= self.attempts <= MAX_ATTEMPTS and 0 < self.tolerance <= 1
        has_files = min(self.candidate_bytes, self.reference_bytes) >= 1
        if not (in_budget and has_files and 1 <= self.batch_size <= MAX_BATCH):
            limits = f"seconds at most {MAX_SECONDS:g}, attempts 1 to {MAX_ATTEMPTS}, tolerance at most 1"
            raise ValueError(f"batch_size must be 1 to {MAX_BATCH}, {limits}, and neither file empty")


_CHOICES = {"quantity": get_args(Quantity), "reference_size": get_args(ReferenceSize)}
_TYPES: dict[str, type] = dict.fromkeys(_CHOICES, str) | {
    f.name: f.type for f in fields(MeasureRequest) if isinstance(f.type, type)
}


def _parse_shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DIMENSIONS:
        raise ValueError(f"input_shape must be null or a list of 1 to {MAX_DIMENSIONS} sides")
    if not all(type(side) is int and side >= 1 for side in value):
        raise ValueError("input_shape must hold whole numbers >= 1")
    return tuple(value)


def read_token(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Read the token that agent and clients share, from a file or else from the environment.

    Raises:
        InputError: There is none, it is too short to be safe, or an HTTP header cannot carry it.
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
    if len(token) < MIN_TOKEN_LENGTH or not all("!" <= c <= "~" for c in token):
        raise InputError(
            f"the token in {source} must be {MIN_TOKEN_LENGTH} or more printable ASCII characters, no spaces"
        )
    return token


def read_error(answer: Any) -> str:
    """The reason in an agent's error answer; empty for any other answer."""
    return str(answer["error"])[:500] if isinstance(answer, dict) and "error" in answer else ""
