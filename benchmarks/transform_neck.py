"""What the transform-neck saves: parameters and MACs counted, time measured.

    python benchmarks/transform_neck.py            # counts, and times of nano networks
    python benchmarks/transform_neck.py --full     # times with random weights of full size too

Counted are multiplications of matrices and convolutions, by torch's FlopCounterMode, for a picture
of 256x256 and CLIP ViT-L/14 at 224; a multiplication and an addition are one.  Measured is the
processor time of one thread, least of several, from the bitstream to the visual tokens of
``nano-llava``, and with ``--full`` to the hidden states of CLIP that LLaVA reads, before its last
layer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.registry.plugins import load_registry
from lossylens.vlm import VisionAccess
from lossylens_adaptor_transform_neck.neck import NeckShape, TransformNeck
from lossylens_adaptor_transform_neck.unet import Unet
from lossylens_codec_elic import network as elic
from lossylens_toolkit.clip.model import ClipPreprocessor, ClipTower
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIDE = 256
REPEATED = 3

#: Printed in table 3 of arXiv:2407.19651: millions of parameters, kMAC per pixel.
PUBLISHED = {
    "neck": (13.19, 52.795),
    "U-Net": (31.04, 835.72),
    "ELIC decoder": (7.34, 112.00),
    "CLIP's first two layers": (25.78, 70.24),
}


def large() -> CLIPConfig:
    """CLIP ViT-L/14 at 224 pixels, with a text encoder of no size."""
    shared = {"hidden_act": "quick_gelu", "projection_dim": 768}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    sizes = {"num_attention_heads": 16, "image_size": 224, "patch_size": 14}
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return CLIPConfig(
        vision_config={**vision, **sizes, **shared},
        text_config={**text, "num_attention_heads": 1, **shared},
        projection_dim=768,
    )


class Layers(nn.Module):
    """Patch embedding and the first layers of CLIP's image encoder."""

    def __init__(self, count: int) -> None:
        super().__init__()
        vision: Any = CLIPModel(large()).vision_model
        self.embeddings, self.norm = vision.embeddings, vision.pre_layrnorm
        self.layers = vision.encoder.layers[:count]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embeddings(x))
        for layer in self.layers:
            x = layer(x, attention_mask=None)
        return x


def counted() -> dict[str, tuple[float, float]]:
    """Return millions of parameters and kMAC per pixel of the coded picture."""
    with torch.device("meta"):
        latents = torch.empty(1, 320, SIDE // 16, SIDE // 16)
        parts: dict[str, tuple[nn.Module, Tensor]] = {
            "neck": (TransformNeck(NeckShape(320, 1024, 16, 16)), latents),
            "U-Net": (Unet(64), torch.empty(1, 3, SIDE, SIDE)),
        }
    parts["ELIC decoder"] = (elic.build().g_s.to("meta"), latents)
    parts["CLIP's first two layers"] = (
        Layers(2).to("meta"),
        torch.empty(1, 3, 224, 224, device="meta"),
    )
    found = {}
    for name, (module, given) in parts.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.train()(given)
        parameters = sum(each.numel() for each in module.parameters())
        found[name] = (parameters / 1e6, counter.get_total_flops() / 2 / SIDE**2 / 1e3)
    return found


def best(function: Callable[[], object]) -> float:
    """Return the processor time of the fastest of some calls, in milliseconds."""
    function()
    times = []
    for _ in range(REPEATED):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def measured(title: str, codec: Any, vision: VisionAccess, channels: int, entry: int) -> None:
    """Print the time of both ways, and of their parts."""
    tower: Any = vision
    side = tower.preprocess.side // tower.preprocess.patch
    shape = NeckShape(
        channels, vision.width, side, side, 1, 1, vision.width // 64, 4 * vision.width
    )
    neck = TransformNeck(shape).eval()
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((16 * side, 16 * side), Image.Resampling.BICUBIC)
    bitstream, layout = codec.encode(picture), Layout(1, side, side, extra=1)
    # CLIP alone has no projector, and LLaVA leaves its last layer out.
    read = vision.layers - 1 if isinstance(vision, ClipTower) else None

    def decoded() -> object:
        pictures = vision.prepare([codec.decode(bitstream)])
        return vision.encode(pictures) if read is None else vision.hidden_states(pictures, [read])

    def entered() -> object:
        values = torch.from_numpy(codec.latents(bitstream).values)
        states = [neck(values[None])]
        if read is None:
            return vision.enter(entry, states, [layout])
        return vision.hidden_states_from(entry, states, [layout], [read])

    prepared = vision.prepare([picture])
    values = torch.from_numpy(codec.latents(bitstream).values)[None]
    with torch.inference_mode():
        rows = {
            "decode, then the whole encoder": best(decoded),
            "latents, neck, then the encoder from its layer": best(entered),
            "of these: picture of the bitstream": best(lambda: codec.decode(bitstream)),
            "of these: latents of the bitstream": best(lambda: codec.latents(bitstream)),
            "of these: neck": best(lambda: neck(values)),
            f"of these: the first {entry} layers": best(
                lambda: vision.hidden_states(prepared, [entry])
            ),
        }
    print(f"\n{title}, ms:")
    for name, value in rows.items():
        print(f"  {name:50} {value:9.1f}")
    both = list(rows.values())
    print(f"  the neck's way is {both[0] / both[1]:.2f} times as fast")


def elic_codec(**options: Any) -> Any:
    """Return ELIC at its lowest level, in float32."""
    registry = load_registry()
    found = registry.find("codec", "elic")
    chosen = registry.options(found, {"dtype": "float32", **options}, "")
    return registry.build_codec("elic", found.spec.level("lambda0.004"), chosen)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="random weights of full size too")
    full = parser.parse_args().full
    torch.set_num_threads(1)
    found = counted()
    print(f"{'':26}{'M parameters':>14}{'printed':>10}{'kMAC/pixel':>13}{'printed':>10}")
    for name, (parameters, macs) in found.items():
        printed = PUBLISHED[name]
        print(f"{name:26}{parameters:14.3f}{printed[0]:10.2f}{macs:13.1f}{printed[1]:10.2f}")
    skipped = found["ELIC decoder"][1] + found["CLIP's first two layers"][1]
    for name, value in {
        "the neck": found["neck"][1],
        "Reconstruction: decoder and two layers": skipped,
        "Post-processing: these and the U-Net": skipped + found["U-Net"][1],
    }.items():
        print(f"  {name:40}{value:10.1f} kMAC/pixel")
    nano = load_registry().build_vlm("nano-llava", {}).vision
    measured("nano-llava behind ELIC nano", elic_codec(variant="nano"), nano, 32, 1)
    if full:
        torch.manual_seed(0)
        model = CLIPModel(large()).eval()
        tower = ClipTower(model, ClipPreprocessor(CLIPImageProcessorPil(), 224, 14))
        with tempfile.TemporaryDirectory() as folder:
            state = elic.official_state_dict(elic.build())
            path = Path(folder) / "lambda0.004.safetensors"
            write_checkpoint(path, state, {"codec": "elic", "level": "lambda0.004", "config": {}})
            codec = elic_codec(checkpoints=Path(folder))
            measured("CLIP ViT-L/14 behind ELIC, random weights", codec, tower, 320, 2)


if __name__ == "__main__":
    main()
