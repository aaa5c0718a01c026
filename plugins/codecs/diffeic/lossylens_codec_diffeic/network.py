"""DiffEIC: its networks, with the names of the official checkpoints, and how it samples."""

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
    TIMES,
    Draw,
    sample,
    schedule,
    spaced_times,
)
from lossylens_toolkit.latent_diffusion.vae import Vae
from torch import Tensor

from lossylens_codec_diffeic.lfgcm import Lfgcm

__all__ = [
    "CONTROL",
    "STEPS",
    "build",
    "build_chain",
    "inputs",
    "load_official",
    "official_state_dict",
    "sampled",
]

#: Steps of the official sampler.
STEPS = 50

#: The control network of the official checkpoints.
CONTROL: Mapping[str, Any] = {
    **SD21_UNET,
    "num_head_channels": 16,
    "hint_channels": 4,
    "control_model_ratio": 0.2,
}


def build(
    in_nc: int = 3,
    enc_mid: Sequence[int] = (64, 128, 192, 192),
    out_nc: int = 4,
    N: int = 192,  # noqa: N803
    M: int = 320,  # noqa: N803
    prior_nc: int = 64,
    sft_ks: int = 3,
    slice_num: int = 10,
    slice_ch: Sequence[int] = (8, 8, 8, 8, 16, 16, 32, 32, 96, 96),
) -> Lfgcm:
    """Return an untrained network that codes the latent, by default of the official size.

    Args:
        in_nc: channels of pictures.
        enc_mid: channels of the encoder's four stages.
        out_nc: channels of the latent.
        N: channels of z.
        M: channels of y.
        prior_nc: channels of what guides the networks.
        sft_ks: size of the kernels by which it does.
        slice_num: number of slices of y.
        slice_ch: channels of each.

    Raises:
        ValueError: the arguments do not fit together.
    """
    if len(slice_ch) != slice_num or sum(slice_ch) != M or min(slice_ch) < 1:
        raise ValueError(f"{slice_num} slices {list(slice_ch)} do not make {M} channels")
    if len(enc_mid) != 4:
        raise ValueError(f"enc_mid {list(enc_mid)} must have four widths")
    return Lfgcm(in_nc, enc_mid, out_nc, N, M, prior_nc, sft_ks, slice_ch).eval()


#: Returns all networks of DiffEIC, see :func:`.chain_builder`.
build_chain = chain_builder(build, CONTROL)


def inputs(vae: Vae, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the codec takes of a picture in 0..1: itself and its scaled latent."""
    return x, vae.encode(2 * x - 1)


def sampled(
    diffusion: ControlledDiffusion, coded: Mapping[str, Tensor], draw: Draw, steps: int = STEPS
) -> Tensor:
    """Return the scaled latent that the sampler ends with, from pure noise.

    Args:
        diffusion: predicts the noise.
        coded: what the codec reconstructs of one picture.
        draw: the first noise, then that of each step.
        steps: of the sampler.
    """
    hint = coded["c_latent"].float()
    start = draw(hint.shape).to(hint.device)
    return sample(
        lambda x, t: diffusion.predict(x, hint, t),
        start,
        spaced_times(TIMES, steps),
        schedule(),
        draw,
    )
