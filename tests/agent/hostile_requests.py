"""Requests that no agent should serve, as many as wanted: unauthorised, malformed, oversized."""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

from benchmarks.agent_process import TOKEN
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, MeasureRequest

from .raw_requests import AUTHORISATION, post

PATHS = [
    DEVICE_PATH,
    MEASURE_PATH,
    "/",
    "/v1",
    "/v1/measure",
    "/../../etc/passwd",
    f"{MEASURE_PATH}/../device",
    "*",
    "",
]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "\x00"]
HEADS = [
    "",
    "Authorization: \r\n",
    "Authorization: Bearer\r\n",
    "Authorization: Bearer \r\n",
    f"Authorization: {TOKEN}\r\n",
    f"Authorization: Basic {TOKEN}\r\n",
    f"Authorization: Bearer {TOKEN[:-1]}\r\n",
    f"Authorization: Bearer {TOKEN}x\r\n",
    f"Authorization: Bearer {TOKEN.upper()}\r\n",
    f"Authorization: Bearer x, Bearer {TOKEN}\r\n",
    f"Authorization: Bearer x\r\n{AUTHORISATION}",
    f"{AUTHORISATION}{AUTHORISATION}",
    "Authorization: Bearer \xff\xfe\r\n",
    f"X-Authorization: Bearer {TOKEN}\r\n",
    f"Cookie: token={TOKEN}\r\n",
    "Authorization: Bearer " + "a" * 10_000 + "\r\n",
]
LENGTHS = ["", "-1", "+3", "0x10", "1e3", "3.0", "3, 3", "\xb2", "9" * 30, "100000001", " ", "3\r\nContent-Length: 4"]


def hostile_requests(
    request: MeasureRequest, content: bytes, reference: bytes, count: int, seed: int
) -> Iterator[bytes]:
    """Make `count` requests, of all kinds by turns, out of a request and files that would be served."""
    rng = random.Random(seed)
    kinds = [
        _unauthorised,
        _wrong_length,
        _wrong_target,
        _wrong_request_line,
        _not_http,
        _wrong_file,
        _large_head,
        _cut_off,
    ]
    good = request.encode(content, reference)
    streams = [kind(rng, request, good) for kind in kinds]
    turns = (next(stream) for _ in iter(int, 1) for stream in streams)
    yield from islice(turns, count)


def _unauthorised(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    while True:
        head, path, method = rng.choice(HEADS), rng.choice(PATHS[:2]), rng.choice(METHODS[:2])
        body = good if rng.random() < 0.1 else b"{}\n"
        yield f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


def _wrong_length(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    while True:
        yield post(b"abc", length=rng.choice(LENGTHS))
        yield f"POST {MEASURE_PATH} HTTP/1.1\r\n{AUTHORISATION}\r\n".encode() + good
        yield post(b"5\r\nabcde\r\n0\r\n\r\n", head=AUTHORISATION + "Transfer-Encoding: chunked\r\n", length="3")
        chunk = b"zz\r\nabc\r\n" if rng.random() < 0.5 else b"ffffffffffffffff\r\n"
        yield f"POST {MEASURE_PATH} HTTP/1.1\r\n{AUTHORISATION}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk
        yield post(good, length=str(rng.randrange(len(good))))  # the rest is no second request


def _wrong_target(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    while True:
        method, path = rng.choice(METHODS), rng.choice(PATHS)
        if (method, path) not in (("GET", DEVICE_PATH), ("POST", MEASURE_PATH)):
            yield f"{method} {path} HTTP/1.1\r\n{AUTHORISATION}\r\n".encode("latin-1")


def _wrong_request_line(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    plain = asdict(request)
    files = good[good.index(b"\n") :]
    wrong = [None, True, -1, 0, 2**70, 1e308, "", "../../etc/passwd", "\x00", [], {}, [[]] * 9, "a" * 5000]
    while True:
        name, value = rng.choice([*plain, "more"]), rng.choice(wrong)
        if (name, value) != ("input_shape", None):  # which would be right
            yield post(json.dumps(plain | {name: value}).encode() + files)
        yield post(
            json.dumps({k: v for k, v in plain.items() if k != rng.choice([*plain])} | {"x": 1}).encode() + files
        )
        lines = [b"", b"[" * 3000, b"nul", b"{", b'{"profile": NaN}', b"\xff\xfe", b"[1]", b"1", b'"' + b"\\u" * 99]
        yield post(rng.choice(lines) + files)
        yield post(rng.randbytes(rng.randrange(1, 9000)))
        yield post(good + b"x")
        yield post(good[: rng.randrange(len(good))])


def _not_http(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    while True:
        yield rng.randbytes(rng.randrange(1, 3000))
        yield b"GET " + DEVICE_PATH.encode() + b"\r\n"  # HTTP/0.9
        yield (
            b"GET "
            + DEVICE_PATH.encode()
            + rng.choice([b" HTTP/9.9", b" HTTP/1.1.1", b" FTP/1.0", b" HTTP/x.y"])
            + b"\r\n\r\n"
        )
        yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(400)  # TLS
        yield b"\r\n" * rng.randrange(1, 50)
        yield b"\x00" * rng.randrange(1, 2000)
        yield b""


def _wrong_file(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    begin = good.index(b"\n") + 1
    while True:
        body = bytearray(good)
        kind = rng.randrange(3)
        if kind == 0:
            body[begin : begin + request.candidate_bytes] = rng.randbytes(request.candidate_bytes)
        elif kind == 1:
            body[begin + request.candidate_bytes :] = bytes(request.reference_bytes)
        else:
            body[begin : begin + 12] = b"\x20\x00\x00\x00ORTM\x08\x00\x00\x00"
        yield post(bytes(body))


def _large_head(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    while True:
        yield b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"
        yield f"GET {DEVICE_PATH} HTTP/1.1\r\n{AUTHORISATION}X: {'a' * 70_000}\r\n\r\n".encode()
        yield f"GET {DEVICE_PATH} HTTP/1.1\r\n{AUTHORISATION}{'X: y' * 1 + chr(13) + chr(10)}".encode() * 200
        yield f"GET {DEVICE_PATH} HTTP/1.1\r\n".encode() + b"".join(b"X%d: y\r\n" % i for i in range(300)) + b"\r\n"


def _cut_off(rng: random.Random, request: MeasureRequest, good: bytes) -> Iterator[bytes]:
    whole = post(good)
    head = whole.index(b"\r\n\r\n")
    while True:
        yield whole[: rng.randrange(1, head)]
        yield whole[: rng.randrange(head + 4, len(whole))]
