"""Requests as anybody could send them, and what comes back."""

import socket
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.latency.agent_client import AgentAddress, request
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, MeasureRequest
from nas_kd.latency.reference_net import reference_net

AUTHORISED = f"Authorization: Bearer {TOKEN}\r\n"


@dataclass(frozen=True)
class Said:
    """`status`: 0 where the connection was closed without an answer."""

    status: int
    text: str


def send(agent: AgentProcess, data: bytes, *, then: int | None = socket.SHUT_WR) -> Said:
    """Send raw bytes, read until the agent hangs up; `then`: what is shut down after sending."""
    heard = b""
    with socket.create_connection(("127.0.0.1", agent.port), timeout=30) as connection:
        try:
            connection.sendall(data)
            if then is not None:
                connection.shutdown(then)
            while part := connection.recv(65_536):
                heard += part
        except ConnectionError:
            pass
    first = heard.split(b"\r\n")[0].split()
    return Said(int(first[1]) if len(first) > 1 else 0, heard.decode("latin-1"))


def post(body: bytes, *, head: str = AUTHORISED, path: str = MEASURE_PATH, length: str | None = None) -> bytes:
    """A request's bytes."""
    size = str(len(body)) if length is None else length
    return f"POST {path} HTTP/1.1\r\n{head}Content-Length: {size}\r\n\r\n".encode("latin-1") + body


def job(agent: AgentProcess, content: bytes, **changes: Any) -> MeasureRequest:
    """A job that the agent would do, but for the changes."""
    profile = describe(agent)["profiles"]["cpu-1t"]
    reference = reference_net("small")
    plain = MeasureRequest(
        "latency", "cpu-1t", profile["key"], 1, None, 0.05, 1, 0.02, "small", len(content), len(reference)
    )
    return replace(plain, **changes)


def measure(agent: AgentProcess, content: bytes, **changes: Any) -> Any:
    """Ask for a measurement, as the client does."""
    body = job(agent, content, **changes).body(content, reference_net("small"))
    return request(AgentAddress.parse(agent.url), "POST", MEASURE_PATH, body, 120.0)


def describe(agent: AgentProcess) -> Any:
    """What the agent says of itself."""
    return request(AgentAddress.parse(agent.url), "GET", DEVICE_PATH)
