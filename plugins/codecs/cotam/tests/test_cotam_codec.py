import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ConfigError, ImageError, RequirementError
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens_codec_cotam.codec import CotamDcaeCodec, CotamElicCodec
from lossylens_codec_cotam.guidance_map import (
    BYTES,
    CELLS,
    map_length,
    pack_map,
    picture_key,
    three_levels,
    unpack_map,
    write_maps,
)
from lossylens_codec_cotam.plugin import CotamOptions
from lossylens_codec_cotam.tiling import Tiling, fused, tiling
from lossylens_toolkit.clip.clip_testing import save_clip
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.neural_codec.container import SIDE_VERSION, VERSION, pack
from lossylens_toolkit.testing.golden_weights import filled
from lossylens_toolkit.testing.small_networks import DCAE
from lossylens_toolkit.transformers_vlm.families.internvl import InternVLPreprocessor
from lossylens_toolkit.transformers_vlm.families.llava_onevision import LlavaOnevisionPreprocessor
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

SMALL = {"N": 8, "M": 20, "groups": [2, 2, 4, 4, 8], "context": [8, 6], "aggregation": [16, 12]}
CONFIG = {"network": SMALL, "lambdas": [0.0512, 0.0256, 0.0128, 0.0064], "reference": 0.0256}
KEEP = (r"entropy_bottleneck\.(quantiles|matrices|factors)", r"level_gains")
IMAGE = picture(130, 100)


def level(name):
    return Level(f"lambda{name}", {"lambda": float(name)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    codec = CotamElicCodec(level("0.0256"), CotamOptions(guidance="none"))
    state = filled(dict(codec.official_state(codec.build(CONFIG))), 0, KEEP)
    write_checkpoint(
        folder / "levels.safetensors", state, {"codec": "cotam-elic", "config": CONFIG}
    )
    save_clip(folder / "clip")
    return folder


def build(folder, name="0.0256", **options):
    given = CotamOptions(checkpoints=folder, device="cpu", **{"guidance": "none", **options})
    return CotamElicCodec(level(name), given)


def guided(folder, tmp_path, steps, name="0.0256"):
    write_maps(tmp_path / "maps.json", {picture_key(IMAGE): np.asarray(steps, np.int8)})
    return build(folder, name, guidance="maps", maps=tmp_path / "maps.json")


def half():
    return np.repeat([[-1] * 4 + [1] * 4], CELLS, 0)


def test_a_map_is_thirteen_bytes_of_the_bitstream(folder, tmp_path):
    plain, mapped = build(folder), guided(folder, tmp_path, half())
    content = mapped._unpack(mapped.encode(IMAGE))
    assert content.side == pack_map(half())
    assert len(content.side) == BYTES == 13
    without = len(pack(replace(content, side=b"")))
    assert len(mapped.encode(IMAGE)) == without + 13
    assert (plain.encode(IMAGE)[0] & 7, mapped.encode(IMAGE)[0] & 7) == (VERSION, SIDE_VERSION)
    # Whoever decodes needs no map and no CLIP, and gets another picture than without.
    assert plain.decode(mapped.encode(IMAGE)).size == IMAGE.size
    assert plain.decode(mapped.encode(IMAGE)) != plain.decode(plain.encode(IMAGE))


def test_a_map_of_equal_cells_is_left_out(folder, tmp_path):
    for step in (-1, 0, 1):
        steps = np.full((CELLS, CELLS), step)
        assert guided(folder, tmp_path, steps).encode(IMAGE) == build(folder).encode(IMAGE)


def test_levels_of_a_map_are_those_of_the_cells(folder, tmp_path):
    codec = guided(folder, tmp_path, half())
    [found] = codec._level_maps([IMAGE.size], [pack_map(half())])
    columns = [0] * 3 + [2] * 5  # the fourth latent has its middle at 56 pixels of 100
    assert found.tolist() == [columns] * 12  # 130 pixels high, padded to 192
    [highest] = guided(folder, tmp_path, half(), "0.0064")._level_maps(
        [IMAGE.size], [pack_map(half())]
    )
    assert highest.unique().tolist() == [2, 3]  # there is no better level than the best


def test_rates_rise_with_the_levels_and_between_them(folder):
    rates = [len(build(folder, name).encode(IMAGE)) for name in ("0.0512", "0.02", "0.0064")]
    assert rates == sorted(rates)
    assert len(set(rates)) == 3
    with pytest.raises(ConfigError, match=r"lambda0.1: lambda 0.1 is outside of 0.0064 to 0.0512"):
        build(folder, "0.1").encode(IMAGE)


@pytest.mark.parametrize(
    "side",
    [
        bytes([243]) + pack_map(half())[1:],  # more than five digits
        pack_map(half())[:-1] + bytes([81]),  # a digit behind the last
        bytes([121] * 12 + [40]),  # all cells alike
        bytes([243, 1, 1]) + pack_map(half()),  # a header of one tile
        bytes([243, 255, 255]) + pack_map(half()),  # more tiles than there can be
        bytes([244, 2, 1]) + 2 * pack_map(half()),  # no header
    ],
)
def test_a_damaged_map_is_refused(folder, tmp_path, side):
    codec = guided(folder, tmp_path, half())
    content = codec._unpack(codec.encode(IMAGE))
    damaged = pack(replace(content, side=side))
    for read in (codec.decode, codec.latents):
        with pytest.raises(BitstreamError, match="cotam-elic: damaged: its guidance map"):
            read(damaged)


def test_digits_come_back():
    random = np.random.default_rng(0)
    for _ in range(20):
        steps = random.integers(-1, 2, (CELLS, CELLS)).astype(np.int8)
        assert (unpack_map(pack_map(steps)) == steps).all()


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (3, 2), (1, 5), (8, 8)])
def test_digits_of_tiles_come_back(columns, rows):
    random = np.random.default_rng(0)
    steps = random.integers(-1, 2, (CELLS * rows, CELLS * columns)).astype(np.int8)
    side = pack_map(steps)
    assert len(side) == 13 * columns * rows + 3 * (columns * rows > 1)
    assert map_length(side + b"behind it") == len(side)
    assert (unpack_map(side) == steps).all()
    assert pack_map(np.ones_like(steps)) == b""


