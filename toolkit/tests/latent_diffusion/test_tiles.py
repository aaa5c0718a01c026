import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens_toolkit.latent_diffusion.ldm import SCALE, build_vae, load_module
from lossylens_toolkit.latent_diffusion.tiles import UNetTiles, VaeTiles
from lossylens_toolkit.latent_diffusion.vae import Vae
from lossylens_toolkit.testing.golden_weights import weights
from lossylens_toolkit.testing.live_memory import LiveMemory

CONFIG = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 1,
    "latent_channels": 4,
}


@pytest.fixture(scope="module")
def model():
    return built(CONFIG)


def built(config):
    vae = build_vae(config)
    named = {n: (n, weights(n, v.shape, 0)) for n, v in vae.state_dict().items()}
    load_module(vae, named, "the VAE")
    return vae.requires_grad_(False)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_one_tile_is_the_whole(model):
    """The steps compute what the encoder and the decoder of diffusers do."""
    large = Vae(model, VaeTiles(1024, 32), VaeTiles(160, 11))
    x, latent = noise(1, 3, 64, 128), noise(1, 4, 8, 12)
    assert torch.equal(large.encode(x), Vae(model).encode(x))
    assert torch.equal(large.decode(latent), Vae(model).decode(latent))
    forced = Vae(model, Always(1024, 32), Always(160, 11))
    assert torch.allclose(forced.encode(x), Vae(model).encode(x), atol=1e-5)
    assert torch.allclose(forced.decode(latent), Vae(model).decode(latent), atol=1e-4)
    moments = model.quant_conv(model.encoder.conv_out(Vae(model).features(x) / SCALE))
    assert torch.allclose(SCALE * moments.chunk(2, 1)[0], Vae(model).encode(x), atol=1e-5)


class Always(VaeTiles):
    """Tiles, even if there is but one."""

    def needed(self, height, width):
        return True


def test_what_is_held_changes_nothing(model):
    latent = noise(1, 4, 20, 28)
    held = [Vae(model, None, VaeTiles(8, 3, bytes_)).decode(latent) for bytes_ in (0, 10**5, 2**31)]
    assert torch.equal(held[0], held[1])
    assert torch.equal(held[0], held[2])
    assert not torch.allclose(held[0], Vae(model).decode(latent), atol=1e-3)


NARROW = {**CONFIG, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 8}


def most(model, tiles, width):
    """Return how many bytes a latent 22 high takes to decode, beside the picture."""
    latent = noise(1, 4, 22, width)
    with torch.no_grad(), LiveMemory() as live:
        picture = Vae(model, None, tiles).decode(latent)
    return live.most - picture.untyped_storage().nbytes()


def test_tiles_bound_the_memory():
    """Only what may be held grows with the picture, up to its bound."""
    model = built(NARROW)
    tiled = [most(model, VaeTiles(8, 3, 0), width) for width in (22, 54)]
    whole = [most(model, None, width) for width in (22, 54)]
    assert tiled[1] < 1.2 * tiled[0] < whole[0]
    assert whole[1] > 2.2 * whole[0]
    held = 300_000
    assert 0 < most(model, VaeTiles(8, 3, held), 54) - tiled[1] < 2 * held


@settings(deadline=None)
@given(length=st.integers(1, 5000), size=st.integers(8, 300), border=st.integers(0, 40))
def test_cores_cover_everything(length, size, border):
    tiles = VaeTiles(size, border)
    if not tiles.needed(length, 1):
        return
    spans = tiles._spans(length)
    covered = [0] * length
    for span in spans:
        assert (
            0 <= span.outer.start <= span.core.start < span.core.stop <= span.outer.stop <= length
        )
        assert span.outer.stop - span.outer.start <= size + 2 * border
        covered[span.core] = [1] * (span.core.stop - span.core.start)
    assert all(covered)


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 12).map(lambda n: 8 * n),
    width=st.integers(1, 12).map(lambda n: 8 * n),
    size=st.sampled_from([16, 32, 48]),
    overlap=st.integers(0, 40),
)
def test_blended_tiles_of_one_function_are_the_function(height, width, size, overlap):
    """However narrow latents are."""
    x = noise(1, 2, height, width)
    seen = []

    def part(rows, columns):
        seen.append((rows.stop - rows.start, columns.stop - columns.start))
        return x[..., rows, columns]

    tiles = UNetTiles(size, min(overlap, size - 1), size * size)
    assert torch.allclose(tiles.apply(part, height, width), x, atol=1e-5)
    assert all(side % 8 == 0 for sides in seen for side in sides)
    if height * width > size * size:
        assert max(max(sides) for sides in seen) <= size
