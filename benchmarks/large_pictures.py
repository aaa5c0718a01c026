"""Memory and time to decode large pictures with Stable Diffusion's VAE, in tiles and whole.

The VAE has its real layers, tiles their default sizes; channels are an eighth of the real
ones, and so is what is held at a group norm, so that eight times the memory is that of the
real one. Weights are random. Each size is decoded in a process of its own; memory is its
peak above what the process had before. The UNet is not here: it works on tiles of one size,
whatever the picture's.

    python benchmarks/large_pictures.py [--sizes 1024x768 2000x1500 4000x3000] [--whole 1024x768]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

#: By which channels are divided.
PART = 8


def decode(width: int, height: int, whole: bool) -> None:
    """Print MiB and seconds of one decoding as JSON."""
    import torch
    from lossylens_toolkit.latent_diffusion.diffusion_options import LatentDiffusionOptions
    from lossylens_toolkit.latent_diffusion.ldm import SD_VAE, AutoencoderKL, vae_config
    from lossylens_toolkit.latent_diffusion.tiles import HELD, VaeTiles
    from lossylens_toolkit.latent_diffusion.vae import STRIDE, Vae

    torch.manual_seed(0)
    config = vae_config(SD_VAE)
    channels = [each // PART for each in config["block_out_channels"]]
    config = {**config, "block_out_channels": channels, "norm_num_groups": channels[0]}
    model = AutoencoderKL(**config).requires_grad_(False).eval()
    size = LatentDiffusionOptions().decoder_tile
    tiles = None if whole else VaeTiles(size, 11, HELD // PART)
    latent = torch.randn(1, 4, -(-height // STRIDE), -(-width // STRIDE))
    with torch.inference_mode():
        Vae(model).decode(latent[..., :8, :8])
        before, start = _peak(), time.process_time()
        Vae(model, None, tiles).decode(latent)
    print(json.dumps([_peak() - before, time.process_time() - start]))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="*", default=["1024x768", "2000x1500", "4000x3000"])
    parser.add_argument("--whole", nargs="*", default=["1024x768", "2000x1500"])
    parser.add_argument("--decode", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        width, height = map(int, arguments.decode[0].split("x"))
        decode(width, height, arguments.decode[1] == "whole")
        return
    print(f"{'':24}{'MiB':>8}{'x8':>8}{'seconds':>9}")
    for way, sizes in (("tiles", arguments.sizes), ("whole", arguments.whole)):
        for size in sizes:
            command = [sys.executable, __file__, "--decode", size, way]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            memory, seconds = json.loads(found)
            print(f"{size} in {way:10}{memory:10.0f}{PART * memory:8.0f}{seconds:9.1f}", flush=True)


if __name__ == "__main__":
    main()
