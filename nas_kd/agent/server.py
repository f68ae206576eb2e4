"""Listens: a thread a connection, never more connections than allowed."""

import socket
import socketserver
import ssl
import sys
import threading
from typing import Any

from nas_kd.agent.handler import Handler, Limits
from nas_kd.agent.measurement_queue import MeasurementQueue


class AgentServer(socketserver.ThreadingTCPServer):
    """The agent at an address; `tls`: with a certificate, or None."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        *,
        bench: MeasurementQueue,
        token: str,
        limits: Limits,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.bench, self.token, self.limits, self._tls = bench, token, limits, tls
        self._places = threading.Semaphore(limits.connections)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        """Where it can be reached."""
        host, port = self.server_address[0], self.server_address[1]
        shown = f"[{host!s}]" if self.address_family == socket.AF_INET6 else str(host)
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"

    def get_request(self) -> tuple[Any, Any]:
        """The next connection; its handshake, which may be slow, is left to its thread."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for it, or hang up if there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no more threads
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for what no answer was found for, such as a handshake that failed."""
        error = sys.exc_info()[1]
        sys.stderr.write(f"{client_address[0]} failed: {type(error).__name__}\n")
        sys.stderr.flush()
