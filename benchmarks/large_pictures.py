"""Memory that Stable Diffusion's VAE and UNet take for large pictures, in tiles and whole.

The networks have the official sizes, in float32, tiles their default ones.  Nothing is
computed: tensors have shapes alone, and their storages are followed while they are alive
(:mod:`lossylens_toolkit.testing.live_memory`).  What kernels need for themselves is not seen,
nor are the weights, 3.8 GB in float32.  Columns are the most that is alive at once, in MiB:
for encoding and decoding by the VAE, and for one evaluation of the UNet, on one tile or on
all.

    python benchmarks/large_pictures.py [--sizes 1024x768 2048x1024 4000x3000]

The three sizes take a minute and a half; the last is about the largest that codecs take by
default (``max_pixels``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from lossylens_toolkit.latent_diffusion.diffusion_options import LatentDiffusionOptions
from lossylens_toolkit.latent_diffusion.ldm import (
    SD21_UNET,
    SD_VAE,
    AutoencoderKL,
    UNet2DConditionModel,
    unet_config,
    vae_config,
)
from lossylens_toolkit.latent_diffusion.tiles import UNetTiles, VaeTiles
from lossylens_toolkit.latent_diffusion.vae import STRIDE, Vae
from lossylens_toolkit.testing.live_memory import LiveMemory
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

#: Of the pictures, padded.
MULTIPLE = 64


def most(compute: Callable[[], Tensor]) -> float:
    """Return the MiB that are alive at most, what is computed included."""
    with LiveMemory() as live:
        compute()
    return live.most / 2**20


def row(width: int, height: int, tiled: bool) -> tuple[float, float, float]:
    """Return the MiB of encoding, decoding and the UNet."""
    options = LatentDiffusionOptions()
    config = vae_config(SD_VAE)
    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKL(**config).eval()
        unet = UNet2DConditionModel(**unet_config(SD21_UNET)).eval()
        x = torch.empty(1, 3, height, width)
        latent = torch.empty(1, 4, height // STRIDE, width // STRIDE)
        context = torch.empty(1, 77, 1024)
        tiles = (VaeTiles(options.encoder_tile, 32), VaeTiles(options.decoder_tile, 11))
        split = Vae(vae, *tiles) if tiled else Vae(vae)
        side = options.latent_tile
        whole = side**2 if tiled else latent.shape[-1] * latent.shape[-2]
        unet_tiles = UNetTiles(side, options.latent_overlap, whole)

        def predicted(rows: slice, columns: slice) -> Tensor:
            noise: Tensor = unet(latent[..., rows, columns], 999, context, return_dict=False)[0]
            return noise

        return (
            most(lambda: split.encode(x)),
            most(lambda: split.decode(latent)),
            most(lambda: unet_tiles.apply(predicted, *latent.shape[-2:])),
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = ["1024x768", "2048x1024", "4000x3000"]
    parser.add_argument("--sizes", nargs="*", default=sizes, help="width and height")
    arguments = parser.parse_args()
    print(f"{'MiB':20}{'encode':>10}{'decode':>10}{'UNet':>10}")
    for tiled in (True, False):
        for size in arguments.sizes:
            width, height = (-(-int(each) // MULTIPLE) * MULTIPLE for each in size.split("x"))
            found = row(width, height, tiled)
            name = f"{size} {'tiles' if tiled else 'whole'}"
            print(f"{name:20}" + "".join(f"{each:10.0f}" for each in found), flush=True)


if __name__ == "__main__":
    main()
