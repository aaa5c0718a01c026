"""What HiFiC's and MS-ILLM's networks and codecs are both tested for, beside the others' checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lossylens.errors import BitstreamError
from lossylens.testing.pictures import picture

from lossylens_toolkit.neural_codec.high_fidelity import HighFidelityNetwork
from lossylens_toolkit.neural_codec.neural_suite import NetworkChecks, NeuralCodecChecks


class HighFidelityNetworkChecks(NetworkChecks):
    """Checks of a network.

    Attributes:
        parameters: shapes of the official network's, by official name.
    """

    parameters: ClassVar[Mapping[str, Any]]
    side = 128

    def test_names_and_shapes(self) -> None:
        """They are the official ones."""
        built = self.network.official_state_dict(self.network.build())
        assert {name: list(value.shape) for name, value in built.items()} == self.parameters

    def test_official_names_and_back(self) -> None:
        """Nothing is lost."""
        source, target = (self.network.build(**self.small) for _ in range(2))
        state = self.network.official_state_dict(source)
        self.network.load_official(target, state)
        found = self.network.official_state_dict(target)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)

    @pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 32), (65, 64), (130, 100)])
    def test_pictures_of_any_size(self, size: tuple[int, int]) -> None:
        """Padding is the network's affair."""
        tested = self.network.build(**self.small)
        x = torch.rand(1, 3, *size)
        with torch.inference_mode():
            out, coded = tested(x), tested.compress(x)
            decoded = tested.decompress(coded["strings"], coded["shape"])
        assert out["x_hat"].shape == x.shape
        height, width = size
        assert torch.equal(decoded["x_hat"][..., :height, :width], out["x_hat"].clamp(0, 1))


class HighFidelityCodecChecks(NeuralCodecChecks):
    """Checks of a codec."""

    def test_refused_before_a_network_runs(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Cut, extended, of another level, or of more pixels than are admitted."""
        tested = self.build(folder)
        bitstream = tested.encode(picture(40, 40))
        other = self.build(folder, self.codec.levels[1]).encode(picture(40, 40))
        small = self.build(folder, max_pixels=1000)
        monkeypatch.setattr(HighFidelityNetwork, "decode_latents", None)
        for each in (bitstream[:-3], bitstream + b"x", other, b"", bytes(40)):
            with pytest.raises(BitstreamError):
                tested.decode(each)
        with pytest.raises(BitstreamError, match="claims 40x40"):
            small.decode(bitstream)
