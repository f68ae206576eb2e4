"""The line to a device agent: an address, one request at a time, and what each kind of failure means."""

import http.client
import json
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from nas_kd.errors import InputError, TrialError
from nas_kd.latency.agent_protocol import DEFAULT_PORT, DEFAULT_PROFILE, TOKEN_VARIABLE, read_error, read_token

CONNECT_S = 10.0
MAX_ANSWER_BYTES = 4_000_000
# The agent, or what stands before it, is not ready or gave up: the same request may do better later.
LATER = {408, 429, 500, 502, 503, 504}
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a board without power says no goodbye


class AgentUnreachable(Exception):
    """The agent cannot be reached or is busy; `retry_after_s`: what it asks for."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class AgentAddress:
    """Where an agent is, and which of its profiles is meant."""

    scheme: str
    host: str
    port: int
    profile: str

    @staticmethod
    def parse(text: str) -> "AgentAddress":
        """`http[s]://HOST[:PORT][/PROFILE]`.

        Raises:
            InputError: it is anything else.
        """
        form = f"device {_without_secrets(text)!r} must be http://HOST:PORT/PROFILE or https://HOST:PORT/PROFILE"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise InputError(f"{form}: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise InputError(f"{form}, without user and password; the token comes from {TOKEN_VARIABLE}")
        profile = unquote(parts.path.strip("/"))
        readable = all(c.isprintable() and not c.isspace() for c in text)
        if not parts.hostname or parts.query or parts.fragment or "/" in profile or not readable:
            raise InputError(form)
        return AgentAddress(parts.scheme, parts.hostname, port or DEFAULT_PORT, profile or DEFAULT_PROFILE)

    @property
    def agent(self) -> str:
        """Without the profile."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_address(device: str) -> bool:
    """Whether a device's name leads to an agent."""
    return device.lower().startswith(("http://", "https://"))


def request(address: AgentAddress, method: str, path: str, body: bytes | None = None, timeout_s: float = 30.0) -> Any:
    """The agent's answer (JSON); redirects and proxies are not followed, the token goes to this address only.

    Raises:
        Unreachable: it does not answer, or not now.
        TrialError: it refuses this very file.
        InputError: there is no token, or it is not one that the agent takes; no agent is there; its profiles or its
            environment have changed.
    """
    headers = {"Authorization": f"Bearer {read_token()}", "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/octet-stream"
    connection = _connection(address)
    try:
        _connect(connection, timeout_s)
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it had read everything
            connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        reason = f"{address.agent}: its certificate is not trusted ({error.verify_message})"
        raise InputError(f"{reason}; name a file that holds it in SSL_CERT_FILE") from error
    except (OSError, http.client.HTTPException) as error:
        raise AgentUnreachable(_reason(error)) from error
    finally:
        connection.close()
    return _understood(address, response, content)


def _understood(address: AgentAddress, response: http.client.HTTPResponse, content: bytes) -> Any:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    status, said = response.status, read_error(answer)
    reason = said or f"status {status}"
    if status == 200 and isinstance(answer, dict):
        return answer
    if status in LATER:
        wait = response.headers.get("Retry-After", "")
        raise AgentUnreachable(reason, min(60.0, float(wait)) if wait.isascii() and wait.isdecimal() else 0.0)
    if status == 401:
        raise InputError(f"{address.agent} does not accept the token in {TOKEN_VARIABLE}")
    if status in (413, 422) and said:
        raise TrialError(f"{address.agent}: {said}")
    if said:
        raise InputError(f"{address.agent}: {said}")
    raise InputError(f"{address.agent} answers, but not as a device agent does ({reason}); look at host and port")


def _connection(address: AgentAddress) -> http.client.HTTPConnection:
    if address.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(address.host, address.port, timeout=CONNECT_S, context=context)
    return http.client.HTTPConnection(address.host, address.port, timeout=CONNECT_S)


def _connect(connection: http.client.HTTPConnection, timeout_s: float) -> None:
    connection.connect()
    connection.sock.settimeout(timeout_s)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).lower().split())


def _without_secrets(text: str) -> str:
    """Without what may be a user and password."""
    scheme, separator, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
