"""The recipe of small base weights for codecs on latent diffusion, trained from scratch.

    python -m lossylens_toolkit.latent_diffusion.small_base FOLDER [--vae-steps 8000] ...

First the VAE learns scenes and photographs, then a UNet learns to predict the noise in its
latents (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models",
CVPR 2022).  The folder ``FOLDER/base`` then holds both in diffusers' layout, as the option
``base`` of the codecs takes it, in less than 8 MB.  It has no text encoder: the prompt's
embedding is of zeros.  Started again with the same folder, a training goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens.registry.plugins import Registry, load_registry
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from lossylens_toolkit.latent_diffusion.base_weights import prompt_tokens
from lossylens_toolkit.latent_diffusion.sampling import TIMES, noised, schedule
from lossylens_toolkit.latent_diffusion.vae import Vae
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.training.crops import Crops, picture_tensor
from lossylens_toolkit.training.loop import TrainingLoop, cosine, make_accelerator
from lossylens_toolkit.training.objective import psnr
from lossylens_toolkit.training.training_options import PictureOptions
from lossylens_toolkit.training.training_pictures import find_pictures

VAE_CONFIG: Mapping[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 48, 64, 64],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
}
UNET_CONFIG: Mapping[str, Any] = {
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [48, 64, 96],
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "use_linear_projection": True,
}

#: What is trained and validated on, none of which shows what a codec is judged by.
_TRAIN = PictureOptions(
    photographs="held-in",
    tasks={"scenes": {"images": 200, "seed": 1, "photographs": "held-in"}},
)
_VALIDATION = PictureOptions(photographs="held-out")

_PADDING = Padding(64, mode="reflect")
#: Of the divergence of the VAE's latents from unit Gaussians, in its loss.
_DIVERGENCE = 1e-6
_DECAY, _WARMUP, _LAST_RATE = 0.5, 50, 0.01
#: Crops from which the spread of the latents is measured.
_SAMPLE = 16


@dataclass
class SmallBaseOptions:
    """Options of the training.

    Attributes:
        vae_steps: steps of the VAE.
        unet_steps: steps of the UNet.
        crop: side of the crops, in pixels, a multiple of 64.
        batch: crops in a step.
        learning_rate: of Adam, for both.
        validate_every: steps between validations.
        state_minutes: between two states on disk.
        seed: of weights, crops and noise.
        device: ``auto`` or ``cpu``.
    """

    vae_steps: int = 8000
    unet_steps: int = 8000
    crop: int = 128
    batch: int = 4
    learning_rate: float = 1e-3
    validate_every: int = 500
    state_minutes: float = 1.0
    seed: int = 0
    device: str = "cpu"


class _Stage(TrainingLoop[Tensor]):
    """The training of one of the two networks.

    Attributes:
        name: of the network's folder.
    """

    name: str

    def __init__(
        self,
        network: nn.Module,
        folder: Path,
        options: SmallBaseOptions,
        registry: Registry,
        say: Callable[[str], object],
    ) -> None:
        super().__init__(
            folder=folder / self.name,
            identity={"network": _config(network), "seed": options.seed},
            settings=dataclasses.asdict(options),
            steps=options.vae_steps if self.name == VaeStage.name else options.unet_steps,
            validate_every=options.validate_every,
            state_minutes=options.state_minutes,
            accelerator=make_accelerator(options.device, "no"),
            say=say,
        )
        self.options = options
        self.train_pictures = find_pictures(_TRAIN, registry, "train")
        self.validation_pictures = find_pictures(_VALIDATION, registry, "validation")
        optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(network.train(), optimizer)
        self.begin()

    def crops(self, count: int) -> Crops:
        """Return the first crops."""
        options = self.options
        return Crops(self.train_pictures, _PADDING, options.crop, count, options.seed)

    def batches(self) -> Iterator[Tensor]:
        """See the base."""
        count = self.steps * self.options.batch
        loader = DataLoader(
            self.crops(count),
            batch_size=self.options.batch,
            sampler=range(self.step * self.options.batch, count),
            generator=torch.Generator(),
        )
        yield from self.accelerator.prepare(loader)

    def update(self, batch: Tensor) -> Mapping[str, Tensor]:
        """See the base."""
        share = cosine(self.step, steps=self.steps, warmup=_WARMUP, decay=_DECAY, last=_LAST_RATE)
        self.optimizer.param_groups[0]["lr"] = self.options.learning_rate * share
        terms = self.terms(2 * batch - 1)
        self.optimizer.zero_grad()
        self.accelerator.backward(terms["loss"])
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {key: value.detach() for key, value in terms.items()}

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """Return the loss of pictures in -1..1, and its terms."""
        raise NotImplementedError

    def pictures(self) -> Iterator[Tensor]:
        """Yield the pictures of the validation, padded, ``(1, 3, H, W)`` in -1..1."""
        for each in self.validation_pictures.items():
            x = picture_tensor(*each)[None].float() / 255
            yield 2 * _PADDING.pad(x).to(self.accelerator.device) - 1

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """See the base."""
        return f"{self.name}: training loss {training['loss']:.4f}; validation {validation}"


class VaeStage(_Stage):
    """The VAE: absolute differences, and a little pull to unit Gaussians."""

    name = "vae"

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """See the base."""
        vae = self.model
        latents = vae.encode(x).latent_dist
        difference = functional.l1_loss(vae.decode(latents.sample()).sample, x)
        divergence = latents.kl().mean() / x[0].numel()
        return {"loss": difference + _DIVERGENCE * divergence, "divergence": divergence}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean PSNR of what comes back from the means of the latents."""
        vae = Vae(self.model.eval())
        values = [psnr((vae.decode(vae.encode(x)) + 1) / 2, (x + 1) / 2) for x in self.pictures()]
        self.model.train()
        return {"psnr": round(sum(values) / len(values), 2)}

    @torch.no_grad()
    def finish(self) -> AutoencoderKL:
        """Return the VAE with latents of the spread that codecs take for granted."""
        vae: Any = self.accelerator.unwrap_model(self.model).eval()
        crops = self.crops(_SAMPLE)
        x = torch.stack([crops[number] for number in range(_SAMPLE)]).to(vae.device)
        spread = Vae(vae).encode(2 * x - 1).std().item()
        channels = vae.config["latent_channels"]
        into: Any = vae.quant_conv
        out_of: Any = vae.post_quant_conv
        for values in (into.weight, into.bias):
            values[:channels] /= spread
        # The rest are logarithms of variances.
        into.bias[channels:] -= 2 * math.log(spread)
        out_of.weight *= spread
        finished: AutoencoderKL = vae.requires_grad_(False)
        return finished


