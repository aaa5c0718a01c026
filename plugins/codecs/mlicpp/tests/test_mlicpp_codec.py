from lossylens_codec_mlicpp import network
from lossylens_codec_mlicpp.codec import MlicppCodec
from lossylens_codec_mlicpp.plugin import register_codecs
from lossylens_toolkit.neural_codec.neural_suite import NeuralCodecChecks

SMALL = {"N": 8, "M": 16, "slice_num": 4}
WIDER = {"N": 12}


class TestMlicpp(NeuralCodecChecks):
    codec = MlicppCodec
    register = staticmethod(register_codecs)
    network = network
    small, wider = SMALL, WIDER
    level_names = ("q-1", "q0", "q1", "q2")
    latents_shape = (16, 8, 4)

    def test_the_release_is_found_in_the_file(self, folder):
        tested = self.build(folder)
        for release in ("2023", "2024"):
            state = network.official_state_dict(network.build(**self.small, release=release))
            assert tested.official_config(state) == {"release": release}

    def test_the_name_of_the_public_file(self, tmp_path):
        public = tmp_path / "mlic++_mse_q2.pth.tar"
        public.touch()
        assert self.build(tmp_path, self.spec.level("q2")).checkpoint == public
