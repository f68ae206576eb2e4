"""A browser for the tests that open the page as a reader does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .headless_browser import Page, browser, chromium


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Provide a tab of a headless Chromium, shared by all tests."""
    if chromium() is None:
        pytest.skip("no Chromium is installed")
    profile: Path = tmp_path_factory.mktemp("profile")
    with browser(profile) as tab:
        yield tab
