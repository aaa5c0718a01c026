import re

import pytest
import torch
from lossylens.codec import Level
from lossylens.errors import ConfigError
from lossylens.testing.pictures import picture
from lossylens_codec_hific import network
from lossylens_codec_hific.codec import HificCodec
from lossylens_codec_hific.plugin import missing, register_codecs
from lossylens_toolkit.neural_codec.high_fidelity_suite import HighFidelityCodecChecks
from lossylens_toolkit.neural_codec.neural_options import GenerativeCodecOptions
from lossylens_toolkit.testing.golden_gan import gan_filled

SMALL = {
    "n_residual_blocks": 2,
    "filters": [4, 6, 8, 10, 12],
    "latent_channels": 10,
    "hyperlatent_filters": 8,
}


class TestHific(HighFidelityCodecChecks):
    codec = HificCodec
    options = GenerativeCodecOptions
    register = staticmethod(register_codecs)
    network = network
    small, wider = SMALL, {"hyperlatent_filters": 12}
    level_names = ("low3", "low2", "low1", "low")
    latents_shape = (10, 8, 8)
    bottleneck = None
    source = "zenodo.org"

    @classmethod
    def state(cls, seed):
        built = network.official_state_dict(network.build(**SMALL))
        shapes = {name: value.shape for name, value in built.items()}
        return gan_filled("hific", shapes, seed, built)

    def test_the_names_of_the_published_files(self, tmp_path):
        for name in ("low", "med", "hi"):
            public = tmp_path / f"hific_{name}.pt"
            public.touch()
            assert self.build(tmp_path, self.spec.level(name)).checkpoint == public

    def test_each_missing_file_is_named_with_its_source(self, tmp_path):
        found = missing(GenerativeCodecOptions(tmp_path))
        assert [each.what.split()[-1] for each in found] == list(self.level_names)
        assert "get https://zenodo.org/records/4026003/files/hific_low.pt;" in found[-1].remedy
        assert found[-1].source.target == str(tmp_path / "hific_low.pt")
        assert "lossylens train codec hific" in found[0].remedy

    def test_other_levels(self):
        assert self.spec.level("MED").parameters == {"target_bpp": 0.3}
        assert self.spec.level("low2").parameters == {"target_bpp": 0.035}
        for name in ("low0", "low10", "high", "low²"):
            with pytest.raises(ConfigError):
                self.spec.level(name)

    def test_the_published_layout(self, tmp_path):
        """With a discriminator, an optimiser's state and arguments beside the network."""
        state = self.state(0)
        tested = self._published(tmp_path, state, {"likelihood_type": "logistic"})
        expected = {**SMALL, "likelihood_type": "logistic", "normalize_input_image": True}
        tested.build = lambda config: network.build(**{**SMALL, **config})
        assert expected.items() <= {**SMALL, **tested.network_config(_read(tested))}.items()
        found = network.official_state_dict(tested.network)
        assert all(torch.equal(found[name], state[name]) for name in state)
        assert tested.network.prior.kind == "logistic"
        image = picture(70, 50)
        assert tested.decode(tested.encode(image)).size == image.size

    @pytest.mark.parametrize(
        ("level", "likelihood", "normal"),
        [("low", "gaussian", True), ("med", "logistic", False), ("hi", "gaussian", True)],
    )
    def test_without_arguments_the_recipe_of_the_level_counts(
        self, tmp_path, level, likelihood, normal
    ):
        (tmp_path / f"{level}.pt").touch()
        tested = self.build(tmp_path, self.spec.level(level))
        names = dict.fromkeys(f"Generator.resblock_{n}.conv1.weight" for n in range(7))
        config = tested.official_config(names)
        assert config == {
            "n_residual_blocks": 7,
            "likelihood_type": likelihood,
            "normalize_input_image": normal,
        }

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"likelihood_type": "laplace"}, "likelihood_type 'laplace'"),
            ({"likelihood_type": 5}, "args.likelihood_type is 5, not a str"),
            ({"sample_noise": True}, "sample_noise"),
            ({"normalize_input_image": "yes"}, "args.normalize_input_image is 'yes'"),
        ],
    )
    def test_arguments_that_are_not_known(self, tmp_path, args, message):
        tested = self._published(tmp_path, self.state(0), args)
        with pytest.raises(ConfigError, match=re.escape(message)):
            tested.encode(picture(9, 9))

    def test_keys_that_are_missing_or_unknown_are_named(self, tmp_path):
        state = self.state(0)
        state["Encoder.extra.weight"] = state.pop("Encoder.conv_block1.1.weight")
        tested = self._published(tmp_path, state, {})
        tested.build = lambda config: network.build(**SMALL)
        expected = r"absent \(Encoder.conv_block1.1.weight\); 1 unknown \(Encoder.extra.weight\)"
        with pytest.raises(ConfigError, match=expected):
            tested.encode(picture(9, 9))

    def test_the_official_way_of_counting(self, folder, capsys):
        image = picture(70, 90)
        assert not capsys.readouterr().err
        bitstream = self.build(folder, official_rate=True).encode(image)
        line = capsys.readouterr().err
        own, official = map(float, re.findall(r"([\d.]+) bpp", line))
        assert own == pytest.approx(8 * len(bitstream) / 6300, abs=1e-5)
        assert "estimated entropy" in line
        # The header, and what a short string costs beyond its information.
        assert 0 < own - official < 8 * 40 / 6300

    def _published(self, folder, state, args):
        beside = {
            "Discriminator.conv1.weight_orig": torch.zeros(2, 2),
            "Hyperprior.prior_entropy_model.CDF": torch.zeros(2, 2).int(),
        }
        content = {
            "model_state_dict": {**state, **beside},
            "compression_optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}},
            "args": {"n_residual_blocks": 7, "crop": (256, 256), **args},
            "epoch": 3,
        }
        torch.save(content, folder / "hific_low.pt")
        return self.build(folder, Level("low", {"target_bpp": 0.14}))


def _read(tested):
    from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint

    return read_checkpoint(tested.checkpoint)
