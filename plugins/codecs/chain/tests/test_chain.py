"""Chains: what they compose, what their bitstreams are, and what is wrong with a configuration."""

import pickle
import re
from typing import ClassVar

import pytest
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.grid.config import codec_choices
from lossylens.grid.plan import codec_levels
from lossylens.images.pixels import decoded_image
from lossylens.options.environment import Environment
from lossylens.registry.plugins import load_registry
from lossylens.testing.conformance import CodecConformance
from lossylens.testing.pictures import picture, squared_error
from lossylens_codec_chain.scaling import Scaling
from PIL import Image

PLUGINS = ["chain", "jpeg", "webp"]
UPLOAD = [{"jpeg": "q85"}, {"scale": {"longest": 100}}, {"webp": "q50"}]


class TestRestored(CodecConformance):
    codecs = ("chain",)
    options: ClassVar = {
        "steps": [{"jpeg": "q85"}, {"scale": {"longest": 50}}, {"webp": None}],
        "restore": True,
    }


@pytest.fixture(scope="module")
def registry():
    return load_registry(only=PLUGINS)


def choice(registry, steps, **more):
    [found] = codec_choices(
        registry, {"codecs": {"upload": {"plugin": "chain", "steps": steps, **more}}}
    )
    return found


def keys(registry, steps, **more):
    chosen = [choice(registry, steps, **more)]
    levels = codec_levels(registry, chosen, Environment(), parity=False)
    return [each.part.key for each in levels]


def test_the_bitstream_is_that_of_the_last_step(registry):
    image = picture(300, 400)
    chain = registry.build_codec("chain", "q50", {"steps": UPLOAD})
    jpeg, webp = registry.build_codec("jpeg", "q85"), registry.build_codec("webp", "q50")
    scaled = Scaling("longest", 100, "lanczos")(jpeg.decode(jpeg.encode(image)))
    assert scaled.size == (100, 75)
    assert chain.encode(image) == webp.encode(scaled)
    assert chain.decode(chain.encode(image)).tobytes() == webp.decode(webp.encode(scaled)).tobytes()


def test_a_picture_is_left_small_or_restored(registry):
    image = picture(300, 400)
    small = registry.build_codec("chain", "q50", {"steps": UPLOAD})
    restoring = registry.build_codec("chain", "q50", {"steps": UPLOAD, "restore": True})
    sent = small.encode(image)
    assert not small.keeps_size
    assert decoded_image(small, sent, image.size, parity=False).size == (100, 75)
    assert restoring.keeps_size
    assert len(restoring.encode(image)) == len(sent) + 8
    restored = restoring.decode(restoring.encode(image))
    assert restored.size == image.size
    assert squared_error(image, restored) < squared_error(image, restored.rotate(180))
    with pytest.raises(BitstreamError, match="for one of 10x10"):
        restoring.decode((b"\0\0\0\x0a" * 2) + sent)
    with pytest.raises(BitstreamError, match="RGB 100x75, not RGB 99x99"):
        decoded_image(small, sent, (99, 99), parity=False)


def test_a_chain_without_scaling_keeps_the_size(registry):
    chain = registry.build_codec("chain", "q5", {"steps": [{"jpeg": "q85"}, {"jpeg": None}]})
    assert chain.keeps_size
    again = registry.build_codec("chain", "q5", {"steps": ["jpeg"], "restore": True})
    assert again.encode(picture(20, 30)) == registry.build_codec("jpeg", "q5").encode(
        picture(20, 30)
    )


