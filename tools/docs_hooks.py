"""Makes the pages of the documentation site that are written elsewhere.

Nothing is typed twice: README files of the repository and of plugins are pages as they are,
their links turned to the pages of what they name; commands come from ``--help``, keys of
configurations and options from docstrings, plugins from their specs.  Hand-written pages are in
``docs/``.  Formulas between ``$$`` and between ``$``` and ```$`` become MathML.
"""

from __future__ import annotations

import html
import os
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from lossylens.cli.commands import build
from lossylens.cli.config_command import section_docs
from lossylens.cli.plugins_command import spec_details
from lossylens.grid.config import PLUGIN_SECTIONS, SETTINGS
from lossylens.options.optiondocs import OptionDoc, option_docs
from lossylens.registry.plugin_info import Registered
from lossylens.registry.plugins import Registry, load_registry
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

ROOT = Path(__file__).resolve().parents[1]

#: Files of the repository that are pages; so are the READMEs of plugins.
PROJECT = ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "RELEASING", "SECURITY")

#: READMEs of what lies within a distribution.
PARTS = (
    "core/README.md",
    "toolkit/README.md",
    "toolkit/lossylens_toolkit/transformers_vlm/README.md",
    "toolkit/lossylens_toolkit/tsv_task/README.md",
)

#: Kinds of plugins, by their folders, with what the navigation calls them.
KINDS = {
    "codecs": "Codecs",
    "vlms": "VLMs",
    "tasks": "Tasks",
    "adaptors": "Adaptors",
    "results": "Published results",
    "reports": "Reports",
    "executors": "Executors",
    "checkpoints": "Checkpoints",
}

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_ROLE = re.compile(r":\w+:<code>(~?)([^<]*)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the plugins into the navigation, before the last entry."""
    plugins = []
    for folder, title in KINDS.items():
        names = [each.name for each in plugin_folders(folder)]
        plugins.append({title: [{name: f"plugins/{folder}/{name}/README.md"} for name in names]})
    assert config.nav is not None
    config.nav.insert(len(config.nav) - 1, {"Plugins": plugins})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of something else."""
    registry = load_registry()
    made: dict[str, str] = {f"{name}.md": read(f"{name}.md") for name in PROJECT}
    specs = by_distribution(registry)
    for folder in KINDS:
        for plugin in plugin_folders(folder):
            path = f"plugins/{folder}/{plugin.name}/README.md"
            made[path] = with_specs(read(path), specs.get(distribution(plugin), []), registry)
    made |= {path: read(path) for path in PARTS}
    pages = {*made, *(file.src_uri for file in files)}
    for path, text in made.items():
        files.append(File.generated(config, path, content=turned(text, path, pages)))
    for figure in figures():
        files.append(File.generated(config, f"figures/{figure.name}", abs_src_path=str(figure)))
    made = {"reference/commands.md": commands(), "reference/configuration.md": configuration()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, and refuse malformed links to elsewhere.

    Raises:
        PluginError: a link is no address of the web.
    """
    for _, _, target in _LINK.findall(markdown):
        if re.match(r"https?:", target) and not well_formed(target):
            raise PluginError(f"{page.file.src_uri}: {target} is no address of the web")
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else formulas(part) for part in parts)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take the marks of other documentation tools out of docstrings."""

    def named(found: re.Match[str]) -> str:
        name = found[2].rpartition(".")[2] if found[1] else found[2]
        return f"<code>{name}</code>"

    content = re.sub(r"\.\. versionadded:: (\S+?)(?=<|\s)", r"Since version \1.", content)
    return _ROLE.sub(named, content)


def well_formed(address: str) -> bool:
    """Whether an address of the web is one by its form; nothing is asked of the web."""
    if address.startswith("https://arxiv.org/"):
        return re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", address) is not None
    return re.fullmatch(r"https://([a-z0-9-]+\.)+[a-z]{2,}(/[^\s<>()]*)?", address) is not None


def formulas(text: str) -> str:
    """Return *text* with its formulas as MathML."""
    text = re.sub(
        r"^\$\$(.+?)\$\$$",
        lambda found: convert(" ".join(found[1].split()), display="block"),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    # In a span, since a line that begins with <math> would end the paragraph.
    inline = r"\$`([^`]+)`\$"
    return re.sub(inline, lambda found: f"<span>{convert(found[1])}</span>", text)


def figures() -> list[Path]:
    """Return the figures of the demo's run, which `make docs` makes.

    Raises:
        PluginError: there are none.
    """
    found = sorted(Path(os.environ.get("DEMO_FIGURES", "")).glob("*.svg"))
    if not found or not os.environ.get("DEMO_FIGURES"):
        raise PluginError("DEMO_FIGURES is no folder with figures of the demo; see `make docs`")
    return found


def read(path: str) -> str:
    """Return a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def plugin_folders(kind: str) -> list[Path]:
    """Return the folders of our plugins of a kind."""
    return sorted(path.parent for path in (ROOT / "plugins" / kind).glob("*/README.md"))


