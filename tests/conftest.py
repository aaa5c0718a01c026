"""A browser for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

Opened = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """A function that opens a page; at the end nothing was logged and nothing requested."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=120_000)

        @contextmanager
        def opened(
            path: Path,
            *,
            width: int = 1200,
            beside: bool = False,
            missing: bool = False,
            address: str = "",
            **settings: Any,
        ) -> Iterator[Any]:
            """Open *path*, at *address*; pieces *beside* it may be loaded, or be *missing*."""
            page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
            page.set_default_timeout(120_000)
            problems: list[str] = []
            requests: list[str] = []
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(address or path.as_uri())
            yield page
            assert missing or problems == []
            loaded = [url for url in requests if not url.startswith(("data:", "blob:"))]
            assert loaded[0] == path.as_uri()
            folder = f"{path.parent.as_uri()}/samples/"
            assert all(beside and url.startswith(folder) for url in loaded[1:]), loaded
            page.close()

        yield opened
        browser.close()
