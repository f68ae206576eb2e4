"""Requests to an agent as raw bytes, as anyone on the network could send them, and its answers."""

import socket
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.latency.agent_client import AgentAddress, call_agent
from nas_kd.latency.agent_protocol import DEVICE_PATH, MEASURE_PATH, MeasureRequest
from nas_kd.latency.reference_net import reference_net

AUTHORISATION = f"Authorization: Bearer {TOKEN}\r\n"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `status` is 0 where the connection was closed without one."""

    status: int
    text: str


def send(agent: AgentProcess, data: bytes, *, then: int | None = socket.SHUT_WR) -> Answer:
    """Send raw bytes and read until the agent closes the connection; `then`: what is shut down after sending."""
    received = b""
    with socket.create_connection(("127.0.0.1", agent.port), timeout=30) as connection:
        try:
            connection.sendall(data)
            if then is not None:
                connection.shutdown(then)
            while part := connection.recv(65_536):
                received += part
        except ConnectionError:
            pass
    first = received.split(b"\r\n")[0].split()
    return Answer(int(first[1]) if len(first) > 1 else 0, received.decode("latin-1"))


def post(body: bytes, *, head: str = AUTHORISATION, path: str = MEASURE_PATH, length: str | None = None) -> bytes:
    """The bytes of a POST request."""
    size = str(len(body)) if length is None else length
    return f"POST {path} HTTP/1.1\r\n{head}Content-Length: {size}\r\n\r\n".encode("latin-1") + body


def measure_request(agent: AgentProcess, content: bytes, **changes: Any) -> MeasureRequest:
    """A request that the agent would serve, except for the changes."""
    valid = MeasureRequest(
        quantity="latency",
        profile="cpu-1t",
        device_key=describe(agent)["profiles"]["cpu-1t"]["key"],
        batch_size=1,
        input_shape=None,
        seconds=0.05,
        attempts=1,
        tolerance=0.02,
        reference_size="small",
        candidate_bytes=len(content),
        reference_bytes=len(reference_net("small")),
    )
    return replace(valid, **changes)


def measure(agent: AgentProcess, content: bytes, **changes: Any) -> Any:
    """Request a measurement as the client does; the agent's answer."""
    body = measure_request(agent, content, **changes).encode(content, reference_net("small"))
    return call_agent(AgentAddress.parse(agent.url), "POST", MEASURE_PATH, body, 120.0)


def describe(agent: AgentProcess) -> Any:
    """How the agent describes itself."""
    return call_agent(AgentAddress.parse(agent.url), "GET", DEVICE_PATH)
