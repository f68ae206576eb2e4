"""Requests that are none: no one is served, none keeps the agent from serving the next."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.agent.handler import Limits
from nas_kd.agent.measurement_queue import MeasurementQueue
from nas_kd.agent.server import AgentServer
from nas_kd.latency.agent_protocol import DEVICE_PATH
from nas_kd.latency.device_profile import load_device
from nas_kd.latency.reference_net import reference_net

from .asking import AUTHORISED, describe, job, measure, post, send
from .hostile import requests


@pytest.mark.parametrize("seed", [0])
def test_a_thousand_requests_none_served_none_fatal(tmp_path: Path, content: bytes, seed: int) -> None:
    with AgentProcess(tmp_path / "board") as agent:
        described = describe(agent)
        kinds: dict[int, int] = {}
        for data in requests(job(agent, content), content, reference_net("small"), 1000, seed):
            said = send(agent, data)
            assert said.status in (0, 505) or 400 <= said.status < 500, (data[:200], said)
            assert described["environment"]["cpu"] not in said.text
            kinds[said.status] = kinds.get(said.status, 0) + 1
        assert kinds.keys() >= {400, 401, 404, 405, 411, 413, 422, 431}, kinds
        assert agent.process is not None
        assert agent.process.poll() is None
        assert describe(agent)["profiles"] == described["profiles"]
        assert measure(agent, content)
        patience = time.monotonic() + 10
        while "measure 200" not in agent.log.read_text() and time.monotonic() < patience:
            time.sleep(0.01)  # the answer is sent before it is noted
    log = agent.log.read_text()
    assert TOKEN not in log
    assert "Traceback" not in log
    assert "etc" not in log
    served = re.findall(r"(device|measure) 200", log)
    assert served == ["device", "device", "device", "device", "measure"]  # ours, before and after


@contextmanager
def listening(limits: Limits, line_s: float = 30.0) -> Iterator[AgentServer]:
    """An agent in this process, less patient than usual."""
    bench = MeasurementQueue({"cpu-1t": load_device("cpu-1t")}, limits.max_bytes, 60.0, line_s)
    server = AgentServer(("127.0.0.1", 0), bench=bench, token=TOKEN, limits=limits, tls=None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def heard(connection: socket.socket) -> bytes:
    said = b""
    try:
        while part := connection.recv(65_536):
            said += part
    except ConnectionError:
        pass
    return said


def asked(server: AgentServer, data: bytes) -> bytes:
    with socket.create_connection(server.server_address[:2], timeout=30) as connection:
        connection.sendall(data)
        return heard(connection)


HELLO = f"GET {DEVICE_PATH} HTTP/1.1\r\n{AUTHORISED}\r\n".encode()


def drop_by_drop(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize("drip", [HELLO, post(b"a" * 500)])
def test_a_byte_now_and_then_does_not_keep_a_connection_open(drip: bytes) -> None:
    with (
        listening(Limits(max_bytes=1000, head_s=0.3, body_s=0.3)) as server,
        socket.create_connection(server.server_address[:2], timeout=30) as slow,
    ):
        head = drip.find(b"\r\n\r\n") + 4 if drip.startswith(b"POST") else 0
        slow.sendall(drip[:head])
        with pytest.raises(ConnectionError):
            drop_by_drop(slow, drip[head:])
        assert b" 200 " in asked(server, HELLO)


def test_silent_connections_do_not_shut_others_out() -> None:
    with listening(Limits(max_bytes=1000, head_s=0.5, connections=3)) as server:
        silent = [socket.create_connection(server.server_address[:2], timeout=30) for _ in range(20)]
        answers = [heard(connection) for connection in silent]
        assert {answer.partition(b"\r\n")[0] for answer in answers} <= {b"", b"HTTP/1.0 408 Request Timeout"}
        assert b"" in answers, "more than three were let in"
        for connection in silent:
            connection.close()
        answer = b""
        while not answer:
            answer = asked(server, HELLO)
        assert b" 200 " in answer


def test_who_waits_too_long_for_others_is_told_to_come_back() -> None:
    with listening(Limits(max_bytes=1000), line_s=0.05) as server, server.bench.turn():
        answer = asked(server, post(b"{}\nabc"))
        assert b" 503 " in answer
        assert b"Retry-After: " in answer
        assert b" 200 " in asked(server, HELLO)
    with listening(Limits(max_bytes=1000), line_s=0.05) as server:
        assert b" 400 " in asked(server, post(b"{}\nabc")), "the place is free again"
