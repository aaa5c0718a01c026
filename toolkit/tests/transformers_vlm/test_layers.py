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
from lossylens_toolkit.layer_analysis.layer_curves import (
    LayerCurve,
    chosen_layers,
    measure_layers,
    shown_tiles,
)
from lossylens_toolkit.layer_analysis.layer_metrics import (
    Anchoring,
    AttentionFlow,
    attention_flow,
    similarities,
)
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHARTS = (
    *("similarity", "distance", "inflow_distance", "inflow_targets", "inflow_to_class"),
    *("outflow_distance", "outflow_targets", "outflow_to_class"),
)
MEASURES = CHARTS[1:]

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
    coarse_means = {name: curves["coarse"].mean(name) for name in ("similarity", *MEASURES)}
    assert coarse_means["similarity"][2] == pytest.approx(similarities(*patches).mean())
    for name, value in expected.measures().items():
        assert coarse_means[name][2] == pytest.approx(value, nan_ok=True)
    for curve in curves.values():
        assert len(curve.mean("similarity")) == vision.layers + 1
        assert {len(curve.mean(name)) for name in MEASURES} == {vision.layers}
    assert curves[""].mean("similarity") == pytest.approx([1.0] * (vision.layers + 1))
    assert curves[""].mean("distance") == curves["same"].mean("distance")
    assert all(value < 0.999 for value in coarse_means["similarity"])
    assert list(maps) == [0, vision.layers - 1]
    for of_layer in maps.values():
        shape = (layout.rows, layout.tiles * layout.columns)
        for each in of_layer.values():
            assert {
                each.similarity.shape,
                each.received.shape,
                each.inflow.shape,
                each.outflow.shape,
            } == {shape}
            assert np.isnan(each.inflow).any() <= bool(layout.extra)
        assert of_layer["same"].similarity == pytest.approx(np.ones(shape))
        assert of_layer["coarse"].similarity.min() < 0.999
        assert (of_layer[""].principal == of_layer["same"].principal).all()
        assert (of_layer[""].principal != of_layer["coarse"].principal).any()
        assert of_layer[""].principal.shape == (*shape, 3)
    assert shown_tiles(vision, image).size == (shape[1] * layers.PATCH, shape[0] * layers.PATCH)


def test_layers_with_windows_say_so(vlm) -> None:
    vision = vlm.vision
    pictures = vision.prepare([blocks(196, 196, 2)])
    with torch.inference_mode():
        attention = vision.attention(pictures, range(vision.layers))
    bounded = {number for number, (found,) in attention.items() if (found == 0).any()}
    assert set(vision.windowed) == bounded


def test_maps_lie_on_what_the_tiles_show(open_vlm) -> None:
    # A picture that is padded to a square: the patches above and below show nothing of it.
    vision = open_vlm("llava").vision
    picture = Image.new("RGB", (80, 40), "red")
    tiles = np.asarray(shown_tiles(vision, picture))
    (rectangle,) = vision.layout(picture.size).rectangles
    inside = round(tiles.shape[0] * (0 - rectangle[1]) / (rectangle[3] - rectangle[1]))
    assert inside == layers.PATCH
    assert tiles[: inside - 2].max() == 0
    assert (tiles[inside + 2, :, 0] == 255).all()


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
    for name in ("similarity", *MEASURES):
        expected = np.mean([each.mean(name) for each in alone], axis=0)
        assert mean.mean(name) == pytest.approx(expected)


def test_images_without_a_measure_do_not_count_in_its_mean() -> None:
    near = AttentionFlow(0.5, anchored([0, 1]), anchored([-1, -1]), np.zeros((1, 1, 2)))
    none = AttentionFlow(0.3, anchored([-1, -1]), anchored([-1, -1]), np.zeros((1, 1, 2)))
    curve = LayerCurve()
    curve.add([1, 1], [near])
    curve.add([1, 1], [none])
    assert curve.mean("distance") == [0.4]
    assert curve.mean("inflow_distance") == [0.25]
    assert curve.mean("inflow_to_class") == [0.5]
    assert np.isnan(curve.mean("outflow_distance")).all()


def anchored(at):
    distances = np.where(np.array(at) < 0, np.nan, 0.25)
    return Anchoring(np.array([at]), distances.reshape(1, 1, 2))


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
    # Four layers of five kinds of maps, original and three versions.
    assert len(re.findall(r'<td><img src="data:image/png', html)) == 4 * 5 * 4
    assert "with fewer than 6 layers there is nothing to tell" in html
    assert data["stages"] == data["windowed"] == []
    rows = list(csv.DictReader((page.parent / "layers.csv").read_text().splitlines()))
    assert len(rows) == 4 * (5 + 7 * 4)
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
        page.wait_for_selector("[data-chart=outflow_to_class] .scatterlayer .trace", timeout=60_000)
        lines = [page.locator(f"[data-chart={name}] .trace").count() for name in CHARTS]
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        other = page.evaluate("getComputedStyle(document.body).backgroundColor")
        width = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert lines == [3, *[4] * 7]
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
