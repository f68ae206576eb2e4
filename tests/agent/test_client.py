"""The client of an agent: addresses, tokens, and agents that are down, changed, or no agents at all."""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.agent_process import TOKEN, AgentProcess
from nas_kd.cli.app import app
from nas_kd.errors import InputError, TrialError
from nas_kd.latency.agent_client import AgentAddress
from nas_kd.latency.agent_protocol import DEVICE_PATH, TOKEN_VARIABLE
from nas_kd.latency.device import Device, LocalDevice, open_device
from nas_kd.latency.measured_file import measure_file

OWN = """
from nas_kd.latency.device_profile import DeviceProfile
MINE = DeviceProfile('mine', 'my own', optimisation='{}')
"""


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://board", AgentAddress("http", "board", 8765, "cpu-1t")),
        ("https://board:1/", AgentAddress("https", "board", 1, "cpu-1t")),
        ("http://board:8765/cpu-2t", AgentAddress("http", "board", 8765, "cpu-2t")),
        ("HTTP://10.0.0.7/my%20own", AgentAddress("http", "10.0.0.7", 8765, "my own")),
        ("http://[::1]:9/x", AgentAddress("http", "::1", 9, "x")),
    ],
)
def test_addresses(url: str, address: AgentAddress) -> None:
    assert AgentAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://:8765",
        "http://board:port",
        "http://board:99999",
        "http://board/a/b",
        "http://board?profile=x",
        "http://board/x#y",
        "http://[::1",
        "http://bo ard/x",
        "http://user:secret@board/x",
        "http://board/x\r\nX: y",
    ],
)
def test_no_addresses(url: str) -> None:
    with pytest.raises(InputError, match="must be http://HOST:PORT/PROFILE") as error:
        open_device(url)
    assert "secret" not in str(error.value)


def test_a_profile_here_and_one_there_are_the_same_kind_of_thing(agent: AgentProcess, content: bytes) -> None:
    here, there = open_device("cpu-1t"), open_device(agent.url)
    devices: tuple[Device, ...] = (here, there)
    for device in devices:
        device.check()
        assert len(device.key()) == 64
        assert device.measure(content, 1).p50 > 0
        assert device.memory(content, 1) != device.memory(content, 60_000)
        assert [o.kind for o in device.operators(content, 1)] == ["MatMul"]
        assert device.describe(3).batch_size == 3
    assert isinstance(here, LocalDevice)
    assert (here.n_threads, there.n_threads) == (1, 0)
    assert there.name == f"{agent.url}/cpu-1t"
    assert there.summary == f"the machine behind {agent.url}: {here.summary}"
    assert (here.batch_size, here.precisions, here.integer_scheme) == (
        there.batch_size,
        there.precisions,
        there.integer_scheme,
    )
    assert there.key() == here.key(), "one machine, the same settings: the same key"
    assert open_device(f"{agent.url}/cpu-2t").key() != there.key()


def test_a_users_own_profile_is_described_in_full(tmp_path: Path, identity: bytes) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "own.toml").write_text("name = 'mine'\nbatch_size = 3\nprecisions = ['fp32']\ninteger_scheme = 's8s8'\n")
    path = tmp_path / "net.onnx"
    path.write_bytes(identity)
    with AgentProcess(folder, ["--profile", "own.toml"]) as agent:
        device = open_device(f"{agent.url}/mine")
        assert (device.batch_size, device.precisions, device.integer_scheme) == (3, ("fp32",), "s8s8")
        measured = measure_file(path, device, input_shape=(7,))
    assert (measured.batch_size, measured.input_shape) == (3, (7,))
    assert measured.samples_per_s == pytest.approx(3000 / measured.latency.p50)
    assert [o.kind for o in measured.operators] == ["Identity"]
    assert measured.memory.session_bytes is None or measured.memory.session_bytes >= 0


def test_outputs_that_are_not_finite_are_an_error(agent: AgentProcess, not_finite: bytes) -> None:
    with pytest.raises(TrialError, match=r"http.*: its outputs on random samples are not finite"):
        open_device(agent.url).memory(not_finite, 1, (5,))


def test_a_batch_takes_longer_than_a_sample(agent: AgentProcess, content: bytes) -> None:
    device = open_device(agent.url)
    assert device.measure(content, 60_000).p50 > 5 * device.measure(content, 1).p50