class UNetStage(_Stage):
    """The UNet: the squared error of the noise, at random times."""

    name = "unet"

    def __init__(self, vae: AutoencoderKL, network: nn.Module, *arguments: Any) -> None:
        self._vae, self._signals = Vae(vae), schedule().float()
        super().__init__(network, *arguments)
        vae.to(self.accelerator.device)

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """See the base."""
        with torch.no_grad():
            latents = self._vae.encode(x)
        times = torch.randint(TIMES, (len(x),))
        return {"loss": self._error(latents, torch.randn(latents.shape), times)}

    def _error(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        noise = noise.to(latents.device)
        mixed = torch.stack(
            [
                noised(each, other, float(self._signals[time]))
                for each, other, time in zip(latents, noise, times, strict=True)
            ]
        )
        context = empty_context(len(latents)).to(latents.device)
        found = self.model(mixed, times.to(latents.device), context, return_dict=False)[0]
        return functional.mse_loss(found, noise)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean error over times, with the same noise at each validation."""
        generator = torch.Generator().manual_seed(0)
        self.model.eval()
        errors = []
        for x in self.pictures():
            latents = self._vae.encode(x)
            for time in range(TIMES // 8, TIMES, TIMES // 4):
                noise = torch.randn(latents.shape, generator=generator)
                errors.append(self._error(latents, noise, torch.tensor([time])).item())
        self.model.train()
        return {"error": round(sum(errors) / len(errors), 4)}

    def finish(self) -> UNet2DConditionModel:
        """Return the UNet."""
        unet: UNet2DConditionModel = self.accelerator.unwrap_model(self.model).eval()
        return unet


def empty_context(batch: int) -> Tensor:
    """Return the embedding of the prompt, which is of zeros."""
    tokens = prompt_tokens()
    return torch.zeros(batch, len(tokens), UNET_CONFIG["cross_attention_dim"])


def train_small_base(
    folder: Path,
    options: SmallBaseOptions,
    registry: Registry,
    say: Callable[[str], object] = print,
) -> Path:
    """Train VAE and UNet, or go on with them; return the folder in diffusers' layout.

    Args:
        folder: of states, records and the result.
        options: see their class.
        registry: in which the scenes are found.
        say: is given a line for each validation.

    Raises:
        ConfigError: the folder holds another training.
        RequirementError: what names the photographs is not installed.
        TrainingError: the loss is no number any more.
    """
    set_seed(options.seed)
    vae_stage = VaeStage(AutoencoderKL(**VAE_CONFIG), folder, options, registry, say)
    vae_stage.run()
    vae = vae_stage.finish()
    set_seed(options.seed)
    unet_stage = UNetStage(vae, UNet2DConditionModel(**UNET_CONFIG), folder, options, registry, say)
    unet_stage.run()
    base = folder / "base"
    _write(base / "vae", vae)
    _write(base / "unet", unet_stage.finish())
    (base / "scheduler").mkdir(exist_ok=True)
    predicts = json.dumps({"prediction_type": "epsilon"})
    (base / "scheduler" / "scheduler_config.json").write_text(predicts)
    digest = hashlib.sha256(json.dumps(prompt_tokens()).encode()).hexdigest()[:8]
    save_file({"embedding": empty_context(1)}, base / f"lossylens-prompt-{digest}.safetensors")
    return base


def _config(network: Any) -> dict[str, Any]:
    """Return the arguments; what diffusers adds is in another order in each process."""
    return {key: value for key, value in network.config.items() if not key.startswith("_")}


def _write(folder: Path, network: Any) -> None:
    """Write a network in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(network)))
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    for each in dataclasses.fields(SmallBaseOptions):
        flag = "--" + each.name.replace("_", "-")
        parser.add_argument(flag, type=type(each.default), default=each.default)
    given = vars(parser.parse_args())
    folder = given.pop("folder")
    base = train_small_base(folder, SmallBaseOptions(**given), load_registry())
    print(f"Base weights: {base}")


if __name__ == "__main__":
    main()
