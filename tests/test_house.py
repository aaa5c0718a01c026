"""How the three distributions are laid out: names, and where SQL stands."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "core/lossylens",
    "toolkit/lossylens_toolkit",
    "plugins/reports/html/lossylens_report",
)
#: Modules whose name says what they are to Python or to pluggy.
NAMED_BY_ROLE = {"__init__", "__main__", "plugin"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path


def several(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_two_public_classes_share_a_name() -> None:
    found = defaultdict(list)
    for place, path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(place)
    assert len(found) > 300
    assert several(found) == {}


def test_no_two_modules_share_a_name() -> None:
    found = defaultdict(list)
    for place, path in modules():
        if path.stem not in NAMED_BY_ROLE:
            found[path.stem].append(place)
    assert several(found) == {}


def test_sql_stands_in_the_store_alone() -> None:
    sql = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|JOIN) [A-Za-z*(]")
    found = set()
    for place, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and sql.search(value):
                found.add(place)
    assert found
    assert all(place.startswith("core/lossylens/store/") for place in found), found


def test_neither_core_nor_toolkit_nor_report_imports_a_plugin() -> None:
    plugin = re.compile(r"lossylens_(codec|vlm|task|adaptor|result|executor)_")
    found = set()
    for place, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(map(plugin.match, names)):
                found.add(place)
    assert found == set()
