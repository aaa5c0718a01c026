"""Analysis of the layers of every family's vision encoder, and its page."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from lossylens.cli import main
from lossylens_toolkit.layer_analysis import layer_curves as layers
from lossylens_toolkit.layer_analysis.layer_curves import LayerCurve, chosen_layers, measure_layers
from lossylens_toolkit.layer_analysis.layer_metrics import attention_flow, token_similarity
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHARTS = ("similarity", "distance", "most_attended", "mixing", "concentration")

TINY = """
from dataclasses import dataclass
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.transformers_vlm.vlm_options import InternVLOptions
from lossylens.vlm import VlmSpec

@hookimpl
def register_vlms(register):
    register(
        VlmSpec(
            name="tiny",
            summary="random weights",
            factory="lossylens_toolkit.transformers_vlm.families.internvl:InternVLVlm",
            options=InternVLOptions,
            parameters=0.1,
        )
    )
"""

CONFIG = """
codecs:
  blocky: {{levels: [b128, b16]}}
  fine: {{plugin: blocky, levels: [b1]}}
vlms:
  tiny: {{checkpoint: {checkpoint}, device: cpu, max_tiles: 3}}
  seer:
tasks:
  patches: {{images: 5, troubles: ',refused'}}
run: {{out: {out}}}
"""


def coarse(image):
    return Image.fromarray(np.asarray(image) // 64 * 64)


def test_every_family_is_measured_layer_by_layer(vlm, monkeypatch) -> None:
    # So that attention is asked for in several portions.
    monkeypatch.setattr(layers, "_ATTENTION", 1)
    vision = vlm.vision
    image = blocks(150, 90, 2)
    curves = {"": LayerCurve(), "coarse": LayerCurve(), "same": LayerCurve()}
    maps = measure_layers(
        vision, image, {"coarse": coarse(image), "same": image}, curves, [0, vision.layers - 1]
    )
    with torch.inference_mode():
        pictures = [vision.prepare([each]) for each in (image, coarse(image))]
        layout = pictures[0][0].layout
        states = [vision.hidden_states(each, [2])[2][0].numpy() for each in pictures]
        attention = vision.attention(pictures[1], [2])[2][0].numpy()
    patches = [each[:, layout.extra :].reshape(-1, vision.width) for each in states]
    expected = attention_flow(attention, layout.rows, layout.columns)
    assert curves["coarse"].similarity[2] == pytest.approx(token_similarity(*patches))
    assert curves["coarse"].flows["distance"][2] == pytest.approx(expected.distance)
    assert curves["coarse"].flows["concentration"][2] == pytest.approx(expected.concentration)
    for curve in curves.values():
        assert len(curve.similarity) == vision.layers + 1
        assert {len(each) for each in curve.flows.values()} == {vision.layers}
    assert (
        curves[""].similarity
        == curves["same"].similarity
        == pytest.approx([1.0] * (vision.layers + 1))
    )
    assert all(value < 0.999 for value in curves["coarse"].similarity)
    assert list(maps) == [0, vision.layers - 1]
    for of_layer in maps.values():
        shape = (layout.rows, layout.tiles * layout.columns)
        assert {each.inflow.shape for each in of_layer.values()} == {shape}
        assert (of_layer[""].principal == of_layer["same"].principal).all()
        assert (of_layer[""].principal != of_layer["coarse"].principal).any()
        assert of_layer[""].principal.shape == (*shape, 3)


def test_curves_are_means_over_images(open_vlm) -> None:
    vision = open_vlm("janus").vision
    images = [blocks(80, 60, seed) for seed in (1, 2, 3)]
    alone = []
    together = {"": LayerCurve(), "coarse": LayerCurve()}
    for image in images:
        curves = {"": LayerCurve(), "coarse": LayerCurve()}
        for each in (curves, together):
            measure_layers(vision, image, {"coarse": coarse(image)}, each)
        alone.append(curves["coarse"])
    mean = together["coarse"]
    assert mean.images == 3
    assert mean.similarity == pytest.approx(np.mean([each.similarity for each in alone], axis=0))
    for name, values in mean.flows.items():
        assert values == pytest.approx(np.mean([each.flows[name] for each in alone], axis=0))


def test_chosen_layers() -> None:
    assert chosen_layers(24, 4) == [0, 8, 15, 23]
    assert chosen_layers(3, 6) == [0, 1, 2]
    assert chosen_layers(9, 1) == [0]


@pytest.fixture
def config(plants, sample, folders, monkeypatch, tmp_path):
    """A configuration with a tiny VLM and one that gives no access."""
    plants.plant("tiny", TINY, distribution="lossylens-vlm-tiny")
    plants.distributions += ["lossylens-sample", "lossylens-toolkit", "lossylens-report"]
    monkeypatch.delenv("LOSSYLENS_PLUGINS")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(checkpoint=folders["internvl"], out=tmp_path / "run"))
    return path


def test_the_command_writes_a_page(config, capsys, tmp_path) -> None:
    pytest.importorskip("plotly")
    assert main(["analyze", "layers", "Tiny", str(config), "--images", "4", "--maps", "1"]) == 0
    page = tmp_path / "run" / "layers" / "tiny" / "index.html"
    assert capsys.readouterr().out.split() == [str(page)]
    html = page.read_text()
    data = json.loads(re.search(r"const DATA = (.*?);</script>", html)[1])
    names = [trace["name"].partition(",")[0] for trace in data["charts"]["distance"]["data"]]
    assert names == ["original", "blocky b128", "blocky b16", "fine b1"]
    similarity = {
        trace["name"].partition(",")[0]: trace["y"]
        for trace in data["charts"]["similarity"]["data"]
    }
    # A step of one is lossless.
    assert similarity["fine b1"] == [1.0] * 5
    assert similarity["blocky b128"][0] < similarity["blocky b16"][0] < 1
    # One image cannot be encoded: said, and left out.
    assert "patches 1: blocky does not like it" in html
    assert "means over 3" in html
    # Four layers of principal components, inflow and outflow, original and three versions.
    assert len(re.findall(r'<td><img src="data:image/png', html)) == 4 * 3 * 4
    rows = list(csv.DictReader((page.parent / "layers.csv").read_text().splitlines()))
    assert len(rows) == 4 * (5 + 4 * 4)
    assert {row["images"] for row in rows} == {"3"}
    (value,) = [
        float(row["value"])
        for row in rows
        if (row["level"], row["measure"], row["layer"]) == ("b128", "similarity", "1")
    ]
    assert value == pytest.approx(similarity["blocky b128"][0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_drawn_by_a_browser(config, tmp_path, scheme) -> None:
    pytest.importorskip("plotly")
    api = pytest.importorskip("playwright.sync_api")
    command = ["analyze", "layers", "tiny", str(config), "--images", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    said: list[str] = []
    requests: list[str] = []
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=120_000)
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requests.append(request.url.partition(":")[0]))
        page.goto((tmp_path / "index.html").as_uri(), timeout=120_000)
        page.wait_for_selector("[data-chart=concentration] .scatterlayer .trace", timeout=60_000)
        lines = [page.locator(f"[data-chart={name}] .trace").count() for name in CHARTS]
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        other = page.evaluate("getComputedStyle(document.body).backgroundColor")
        width = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert lines == [3, 4, 4, 4, 4]
    assert said == []
    assert set(requests) <= {"file", "data", "blob"}
    assert (
        [paper, other][scheme == "dark"] == "rgb(255, 255, 255)" != [other, paper][scheme == "dark"]
    )
    assert width == 390


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seer"], "vlms.seer: seer gives no access to its vision encoder"),
        (["tinny"], "the configuration has no 'tinny'. Did you mean tiny?"),
        (["tiny", "codecs={uncompressed: {}}"], "name at least one that compresses"),
        (
            ["tiny", "tasks.patches.troubles='refused,refused,refused,refused,refused'"],
            "no image could be measured; the first: patches 0: blocky does not like it",
        ),
    ],
)
def test_what_cannot_be_analysed(config, capsys, arguments, message) -> None:
    vlm, *overrides = arguments
    assert main(["analyze", "layers", vlm, str(config), *overrides]) == 2
    assert message in capsys.readouterr().err
