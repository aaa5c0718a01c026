from lossylens_codec_elic import network
from lossylens_codec_elic.codec import ElicCodec
from lossylens_codec_elic.plugin import register_codecs
from lossylens_toolkit.neural_codec.neural_suite import NeuralCodecChecks

SMALL = {"N": 8, "M": 20, "groups": [2, 2, 4, 4, 8], "context": [8, 6], "aggregation": [16, 12]}
WIDER = {"N": 12}


class TestElic(NeuralCodecChecks):
    codec = ElicCodec
    register = staticmethod(register_codecs)
    network = network
    small, wider = SMALL, WIDER
    level_names = ("lambda0.004", "lambda0.008", "lambda0.016", "lambda0.032")
    latents_shape = (20, 8, 4)

    def test_the_name_of_the_public_file(self, tmp_path):
        public = tmp_path / "ELIC_0450_ft_3980_Plateau.pth.tar"
        public.touch()
        assert self.build(tmp_path, self.spec.level("lambda0.45")).checkpoint == public