def distribution(folder: Path) -> str:
    """Return the name of the distribution in *folder*."""
    found = re.search(r'^name = "(.+)"', (folder / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


def turned(text: str, path: str, pages: Iterable[str]) -> str:
    """Return *text* of the file *path* with links to pages; links to other files are taken out."""
    known = set(pages)

    def link(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        name, mark, anchor = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        wanted = wanted.removeprefix("docs/")
        for page in (wanted, f"{wanted}/README.md"):
            if page in known:
                relative = posixpath.relpath(page, posixpath.dirname(path) or ".")
                return f"{image}[{turned(words, path, known)}]({relative}{mark}{anchor})"
        return words

    return _LINK.sub(link, text)


def by_distribution(registry: Registry) -> dict[str, list[Registered[Any]]]:
    """Return what each distribution provides."""
    found: dict[str, list[Registered[Any]]] = {}
    for kind in ("codec", "vlm", "task", "adaptor", "result", "report", "executor"):
        for each in registry.all(kind):
            found.setdefault(each.plugin.distribution, []).append(each)
    return found


def with_specs(text: str, found: Sequence[Registered[Any]], registry: Registry) -> str:
    """Return a README with what the specs of the distribution say, at its end."""
    return "\n\n".join([text, *(described(each, registry) for each in found)])


def described(found: Registered[Any], registry: Registry) -> str:
    """Return a spec as a section of a page."""
    spec, details = found.spec, spec_details(found)
    rows = [
        ("summary", spec.summary),
        ("other names", ", ".join(f"`{each}`" for each in spec.aliases)),
        ("category", spec.category),
        ("version", found.plugin.version),
        ("levels", ", ".join(f"`{each}`" for each in details.get("levels", []))),
        ("other levels", details.get("other_levels", "")),
        *(
            (f"levels for {name}", ", ".join(f"`{level}`" for level in levels))
            for name, levels in details.get("level_sets", {}).items()
        ),
        *declared(spec),
        ("licence", spec.licence),
        ("source", spec.citation),
    ]
    parts = [f"## Declaration of the {spec.kind} `{spec.name}`"]
    parts.append(table(("", ""), [(name, cell(value)) for name, value in rows if value]))
    needed = needs(found, registry)
    if needed:
        parts.append("Needs, with its options as they are by default:")
        parts.append("\n".join(f"- {cell(each)}" for each in needed))
    parts += options_table("option", spec.options)
    if spec.kind == "adaptor":
        parts += options_table("option of its training", spec.training)
    return "\n\n".join(parts)


def declared(spec: Any) -> Iterator[tuple[str, str]]:
    """Yield what specs of one kind alone say."""
    if spec.kind == "vlm":
        yield "parameters", f"{spec.parameters:g} million" if spec.parameters else ""
        yield "images to a question", str(spec.max_images)
        yield "answers with boxes", "yes" if spec.grounds else ""
    if spec.kind == "task":
        primary = spec.primary
        better = "higher" if primary.higher_is_better else "lower"
        range_ = f"{primary.low:g} to {primary.high:g}"
        yield "primary metric", f"`{primary.name}`, {range_}, {better} is better"


def needs(found: Registered[Any], registry: Registry) -> list[str]:
    """Return what it needs beside its dependencies: checkpoints, programs, data."""
    try:
        options = registry.options(found)
    except Exception:  # an option that must be given
        return []
    with tempfile.TemporaryDirectory() as empty:
        before = dict(os.environ)
        os.environ.update(LOSSYLENS_CACHE=empty, HOME=empty, PATH=empty)
        try:
            missing = registry.missing(found, options)
        finally:
            os.environ.clear()
            os.environ.update(before)
    return [f"{each.what}: {each.remedy}".replace(empty, "~") for each in missing]


def options_table(title: str, options: type) -> Iterator[str]:
    """Yield a table of the options, if there are any."""
    rows = option_rows(option_docs(options))
    if rows:
        yield table((title, "type", "default", "meaning"), rows)


def option_rows(docs: Iterable[OptionDoc]) -> list[tuple[str, str, str, str]]:
    """Return name, type, default and meaning of each, as cells of a table."""
    return [
        (
            f"`{each.name}`",
            f"`{each.type}`",
            f"`{each.shown}`" if each.shown else "",
            cell(each.text),
        )
        for each in docs
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return plain text as a cell of a table, with nothing in it that Markdown would read."""
    escaped = html.escape(text, quote=False).replace("\n", " ")
    return re.sub(r"([\\*_\[\]|])", r"\\\1", escaped) if "`" not in text else escaped


def commands() -> str:
    """Return the page of all commands."""
    group = build()
    context = typer.Context(group, info_name="lossylens")
    text = get_docs_for_click(obj=group, ctx=context, name="lossylens", title="Commands")
    # `lossylens`, `lossylens run`: one page has each heading once.
    return text.replace("<br />", " ")


def configuration() -> str:
    """Return the page of all keys of a configuration."""
    parts = [
        "# Configuration",
        "What `lossylens config` prints, without the options of plugins, which are on the pages"
        " of these. A codec, VLM, task or adaptor is named in its section, with its options as"
        " a mapping, under its own name or another with `plugin:`.",
    ]
    for section in [*PLUGIN_SECTIONS, *SETTINGS]:
        rows = option_rows(section_docs(section))
        parts.append(f"## {section}")
        parts.append(table(("key", "type", "default", "meaning"), rows))
    return "\n\n".join(parts)
