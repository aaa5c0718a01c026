import pytest
import torch
from lossylens_codec_tcm import network
from lossylens_codec_tcm.codec import TcmCodec
from lossylens_codec_tcm.plugin import LEVELS, register_codecs
from lossylens_toolkit.neural_codec.neural_suite import NeuralCodecChecks
from lossylens_toolkit.testing.small_networks import TCM as SMALL

SCALE = {r"\.conv1_2\.weight$": 0.2, r"\.igdn\.gamma$": 0.1}
WIDER = {"N": 16}


class TestTcm(NeuralCodecChecks):
    codec = TcmCodec
    register = staticmethod(register_codecs)
    network = network
    small, wider, scale = SMALL, WIDER, SCALE
    level_names = ("lambda0.0005", "lambda0.0010", "lambda0.0018", "lambda0.0025")
    latents_shape = (10, 16, 16)

    @pytest.mark.parametrize("width", [64, 96, 128])
    def test_the_size_is_found_in_the_file(self, folder, width):
        state = {"g_a.0.conv1.weight": torch.empty(2 * width, 3, 3, 3)}
        assert self.build(folder).official_config(state) == {"N": width}

    def test_other_sizes_are_compared_with_the_large_one(self, folder):
        assert self.build(folder).official_config({}) == {"N": 128}

    def test_published_levels_however_they_are_written(self):
        assert self.spec.level("lambda0.001") == LEVELS[1]
