"""Hostile requests: none is served, and none keeps the agent from serving the next."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.agent.handler import RequestLimits
from nas_kd.agent.measurement_queue import MeasurementQueue
from nas_kd.agent.server import AgentServer
from nas_kd.latency.agent_protocol import DEVICE_PATH
from nas_kd.latency.device_profile import load_device
from nas_kd.latency.reference_net import reference_net

from .hostile_requests import hostile_requests
from .raw_requests import AUTHORISATION, describe, measure, measure_request, post, send


@pytest.mark.parametrize("seed", [0])
def test_of_a_thousand_requests_none_is_served_and_none_is_fatal(tmp_path: Path, content: bytes, seed: int) -> None:
    with AgentProcess(tmp_path / "board") as agent:
        description = describe(agent)
        statuses: dict[int, int] = {}
        for data in hostile_requests(measure_request(agent, content), content, reference_net("small"), 1000, seed):
            answer = send(agent, data)
            assert answer.status in (0, 505) or 400 <= answer.status < 500, (data[:200], answer)
            assert description["environment"]["cpu"] not in answer.text
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert statuses.keys() >= {400, 401, 404, 405, 411, 413, 422, 431}, statuses
        assert agent.process is not None
        assert agent.process.poll() is None
        assert describe(agent)["profiles"] == description["profiles"]
        assert measure(agent, content)
        deadline = time.monotonic() + 10
        while "measure 200" not in agent.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)  # the answer is sent before it is logged
    log = agent.log.read_text()
    assert TOKEN not in log
    assert "Traceback" not in log
    assert "etc" not in log
    served = re.findall(r"(device|measure) 200", log)
    assert served == ["device", "device", "device", "device", "measure"]  # the requests of this test before and after


@contextmanager
def listening(limits: RequestLimits, queue_timeout_s: float = 30.0) -> Iterator[AgentServer]:
    """An agent in this process with these limits."""
    queue = MeasurementQueue({"cpu-1t": load_device("cpu-1t")}, limits.max_bytes, 60.0, queue_timeout_s)
    server = AgentServer(("127.0.0.1", 0), queue=queue, token=TOKEN, limits=limits, tls=None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionError:
        pass
    return received


def exchange(server: AgentServer, data: bytes) -> bytes:
    with socket.create_connection(server.server_address[:2], timeout=30) as connection:
        connection.sendall(data)
        return receive_all(connection)


DESCRIBE = f"GET {DEVICE_PATH} HTTP/1.1\r\n{AUTHORISATION}\r\n".encode()


def send_byte_by_byte(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.mark.parametrize("slow_data", [DESCRIBE, post(b"a" * 500)])
def test_a_byte_now_and_then_does_not_keep_a_connection_open(slow_data: bytes) -> None:
    with (
        listening(RequestLimits(max_bytes=1000, head_s=0.3, body_s=0.3)) as server,
        socket.create_connection(server.server_address[:2], timeout=30) as slow,
    ):
        head = slow_data.find(b"\r\n\r\n") + 4 if slow_data.startswith(b"POST") else 0
        slow.sendall(slow_data[:head])
        with pytest.raises(ConnectionError):
            send_byte_by_byte(slow, slow_data[head:])
        assert b" 200 " in exchange(server, DESCRIBE)


def test_silent_connections_do_not_shut_others_out() -> None:
    with listening(RequestLimits(max_bytes=1000, head_s=0.5, connections=3)) as server:
        silent = [socket.create_connection(server.server_address[:2], timeout=30) for _ in range(20)]
        answers = [receive_all(connection) for connection in silent]
        assert {answer.partition(b"\r\n")[0] for answer in answers} <= {b"", b"HTTP/1.0 408 Request Timeout"}
        assert b"" in answers, "more than three connections were accepted"
        for connection in silent:
            connection.close()
        answer = b""
        while not answer:
            answer = exchange(server, DESCRIBE)
        assert b" 200 " in answer


def test_a_client_that_waits_too_long_for_others_is_refused_for_now() -> None:
    with listening(RequestLimits(max_bytes=1000), queue_timeout_s=0.05) as server, server.queue.exclusive():
        answer = exchange(server, post(b"{}\nabc"))
        assert b" 503 " in answer
        assert b"Retry-After: " in answer
        assert b" 200 " in exchange(server, DESCRIBE)
    with listening(RequestLimits(max_bytes=1000), queue_timeout_s=0.05) as server:
        assert b" 400 " in exchange(server, post(b"{}\nabc")), "the queue is free again"
