"""What a learned codec's plugin is tested for, on a network as small as it can be.

A plugin's tests derive from :class:`NeuralCodecChecks` and :class:`NetworkChecks`
and add what is particular to the codec.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from lossylens.codec import CodecSpec, Level
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.executor import Resources
from lossylens.failure import Failure
from lossylens.run.executors.process import BoundedFunction
from lossylens.run.jobs import JobByJob
from lossylens.testing.decoding_process import SETTINGS
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lossylens_toolkit.neural_codec import winograd
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions
from lossylens_toolkit.testing.golden_networks import read_golden
from lossylens_toolkit.testing.golden_weights import filled

#: Parameters that are stored in another parametrisation, whose values must stay.
KEEP = (r"entropy_bottleneck\.(quantiles|matrices|factors)", r"gdn\.(beta|gamma)$")

#: What CompressAI before 1.2.4 called the lists of an entropy bottleneck.
_OLD_NAMES = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}


class GoldenFiles(NamedTuple):
    """Golden data of a network: its parameters' shapes, and its cases by name."""

    shapes: Any
    expected: Any
    cases: Mapping[str, Any]


def golden_files(folder: Path, name: str) -> GoldenFiles:
    """Return what ``NAME.json.gz`` and ``NAME.expected.json.gz`` hold."""
    expected = read_golden(folder / f"{name}.expected.json.gz")
    cases = {case["name"]: case for case in expected["cases"]}
    return GoldenFiles(read_golden(folder / f"{name}.json.gz"), expected, cases)


def check_parameters(module: ModuleType, built: Any, golden: Mapping[str, Any]) -> None:
    """Assert that *built* has the names, shapes and number of the official parameters.

    A name without a shape is one that this variant of the network lacks.
    """
    official = module.official_state_dict(built)
    found = {name: list(value.shape) for name, value in official.items()}
    expected = golden["parameters"].items()
    assert found == {name: shape for name, shape in expected if shape is not None}
    assert sum(value.numel() for value in built.parameters()) == golden["parameter_count"]


