from pathlib import Path
from typing import ClassVar

import pytest
from lossylens.testing.pictures import picture
from lossylens_codec_rdeic import network
from lossylens_codec_rdeic.codec import RdeicCodec
from lossylens_codec_rdeic.plugin import published, register_codecs
from lossylens_toolkit.latent_diffusion.chain import CODEC
from lossylens_toolkit.latent_diffusion.control import CONTROL
from lossylens_toolkit.latent_diffusion.diffusion_suite import (
    LatentDiffusionChecks,
    plain_config,
    write_base,
)
from lossylens_toolkit.testing.golden_diffusion import golden_case, golden_state

TINY = golden_case(Path(__file__).parent / "golden", "rdeic-tiny")
CONFIG = TINY.given["config"]


class TestRdeic(LatentDiffusionChecks):
    codec = RdeicCodec
    register = staticmethod(register_codecs)
    level_names = ("step2_01", "step2_05", "step2_1", "step2_2")
    other_names: ClassVar = {"RDEIC_step2_05": "step2_05", "step5_0.25": "step5_025"}
    latents_shape = (32, 8, 4)
    lacking = "preprocess_model.out.bias"

    @classmethod
    def write_files(cls, folder):
        state = golden_state(TINY.given["parameters"], 0, TINY.given["fill"], {})
        chain = network.build_chain(**CONFIG)
        network.load_official(chain, state)
        folder.mkdir(exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
        unet, vae = chain.unet, chain.vae
        write_base(folder / "base", unet, plain_config(unet), vae, plain_config(vae))
        own = {name: v for name, v in state.items() if name.startswith((CODEC, CONTROL))}
        config = {"codec": CONFIG["preprocess_config"], "control": CONFIG["control_stage_config"]}
        return own, config

    def test_tiles(self, folder):
        self.tiled(folder, untiled_pixels=64 * 64)

    def test_guidance(self, folder):
        """Other pictures from the same bitstream."""
        bitstream = self.build(folder).encode(picture(30, 40))
        decoded = {self.build(folder, guidance=g).decode(bitstream).tobytes() for g in (1, 0.5, 0)}
        assert len(decoded) == 3

    def test_the_official_count_of_indexes(self, folder):
        """Six bits for each of the one index of a small picture, two more, and seven spare."""
        tested = self.build(folder)
        content = tested._unpack(tested.encode(picture(9, 7)))
        assert (len(content.z), tested.official_z_bytes(content)) == (1, 1)
        content = tested._unpack(tested.encode(picture(100, 200)))
        assert (len(content.z), tested.official_z_bytes(content)) == (6, 7)

    @pytest.mark.parametrize(
        ("level", "name"),
        [("step2_05", "rdeic_0.5_step2.ckpt"), ("step5_2", "rdeic_2_step5.ckpt")],
    )
    def test_published_names(self, level, name):
        assert published(self.spec.level(level)).name == name
