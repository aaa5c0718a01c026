"""Forward, compress and decompress of networks with a hyperprior.

Ballé et al., "Variational image compression with a scale hyperprior", ICLR 2018;
the interface is that of CompressAI's models.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lossylens_toolkit.neural_codec.coding import (
    Coder,
    Decoder,
    Encoder,
    Likelihoods,
    Rounding,
    decode_bottleneck,
    encode_bottleneck,
    quantised_bottleneck,
)
from lossylens_toolkit.neural_codec.compressai import (
    CompressionModel,
    EntropyBottleneck,
    GaussianConditional,
    quantize_ste,
)
from lossylens_toolkit.neural_codec.level_gains import LevelGains
from lossylens_toolkit.neural_codec.probability_tables import (
    Tables,
    bottleneck_tables,
    gaussian_tables,
)
from lossylens_toolkit.neural_codec.winograd import Winograd


class HyperpriorNetwork(CompressionModel):  # type: ignore[misc]
    """A network of four transforms, a factorised prior and a context model.

    Subclasses have ``g_a``, ``g_s`` and ``latent_channels`` and define the methods below.
    Latents y are ``(B, M, H/16, W/16)``, hyper latents z ``(B, N, H/64, W/64)``.

    A network whose transforms are sequences of layers can be given gains
    (:attr:`level_gains`), with which it computes :meth:`at` the levels of a map.
    """

    g_a: nn.Module
    g_s: nn.Module

    #: Image pixels per position of y and of z, along each side.
    stride = 16
    hyper_stride = 64

    #: Number of channels of y.
    latent_channels: int

    #: Where gains can be: of g_a the layers behind which they are, of g_s those before which
    #: they are, each with the channels there; empty for a network that takes none.
    analysis_stages: Mapping[int, int] = MappingProxyType({})
    synthesis_stages: Mapping[int, int] = MappingProxyType({})

    #: Gains of levels; left out by a network of one rate.
    level_gains: LevelGains | None

    @property
    def bottleneck(self) -> EntropyBottleneck:
        """The factorised prior of z; by default ``entropy_bottleneck``."""
        return self.entropy_bottleneck

    @property
    def gaussian(self) -> GaussianConditional:
        """The conditional prior of y; by default ``gaussian_conditional``."""
        return self.gaussian_conditional

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """Return z; by default that of ``h_a``."""
        return self.h_a(y)

    @abstractmethod
    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """Return the side parameters of y, ``(B, 2M, H/16, W/16)``."""

    @abstractmethod
    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """Hand the latents to *coder*, segment by segment; return the quantised ones.

        Args:
            side: what :meth:`hyper_synthesis` returned.
            y: the latents; None where *coder* decodes them.
            coder: see :class:`~lossylens_toolkit.neural_codec.coding.Coder`.
        """

    def walk_forward(self, side: Tensor, y: Tensor, coder: Likelihoods) -> Tensor:
        """Return the quantised latents as :meth:`forward` takes them; by default :meth:`walk`."""
        return self.walk(side, y, coder)

    @abstractmethod
    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """Return what *coder* got in segments as one tensor in the shape of y."""

    @abstractmethod
    def entropy_modules(self) -> Sequence[nn.Module]:
        """Return the modules between z and the parameters of y's distribution."""

    def residual_predictions(self) -> Sequence[nn.Module]:
        """Return the networks that predict what rounding took from y, if there are any."""
        return []

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Return ``x_hat``, not clamped, and ``likelihoods`` of ``y`` and ``z``.

        Args:
            x: pictures, ``(B, 3, H, W)`` in 0..1; the sides are multiples of
                :attr:`hyper_stride`.
        """
        # The backward pass of 1x1 convolutions with stride 2 of PyTorch 2.15 on a CPU writes past
        # its memory where pictures lie channels-last ("double free or corruption").
        x = x.contiguous()
        with self._transforming(x.device):
            y = self._analysed(x)
        # What probabilities depend on is never in less than full precision.
        with torch.autocast(x.device.type, enabled=False):
            y = y.to(self._transform_dtype)
            z = self.hyper_analysis(y)
            _, z_likelihoods = self.bottleneck(z)
            medians = self._medians
            z_hat = quantize_ste(z.to(self._dtype) - medians) + medians
            coder = Likelihoods(self.gaussian)
            with Winograd():
                y_hat = self.walk_forward(self.hyper_synthesis(z_hat), y.to(self._dtype), coder)
        with self._transforming(x.device):
            x_hat = self._synthesised(y_hat)
        likelihoods = {"y": self.in_channel_order(coder.segments), "z": z_likelihoods}
        return {"x_hat": x_hat, "likelihoods": likelihoods, "y_hat": y_hat}

    @torch.no_grad()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """Return the strings of pictures.

        Args:
            x: as for :meth:`forward`.

        Returns:
            ``strings``: those of y and those of z, one of each for every picture;
            ``shape``: height and width of z; ``checksums``: one for every picture,
            of what its decoder must find.
        """
        with self._transforming(x.device):
            y = self._analysed(x)
            z = self.hyper_analysis(y)
        strings: tuple[list[bytes], list[bytes]] = ([], [])
        checksums = []
        # Picture by picture: what is computed for one must not depend on the others,
        # because the decoder may get it alone.
        for y_i, z_i in zip(y.split(1), z.split(1), strict=True):
            z_string, z_hat = encode_bottleneck(z_i.to(self._dtype), self._medians, self.tables)
            coder = Encoder(self.scale_tables)
            with reproducible(x.device), Winograd():
                self.walk(self.hyper_synthesis(z_hat), y_i, coder)
            strings[0].append(coder.finish())
            strings[1].append(z_string)
            checksums.append(coder.checksum)
        return {"strings": list(strings), "shape": tuple(z.shape[-2:]), "checksums": checksums}

    @torch.no_grad()
    def quantise(self, x: Tensor) -> Tensor:
        """Return the latents that :meth:`decode_latents` finds in the strings of pictures.

        Pictures are computed together, so that the result may differ from what is decoded by
        what floating point rounds otherwise.

        Args:
            x: as for :meth:`forward`.
        """
        with self._transforming(x.device):
            y = self._analysed(x)
            z = self.hyper_analysis(y)
        z_hat = quantised_bottleneck(z.to(self._dtype), self._medians)
        with reproducible(x.device), Winograd():
            return self.walk(self.hyper_synthesis(z_hat), y, Rounding())

    @torch.no_grad()
    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: tuple[int, int]
    ) -> dict[str, Any]:
        """Return the pictures of *strings*, clamped to 0..1.

        Args:
            strings: those of y and those of z.
            shape: height and width of z.

        Returns:
            ``x_hat``, ``y_hat``, and ``checksums``, to be compared with the encoder's.

        Raises:
            BitstreamError: a string is damaged.
        """
        y_hat, checksums = self.decode_latents(strings, shape)
        return {"x_hat": self.synthesize(y_hat), "y_hat": y_hat, "checksums": checksums}

    def synthesize(self, y_hat: Tensor) -> Tensor:
        """Return the pictures of quantised latents, clamped to 0..1."""
        with self._transforming(y_hat.device):
            return self._synthesised(y_hat).clamp_(0, 1)

    @contextlib.contextmanager
    def at(self, level_map: Tensor) -> Iterator[None]:
        """Compute at the levels of a map, ``(B, h, w)``; see :class:`~.level_gains.LevelGains`."""
        assert self.level_gains is not None
        self._level_map = level_map
        try:
            yield
        finally:
            self._level_map = None

    _level_map: Tensor | None = None

    def _analysed(self, x: Tensor) -> Tensor:
        x = x.to(self._transform_dtype)
        if self._level_map is None or self.level_gains is None:
            y: Tensor = self.g_a(x)
            return y
        return self.level_gains.analyse(self.g_a, x, self._level_map)

    def _synthesised(self, y_hat: Tensor) -> Tensor:
        y_hat = y_hat.to(self._transform_dtype)
        if self._level_map is None or self.level_gains is None:
            x_hat: Tensor = self.g_s(y_hat)
            return x_hat
        return self.level_gains.synthesise(self.g_s, y_hat, self._level_map)

    @torch.no_grad()
    def decode_latents(
        self, strings: Sequence[Sequence[bytes]], shape: tuple[int, int]
    ) -> tuple[Tensor, list[int]]:
        """Return the quantised latents y and the checksums; see :meth:`decompress`."""
        height, width = (side * self.hyper_stride // self.stride for side in shape)
        count = self.latent_channels * height * width
        latents, checksums = [], []
        for y_string, z_string in zip(*strings, strict=True):
            z_hat = decode_bottleneck(z_string, shape, self._medians, self.tables)
            coder = Decoder(y_string, count, self.scale_tables)
            with reproducible(z_hat.device), Winograd():
                latents.append(self.walk(self.hyper_synthesis(z_hat), None, coder))
            checksums.append(coder.checksum)
        return torch.cat(latents), checksums

    @property
    def tables(self) -> Tables:
        """The tables of z, computed when they are first needed."""
        if self._tables is None:
            self._tables = self.bottleneck_tables()
        return self._tables

    def bottleneck_tables(self) -> Tables:
        """Compute the tables of z; by default those of CompressAI's factorised prior."""
        return bottleneck_tables(self.bottleneck)

    @property
    def scale_tables(self) -> Tables:
        """The tables of y, one for each standard deviation; by default those of Gaussians."""
        return gaussian_tables()

    _tables: Tables | None = None

    def update(
        self, scale_table: Any = None, force: bool = False, update_quantiles: bool = False
    ) -> bool:
        """Compute the tables again; to be called when the weights have changed."""
        if update_quantiles:
            self.bottleneck._update_quantiles()
        self._tables = None
        return True

    def set_entropy_dtype(self, dtype: torch.dtype) -> None:
        """Compute the parameters of y's distribution in *dtype*, float32 or float64."""
        for module in self.entropy_modules():
            module.to(dtype)

    @contextlib.contextmanager
    def _transforming(self, device: torch.device) -> Iterator[None]:
        """Compute a transform; in float64, if that is its type, the same way every time."""
        if self._transform_dtype != torch.float64:
            yield
            return
        with reproducible(device), Winograd():
            yield

    @property
    def _dtype(self) -> torch.dtype:
        """Of the entropy parameters."""
        return next(self.entropy_modules()[0].parameters()).dtype

    @property
    def _transform_dtype(self) -> torch.dtype:
        return next(self.g_s.parameters()).dtype

    @property
    def _medians(self) -> Tensor:
        return self.bottleneck._get_medians().detach().reshape(1, -1, 1, 1).to(self._dtype)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Compute in full precision, and on a GPU the same way every time."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with (
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