def test_mistakes_are_reported_before_a_run_begins(agent: AgentProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for token, says in ((TOKEN[:-1], "does not accept the token"), ("", "no token in"), ("kurz", "16 or more")):
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        with pytest.raises(InputError, match=says):
            open_device(agent.url, 60).check()
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with pytest.raises(InputError, match=r"unknown profile of .* 'cpu-1'; did you mean 'cpu-1t'"):
        open_device(f"{agent.url}/cpu-1", 60).check()
    with closed_port() as port, pytest.raises(InputError, match=r"cannot be reached: connection refused"):
        open_device(f"http://127.0.0.1:{port}", 60).check()
    with pytest.raises(InputError, match=r"cannot be reached"):
        open_device("http://no.such.board.invalid", 60).check()
    with pytest.raises(InputError, match=r"cannot be reached: .*ssl"):
        open_device(f"https://127.0.0.1:{agent.port}", 60).check()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which no process listens, and which no other process can get."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def description(**changes: object) -> bytes:
    """An agent's description of itself, with changes to its profile."""
    profile = {"summary": "", "key": "0", "settings": {}, "batch_size": 1, "precisions": [], "integer_scheme": "u8s8"}
    answer = {"environment": {}, "profiles": {"cpu-1t": profile | changes}, "max_bytes": 1, "longest_s": 1}
    return json.dumps(answer).encode()


OLDER = b'{"error": "there is only /v1/device and /v1/measure"}'  # an agent of version 1 of the protocol


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "not as a device agent does"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "not as a device agent does"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"profiles": {}}', "unknown profile"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"profiles": 3}', "another version"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + description(precisions=None), "another version"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + description(batch_size="many"), "another version"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + description(batch_size=0), "another version"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + description(integer_scheme="s4s4"), "another version"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"profiles": {"cpu-1t": {"key": 1}}}', "another version"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"a": ' + b"[" * 100_000, "not as a device agent does"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 4_200_000, "not as a device agent does"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n" + OLDER, "another version of nas-kd would; install the same"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "not as a device agent does"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached"),
        (b"", "cannot be reached: it closed the connection"),
    ],
)
def test_a_server_that_is_no_agent_is_an_error(answer: bytes, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(InputError, match=says):
            open_device(f"http://127.0.0.1:{server.getsockname()[1]}", 60).check()
        thread.join()


def test_the_client_waits_for_an_agent_that_restarts(tmp_path: Path, content: bytes) -> None:
    messages: list[str] = []
    with AgentProcess(tmp_path / "board") as agent:
        device = open_device(agent.url, 120, messages.append)
        device.check()
        before = device.measure(content, 1)
        agent.kill()
        later = threading.Timer(1.0, agent.start)
        later.start()
        after = device.measure(content, 1)
        later.join()
    assert after.reference_size == before.reference_size == "small"
    assert [("trying again for up to 120 s" in t, "answers again" in t) for t in messages] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(TrialError, match="has not answered for 0 s: connection refused"):
        open_device(device.name, 0).measure(content, 1)


def test_a_measurement_is_repeated_if_the_agent_restarts_meanwhile(tmp_path: Path, content: bytes) -> None:
    messages: list[str] = []
    with AgentProcess(tmp_path / "board") as agent:
        device = open_device(agent.url, 120, messages.append)
        device.check()

        def restart() -> None:
            while not is_measuring(agent):
                time.sleep(0.01)
            agent.kill()
            agent.start()

        thread = threading.Thread(target=restart)
        thread.start()
        assert device.measure(content, 1).p50 > 0
        thread.join()
    assert len(messages) == 2


def is_measuring(agent: AgentProcess) -> bool:
    assert agent.process is not None
    children = Path(f"/proc/{agent.process.pid}/task")
    return any((t / "children").read_text().strip() for t in children.iterdir())


def test_an_agent_that_has_changed_ends_the_run(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "own.py").write_text(OWN.format("all"))
    with AgentProcess(folder, ["--profile", "own:MINE"]) as agent:
        device = open_device(f"{agent.url}/mine", 120)
        device.check()
        assert device.describe(1).environment["optimisation"] == "all"
        agent.kill()
        (folder / "own.py").write_text(OWN.format("basic"))
        agent.start()
        with pytest.raises(InputError, match="have changed"):
            device.measure(content, 1)
        with pytest.raises(InputError, match=r"not what it was .*: optimisation was all, is basic"):
            device.check()


def test_a_file_that_is_too_large_for_the_agent_fails_its_trial(tmp_path: Path, content: bytes) -> None:
    says = r"takes at most 0.05 MB, this file and the reference have 0.1 MB"
    with AgentProcess(tmp_path / "board", ["--max-mb", "0.05"]) as agent, pytest.raises(TrialError, match=says):
        open_device(agent.url).measure(content, 1)


def test_over_tls(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    try:
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("makes its certificate with openssl, which is not installed")
    with AgentProcess(tmp_path / "board", ["--certificate", str(certificate), "--key", str(key)]) as agent:
        assert agent.url.startswith("https://")
        with pytest.raises(InputError, match="certificate is not trusted"):
            open_device(agent.url, 60).check()
        with socket.create_connection(("127.0.0.1", agent.port)) as plain:
            plain.sendall(f"GET {DEVICE_PATH} HTTP/1.1\r\n\r\n".encode())
            assert b"200" not in plain.recv(1000)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert open_device(agent.url, 60).measure(content, 1).p50 > 0
        monkeypatch.setenv(TOKEN_VARIABLE, "the-wrong-token-for-this")
        with pytest.raises(InputError, match="does not accept the token"):
            open_device(agent.url, 60).measure(content, 1)
    assert ssl.PEM_HEADER not in agent.log.read_text()


def test_the_command_measures_there(agent: AgentProcess, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["measure", str(path), "--device", agent.url])
    assert result.exit_code == 0, result.output
    for description in ("latency p50", "latency p99", "peak memory", "MatMul", f"{agent.url}/cpu-1t"):
        assert description in result.output.replace("\n", "")
    result = CliRunner().invoke(app, ["measure", str(path), "--device", f"{agent.url}/x"])
    assert result.exit_code == 2
    result = CliRunner().invoke(app, ["device-agent", "--help"])
    assert "--token-file" in result.output
