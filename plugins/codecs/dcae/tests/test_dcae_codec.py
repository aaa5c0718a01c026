from lossylens_codec_dcae import network
from lossylens_codec_dcae.codec import DcaeCodec
from lossylens_codec_dcae.plugin import LEVELS, register_codecs
from lossylens_toolkit.neural_codec.neural_suite import NeuralCodecChecks
from lossylens_toolkit.testing.small_networks import DCAE as SMALL

SCALE = {r"\.res_scale_[123]\.scale$": 50.0, r"^g_a\.6\.weight$": 0.25, r"^h_a\.2\.weight$": 0.6}


class TestDcae(NeuralCodecChecks):
    codec = DcaeCodec
    register = staticmethod(register_codecs)
    network = network
    small, wider, scale = SMALL, {"N": 16}, SCALE
    level_names = (
        "lambda0.0018",
        "lambda0.0035",
        "lambda0.0067",
        "lambda0.013",
        "lambda0.025",
        "lambda0.05",
    )
    latents_shape = (10, 8, 8)

    def test_levels_however_they_are_written(self):
        assert self.spec.level("lambda0.050") == LEVELS[-1]
        assert self.spec.level("lambda60.5").parameters == {"lambda": 60.5}
