"""Quality levels, subsampling and Pillow's features, as codec plugins declare them."""

import pytest
from lossylens.spec import Missing
from lossylens_toolkit.quality import (
    pillow_with,
    quality_level,
    quality_parser,
    subsampling_with_colons,
)
from PIL import features

parse = quality_parser(range(101))


@pytest.mark.parametrize(("name", "quality"), [("q0", 0), ("Q75", 75), (" q100 ", 100)])
def test_any_quality_is_a_level(name, quality):
    assert parse(name) == quality_level(quality)


@pytest.mark.parametrize(
    "name", ["q-1", "q101", "q05", "q00", "q", "75", "q7.5", "q٣", "high", "", "q1e1", "q9999999"]
)
def test_other_names_are_none(name):
    assert parse(name) is None


def test_the_scale_may_begin_elsewhere():
    assert quality_parser(range(1, 101))("q0") is None


@pytest.mark.parametrize("text", ["4:2:0", "420"])
def test_subsampling(text):
    assert subsampling_with_colons(text) == "4:2:0"


@pytest.mark.parametrize("text", ["4:1:1", "15120", "4::20", ""])
def test_other_subsampling_is_refused(text):
    with pytest.raises(ValueError, match=r"4:4:4, 4:2:2 or 4:2:0.*needs quotes"):
        subsampling_with_colons(text)


def test_what_pillow_lacks(monkeypatch):
    check = pillow_with("webp", "WebP in Pillow", "install another")
    assert check(None) == ()
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    assert check(None) == (Missing("WebP in Pillow", "install another"),)