@pytest.mark.parametrize(
    ("steps", "given", "levels"),
    [
        (UPLOAD, {}, ["q50"]),
        ([{"jpeg": "q85"}, {"webp": {"method": 6}}], {"levels": ["q7"]}, ["q7"]),
        ([{"jpeg": None}, {"webp": "q50"}], {}, ["q1", "q3", "q5", "q6"]),
        ([{"scale": None}, "jpeg"], None, "have no level; one step can vary"),
        ([{"scale": None}, {"jpeg": "q5"}], {"levels": ["shortest64"]}, ["shortest64"]),
    ],
)
def test_levels_vary_one_step(registry, steps, given, levels):
    if given is None:
        with pytest.raises(ConfigError, match=levels):
            choice(registry, steps)
        return
    found = choice(registry, steps, **given)
    assert [level.name for level in found.levels] == levels
    sizes = []
    for level in found.levels:
        codec = registry.build_codec("chain", level, pickle.loads(pickle.dumps(found.options)))
        sizes.append(len(codec.encode(picture(128, 128))))
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "codecs.upload.steps: expected a list of steps"),
        (
            [{"jpeg": "q85"}, {"scale": {"longest": 9}}],
            r"steps\[1\]: the last step must be",
        ),
        ([{"jpge": "q85"}], r"steps\[0\].jpge: unknown codec 'jpge'. Did you mean jpeg"),
        ([{"jpeg": "q850"}], r"steps\[0\].jpeg: codec 'jpeg' has no level 'q850'"),
        ([{"jpeg": {"optimise": True}}], r"steps\[0\].jpeg.optimise: unknown option"),
        ([{"scale": {"longset": 9}}, "jpeg"], r"steps\[0\].scale.longset: unknown option. Did"),
        ([{"scale": {"longest": -9}}, "jpeg"], r"steps\[0\].scale.longest: expected a number"),
        ([{"scale": "q5"}, "jpeg"], r"steps\[0\].scale: no level 'q5'. Accepted: longestN"),
        ([{"scale": {"longest": 9, "pixels": 9}}, "jpeg"], r"steps\[0\].scale: name one of"),
        (
            [{"scale": {"longest": 9, "resample": "fast"}}, "jpeg"],
            "resample: 'fast' is none",
        ),
        ([{"jpeg": "q5", "webp": "q5"}], r"steps\[0\]: expected one codec with its level"),
        ([{1: "q85"}], r"steps\[0\]: expected the name of a codec or scale, got 1"),
        ([{True: None}], r"steps\[0\]: expected the name of a codec or scale, got True"),
        ([{"jpeg": 85}], r"steps\[0\].jpeg: expected a level or a mapping"),
        (["jpeg", "webp"], r"steps\[0\].jpeg and steps\[1\].webp have no level"),
    ],
)
def test_errors_name_the_step(registry, steps, message):
    with pytest.raises(ConfigError, match=message):
        choice(registry, steps)


def test_a_chain_of_fixed_steps_has_no_other_level(registry):
    with pytest.raises(ConfigError, match=r"levels\[0\].*leave out the level of the step"):
        choice(registry, UPLOAD, levels=["q20"])


def test_keys_tell_what_the_steps_are_made_of(registry):
    [one] = keys(registry, UPLOAD)
    assert keys(registry, UPLOAD) == [one]
    others = [
        [{"jpeg": "q84"}, *UPLOAD[1:]],
        [{"jpeg": {"level": "q85", "optimize": True}}, *UPLOAD[1:]],
        [UPLOAD[0], {"scale": {"longest": 101}}, UPLOAD[2]],
        [UPLOAD[0], {"scale": {"longest": 100, "resample": "box"}}, UPLOAD[2]],
    ]
    found = {one, *(key for steps in others for key in keys(registry, steps))}
    assert len({*found, *keys(registry, UPLOAD, restore=True)}) == 6
    codec = registry.build_codec("chain", "q50", {"steps": UPLOAD})
    told = codec.provenance()
    assert {"step 1", "step 2", "step 3", "step 1: pillow", "step 3: libwebp", "scaling"} <= {
        name.replace("webp_library", "libwebp") for name in told
    }
    assert "lossylens-codec-jpeg" in told["step 1"]


def test_an_image_that_a_step_cannot_carry_is_refused_by_its_number(registry):
    chain = registry.build_codec("chain", "q50", {"steps": [{"jpeg": "q50"}, {"webp": "q50"}]})
    with pytest.raises(ImageError, match=r"chain, step 2: webp: 16400x1 is too large"):
        chain.encode(Image.new("RGB", (16400, 1)))


@pytest.mark.parametrize(
    ("bound", "most", "size", "scaled"),
    [
        ("longest", 1024, (4000, 3000), (1024, 768)),
        ("longest", 1024, (1000, 3), (1000, 3)),
        ("shortest", 300, (4000, 3000), (400, 300)),
        ("pixels", 1_000_000, (4000, 1000), (2000, 500)),
        ("longest", 10, (1000, 1), (10, 1)),
    ],
)
def test_scaling_makes_nothing_larger(bound, most, size, scaled):
    assert Scaling(bound, most, "lanczos").size(*size) == scaled


def test_what_the_codec_of_a_step_lacks_is_missed_by_the_chain(registry):
    found = load_registry()
    if not any(each.spec.name == "hm" for each in found.all("codec")):
        pytest.skip("needs the plugin hm")
    chain = found.find("codec", "chain")
    configured, options = found.configured(
        chain, {"steps": [{"hm": {"encoder": "/no/such/TAppEncoder"}}]}
    )
    assert any(re.search("encoder|TApp", each.what) for each in found.missing(configured, options))
