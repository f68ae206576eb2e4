"""How far the loading of data has come, and what the user should know of it: reported to a listener.

Sources are called with their options alone, so what they report goes to the listener of the current context.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class LoadingListener(Protocol):
    """Receives what happens; callbacks of a run do."""

    def on_note(self, text: str) -> None:
        """Called with anything unusual that the user should know."""

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Called when something long has advanced by a step."""


_LISTENER: ContextVar[LoadingListener | None] = ContextVar("loading listener", default=None)


@contextmanager
def listening(listener: LoadingListener) -> Iterator[None]:
    """Report to a listener inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def report_note(text: str) -> None:
    """Say something that does not belong to the data, such as where they are kept."""
    if (listener := _LISTENER.get()) is not None:
        listener.on_note(text)


def report_progress(what: str, done: int, total: int) -> None:
    """Say how far something long has come, such as "decoding pictures of train:"."""
    if (listener := _LISTENER.get()) is not None:
        listener.on_progress(what, done, total)