def test_tiles_lie_one_after_the_other():
    steps = np.zeros((CELLS, 2 * CELLS), np.int8)
    steps[:, CELLS:] = 1  # all of the second tile
    plain = bytes([121] * 12 + [40])
    better = bytes([242] * 12 + [80])
    assert pack_map(steps) == bytes([243, 2, 1]) + plain + better


@given(st.binary(max_size=60))
def test_bytes_are_a_map_or_refused(side):
    try:
        steps = unpack_map(side)
    except BitstreamError:
        return
    assert pack_map(steps) == side


def test_levels_by_the_mean_and_deviation():
    attention = np.zeros((CELLS, CELLS))
    attention[0, 0], attention[0, 1] = 8.0, -8.0
    steps = three_levels(attention, 0.75)
    assert (steps[0, 0], steps[0, 1], np.abs(steps).sum()) == (1, -1, 2)


def test_clip_guides(folder):
    codec = build(folder, guidance="clip", clip=str(folder / "clip"))
    side = codec._unpack(codec.encode(IMAGE)).side
    attention = codec._clip.class_attention(codec._clip.prepare([IMAGE], "squash"), {0, 1, 2})
    cells = attention.mean(1)[0]  # 4 x 4 patches; each is four cells
    expected = np.kron(three_levels(cells.double().numpy(), 0.75), np.ones((2, 2)))
    assert (unpack_map(side) == expected).all()
    assert codec.encode(IMAGE) == build(folder, guidance="clip", clip=str(folder / "clip")).encode(
        IMAGE
    )
    assert any(name.startswith("clip ") for name in codec.provenance())
    deep = build(folder, guidance="clip", clip=str(folder / "clip"), layers=[3])
    assert deep.side_information(IMAGE) != side


