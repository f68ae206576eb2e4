"""The error that the agent answers with instead of a measurement."""

from collections.abc import Mapping


class RequestRefused(Exception):
    """A request is refused with an HTTP status of 400 or above.

    Attributes:
        status: HTTP status.
        reason: Message for the client.
        headers: Additional headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})
