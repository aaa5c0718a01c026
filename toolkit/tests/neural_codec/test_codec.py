import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import BitstreamError, ConfigError, ImageError, RequirementError
from lossylens.testing.pictures import picture
from lossylens_toolkit.neural_codec.container import pack, unpack
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions
from lossylens_toolkit.neural_codec.padding import Padding
from PIL import Image
from tiny import LEVELS, TinyCodec, write_tiny


def content_of(bitstream):
    return unpack(bitstream, "tiny/q1", (), 10**9)


class TestRoundTrip:
    @pytest.mark.parametrize("size", [(1, 1), (1, 90), (64, 64), (65, 63), (130, 20)])
    def test_what_the_network_gives(self, codec, size):
        image = picture(*size)
        bitstream = codec.encode(image)
        decoded = codec.decode(bitstream)
        assert (decoded.mode, decoded.size, decoded.info) == ("RGB", image.size, {})
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            codec.network.set_entropy_dtype(torch.float32)
            x_hat = codec.network(Padding(64).pad(pixels))["x_hat"].clamp(0, 1)
        expected = (x_hat * 255).round()[0, :, : size[0], : size[1]].permute(1, 2, 0)
        assert np.abs(np.array(decoded) - expected.numpy()).max() <= 1

    def test_batches(self, codec):
        images = [picture(*size) for size in ((24, 40), (80, 24), (30, 40), (7, 1))]
        bitstreams = codec.encode_batch(images)
        assert bitstreams == [codec.encode(image) for image in images]
        decoded = codec.decode_batch(bitstreams)
        assert [each.tobytes() for each in decoded] == [
            codec.decode(bitstream).tobytes() for bitstream in bitstreams
        ]
        assert codec.encode_batch([]) == codec.decode_batch([]) == []

    def test_several_pictures_at_once(self, codec):
        """As on a GPU."""
        x = torch.cat([torch.rand(1, 3, 64, 128), torch.zeros(1, 3, 64, 128)])
        both = codec.network.compress(x)
        for i in range(2):
            one = codec.network.compress(x[i : i + 1])
            assert one["checksums"] == both["checksums"][i : i + 1]
        decoded = codec.network.decompress(both["strings"], both["shape"])
        assert decoded["checksums"] == both["checksums"]
        assert decoded["x_hat"].shape == x.shape

    @pytest.mark.parametrize("entropy_dtype", ["float32", "float64"])
    @pytest.mark.parametrize("threads", [1, 3])
    def test_the_bitstream_says_in_which_arithmetic(self, codec, folder, entropy_dtype, threads):
        options = NeuralCodecOptions(folder, device="cpu", entropy_dtype=entropy_dtype)
        image = picture(60, 70)
        before = torch.get_num_threads()
        bitstream = TinyCodec(LEVELS[0], options).encode(image)
        assert content_of(bitstream).float64 == (entropy_dtype == "float64")
        torch.set_num_threads(threads)
        try:
            assert codec.decode(bitstream).size == image.size
        finally:
            torch.set_num_threads(before)

    def test_transforms_in_bfloat16(self, codec, folder):
        options = NeuralCodecOptions(folder, device="cpu", dtype="bfloat16")
        image = picture(60, 70)
        decoded = codec.decode(TinyCodec(LEVELS[0], options).encode(image))
        exact = codec.decode(codec.encode(image))
        assert np.abs(np.array(decoded, int) - np.array(exact, int)).mean() < 5

    def test_latents(self, codec):
        latents = codec.latents(codec.encode(picture(70, 50)))
        assert latents.values.shape == (6, 128 // 16, 64 // 16)
        assert latents.values.dtype == np.float32
        assert (latents.space, latents.stride) == ("tiny/q1", 16)
        assert len(np.unique(latents.values)) > 10

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_latents_without_coding(self, folder, dtype):
        codec = TinyCodec(
            LEVELS[0], NeuralCodecOptions(checkpoints=folder, device="cpu", dtype=dtype)
        )
        # Of two padded sizes, and more of one than are computed together.
        sizes = [(70, 50), (64, 64), *[(60, 60)] * 9, (128, 40)]
        images = [picture(*size, seed) for seed, size in enumerate(sizes)]
        found = codec.quantised(images)
        for image, latents in zip(images, found, strict=True):
            wanted = codec.latents(codec.encode(image))
            assert (latents.space, latents.stride) == (wanted.space, wanted.stride)
            np.testing.assert_allclose(latents.values, wanted.values, rtol=0, atol=1e-5)

    def test_latents_of_a_codec_that_codes_otherwise(self, folder):
        class Mirrored(TinyCodec):
            def compress(self, network, x):
                return network.compress(x.flip(-1))

        codec, image = (
            Mirrored(LEVELS[0], NeuralCodecOptions(checkpoints=folder, device="cpu")),
            picture(64, 64),
        )
        [found] = codec.quantised([image])
        assert np.array_equal(found.values, codec.latents(codec.encode(image)).values)
        plain = TinyCodec(
            LEVELS[0], NeuralCodecOptions(checkpoints=folder, device="cpu")
        ).quantised([image])[0]
        assert not np.array_equal(found.values, plain.values)

    def test_provenance(self, codec, other_level):
        found = codec.provenance()
        assert set(found) == {"checkpoint", "torch", "compressai"}
        assert found["checkpoint"] != other_level.provenance()["checkpoint"]


class TestRefusals:
    def refuse(self, codec, bitstream, match):
        with pytest.raises(BitstreamError, match=match) as caught:
            codec.decode(bitstream)
        assert "\n" not in str(caught.value)

    def test_another_level(self, codec, other_level):
        bitstream = other_level.encode(picture(20, 30))
        self.refuse(codec, bitstream, r"of tiny/q2; this is tiny/q1")

    def test_other_weights(self, codec, tmp_path):
        write_tiny(tmp_path / "q1.safetensors", 5)
        path = tmp_path / "q1.safetensors"
        other = TinyCodec(LEVELS[0], NeuralCodecOptions(tmp_path, device="cpu"))
        bottleneck = other.network.bottleneck
        bottleneck.biases[0].data += 1
        other.network.update(force=True)
        assert path.exists()
        self.refuse(codec, other.encode(picture(20, 30)), "other weights than those of q1")

    def test_another_probability_model(self, codec, folder):
        """A decoder whose scales come out different says so and gives no picture."""
        image = picture(90, 90)
        bitstream = codec.encode(image)
        deviating = TinyCodec(LEVELS[0], NeuralCodecOptions(folder, device="cpu"))
        deviating.network.h_s.weight.data *= 1.03
        self.refuse(deviating, bitstream, "probability model came out different")

    def test_every_cut(self, codec):
        bitstream = codec.encode(picture(20, 30))
        for length in range(len(bitstream)):
            self.refuse(codec, bitstream[:length], "tiny: ")

    def test_large_pictures(self, folder, codec):
        small = TinyCodec(LEVELS[0], NeuralCodecOptions(folder, device="cpu", max_pixels=100))
        with pytest.raises(ImageError, match="the limit is 100"):
            small.encode(Image.new("RGB", (11, 10)))
        self.refuse(small, codec.encode(Image.new("RGB", (11, 10))), "claims 11x10 pixels")

    @pytest.mark.parametrize("mode", ["L", "RGBA"])
    def test_other_modes(self, codec, mode):
        with pytest.raises(ImageError):
            codec.encode(Image.new(mode, (9, 9)))

    @settings(max_examples=80, deadline=None)
    @given(y=st.binary(max_size=400), z=st.binary(max_size=40), side=st.integers(1, 200))
    def test_hostile_strings_in_a_sound_container(self, codec, y, z, side):
        sound = content_of(codec.encode(Image.new("RGB", (1, 1))))
        hostile = dataclasses.replace(sound, y=y, z=z, width=side, height=side)
        try:
            decoded = codec.decode(pack(hostile))
        except BitstreamError:
            return
        assert decoded.size == (side, side)


class TestCheckpoints:
    def codec(self, folder, **options):
        return TinyCodec(LEVELS[0], NeuralCodecOptions(folder, **{"device": "cpu", **options}))

    def test_none(self, tmp_path):
        codec = self.codec(tmp_path)
        for use in (codec.provenance, lambda: codec.encode(picture(5, 5))):
            with pytest.raises(RequirementError, match=r"tiny: there is no checkpoint of level q1"):
                use()

    def test_of_another_width(self, tmp_path):
        write_tiny(tmp_path / "q1.safetensors", width=8)
        with pytest.raises(ConfigError, match=r"q1\.safetensors.*another architecture.*8x8x4x4"):
            self.codec(tmp_path).encode(picture(5, 5))

    def test_of_a_width_that_it_names(self, tmp_path):
        write_tiny(tmp_path / "q1.safetensors", about={"config": {"width": 8}}, width=8)
        codec = self.codec(tmp_path)
        assert codec.latents(codec.encode(picture(5, 5))).values.shape == (8, 4, 4)

    @pytest.mark.parametrize("about", [{"codec": "other"}, {"level": "q2"}])
    def test_of_another_codec_or_level(self, tmp_path, about):
        write_tiny(tmp_path / "q1.safetensors", about=about)
        with pytest.raises(ConfigError, match=r"is of (codec other|level q2), nothing was loaded"):
            self.codec(tmp_path).encode(picture(5, 5))

    def test_of_a_nonsensical_configuration(self, tmp_path):
        write_tiny(tmp_path / "q1.safetensors", about={"config": {"depth": 8}})
        with pytest.raises(ConfigError, match=r"q1\.safetensors.*depth"):
            self.codec(tmp_path).encode(picture(5, 5))

    def test_a_device_that_is_not_there(self, folder):
        with pytest.raises(ConfigError, match="there is no device cuda:99"):
            self.codec(folder, device="cuda:99").encode(picture(5, 5))


@pytest.mark.parametrize(
    "padding", [Padding(64), Padding(128, 256, centred=True), Padding(3, 0, True)]
)
@settings(deadline=None, max_examples=30)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_padding(padding, width, height):
    x = torch.rand(1, 1, height, width) + 1
    padded = padding.pad(x)
    assert padded.shape[-1:-3:-1] == padding.padded(width, height)
    assert all(side % padding.multiple == 0 for side in padding.padded(width, height))
    assert torch.equal(padding.crop(padded, width, height), x)
    assert torch.isclose(padded.sum(), x.sum())