class NeuralCodecChecks:
    """Checks of a learned codec.

    Attributes:
        codec: the class.
        options: that of its options.
        register: the plugin's hook.
        network: the plugin's module with ``build``.
        small: arguments of ``build`` for a small network.
        wider: of one with other shapes.
        scale: see :func:`~lossylens_toolkit.testing.golden_weights.filled`.
        level_names: of the published levels.
        latents_shape: of a picture 70 high and 50 wide.
        bottleneck: official name of CompressAI's factorised prior; None without one.
        source: what the remedy for missing checkpoints names.
    """

    codec: ClassVar[type[NeuralCodec]]
    options: ClassVar[type[NeuralCodecOptions]] = NeuralCodecOptions
    register: ClassVar[Callable[[Callable[[CodecSpec], None]], None]]
    network: ClassVar[ModuleType]
    small: ClassVar[Mapping[str, Any]]
    wider: ClassVar[Mapping[str, Any]]
    scale: ClassVar[Mapping[str, float]] = {}
    level_names: ClassVar[Sequence[str]]
    latents_shape: ClassVar[tuple[int, int, int]]
    bottleneck: ClassVar[str | None] = "entropy_bottleneck"
    source: ClassVar[str] = "github.com"

    @functools.cached_property
    def spec(self) -> CodecSpec:
        """What the plugin registers."""
        return registered(type(self).register)

    @classmethod
    def state(cls, seed: int) -> dict[str, Tensor]:
        """Return deterministic parameters of the small network, in official names."""
        parameters = cls.network.official_state_dict(cls.network.build(**cls.small))
        return filled(parameters, seed, KEEP, cls.scale)

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with checkpoints of two levels."""
        folder: Path = tmp_path_factory.mktemp("checkpoints")
        for seed, level in enumerate(cls.codec.levels[:2]):
            about = {"codec": cls.codec.name, "level": level.name, "config": cls.small}
            write_checkpoint(folder / f"{level.name}.safetensors", cls.state(seed), about)
        return folder

    def build(self, folder: Path, level: Level | None = None, **options: Any) -> NeuralCodec:
        """Return the codec at *level*, by default the lowest."""
        given = self.options(folder, device="cpu", **options)
        return self.codec(level or self.codec.levels[0], given)

    def with_config(self, folder: Path, config: Mapping[str, Any]) -> NeuralCodec:
        """Return the codec; it takes *config* where it would take that of the official size."""
        tested = self.build(folder)
        network = self.network.build(**config)
        tested.build = lambda config: network  # type: ignore[method-assign]
        return tested

    @pytest.mark.parametrize("entropy_dtype", ["float32", "float64"])
    def test_round_trip(self, folder: Path, entropy_dtype: str) -> None:
        """Pictures of any size come back with their size; a truncated bitstream does not."""
        tested = self.build(folder, entropy_dtype=entropy_dtype)
        for size in ((1, 1), (70, 50)):
            image = picture(*size)
            bitstream = tested.encode(image)
            decoded = self.build(folder).decode(bitstream)
            assert (decoded.mode, decoded.size) == ("RGB", image.size)
            with pytest.raises(BitstreamError, match=r"checksum|not a bitstream"):
                tested.decode(bitstream[:-1])

    def test_coding_is_the_same_everywhere(self, folder: Path) -> None:
        """Other threads and instructions change a sample by far less than rounding does."""
        tested = self.build(folder)
        image = picture(192, 256)
        bitstream = tested.encode(image)
        expected = samples(tested, bitstream)
        environment = {**SETTINGS["three-threads"], **SETTINGS["old-instructions"]}
        recipe = JobByJob(_coded, "coding elsewhere")
        elsewhere = (self.codec, tested.level, tested.options, image, bitstream)
        with closing(BoundedFunction(recipe, Resources(), environment)) as code:
            result = code(elsewhere)
        assert not isinstance(result, Failure), result
        coded, pixels, found = result
        assert coded == bitstream
        assert pixels == tested.decode(bitstream).tobytes()
        # It shows more than one colour, also where the network is a generator of few weights.
        assert np.ptp(expected) > 0.2
        assert 255 * np.abs(found - expected).max() < 1e-8

    def test_latents(self, folder: Path) -> None:
        """Latents say of which network they are."""
        tested = self.build(folder)
        latents = tested.latents(tested.encode(picture(70, 50)))
        assert latents.values.shape == self.latents_shape
        expected = f"{self.codec.name}/{self.codec.levels[0].name}"
        assert (latents.space, latents.stride) == (expected, 16)

    def test_a_bitstream_of_another_level_names_it(self, folder: Path) -> None:
        """It is refused with its own level."""
        other = self.codec.levels[1]
        bitstream = self.build(folder, other).encode(picture(9, 9))
        with pytest.raises(BitstreamError, match=f"of {self.codec.name}/{other.name}; this is"):
            self.build(folder).decode(bitstream)

    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_official_layouts_of_another_width_are_refused(
        self, tmp_path: Path, prefix: str
    ) -> None:
        """Nothing is loaded."""
        state = {prefix + name: value for name, value in self.state(0).items()}
        self._save({"epoch": 1, "state_dict": state}, tmp_path)
        tested = self.with_config(tmp_path, {**self.small, **self.wider})
        expected = r"pth\.tar: .*another architecture, nothing was loaded"
        with pytest.raises(ConfigError, match=expected):
            tested.encode(picture(9, 9))

    def test_official_layouts_are_loaded(self, tmp_path: Path) -> None:
        """Prefix, wrapper, tables and old names of the bottleneck are understood."""
        state = {f"module.{name}": value for name, value in self.state(0).items()}
        if self.bottleneck:
            for new, old in _OLD_NAMES.items():
                new, old = f"{self.bottleneck}.{new}", f"{self.bottleneck}.{old}"
                state = {name.replace(new, old): value for name, value in state.items()}
            assert any("_matrix0" in name for name in state)
            state[f"module.{self.bottleneck}._quantized_cdf"] = torch.zeros(3, 9).int()
        self._save({"epoch": 1, "state_dict": state}, tmp_path)
        tested = self.with_config(tmp_path, self.small)
        found, expected = self.network.official_state_dict(tested.network), self.state(0)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)

    def _save(self, content: Any, folder: Path) -> None:
        torch.save(content, folder / f"{self.codec.levels[0].name}.pth.tar")

    def test_no_checkpoint(self, tmp_path: Path) -> None:
        """The message says where to get it and where to put it."""
        *_, lacking = self.spec.requirements(self.options(tmp_path))
        assert self.source in lacking.remedy
        assert str(tmp_path) in lacking.remedy
        lowest = self.codec.levels[0].name
        with pytest.raises(RequirementError, match=f"no checkpoint of level {lowest}"):
            self.build(tmp_path).encode(picture(9, 9))

    def test_levels(self) -> None:
        """The published levels, and names that are none."""
        assert [level.name for level in self.spec.levels] == list(self.level_names)
        assert tuple(self.spec.levels) == tuple(self.codec.levels)
        parse = self.spec.parse_level
        assert parse is not None
        for level in self.spec.levels:
            assert self.spec.level(level.name.upper()) == level
            assert parse(level.name) == level
        for name in ("", "q", "lambda", "q10", "-1", "lambda-1", "q٣"):
            with pytest.raises(ConfigError):
                self.spec.level(name)


def samples(codec: NeuralCodec, bitstream: bytes) -> NDArray[np.float64]:
    """Return the samples of a decoded picture before they are rounded, in 0..1."""
    with torch.inference_mode():
        pictures = codec.network.synthesize(torch.from_numpy(codec.latents(bitstream).values)[None])
    return pictures.double().numpy()


def _coded(
    job: tuple[type[NeuralCodec], Level, NeuralCodecOptions, Image.Image, bytes],
) -> tuple[bytes, bytes, NDArray[np.float64]]:
    """Return the bitstream of an image, the pixels of a bitstream, and these unrounded."""
    codec, level, options, image, bitstream = job
    built = codec(level, options)
    return built.encode(image), built.decode(bitstream).tobytes(), samples(built, bitstream)


class NetworkChecks:
    """Checks of a learned codec's network.

    Attributes:
        network: the plugin's module with ``build``.
        small: arguments of ``build`` for a small network.
        side: of the smallest picture that it takes.
        quantiles: name of the one parameter that the loss does not reach; None if it
            reaches all.
    """

    network: ClassVar[ModuleType]
    small: ClassVar[Mapping[str, Any]]
    side: ClassVar[int] = 64
    quantiles: ClassVar[str | None] = "entropy_bottleneck.quantiles"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("entropy_dtype", [torch.float32, torch.float64])
    def test_strings_decode_to_what_forward_returns(
        self, dtype: torch.dtype, entropy_dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So they do with the convolutions that large networks use."""
        for threshold in ("_CHANNELS", "_POSITIONS"):
            monkeypatch.setattr(winograd, threshold, 1)
        small = self.network.build(**self.small).to(dtype)
        small.update(force=True)
        small.set_entropy_dtype(entropy_dtype)
        x = torch.rand(1, 3, 2 * self.side, 3 * self.side)
        with torch.inference_mode():
            expected = small(x)["x_hat"].clamp(0, 1)
            coded = small.compress(x)
            decoded = small.decompress(coded["strings"], coded["shape"])
        assert decoded["checksums"] == coded["checksums"]
        # How tensors lie in memory changes the last bits of what is in float64 anywhere.
        tolerance = {torch.float32: 1e-6, torch.float64: 1e-10}[entropy_dtype]
        if dtype == torch.float32:
            tolerance = 0
        assert (decoded["x_hat"] - expected).abs().max() <= tolerance

    def test_the_gradient_reaches_everything_but_the_quantiles(self) -> None:
        """Those have a loss of their own."""
        small = self.network.build(**self.small).train()
        out = small(torch.rand(2, 3, self.side, self.side))
        rate = sum(-each.log2().sum() for each in out["likelihoods"].values())
        (out["x_hat"].square().sum() + rate).backward()
        lacking = [name for name, value in small.named_parameters() if value.grad is None]
        assert lacking == ([self.quantiles] if self.quantiles else [])
