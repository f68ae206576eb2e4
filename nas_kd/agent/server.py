"""The agent's server: one thread a connection, and never more connections than allowed."""

import socket
import socketserver
import ssl
import sys
import threading
from typing import Any

from nas_kd.agent.handler import RequestHandler, RequestLimits
from nas_kd.agent.measurement_queue import MeasurementQueue


class AgentServer(socketserver.ThreadingTCPServer):
    """Listens at an address and hands requests to the measurement queue."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        *,
        queue: MeasurementQueue,
        token: str,
        limits: RequestLimits,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Bind to the address; `serve_forever` begins to answer.

        Args:
            address: Host and port; port 0: any that is free.
            queue: Does the measurements.
            token: What clients must send.
            limits: Limits on requests.
            tls: Context with the certificate; None: plain HTTP.

        Raises:
            OSError: The address cannot be bound.
        """
        self.queue, self.token, self.limits, self._tls = queue, token, limits, tls
        self._free_connections = threading.Semaphore(limits.connections)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, RequestHandler)

    @property
    def url(self) -> str:
        """The URL at which the agent listens."""
        host, port = self.server_address[0], self.server_address[1]
        shown = f"[{host!s}]" if self.address_family == socket.AF_INET6 else str(host)
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"

    def get_request(self) -> tuple[Any, Any]:
        """Accept the next connection; its TLS handshake, which may be slow, is left to its thread."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or close it if too many are open."""
        if not self._free_connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no more threads
            self._free_connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection in its thread, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log one line for a connection that failed before it could be answered, such as a failed handshake."""
        error = sys.exc_info()[1]
        sys.stderr.write(f"{client_address[0]} failed: {type(error).__name__}\n")
        sys.stderr.flush()
