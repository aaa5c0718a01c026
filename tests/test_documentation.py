"""What the pages of ``docs/`` show works, and the pages that are made are made right."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from lossylens.testing.pictures import picture

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="needs requirements-dev.txt")


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import docs_hooks

    yield docs_hooks
    del sys.modules["docs_hooks"]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_printed_multiple_choice_task_scores(tmp_path: Path) -> None:
    [code] = blocks("guides/benchmark.md", "python")
    printed: dict[str, object] = {}
    exec(code, printed)
    file = io.BytesIO()
    picture(8, 8).save(file, "PNG")
    cell = base64.b64encode(file.getvalue()).decode()
    data = tmp_path / "data.tsv"
    rows = ["index\timage\tquestion\tanswer\tA\tB"]
    rows += [f"{n}\t{cell}\tWhich?\t{right}\twinter\tspring" for n, right in enumerate("ABB")]
    data.write_text("\n".join(rows) + "\n")
    task = printed["Seasons"](printed["SPEC"].options(data=str(data)))
    assert next(iter(task.samples())).question.options == {"A": "winter", "B": "spring"}
    score = task.score({"0": "A", "1": "A", "2": "The answer is B."})
    assert score.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_configurations_are_yaml(page: Path) -> None:
    for block in blocks(str(page.relative_to(ROOT / "docs")), "yaml"):
        assert isinstance(yaml.safe_load(block), dict)


def test_links_of_the_repository_become_links_of_the_site(hooks: ModuleType) -> None:
    tasks = {"plugins/tasks/pope/README.md", "plugins/tasks/mme/README.md"}
    pages = {"README.md", "demo.png", *tasks}
    text = (
        "[all](../../../README.md), [P](../pope/README.md#scores), [it](../pope), [code](task.py)"
    )
    assert hooks.turned(text, "plugins/tasks/mme/README.md", pages) == (
        "[all](../../../README.md), [P](../pope/README.md#scores), [it](../pope/README.md), code"
    )
    assert hooks.turned("![demo](docs/demo.png)", "README.md", pages) == "![demo](demo.png)"
    assert hooks.turned("[x](https://example.org) [y](#z)", "README.md", pages) == (
        "[x](https://example.org) [y](#z)"
    )


def test_formulas(hooks: ModuleType) -> None:
    made = hooks.formulas("a $`x_1`$ and\n$$ \\frac{1}{2} $$\nfor $5 and `$HOME`")
    assert made.count("<math") == 2
    assert "<mfrac>" in made
    assert "for $5 and `$HOME`" in made


def test_a_plugin_is_described_by_its_spec(hooks: ModuleType) -> None:
    from lossylens.registry.plugins import load_registry

    registry = load_registry()
    told = hooks.described(registry.find("codec", "jpeg"), registry)
    assert "| levels | `q1`, `q3`, `q5`, `q6` |" in told
    assert "`subsampling`" in told
    assert "| primary metric | `Overall/Overall`, 0 to 100, higher is better |" in hooks.described(
        registry.find("task", "pope"), registry
    )


def test_every_command_is_documented(hooks: ModuleType) -> None:
    told = hooks.commands()
    for name in ("run", "report", "new adaptor", "train codec", "scenes export", "analyze layers"):
        assert f"`lossylens {name}`" in told


@pytest.mark.parametrize(
    ("address", "right"),
    [
        ("https://arxiv.org/abs/2509.24258", True),
        ("https://example.org", True),
        ("https://example.org/a/b?c=d#e", True),
        ("https://arxiv.org/abs/250.24258", False),
        ("http://example.org/", False),
        ("https://example/", False),
        ("https://example.org/a b", False),
    ],
)
def test_links_to_elsewhere_have_the_form_of_addresses(
    hooks: ModuleType, address: str, right: bool
) -> None:
    assert hooks.well_formed(address) == right