def tiled(folder, tiles, **options):
    return build(folder, guidance="tiles", clip=str(folder / "clip"), tiles=tiles, **options)


def test_tiles_guide_one_bitstream_of_the_whole(folder):
    whole = build(folder, guidance="clip", clip=str(folder / "clip"))
    codec = tiled(folder, "2x1")
    bitstream = codec.encode(IMAGE)
    side = codec._unpack(bitstream).side
    assert side[:3] == bytes([243, 2, 1])
    assert len(side) == 3 + 2 * 13
    # The sum of what is seen in the whole and in the halves, each over its mean.
    left, right = (
        codec._attention(IMAGE.crop(box)) for box in ((0, 0, 50, 130), (50, 0, 100, 130))
    )
    above = np.array(
        Image.fromarray(codec._attention(IMAGE)).resize((16, 8), Image.Resampling.BILINEAR)
    )
    local = np.hstack([left / left.mean(), right / right.mean()])
    expected = three_levels(local + above / codec._attention(IMAGE).mean(), 0.75)
    assert (unpack_map(side) != expected).mean() < 0.02  # Pillow's weights are not exact
    # Whoever decodes needs no CLIP, and the rule of no host.
    assert build(folder).decode(bitstream) == codec.decode(bitstream)
    assert codec.decode(bitstream) != whole.decode(whole.encode(IMAGE))
    # One tile is the whole.
    assert tiled(folder, "1x1").encode(IMAGE) == whole.encode(IMAGE)


def test_levels_of_tiles_are_those_of_the_cells(folder):
    steps = np.zeros((CELLS, 2 * CELLS), np.int8)
    steps[:, CELLS:] = 1
    [found] = build(folder)._level_maps([(128, 64)], [pack_map(steps)])
    assert found.tolist() == [[1] * 4 + [2] * 4] * 4


@pytest.mark.parametrize(
    ("size", "grid"), [((900, 900), (2, 2)), ((1600, 400), (4, 1)), ((400, 1000), (1, 3))]
)
def test_internvl_tiles_are_the_hosts(size, grid):
    processor = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448})
    layout = InternVLPreprocessor(processor, 14).layout(size, 6)
    cut = tiling("internvl", size, None)
    assert (cut.columns, cut.rows) == grid
    assert layout.tiles == cut.columns * cut.rows + 1  # the host's last is the whole
    for box, shown in zip(cut.boxes(size), layout.rectangles[:-1], strict=True):
        pairs = zip(shown, size * 2, strict=True)
        assert box == tuple(round(side * length) for side, length in pairs)
    assert tiling("internvl", size, 1).columns == 1


def test_onevision_tiles_reach_beyond_the_picture():
    resolutions = [[384 * r, 384 * c] for r in range(1, 7) for c in range(1, 7)]
    processor = LlavaOnevisionImageProcessorPil()
    for size in ((500, 300), (1000, 1000), (300, 900)):
        layout = LlavaOnevisionPreprocessor(processor, 384, 14, resolutions).layout(size, None)
        cut = tiling("llava-onevision", size, None)
        assert (cut.columns, cut.rows) == (layout.tile_columns, layout.tile_rows)
        assert cut.canvas == (*layout.rectangles[1][:2], *layout.rectangles[-1][2:])
    wide = tiling("llava-onevision", (760, 380), 4)
    assert (wide.columns, wide.rows) == (2, 1)
    assert wide.crops(picture(380, 760))[0].size == (380, 380)


