import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ConfigError, ImageError, RequirementError
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens_codec_cotam.codec import CotamDcaeCodec, CotamElicCodec
from lossylens_codec_cotam.guidance_map import (
    BYTES,
    CELLS,
    pack_map,
    picture_key,
    three_levels,
    unpack_map,
    write_maps,
)
from lossylens_codec_cotam.plugin import CotamOptions
from lossylens_toolkit.clip.clip_testing import save_clip
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.neural_codec.container import SIDE_VERSION, VERSION, pack
from lossylens_toolkit.testing.golden_weights import filled

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
    codec = guided(folder, tmp_path, half())
    with pytest.raises(ImageError, match="has no map of this picture"):
        codec.encode(picture(9, 9))
    for broken in ("[]x", "{}}", json.dumps({"a": "012"}), json.dumps(["a"])):
        (tmp_path / "broken.json").write_text(broken)
        with pytest.raises(ConfigError, match="is no file of guidance maps"):
            build(folder, guidance="maps", maps=tmp_path / "broken.json").encode(IMAGE)


def test_dcae_has_gains_at_its_stages():
    codec = CotamDcaeCodec(level("0.0256"), CotamOptions(guidance="none", device="cpu"))
    small = {
        "head_dim": [4, 4, 8, 8, 4, 4],
        "N": 8,
        "M": 10,
        "features": [8, 8, 16],
        "blocks": [1, 1, 2],
        "z_channels": 6,
        "hyper_head_dim": 4,
        "dictionary": [8, 2, 4],
        "context": [8, 6],
    }
    network = codec.build({**CONFIG, "network": small})
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
