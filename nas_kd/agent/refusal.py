"""What the agent answers where it does not measure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refusal(Exception):
    """An HTTP status of 400 or above, the reason for people, and headers."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
