"""What the agent answers where it does not measure."""

from collections.abc import Mapping


class Refusal(Exception):
    """An HTTP status of 400 or above, the reason for people, and headers."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})