def test_what_lies_in_the_border_of_a_canvas_is_left_out():
    tiles = np.ones((1, CELLS, CELLS))
    tiles[0, :2], tiles[0, -2:] = 100, 100  # the host pads above and below
    cut = Tiling(1, 1, (0.0, -0.5, 1.0, 1.5))
    found = fused(np.ones((CELLS, CELLS)), tiles, cut)
    inner = found[1:-1]
    assert found.shape == (CELLS, CELLS)
    assert np.allclose(inner, 1 + 1 / tiles.mean())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"guidance": "tiles"}, "go together"),
        ({"tiles": "2x2"}, "go together"),
        ({"guidance": "tiles", "tiles": "9x9"}, "at most 64"),
        ({"guidance": "tiles", "tiles": "qwen"}, "internvl, llava-onevision or COLUMNSxROWS"),
        ({"guidance": "tiles", "tiles": "2x2", "most_tiles": 3}, "the rule of a host"),
        ({"guidance": "tiles", "tiles": "internvl", "most_tiles": 99}, "must be 1 to 64"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        CotamOptions(**given)


def test_the_nano_checkpoint_has_levels_of_its_own():
    registry = load_registry(strict=False)
    found = registry.find("codec", "cotam-elic")
    for variant, first, last in (
        ("nano", "lambda0.2048", "lambda0.0032"),
        ("official", "lambda0.0128", "lambda0.00002"),
    ):
        spec = registry.configured(found, {"variant": variant})[0].spec
        assert (spec.levels[0].name, spec.levels[-1].name) == (first, last)


def test_what_is_missing_is_said_before_anything_is_coded(folder, tmp_path):
    spec = load_registry(strict=False).find("codec", "cotam-elic").spec
    checkpoint, clip = spec.requirements(CotamOptions(checkpoints=tmp_path))
    assert "train one with" in checkpoint.remedy
    assert "clip-vit-large-patch14-336" in clip.remedy
    none = CotamOptions(checkpoints=folder, guidance="maps", maps=tmp_path / "no.json")
    assert [each.what for each in spec.requirements(none)] == [
        f"file of guidance maps {tmp_path / 'no.json'}"
    ]
    with pytest.raises(RequirementError, match="there is no folder"):
        build(folder, guidance="clip", clip=str(tmp_path / "no")).provenance()
    message = r"lambda0.3: lambda 0.3 is outside of 0.0064 to 0.0512"
    with pytest.raises(ConfigError, match=message):
        build(folder, "0.3").provenance()
    with pytest.raises(ConfigError, match=r"cotam-elic: layers: .*clip has no layer 9; it has"):
        build(folder, guidance="clip", clip=str(folder / "clip"), layers=[0, 9]).provenance()
    assert "set the option clip to its folder" in clip.remedy
    assert clip.source.licence.startswith("MIT")
    codec = guided(folder, tmp_path, half())
    with pytest.raises(ImageError, match="has no map of this picture"):
        codec.encode(picture(9, 9))
    pairs = json.dumps([["k", "1" * 64]])
    deep = "[" * 100_000
    for broken in ("[]x", "{}}", "[]", "{}", pairs, deep, '{"a": "012"}', '["a"]'):
        (tmp_path / "broken.json").write_text(broken)
        with pytest.raises(ConfigError, match="is no file of guidance maps"):
            build(folder, guidance="maps", maps=tmp_path / "broken.json").encode(IMAGE)


def test_dcae_has_gains_at_its_stages():
    codec = CotamDcaeCodec(level("0.0256"), CotamOptions(guidance="none", device="cpu"))
    network = codec.build({**CONFIG, "network": DCAE})
    x = torch.rand(1, 3, 128, 128)
    with network.at(torch.zeros(1, 1, 1)):
        low = network(x)
    with network.at(torch.full((1, 8, 8), 3.0)):
        high = network(x)
    assert high["y_hat"].abs().sum() > low["y_hat"].abs().sum()
    assert high["x_hat"].shape == x.shape


def test_a_checkpoint_without_gains_is_refused(tmp_path, folder):
    torch.save({"state_dict": {"g_a.0.weight": torch.zeros(1)}}, tmp_path / "levels.pth")
    with pytest.raises(ConfigError, match="it has no gains of levels"):
        build(tmp_path).encode(IMAGE)
    with pytest.raises(ValueError, match="go together"):
        CotamOptions(guidance="maps")
