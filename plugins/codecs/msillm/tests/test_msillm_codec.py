import re

import pytest
from lossylens.errors import ConfigError
from lossylens.testing.pictures import picture
from lossylens_codec_msillm import network
from lossylens_codec_msillm.codec import MsillmCodec
from lossylens_codec_msillm.plugin import missing, register_codecs
from lossylens_toolkit.neural_codec.high_fidelity_suite import HighFidelityCodecChecks
from lossylens_toolkit.neural_codec.neural_options import GenerativeCodecOptions
from lossylens_toolkit.testing.golden_gan import gan_filled
from PIL import Image

SMALL = {
    "num_residual_blocks": 2,
    "filters": [4, 6, 8, 10, 12],
    "latent_features": 10,
    "hyper_features": 8,
}


class TestMsillm(HighFidelityCodecChecks):
    codec = MsillmCodec
    options = GenerativeCodecOptions
    register = staticmethod(register_codecs)
    network = network
    small, wider = SMALL, {"hyper_features": 12}
    level_names = ("vlo2", "q1", "q2", "q3")
    latents_shape = (10, 8, 4)
    bottleneck = "hyper_bottleneck"
    source = "dl.fbaipublicfiles.com"

    @classmethod
    def state(cls, seed):
        built = network.official_state_dict(network.build(**SMALL))
        shapes = {name: value.shape for name, value in built.items()}
        return gan_filled("msillm", shapes, seed, built)

    @pytest.mark.parametrize(
        ("level", "rate"),
        [("vlo1", "0.00218"), ("vlo2", "0.00438"), ("q1", "0.035"), ("q6", "0.9")],
    )
    def test_the_names_of_the_published_files(self, tmp_path, level, rate):
        public = tmp_path / f"msillm_target_{rate}bpp.ckpt"
        public.touch()
        assert self.build(tmp_path, self.spec.level(level)).checkpoint == public

    def test_each_missing_file_is_named_with_its_source(self, tmp_path):
        found = missing(GenerativeCodecOptions(tmp_path))
        assert [each.what.split()[-1] for each in found] == list(self.level_names)
        assert "2023-muckley-msillm/msillm_target_0.00438bpp.ckpt" in found[0].remedy

    def test_other_levels(self):
        for name in ("q7", "q0", "vlo3", "vlo", "1"):
            with pytest.raises(ConfigError):
                self.spec.level(name)

    def test_the_official_way_of_counting(self, folder, capsys):
        bitstream = self.build(folder, official_rate=True).encode(picture(70, 90))
        line = capsys.readouterr().err
        own, official = map(float, re.findall(r"([\d.]+) bpp", line))
        assert own == pytest.approx(8 * len(bitstream) / 6300, abs=1e-5)
        # A pickle of about 126 bytes in place of a header of about 15.
        assert 100 < 6300 * (official - own) / 8 < 120
        assert "pickle" in line

    def test_the_pickle_is_as_long_as_the_official_one(self, folder):
        tested = self.build(folder)
        for image, y, z, expected in (
            (picture(128, 128), 6352, 952, 7430),
            (picture(200, 136), 20136, 2856, 23119),
        ):
            content = type("Content", (), {"y": bytes(y), "z": bytes(z)})
            tested._unpack = lambda bitstream, content=content: content
            assert tested.official_bits(image, b"") == 8 * expected

    def test_short_sides_get_zeros(self):
        short, long = picture(32, 70), picture(33, 70)
        codec = MsillmCodec
        for image, reflected in ((short, False), (long, True)):
            x = _tensor(image)
            padded = codec.padding.pad(x)
            assert padded.shape[-2:] == (64, 128)
            assert bool(padded[..., image.height :, :].any()) is reflected


def _tensor(image: Image.Image):
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255 + 0.01
