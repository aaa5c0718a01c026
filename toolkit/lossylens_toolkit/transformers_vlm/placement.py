"""Device, number format and quantisation of a model, and whether it fits."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lossylens.errors import ConfigError, RequirementError

from lossylens_toolkit.transformers_vlm.memory import free_memory
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions

#: Packages that a quantisation needs, and the bits to which it takes a weight.
_QUANTIZATIONS = {
    "bnb-int8": (("bitsandbytes", "accelerate"), 8),
    "bnb-nf4": (("bitsandbytes", "accelerate"), 4.5),
    "torchao-int8": (("torchao", "accelerate"), 8),
}

#: Activations and caches of the smallest batch, in bytes per byte of weights.
_HEADROOM = 0.1


@dataclass(frozen=True)
class Placement:
    """Where a model goes and how its weights are held.

    Attributes:
        devices: one, or several over which the layers are spread.
        dtype: of weights and activations.
        quantization: name of the option's choice.
    """

    devices: tuple[torch.device, ...]
    dtype: torch.dtype
    quantization: str

    @property
    def loading(self) -> dict[str, Any]:
        """Arguments for ``from_pretrained``, except how layers are spread."""
        arguments: dict[str, Any] = {"dtype": self.dtype}
        if self.quantization != "none":
            arguments["quantization_config"] = _quantization(self.quantization, self.dtype)
        return arguments

    def describe(self) -> dict[str, str]:
        """Return what of it moves results, for the manifest."""
        return {
            "dtype": str(self.dtype).removeprefix("torch."),
            "quantization": self.quantization,
            "device": self.devices[0].type,
        }

    def check_memory(self, name: str, parameters: int) -> None:
        """Make sure that the weights fit.

        Raises:
            RequirementError: they do not; the message says what is needed and there.
        """
        bits: float = self.dtype.itemsize * 8
        if self.quantization != "none":
            bits = _QUANTIZATIONS[self.quantization][1]
        need = parameters * bits / 8 * (1 + _HEADROOM)
        free = sum(free_memory(device) for device in self.devices)
        if need <= free:
            return
        where = " and ".join(map(str, self.devices))
        dtype = str(self.dtype).removeprefix("torch.")
        held = dtype if self.quantization == "none" else self.quantization
        raise RequirementError(
            f"{name} needs {need / 1e9:.1f} GB of memory in {held}, and {where} has "
            f"{free / 1e9:.1f} GB free; {self._way_out()}"
        )

    def _way_out(self) -> str:
        ways = []
        if self.dtype is torch.float32:
            ways.append("dtype: bfloat16 halves that")
        elif self.quantization == "none":
            ways.append("quantization: bnb-nf4 takes less than a third of that")
        if self.devices[0].type == "cuda" and len(self.devices) < torch.cuda.device_count():
            ways.append("device: all spreads it over all GPUs")
        return ", ".join([*ways, "or take a smaller model"])


def place(options: VlmOptions) -> Placement:
    """Decide from *options* and this machine.

    Raises:
        ConfigError: a device that does not exist here.
        RequirementError: a package that the options need is not installed.
    """
    devices = tuple(_devices(options.device))
    dtype = getattr(torch, options.dtype, None)
    if options.dtype == "auto":
        dtype = torch.bfloat16 if devices[0].type == "cuda" else torch.float32
    needed = [] if len(devices) == 1 else ["accelerate"]
    if options.quantization != "none":
        needed += _QUANTIZATIONS[options.quantization][0]
    _check_installed(needed)
    assert dtype is not None
    return Placement(devices, dtype, options.quantization)


def _devices(name: str) -> list[torch.device]:
    count = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "all":
        if not count:
            raise ConfigError("device: all needs a GPU, and none was found; use cpu")
        return [torch.device("cuda", number) for number in range(count)]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: {name!r} is none of auto, cpu, cuda, cuda:N, all") from None
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"device: there is no {name} here; GPUs found: {count}")
    return [device]


def _check_installed(packages: Sequence[str]) -> None:
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    if lacking:
        raise RequirementError(
            f"these options need {' and '.join(lacking)}: pip install {' '.join(lacking)}"
        )


def _quantization(name: str, dtype: torch.dtype) -> Any:
    """Return transformers' configuration; only the language model is quantised."""
    if name == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=list(_KEPT))
    from transformers import BitsAndBytesConfig

    kept = {"llm_int8_skip_modules": list(_KEPT)}
    if name == "bnb-int8":
        return BitsAndBytesConfig(load_in_8bit=True, **kept)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, **kept
    )


#: Vision encoders, projectors and heads stay as they are: they are small beside the
#: language model, and their error would reach every token.
_KEPT = (
    "visual",
    "vision_tower",
    "vision_model",
    "multi_modal_projector",
    "aligner",
    "vqmodel",
    "generation_head",
    "generation_aligner",
    "lm_head",
)


def spread(model: Any, memory: Mapping[int, int]) -> dict[str, int]:
    """Return which GPU each part of *model* goes to.

    Decoder layers are not split, and neither is the vision encoder, which is small and
    is run layer by layer.

    Args:
        model: of transformers, without weights (on the meta device).
        memory: bytes that each GPU has free.

    Raises:
        RequirementError: it does not fit.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    model.tie_weights()
    whole = {
        "Qwen2_5_VisionTransformerPretrainedModel",
        "InternVLVisionModel",
        "JanusVisionModel",
        "CLIPVisionModel",
        "SiglipVisionModel",
    }
    kept = sorted(whole | set(model._no_split_modules or ()))
    balanced = get_balanced_memory(model, dict(memory), no_split_module_classes=kept)
    placed = infer_auto_device_map(model, balanced, no_split_module_classes=kept)
    if not all(isinstance(device, int) for device in placed.values()):
        raise RequirementError("the model does not fit on the GPUs that are free; quantise it")
    return dict(placed)
