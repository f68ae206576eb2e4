"""Answers one request of one connection. In this order: who asks, for what, how much; only then is the body read."""

import contextlib
import hmac
import http.server
import io
import json
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from nas_kd.agent.reader import LimitedReader
from nas_kd.agent.refusal import Refusal
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, MeasureRequest

if TYPE_CHECKING:
    from nas_kd.agent.server import AgentServer

MAX_HEAD_BYTES = 16_384
DRAIN_S = 2.0  # a refusal is not lost under what the asker is still sending


@dataclass(frozen=True)
class Limits:
    """`head_s`, `body_s`: until a request's head, its body must be complete; `connections`: open at the same time."""

    max_bytes: int
    head_s: float = 10.0
    body_s: float = 60.0
    connections: int = 16


class Handler(http.server.BaseHTTPRequestHandler):
    """Speaks HTTP/1.0: one request a connection, so that nothing can be smuggled in behind it."""

    server: "AgentServer"

    def setup(self) -> None:
        """Shake hands and limit what is read."""
        super().setup()
        self.rfile.close()
        limits = self.server.limits
        self.connection.settimeout(limits.head_s)
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        self._reader = LimitedReader(self.connection, lambda: Refusal(431, "the request's head is too large"))
        self._reader.allow(MAX_HEAD_BYTES, limits.head_s)
        self.rfile = io.BufferedReader(self._reader)
        self._began, self._status = time.monotonic(), 0

    def handle(self) -> None:
        """Answer, and leave a line in the log."""
        try:
            self.raw_requestline = self.rfile.readline(MAX_HEAD_BYTES)
            if self.raw_requestline and self.parse_request():
                self._send(200, self._answer())
        except Refusal as refusal:
            self._refuse(refusal)
        except TimeoutError:
            self._refuse(Refusal(408, "the request did not come in time"))
        except ConnectionError:
            pass  # whoever asked is gone
        except Exception as error:  # whatever it is: the next request has nothing to do with it
            self._refuse(Refusal(500, f"the agent failed: {type(error).__name__}"))
        self._log()

    def _answer(self) -> Mapping[str, Any]:
        self._authorise()
        methods = {DEVICE_PATH: "GET", MEASURE_PATH: "POST"}
        if self.path not in methods:
            raise Refusal(404, f"there is only {' and '.join(methods)}")
        if self.command != methods[self.path]:
            raise Refusal(405, f"use {methods[self.path]}", {"Allow": methods[self.path]})
        bench = self.server.bench
        if self.path == DEVICE_PATH:
            return bench.describe()
        length = self._length()
        with bench.turn():  # the body waits, too: memory holds one, and nothing is received beside a measurement
            try:
                job, content, reference = MeasureRequest.read(self._body(length))
            except ValueError as error:
                raise Refusal(400, str(error)) from error
            return bench.measure(job, content, reference)

    def _authorise(self) -> None:
        given = self.headers.get_all("Authorization", [])
        scheme, _, token = given[0].strip().partition(" ") if len(given) == 1 else ("", "", "")
        same = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self.server.token.encode())
        if scheme.lower() != "bearer" or not same:
            raise Refusal(401, "no token, or a wrong one", {"WWW-Authenticate": "Bearer"})

    def _length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            raise Refusal(411, "chunks are not taken; send Content-Length")
        given = self.headers.get_all("Content-Length", [])
        if not given:
            raise Refusal(411, "send Content-Length")
        if len(given) > 1 or not (given[0].isascii() and given[0].isdecimal()) or len(given[0]) > 15:
            raise Refusal(400, "Content-Length must be one number")
        if int(given[0]) > self.server.limits.max_bytes:
            raise Refusal(413, f"at most {self.server.limits.max_bytes / 1e6:g} MB are taken")
        return int(given[0])

    def _body(self, length: int) -> bytes:
        self._reader.allow(length, self.server.limits.body_s)
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refusal(400, "the body is shorter than Content-Length says")
        return body

    def _send(self, status: int, answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self._status = status
        self.request_version = self.protocol_version  # whatever was spoken, the answer has a status
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.connection.settimeout(self.server.limits.head_s)
        self.wfile.write(content)

    def _refuse(self, refusal: Refusal) -> None:
        with contextlib.suppress(OSError, Refusal):
            self._send(refusal.status, {"error": refusal.reason}, refusal.headers)
            self.connection.shutdown(socket.SHUT_WR)
            self._reader.allow(self.server.limits.max_bytes, DRAIN_S)
            while self._reader.read(io.DEFAULT_BUFFER_SIZE):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself, in the same form."""
        self._refuse(Refusal(int(code), HTTPStatus(code).phrase.lower()))

    def version_string(self) -> str:
        """Tells nothing about versions to whoever is not let in."""
        return "nas-kd"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line a request is written at its end."""

    def _log(self) -> None:
        """Nothing of what was sent but the names that are known here."""
        what = {DEVICE_PATH: "device", MEASURE_PATH: "measure"}.get(getattr(self, "path", ""), "?")
        spent = time.monotonic() - self._began
        when = self.log_date_time_string()
        sys.stderr.write(f"{when} {self.client_address[0]} {what} {self._status or 'gone'} {spent:.2f} s\n")
        sys.stderr.flush()
