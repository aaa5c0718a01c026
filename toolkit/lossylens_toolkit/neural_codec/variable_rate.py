"""The codec contract for one network of many rates: another codec's, with gains of levels."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.registry.import_paths import import_object
from torch import Tensor, nn

from lossylens_toolkit.neural_codec.checkpoints import Checkpoint, read_checkpoint
from lossylens_toolkit.neural_codec.container import Content
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec, Size
from lossylens_toolkit.neural_codec.level_gains import LevelGains, check_lambda
from lossylens_toolkit.neural_codec.neural_options import (
    VARIABLE_RATE,
    NeuralCodecOptions,
    nano_checkpoint,
)

_GAINS = "level_gains."


class VariableRateCodec(NeuralCodec):
    """A learned codec whose levels are gains of one network; see :class:`LevelGains`.

    Levels are named by lambda.  One that lies between two of the training is coded with gains
    between theirs.  All levels share one latent space.

    Attributes:
        base: import path of the codec whose network it is.
    """

    base: ClassVar[str]

    @functools.cached_property
    def base_codec(self) -> NeuralCodec:
        """The codec whose network it is, without its weights."""
        codec: NeuralCodec = import_object(self.base)(self.level, NeuralCodecOptions())
        return codec

    @property
    def space(self) -> str:  # type: ignore[override]
        """Name of the latent space, which is that of all levels."""
        return self._identity(self.level).rpartition("/")[0]

    # ---------------------------------------------------------------- network

    def build(self, config: Mapping[str, Any]) -> HyperpriorNetwork:
        """Return an untrained network.

        Args:
            config: ``network``, arguments of the base's ``build``; ``lambdas`` and
                ``reference``, see :class:`LevelGains`.
        """
        network = self.base_codec.build(config["network"])
        network.level_gains = LevelGains(
            config["lambdas"],
            config["reference"],
            network.analysis_stages,
            network.synthesis_stages,
        )
        return network

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Refuse: there is no checkpoint but of a training with gains.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("it has no gains of levels; train them with `lossylens train codec`")

    def base_config(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Return the arguments of the base's ``build`` for one of its checkpoints, of one rate."""
        return self.base_codec.network_config(checkpoint)

    def load_base(self, network: HyperpriorNetwork, state: Mapping[str, Tensor]) -> None:
        """Load the parameters of a network of one rate, and leave the gains as they are.

        Raises:
            ConfigError: names or shapes differ; nothing is loaded then.
        """
        gains, network.level_gains = _gains(network), None
        try:
            self.base_codec.load_official(network, state)
        finally:
            network.level_gains = gains

    def load_official(self, network: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        assert isinstance(network, HyperpriorNetwork)
        own = _gains(network).state_dict()
        given = {name.removeprefix(_GAINS): v for name, v in state.items() if _GAINS in name}
        if {n: v.shape for n, v in given.items()} != {n: v.shape for n, v in own.items()}:
            raise ConfigError("its gains are of another architecture, nothing was loaded")
        self.load_base(network, {n: v for n, v in state.items() if not n.startswith(_GAINS)})
        _gains(network).load_state_dict(given)

    def official_state(self, network: HyperpriorNetwork) -> Mapping[str, Tensor]:
        """Return all parameters: the base's by its official names, and the gains."""
        gains, network.level_gains = _gains(network), None
        state = dict(self.base_codec.official_state(network))
        network.level_gains = gains
        return state | {_GAINS + name: value for name, value in gains.state_dict().items()}

    def stems(self, level: Level) -> Sequence[str]:
        """See the base: one checkpoint is of all levels."""
        return (VARIABLE_RATE,)

    def _nano_checkpoint(self, folder: Path) -> Path:
        # Codecs of one plugin share the folder.
        path = nano_checkpoint(folder, Level(self.name))
        if not path.is_file():
            raise RequirementError("there is no nano checkpoint of it")
        return path

    def provenance(self) -> Mapping[str, str]:
        """See the base; runs ask it before anything is coded.

        Raises:
            RequirementError: there is no checkpoint.
            ConfigError: the level is outside of those that the network was trained for.
        """
        config = read_checkpoint(self.checkpoint).about.get("config")
        lambdas = config.get("lambdas") if isinstance(config, Mapping) else None
        if isinstance(lambdas, list) and lambdas:
            try:
                check_lambda(float(self.level.parameters["lambda"]), lambdas)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self.name} {self.level.name}: {error}") from error
        return super().provenance()

    # ---------------------------------------------------------------- level maps

    @property
    def place(self) -> float:
        """Place of the level among those of the network.

        Raises:
            ConfigError: its lambda is outside of those that the network was trained for.
        """
        try:
            return _gains(self.network).place(float(self.level.parameters["lambda"]))
        except ValueError as error:
            raise ConfigError(f"{self.name} {self.level.name}: {error}") from error

    def steps(self, side: bytes) -> Tensor | None:
        """Return steps of level from side information, ``(rows, columns)`` over the picture.

        Without it there are none; the level is that of the codec everywhere.

        Raises:
            BitstreamError: it is damaged.
        """
        return None

    def compress_beside(
        self, network: HyperpriorNetwork, x: Tensor, sizes: Sequence[Size], sides: Sequence[bytes]
    ) -> dict[str, Any]:
        """See the base."""
        with network.at(self._level_maps(sizes, sides)):
            return network.compress(x)

    def synthesize_beside(
        self, latents: Tensor, sizes: Sequence[Size], sides: Sequence[bytes]
    ) -> Tensor:
        """See the base."""
        with self.network.at(self._level_maps(sizes, sides)):
            return self.network.synthesize(latents)

    def _unpack(self, bitstream: bytes) -> Content:
        content = super()._unpack(bitstream)
        try:
            self.steps(content.side)
        except BitstreamError as error:
            raise BitstreamError(f"{self.name}: {error}") from error
        return content

    def _level_maps(self, sizes: Sequence[Size], sides: Sequence[bytes]) -> Tensor:
        """Return level maps of pictures of one padded size, at the resolution of their latents."""
        stride, top = self.network.stride, len(_gains(self.network).lambdas) - 1
        width, height = (side // stride for side in self.padding.padded(*sizes[0]))
        maps = []
        for size, side in zip(sizes, sides, strict=True):
            steps = self.steps(side)
            if steps is None:
                maps.append(torch.full((height, width), self.place, dtype=torch.float64))
                continue
            columns = _cells(width, stride, size[0], steps.shape[1])
            rows = _cells(height, stride, size[1], steps.shape[0])
            maps.append((self.place + steps.double()[rows][:, columns]).clamp(0, top))
        return torch.stack(maps).to(self._device)


def _gains(network: HyperpriorNetwork) -> LevelGains:
    gains = network.level_gains
    assert gains is not None
    return gains


def _cells(positions: int, stride: int, length: int, cells: int) -> Tensor:
    """Return the cell of a picture's side in which each position of latents has its middle."""
    middles = (torch.arange(positions) + 0.5) * stride / length
    return (middles * cells).long().clamp(max=cells - 1)
