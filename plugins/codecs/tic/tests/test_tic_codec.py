import re

import pytest
import torch
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.testing.pictures import picture
from lossylens_codec_tic import network
from lossylens_codec_tic.codec import TicCodec
from lossylens_codec_tic.plugin import LEVELS, SERIAL, TicOptions, missing, register_codecs
from lossylens_toolkit.neural_codec import neural_options
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.neural_codec.neural_suite import KEEP, NeuralCodecChecks
from lossylens_toolkit.testing.golden_weights import filled
from lossylens_toolkit.testing.small_networks import TIC as SMALL
from lossylens_toolkit.testing.small_networks import TIC_SERIAL as SMALL_SERIAL

SCALE = {r"\.residual_group\..*\.(attn\.proj|mlp\.fc2)\.weight$": 0.3}
LEVEL = LEVELS[0]


class TestTic(NeuralCodecChecks):
    codec = TicCodec
    options = TicOptions
    register = staticmethod(register_codecs)
    network = network
    small, wider, scale = SMALL, {"N": 16}, SCALE
    level_names = ("lambda0.0018", "lambda0.0035", "lambda0.0067", "lambda0.013")
    latents_shape = (12, 16, 16)

    def test_widths_and_depths_are_found_in_the_file(self, folder):
        stages = ("g_a1", "g_a3", "g_a5", "g_a7", "h_a1", "h_a3")
        depths = [1, 2, 3, 1, 1, 1]
        state = {
            f"{stage}.residual_group.blocks.{i}.norm1.bias": torch.empty(1)
            for stage, depth in zip(stages, depths, strict=True)
            for i in range(depth)
        }
        state["g_a0.weight"], state["g_a6.weight"] = torch.empty(192, 1), torch.empty(320, 1)
        found = self.build(folder).official_config(state)
        assert found == {"variant": "hp", "N": 192, "M": 320, "depths": depths}

    def test_the_name_of_the_public_file(self, tmp_path):
        public = tmp_path / "base_codec_2.pth.tar"
        public.touch()
        assert self.build(tmp_path, LEVELS[1]).checkpoint == public

    def test_published_levels_however_they_are_written(self):
        assert self.spec.level("lambda0.0130") == LEVELS[3]


@pytest.fixture(scope="module")
def serial_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    built = network.official_state_dict(network.build(**SMALL_SERIAL))
    about = {"codec": "tic", "level": LEVEL.name, "config": SMALL_SERIAL}
    state = filled(built, 0, KEEP, SCALE)
    write_checkpoint(folder / f"{LEVEL.name}.safetensors", state, about)
    return folder


def codec(folder, variant):
    return TicCodec(LEVEL, TicOptions(folder, device="cpu", variant=variant))


def test_the_serial_one_codes_what_it_rounds(serial_folder):
    tested = codec(serial_folder, SERIAL)
    bitstream = tested.encode(picture(70, 200))
    latents = tested.latents(bitstream)
    assert (latents.space, latents.stride) == (f"tic-serial/{LEVEL.name}", 16)
    assert latents.values.shape == (12, 8, 16)
    assert codec(serial_folder, SERIAL).decode(bitstream).size == (200, 70)
    hp = codec(serial_folder, "hp")
    hp.network = tested.network
    with pytest.raises(BitstreamError, match=f"of tic-serial/{LEVEL.name}; this is tic/"):
        hp.decode(bitstream)


def test_a_checkpoint_of_the_other_variant_is_refused(serial_folder, tmp_path):
    with pytest.raises(ConfigError, match="of the variant serial; this is hp"):
        codec(serial_folder, "hp").encode(picture(9, 9))
    state = network.official_state_dict(network.build(**SMALL))
    torch.save({"state_dict": state}, tmp_path / f"{LEVEL.name}.pth.tar")
    with pytest.raises(ConfigError, match="of the variant hp; this is serial"):
        codec(tmp_path, SERIAL).encode(picture(9, 9))


@pytest.mark.parametrize(
    ("variant", "folder", "source"),
    [("hp", "tic", "TransTIC"), (SERIAL, "tic-serial", "lumingzzz/TIC")],
)
def test_each_variant_has_a_folder_and_a_source(variant, folder, source, tmp_path, monkeypatch):
    monkeypatch.setattr(neural_options, "cache_folder", lambda: tmp_path)
    folder = tmp_path / "checkpoints" / folder
    with pytest.raises(RequirementError, match=rf"{re.escape(str(folder))}\."):
        codec(None, variant).encode(picture(9, 9))
    [lacking] = missing(TicOptions(variant=variant))
    assert source in lacking.remedy
    assert f"{folder} as" in lacking.remedy
