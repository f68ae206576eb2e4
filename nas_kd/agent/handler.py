"""Answers one HTTP request on one connection.

It is checked in this order: token, path, length; only then is the body read.
"""

import contextlib
import hmac
import http.server
import io
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from nas_kd.agent.request_refused import RequestRefused
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, PROTOCOL_VERSION, MeasureRequest

if TYPE_CHECKING:
    from nas_kd.agent.server import AgentServer

MAX_HEAD_BYTES = 16_384
DRAIN_S = 2.0  # what the client still sends is read for this long, else it could miss the refusal
METHODS = {DEVICE_PATH: "GET", MEASURE_PATH: "POST"}


@dataclass(frozen=True)
class RequestLimits:
    """Limits on requests, so that no client can keep the agent from serving others.

    Attributes:
        max_bytes: Largest body.
        head_s: Time until a request's head must be complete, in seconds.
        body_s: Time until its body must be complete, in seconds.
        connections: Largest number of open connections.
    """

    max_bytes: int
    head_s: float = 10.0
    body_s: float = 60.0
    connections: int = 16


class LimitedReader(io.RawIOBase):
    """Reads a socket up to a number of bytes and until a deadline: single bytes now and then do not keep it open."""

    def __init__(self, connection: socket.socket, too_large: Callable[[], Exception]) -> None:
        """Read nothing until `allow` is called.

        Args:
            connection: The socket.
            too_large: Makes the error that is raised when more comes than is allowed.
        """
        self._connection, self._too_large = connection, too_large
        self._deadline, self._left = 0.0, 0

    def allow(self, size: int, seconds: float) -> None:
        """Allow `size` more bytes, and what a buffer in front of this reader reads ahead, within `seconds` from now."""
        self._deadline, self._left = time.monotonic() + seconds, size + io.DEFAULT_BUFFER_SIZE

    def readable(self) -> bool:
        """Always true, as `io.RawIOBase` wants it."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what has arrived into the buffer and return its length; 0 at the end of the input.

        Raises:
            TimeoutError: The deadline has passed.
            Exception: More came than is allowed, see `too_large`.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        if self._left <= 0:
            raise self._too_large()
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count


class RequestHandler(http.server.BaseHTTPRequestHandler):
    """Handles one request a connection (HTTP/1.0), so that no second one can be smuggled in behind it."""

    server: "AgentServer"

    def setup(self) -> None:
        """Do the TLS handshake and limit what is read."""
        super().setup()
        self.rfile.close()
        limits = self.server.limits
        self.connection.settimeout(limits.head_s)
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        self._reader = LimitedReader(self.connection, lambda: RequestRefused(431, "the request's head is too large"))
        self._reader.allow(MAX_HEAD_BYTES, limits.head_s)
        self.rfile = io.BufferedReader(self._reader)
        self._began, self._status = time.monotonic(), 0

    def handle(self) -> None:
        """Read the request, answer it, and write a line to the log."""
        try:
            self.raw_requestline = self.rfile.readline(MAX_HEAD_BYTES)
            if self.raw_requestline and self.parse_request():
                self._send(200, self._answer())
        except RequestRefused as refused:
            self._refuse(refused)
        except TimeoutError:
            self._refuse(RequestRefused(408, "the request did not come in time"))
        except ConnectionError:
            pass  # the client has gone
        except Exception as error:  # whatever it is: the next request has nothing to do with it
            self._refuse(RequestRefused(500, f"the agent failed: {type(error).__name__}"))
        self._log()

    def _answer(self) -> Mapping[str, Any]:
        self._authorise()
        if self.path not in METHODS:
            raise RequestRefused(
                404,
                f"there is only {' and '.join(METHODS)}: this agent speaks version {PROTOCOL_VERSION} of the protocol; "
                "install the same nas-kd on both sides",
            )
        if self.command != METHODS[self.path]:
            raise RequestRefused(405, f"use {METHODS[self.path]}", {"Allow": METHODS[self.path]})
        queue = self.server.queue
        if self.path == DEVICE_PATH:
            return queue.describe()
        length = self._content_length()
        with queue.exclusive():  # the body waits, too: one is held in memory, and none arrives during a measurement
            try:
                request, content, reference = MeasureRequest.decode(self._read_body(length))
            except ValueError as error:
                raise RequestRefused(400, str(error)) from error
            return queue.measure(request, content, reference)

    def _authorise(self) -> None:
        given = self.headers.get_all("Authorization", [])
        scheme, _, token = given[0].strip().partition(" ") if len(given) == 1 else ("", "", "")
        same = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self.server.token.encode())
        if scheme.lower() != "bearer" or not same:
            raise RequestRefused(401, "no token, or a wrong one", {"WWW-Authenticate": "Bearer"})

    def _content_length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            raise RequestRefused(411, "chunked bodies are not accepted; send Content-Length")
        given = self.headers.get_all("Content-Length", [])
        if not given:
            raise RequestRefused(411, "send Content-Length")
        if len(given) > 1 or not (given[0].isascii() and given[0].isdecimal()) or len(given[0]) > 15:
            raise RequestRefused(400, "Content-Length must be one number")
        if int(given[0]) > self.server.limits.max_bytes:
            raise RequestRefused(413, f"the body may have at most {self.server.limits.max_bytes / 1e6:g} MB")
        return int(given[0])

    def _read_body(self, length: int) -> bytes:
        self._reader.allow(length, self.server.limits.body_s)
        body = self.rfile.read(length)
        if len(body) < length:
            raise RequestRefused(400, "the body is shorter than its Content-Length")
        return body

    def _send(self, status: int, answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self._status = status
        self.request_version = self.protocol_version  # whatever the client speaks, the answer has a status line
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.connection.settimeout(self.server.limits.head_s)
        self.wfile.write(content)

    def _refuse(self, refused: RequestRefused) -> None:
        with contextlib.suppress(OSError, RequestRefused):
            self._send(refused.status, {"error": refused.reason}, refused.headers)
            self.connection.shutdown(socket.SHUT_WR)
            self._reader.allow(self.server.limits.max_bytes, DRAIN_S)
            while self._reader.read(io.DEFAULT_BUFFER_SIZE):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse in our own form what the standard library refuses by itself."""
        self._refuse(RequestRefused(int(code), HTTPStatus(code).phrase.lower()))

    def version_string(self) -> str:
        """Name the server without versions, which a stranger need not know."""
        return "nas-kd"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing here: `handle` writes one line a request at its end."""

    def _log(self) -> None:
        """Write one line that holds nothing the client sent, except for paths known here."""
        request = {DEVICE_PATH: "device", MEASURE_PATH: "measure"}.get(getattr(self, "path", ""), "?")
        seconds = time.monotonic() - self._began
        when = self.log_date_time_string()
        sys.stderr.write(f"{when} {self.client_address[0]} {request} {self._status or 'gone'} {seconds:.2f} s\n")
        sys.stderr.flush()
