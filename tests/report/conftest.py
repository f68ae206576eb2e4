"""A browser for the tests that look at the page as a reader does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import Page, browser, chromium


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a headless Chromium."""
    if chromium() is None:
        pytest.skip("no Chromium is installed: the page is not looked at")
    profile: Path = tmp_path_factory.mktemp("profile")
    with browser(profile) as tab:
        yield tab
