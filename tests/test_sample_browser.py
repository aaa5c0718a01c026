"""The sample browser in Chromium: from disk, by mouse and by keyboard."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("plotly")

from lossylens.run.driver import run
from lossylens_report import write_report

pytestmark = pytest.mark.slow

#: How often the 24 questions of the sample run are there.
COPIES = 100


def columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def multiply(folder: Path, copies: int = COPIES) -> None:
    """Let the run have its questions, answers and verdicts *copies* times."""
    with sqlite3.connect(folder / "run.sqlite") as database:
        for table, key in (
            ("samples", "id"),
            ("sample_images", "sample"),
            ("predictions", "sample"),
            ("verdicts", "sample"),
        ):
            names = columns(database, table)
            made = {key: f"{key} || '-' || n"}
            if table == "samples":
                made["position"] = "position + n * (SELECT count(*) FROM base)"
            values = ", ".join(made.get(name, f"base.{name}") for name in names)
            database.execute(f"CREATE TEMP TABLE base AS SELECT * FROM {table}")
            database.execute(
                f"WITH RECURSIVE n(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM n WHERE n < ?)"
                f" INSERT INTO {table} SELECT {values} FROM base, n",
                (copies - 1,),
            )
            database.execute("DROP TABLE base")
    database.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report is kept that all tests look at."""
    return tmp_path_factory.mktemp("written") / "report"


@pytest.fixture
def page_file(make_config: Callable[..., Any], written: Path, tmp_path: Path) -> Path:
    if not written.exists():
        config = make_config()
        run(config, lambda line: None)
        multiply(config.run.out)
        write_report(config.run.out, out=written)
    shutil.copytree(written, tmp_path / "report")
    return tmp_path / "report" / "samples.html"


def shown(page: Any) -> int:
    """Return how many questions are listed, once the page has settled."""
    page.wait_for_selector("#detail h2, #detail .soft")
    return int(page.locator("#count").inner_text().split()[0].replace(",", "").replace("none", "0"))


def test_from_disk_by_mouse_and_keyboard(page_file: Path, opened: Any) -> None:
    with opened(page_file, beside=True) as page:
        total = shown(page)
        assert total == 24 * COPIES
        # Rows out of view are not there.
        assert 0 < page.locator(".row").count() < 60
        slider = page.get_by_role("slider")
        slider.fill("20")
        assert "20%" in page.locator(".over").get_attribute("style")
        for image in page.locator("#detail img").all():
            image.evaluate("image => image.decode()")
        first = page.locator("#detail p").first.inner_text()
        page.locator("#list").focus()
        page.keyboard.press("End")
        page.wait_for_selector(f"#row-{total - 1}")
        page.wait_for_selector(f"#detail p:has-text('-{COPIES - 1}')")
        assert page.locator("#detail p").first.inner_text() != first
        assert f"question={total - 1}" in page.url
        page.keyboard.press("l")
        page.wait_for_selector("tr[aria-current]:has-text('b16')")
        assert "level=b16" in page.url
        page.keyboard.press("v")
        page.wait_for_selector("#detail .beside img >> nth=1")
        page.keyboard.press("f")
        page.wait_for_selector("#detail .flip, #detail > .soft:only-child")
        flipped = shown(page)
        assert flipped < total
        address = page.url
    # The address alone shows the same.
    with opened(page_file, beside=True, address=address) as page:
        assert shown(page) == flipped
        assert page.locator("[data-role=only]").input_value() == "flipped"
        assert page.locator("[data-role=level]").input_value() == "b16"


def test_questions_are_filtered_by_rate_and_verdict(page_file: Path, opened: Any) -> None:
    with opened(page_file, beside=True) as page:
        total = shown(page)
        rates = page.locator("tbody td:nth-child(2)").all_inner_texts()
        page.locator("[data-role=low]").fill(str(float(rates[1]) + 100))
        page.locator("[data-role=low]").press("Tab")
        page.wait_for_selector("#count:has-text('none of')")
        page.locator("[data-role=low]").fill("")
        page.locator("[data-role=low]").press("Tab")
        page.wait_for_selector("#detail h2")
        page.locator("[data-role=only]").select_option("wrong")
        page.wait_for_selector(f"#count:not(:has-text('{total:,} of'))")
        assert 0 < shown(page) < total
        for marks in page.locator(".row .marks").all_inner_texts():
            assert marks.split("→")[1].strip() == "✗"


def test_what_is_pressed_keeps_the_focus(page_file: Path, opened: Any) -> None:
    with opened(page_file, beside=True) as page:
        shown(page)
        page.get_by_role("button", name="b16").click()
        page.wait_for_selector("tr[aria-current]:has-text('b16')")
        assert page.evaluate("document.activeElement.textContent") == "b16"
        page.get_by_role("button", name="Side by side").click()
        page.wait_for_selector("#detail .beside")
        assert page.evaluate("document.activeElement.textContent") == "Slider"


def test_a_link_shows_all_that_it_says_and_nothing_else(page_file: Path, opened: Any) -> None:
    with opened(page_file, beside=True) as page:
        total = shown(page)
        page.locator("[data-role=only]").select_option("wrong")
        page.wait_for_selector(f"#count:not(:has-text('{total:,} of'))")
        page.evaluate("location.hash = '#level=b16&question=3'")
        page.wait_for_selector("tr[aria-current]:has-text('b16')")
        assert page.locator("[data-role=only]").input_value() == ""
        assert shown(page) == total
        assert "question=3" in page.url


def test_no_model_beside_is_a_choice(
    make_config: Callable[..., Any], opened: Any, tmp_path: Path
) -> None:
    config = make_config("adaptors.none=", "adaptors.darken.by=3")
    run(config, lambda line: None)
    write_report(config.run.out, out=tmp_path / "adapted")
    with opened(tmp_path / "adapted" / "samples.html", beside=True) as page:
        shown(page)
        beside = page.locator("[data-role=beside]")
        assert beside.input_value() == "seer + darken"
        beside.select_option("none")
        page.wait_for_function("location.hash.includes('beside=none')")
        page.locator("[data-role=level]").select_option("b16")
        page.wait_for_selector("tr[aria-current]:has-text('b16')")
        assert beside.input_value() == "none"
        assert page.locator("#detail thead th").count() == 3


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page_file: Path, opened: Any, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(page_file, beside=True, width=width, color_scheme=scheme) as page:
        shown(page)
        page.wait_for_selector("#detail img")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()


def test_a_missing_piece_is_told(page_file: Path, opened: Any) -> None:
    for piece in page_file.parent.glob("samples/0/questions-*.js"):
        piece.unlink()
    with opened(page_file, beside=True, missing=True) as page:
        page.wait_for_selector("[role=alert]")
        assert "keep that folder beside this page" in page.locator("[role=alert]").inner_text()
