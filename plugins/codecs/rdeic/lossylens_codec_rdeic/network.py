"""RDEIC: its networks, with the names of the official checkpoints, and how it samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossylens_toolkit.latent_diffusion.chain import (
    chain_builder,
    load_official,
    official_state_dict,
)
from lossylens_toolkit.latent_diffusion.control import ControlledDiffusion
from lossylens_toolkit.latent_diffusion.ldm import SD21_UNET
from lossylens_toolkit.latent_diffusion.sampling import (
    Draw,
    noised,
    sample,
    schedule,
    spaced_times,
)
from lossylens_toolkit.latent_diffusion.vae import Vae
from torch import Tensor

from lossylens_codec_rdeic.compression import Compression

__all__ = [
    "CONTROL",
    "USED_TIMES",
    "build",
    "build_chain",
    "inputs",
    "load_official",
    "official_state_dict",
    "sampled",
]

#: Times below which the sampler is trained; it begins at the last of them.
USED_TIMES = 300

#: The control network of the official checkpoints.
CONTROL: Mapping[str, Any] = {
    **SD21_UNET,
    "num_head_channels": 16,
    "hint_channels": 256,
    "control_model_ratio": 0.2,
}


def build(
    in_nc: int = 512,
    out_nc: int = 4,
    N: int = 256,  # noqa: N803
    M: int = 256,  # noqa: N803
    slice_num: int = 10,
    slice_ch: Sequence[int] = (8, 8, 8, 8, 16, 16, 32, 32, 64, 64),
    codebook_size: int = 16384,
) -> Compression:
    """Return an untrained network that codes the latent, by default of the official size.

    Args:
        in_nc: channels of the VAE's last features.
        out_nc: channels of the latent.
        N: channels of the transforms and of z.
        M: channels of y.
        slice_num: number of slices of y.
        slice_ch: channels of each.
        codebook_size: entries of the codebook of z.

    Raises:
        ValueError: the arguments do not fit together.
    """
    if len(slice_ch) != slice_num or sum(slice_ch) != M or min(slice_ch) < 1:
        raise ValueError(f"{slice_num} slices {list(slice_ch)} do not make {M} channels")
    return Compression(in_nc, out_nc, N, M, slice_ch, codebook_size).eval()


#: Returns all networks of RDEIC, see :func:`.chain_builder`.
build_chain = chain_builder(build, CONTROL)


def inputs(vae: Vae, x: Tensor) -> tuple[Tensor]:
    """Return what the codec takes of a picture in 0..1: the features of the VAE's encoder."""
    return (vae.features(2 * x - 1),)


def sampled(
    diffusion: ControlledDiffusion, coded: Mapping[str, Tensor], draw: Draw, steps: int = 2
) -> Tensor:
    """Return the scaled latent that the sampler ends with, from the noised coded one.

    Args:
        diffusion: predicts the noise.
        coded: what the codec reconstructs of one picture.
        draw: the first noise, then that of each step.
        steps: of the sampler, for which the checkpoint was trained.
    """
    latent, hint = coded["c_latent"].float(), coded["guide_hint"]
    signals = schedule()
    noise = draw(latent.shape).to(latent.device)
    return sample(
        lambda x, t: diffusion.predict(x, hint, t),
        noised(latent, noise, float(signals[USED_TIMES - 1])),
        spaced_times(USED_TIMES, steps),
        signals,
        draw,
    )
