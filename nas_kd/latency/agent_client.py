"""Sends one request at a time to a device agent, and tells apart the kinds of failure."""

import http.client
import json
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from nas_kd.errors import InputError, TrialError
from nas_kd.latency.agent_protocol import (
    DEFAULT_PORT,
    DEFAULT_PROFILE,
    DEVICE_PATH,
    TOKEN_VARIABLE,
    read_error,
    read_token,
)

CONNECT_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 4_000_000
# The agent, or a proxy in front of it, is not ready or gave up: the same request may succeed later.
RETRY_STATUSES = {408, 429, 500, 502, 503, 504}
MAX_RETRY_AFTER_S = 60.0
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a board without power closes no connection


class AgentUnreachable(Exception):
    """The agent cannot be reached, or is busy; the request may be repeated.

    Attributes:
        retry_after_s: How long the agent asks to wait, in seconds.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class AgentAddress:
    """The address of an agent and the name of one of its device profiles."""

    scheme: str
    host: str
    port: int
    profile: str

    @staticmethod
    def parse(url: str) -> "AgentAddress":
        """Parse the URL of a device, `http[s]://HOST[:PORT][/PROFILE]`.

        Raises:
            InputError: The URL has another form.
        """
        form = f"device {_without_credentials(url)!r} must be http://HOST:PORT/PROFILE or https://HOST:PORT/PROFILE"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"{form}: {error}") from error
        if parts.username is not None or parts.password is not None:
            raise InputError(f"{form}, without user and password; the token comes from {TOKEN_VARIABLE}")
        profile = unquote(parts.path.strip("/"))
        printable = all(c.isprintable() and not c.isspace() for c in url)
        if not parts.hostname or parts.query or parts.fragment or "/" in profile or not printable:
            raise InputError(form)
        return AgentAddress(parts.scheme, parts.hostname, port or DEFAULT_PORT, profile or DEFAULT_PROFILE)

    @property
    def agent_url(self) -> str:
        """The URL of the agent, without the profile."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_agent_url(device: str) -> bool:
    """Whether a device's name is the URL of an agent."""
    return device.lower().startswith(("http://", "https://"))


def call_agent(
    address: AgentAddress, method: str, path: str, body: bytes | None = None, timeout_s: float = 30.0
) -> Any:
    """Send a request to an agent and return its answer, read as JSON.

    Redirects and proxies are not followed: the token is sent to this address only.

    Args:
        address: Where the agent is.
        method: HTTP method.
        path: Path of the request, see `agent_protocol`.
        body: Content of a POST request.
        timeout_s: Longest pause while the agent answers.

    Raises:
        AgentUnreachable: It does not answer, or not now.
        TrialError: It refuses this very file.
        InputError: There is no token, or the agent does not accept it; there is no agent at this address, or one of
            another version; or its profiles or its environment have changed.
    """
    headers = {"Authorization": f"Bearer {read_token()}", "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/octet-stream"
    connection = _connection(address)
    try:
        _connect(connection, timeout_s)
        with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read everything
            connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES + 1)
    except ssl.SSLCertVerificationError as error:
        reason = f"{address.agent_url}: its certificate is not trusted ({error.verify_message})"
        raise InputError(f"{reason}; name a file that holds it in SSL_CERT_FILE") from error
    except (OSError, http.client.HTTPException) as error:
        raise AgentUnreachable(_reason(error)) from error
    finally:
        connection.close()
    if path == DEVICE_PATH and response.status == 404 and read_error(_parse(content)):
        raise other_version(address)
    return _check(address, response, content)


def other_version(address: AgentAddress) -> InputError:
    """The error for an agent that speaks another version of the protocol."""
    return InputError(
        f"{address.agent_url} answers as another version of nas-kd would; install the same one on both sides"
    )


def _check(address: AgentAddress, response: http.client.HTTPResponse, content: bytes) -> Any:
    answer = _parse(content)
    status, stated = response.status, read_error(answer)
    reason = stated or f"status {status}"
    if status == 200 and isinstance(answer, dict):
        return answer
    if status in RETRY_STATUSES:
        wait = response.headers.get("Retry-After", "")
        seconds = min(MAX_RETRY_AFTER_S, float(wait)) if wait.isascii() and wait.isdecimal() else 0.0
        raise AgentUnreachable(reason, seconds)
    if status == 401:
        raise InputError(f"{address.agent_url} does not accept the token in {TOKEN_VARIABLE}")
    if status in (413, 422) and stated:
        raise TrialError(f"{address.agent_url}: {stated}")
    if stated:
        raise InputError(f"{address.agent_url}: {stated}")
    raise InputError(f"{address.agent_url} answers, but not as a device agent does ({reason}); look at host and port")


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _connection(address: AgentAddress) -> http.client.HTTPConnection:
    if address.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(address.host, address.port, timeout=CONNECT_TIMEOUT_S, context=context)
    return http.client.HTTPConnection(address.host, address.port, timeout=CONNECT_TIMEOUT_S)


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


def _without_credentials(url: str) -> str:
    """The URL without what may be a user and a password, for messages."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
