"""Oracle guidance maps of scenes, and what guidance costs in time.

python benchmarks/cotam_guidance.py maps scenes.json --images 60 --seed 11 --size 256
python benchmarks/cotam_guidance.py time --images 8
python benchmarks/cotam_guidance.py time --full --images 3 --dtype float32

``maps`` writes, for codec ``cotam-elic`` with ``guidance: maps``, which cells of a scene show
an object or a word: these are coded better, the others worse.  ``time`` prints how much of the
processor a picture takes, encoded and decoded with CLIP's guidance and without, in turn; and
what of it is CLIP: preprocessing, and three layers.  With ``--full`` networks have the published
sizes, ELIC and CLIP ViT-L/14-336, and random weights; rates mean nothing then, and little is spent
on coding symbols.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.codec import Level
from lossylens.registry.plugins import load_registry
from lossylens_codec_cotam.codec import CotamElicCodec
from lossylens_codec_cotam.guidance_map import CELLS, Steps, picture_key, write_maps
from lossylens_codec_cotam.plugin import CotamOptions
from lossylens_task_scenes.options import ScenesOptions
from lossylens_task_scenes.scene import Scene, make_scene
from lossylens_task_scenes.task import ScenesTask
from lossylens_toolkit.clip.model import Clip
from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil


def oracle(scene: Scene) -> Steps:
    """Return a map of what a scene shows."""
    steps = np.full((CELLS, CELLS), -1, np.int8)
    for thing in (*scene.objects, *scene.words):
        left, top, right, bottom = (
            CELLS * side / length
            for side, length in zip(thing.box, (scene.width, scene.height) * 2, strict=True)
        )
        rows = slice(max(0, int(top)), int(np.ceil(bottom)))
        steps[rows, max(0, int(left)) : int(np.ceil(right))] = 1
    return steps


def pictures(options: ScenesOptions) -> dict[str, Image.Image]:
    """Return the scenes by name."""
    found = {}
    for sample in ScenesTask(options).samples():
        for image in sample.images:
            if image.key not in found:
                found[image.key] = Image.open(BytesIO(image.read())).convert("RGB")
    return found


def write(path: Path, options: ScenesOptions) -> None:
    """Write the maps of all scenes."""
    maps = {}
    for name, picture in pictures(options).items():
        index = int(name.partition("-")[2])
        scene = make_scene(options.seed, index, options.size, options.photographs)  # type: ignore[arg-type]
        maps[picture_key(picture)] = oracle(scene)
    write_maps(path, maps)


def seconds(work: Callable[[], object]) -> float:
    """Return how much of the processor some work takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def nano_codecs(dtype: str) -> dict[str, Any]:
    """Return the nano codec without guidance and with nano-clip's."""
    registry = load_registry()
    given = {"variant": "nano", "device": "cpu", "dtype": dtype}
    choices = {
        "none": {**given, "guidance": "none"},
        "clip": {**given, "guidance": "clip", "clip": "nano-clip"},
    }
    return {
        name: registry.build_codec("cotam-elic", "lambda0.0256", choice)
        for name, choice in choices.items()
    }


def full_codecs(dtype: str, folder: Path) -> dict[str, Any]:
    """Return codecs of the published sizes, with random weights, which are written to *folder*."""
    level = Level("lambda0.0016", {"lambda": 0.0016})
    torch.manual_seed(0)
    config = {"network": {}, "lambdas": [0.0032, 0.0016, 0.0008], "reference": 0.0016}
    begin = CotamElicCodec(level, CotamOptions(guidance="none", device="cpu"))
    about = {"codec": "cotam-elic", "config": config}
    path = folder / "levels.safetensors"
    write_checkpoint(path, begin.official_state(begin.build(config)), about)
    found = {}
    for name in ("none", "clip"):
        options = CotamOptions(checkpoints=folder, device="cpu", dtype=dtype, guidance=name)  # type: ignore[arg-type]
        found[name] = CotamElicCodec(level, options)
    layers = max(found["clip"].options.layers) + 1
    found["clip"].__dict__["_clip"] = random_clip(layers, getattr(torch, dtype))
    return found


def random_clip(layers: int, dtype: torch.dtype) -> Clip:
    """Return the first layers of CLIP ViT-L/14-336 with random weights, and no text encoder."""
    config = CLIPConfig(
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": layers,
            "image_size": 336,
            "patch_size": 14,
        },
        text_config={
            "num_hidden_layers": 0,
            "vocab_size": 1,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
        },
    )
    return Clip(CLIPModel(config).to(dtype), None, CLIPImageProcessorPil())


def measure(codecs: Mapping[str, Any], options: ScenesOptions) -> None:
    """Print the times."""
    found: dict[str, list[float]] = {}
    for number, picture in enumerate(pictures(options).values()):
        for name, codec in codecs.items():
            bitstream = codec.encode(picture)
            codec.decode(bitstream)
            if number:  # the first loads the weights
                encoding = seconds(lambda c=codec, p=picture: c.encode(p))  # type: ignore[misc]
                decoding = seconds(lambda c=codec, b=bitstream: c.decode(b))  # type: ignore[misc]
                found.setdefault(f"encode, {name}", []).append(encoding)
                found.setdefault(f"decode, {name}", []).append(decoding)
        if number:
            guided = codecs["clip"]
            whole = seconds(lambda g=guided, p=picture: g.side_information(p))  # type: ignore[misc]
            part = seconds(lambda g=guided, p=picture: g._clip.prepare([p], "squash"))  # type: ignore[misc]
            found.setdefault("of it the map", []).append(whole)
            found.setdefault("of it preprocessing", []).append(part)
    for name, times in sorted(found.items()):
        print(f"{name}: {1000 * float(np.median(times)):.1f} ms")
    ratio = np.median(found["encode, clip"]) / np.median(found["encode, none"])
    print(f"encoding with guidance takes {100 * (float(ratio) - 1):+.1f} %")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["maps", "time"])
    parser.add_argument("path", nargs="?", type=Path, default=Path("maps.json"))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    given = parser.parse_args()
    options = ScenesOptions(images=given.images, seed=given.seed, size=given.size)
    if given.what == "maps":
        write(given.path, options)
    elif given.full:
        with tempfile.TemporaryDirectory() as folder:
            measure(full_codecs(given.dtype, Path(folder)), options)
    else:
        measure(nano_codecs(given.dtype), options)


if __name__ == "__main__":
    main()
