"""Maps of feature error: what they measure, where they lie, and what a report takes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossylens.errors import LossylensError, StoreError
from lossylens_report.maps import FOLDER, INDEX, FeatureMap, read_maps
from lossylens_toolkit.feature_maps import on_picture, token_errors, told
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout
from PIL import Image

DRAWN = FeatureMap("scene", "jpeg", "q1", "", 0.25, 0.3, "scene.png")


def test_an_error_is_relative_to_the_variance_of_what_is_wanted():
    wanted = torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) * 7
    found = wanted.clone()
    found[4] += wanted.std(correction=0)
    values = token_errors(found, wanted, Layout(1, 4, 6), 2)
    assert values.shape == (1, 2, 3)
    assert values[0, 1, 1] == pytest.approx(1, rel=0.01)
    assert values.sum() == values[0, 1, 1]


def test_tokens_without_a_place_are_refused():
    tokens = torch.zeros(4, 8)
    with pytest.raises(LossylensError, match="belong to no place"):
        token_errors(tokens, tokens, Layout(1, 4, 4), 1)


@given(st.integers(1, 700), st.integers(1, 700))
def test_every_place_has_the_value_of_its_token(width, height):
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    canvas = on_picture(values, Layout(1, 2, 3), (width, height))
    assert max(canvas.shape) <= 256
    for y, x in ((0, 0), (-1, -1), (canvas.shape[0] // 2, canvas.shape[1] // 2)):
        row = int(((y % canvas.shape[0]) + 0.5) / canvas.shape[0] * 2)
        column = int(((x % canvas.shape[1]) + 0.5) / canvas.shape[1] * 3)
        assert canvas[y, x] == values[0, row, column]


def test_tiles_lie_where_they_were_cut_and_a_thumbnail_over_all():
    rectangles = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0))
    values = np.array([[[2.0]], [[4.0]], [[8.0]]], np.float32)
    canvas = on_picture(values, Layout(3, 1, 1, 0, rectangles), (4, 2))
    assert canvas.tolist() == [[5, 5, 6, 6]] * 2


def test_means_are_over_images():
    other = replace(DRAWN, image="other", error=0.75)
    assert told([DRAWN, other]) == [("jpeg", "q1", "none", "0.5000")]


def written(folder: Path, *maps: object) -> Path:
    (folder / FOLDER).mkdir()
    (folder / FOLDER / INDEX).write_text(json.dumps(maps))
    return folder


def test_a_report_takes_what_was_drawn(tmp_path: Path):
    folder = written(tmp_path, asdict(DRAWN), {**asdict(DRAWN), "adaptor": "cve", "error": 0.1})
    Image.new("L", (3, 2)).save(folder / FOLDER / "scene.png")
    [group] = read_maps(folder)
    assert group["point"] == "jpeg q1, 0.300 bpp"
    assert [(each["adaptor"], each["error"]) for each in group["maps"]] == [
        ("", 0.25),
        ("cve", 0.1),
    ]
    assert read_maps(tmp_path / "another") == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        "no mapping",
        {**asdict(DRAWN), "file": "gone.png"},
        {**asdict(DRAWN), "file": "../secret.png"},
        {**asdict(DRAWN), "file": "no.png"},
    ],
)
def test_what_was_not_drawn_is_refused(tmp_path: Path, given: object):
    folder = written(tmp_path, given)
    (folder / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / FOLDER / "no.png").write_text("<script>")
    with pytest.raises(StoreError, match="no record of maps"):
        read_maps(folder)
