"""Settings of all tests in the workspace, and plugins made up for a test, found as installed ones
are."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from lossylens.grid.config import Config, load_config
from lossylens.names import canonical
from lossylens.registry import discovery
from lossylens.registry.plugins import Registry, load_registry

# How long an example takes says how busy the machine is.
settings.register_profile("workspace", deadline=None)
settings.load_profile("workspace")

# What tests start inherits signals that are ignored, as `nohup` and a shell's `&` have it, but not
# those that are handled.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

SITE = Path(__file__).parent / "core" / "tests" / "sample"

CODEC_PLUGIN = """
from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl

@hookimpl
def register_codecs(register):
    for name in {names!r}:
        register(
            CodecSpec(
                name=name,
                summary="a codec",
                factory="lossylens.uncompressed:Uncompressed",
                levels=(Level("q1"),),
                **{extra!r},
            )
        )
"""

SAMPLE_CONFIG = """
codecs:
  blocky: {levels: [b64, b16]}
vlms:
  seer:
tasks:
  patches: {images: 6, questions: 4}
run: {out: run, workers: 1}
"""


class Plants:
    """Distributions of plugins in a folder on ``sys.path``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.distributions: list[str] = []

    def plant(
        self,
        name: str,
        source: str,
        *,
        distribution: str = "",
        version: str = "1.0",
        requires: str = "lossylens>=0.1",
        target: str = "",
        entry_points: str = "",
    ) -> str:
        """Put a distribution with one plugin in place; return its module."""
        distribution = distribution or f"lossylens-codec-{name}"
        module = f"planted_{distribution}_{name}".replace("-", "_").replace(".", "_")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        stem = distribution.replace("-", "_")
        info = self.folder / f"{stem}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        if requires:
            metadata += f"Requires-Dist: {requires}\n"
        (info / "METADATA").write_text(metadata)
        points = entry_points or f"[lossylens]\n{name} = {target or module}\n"
        (info / "entry_points.txt").write_text(points)
        self.distributions.append(distribution)
        return module

    def plant_codec(
        self, name: str, *, names: tuple[str, ...] = (), distribution: str = "", **extra: object
    ) -> str:
        """Put a distribution with working codecs in place; return its module."""
        source = CODEC_PLUGIN.format(names=names or (name,), extra=extra)
        return self.plant(name, source, distribution=distribution)

    def load(self, **arguments: object) -> Registry:
        """Load the planted plugins; the fixture hides those that are really installed."""
        return load_registry(**arguments)


@pytest.fixture
def plants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plants]:
    """Plugins that a test plants, and the core's; those that are installed are not found."""
    monkeypatch.delenv("LOSSYLENS_PLUGINS", raising=False)
    monkeypatch.delenv("LOSSYLENS_DISABLE_PLUGINS", raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    planted = Plants(folder)
    announcing = discovery._announcing_distributions

    def planted_only() -> dict[str, metadata.Distribution]:
        mine = {canonical(name) for name in planted.distributions}
        return {name: found for name, found in announcing().items() if name in mine}

    monkeypatch.setattr(discovery, "_announcing_distributions", planted_only)
    yield planted
    for name in [name for name in sys.modules if name.startswith("planted_")]:
        del sys.modules[name]


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sample plugin, which is found beside report and toolkit alone."""
    monkeypatch.syspath_prepend(SITE)
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "sample,report,toolkit")
    monkeypatch.delenv("LOSSYLENS_DISABLE_PLUGINS", raising=False)
    for name in [name for name in os.environ if name.startswith("SAMPLE_")]:
        monkeypatch.delenv(name)
    return SITE


@pytest.fixture
def make_config(sample: Path, tmp_path: Path) -> Callable[..., Config]:
    """Return a configuration of the sample plugin, with overrides."""

    def make(*overrides: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(SAMPLE_CONFIG)
        return load_config(path, [f"run.out={tmp_path / 'run'}", *overrides])

    return make


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return what the sample browser of runs holds: its notes, questions and pictures."""
    from lossylens_report.samples import write_samples

    def written(runs: Any, budget: Any = None) -> dict[str, Any]:
        folder = tmp_path / "browser"
        began = write_samples(runs, folder, budget)
        items, pictures = [], {}
        for number, each in enumerate(began["sets"]):
            pieces = {
                path.stem: json.loads(re.sub(r"^LOSSYLENS\(\"[^\"]*\",(.*)\);\n$", r"\1", text))
                for path in (folder / "samples" / str(number)).glob("*.js")
                for text in (path.read_text(),)
            }
            for place, view in enumerate(pieces["columns"]["view"]):
                item = pieces[f"questions-{place // each['piece']}"][place % each["piece"]]
                item |= {"run": each["run"], "task": each["task"], "image": view}
                item["cells"] = [
                    {**cell, "answer": item["texts"][given], "place": given}
                    for cell, given in zip(each["cells"], item["given"], strict=True)
                ]
                items.append(item)
            for name, found in pieces.items():
                if name.startswith("pictures-"):
                    key = f"{each['run']} {name.removeprefix('pictures-')}"
                    pictures |= {f"{key} {point}": made for point, made in found.items()}
        return {"notes": began["notes"], "items": items, "pictures": pictures}

    return written


@pytest.fixture
def beside_sample(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Plants]:
    """Plugins in a folder on ``sys.path`` that are found with the sample's, by any process."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(sample)]))
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "sample,report,toolkit,planted")
    yield Plants(folder)
    for name in [name for name in sys.modules if name.startswith("planted_")]:
        del sys.modules[name]
