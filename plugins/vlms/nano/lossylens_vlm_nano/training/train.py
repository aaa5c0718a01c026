"""Training of the nano VLM, in four parts, each of which continues when started again.

    python -m lossylens_vlm_nano.training.train vision --out nano/vision --minutes 120
    python -m lossylens_vlm_nano.training.train text --out nano/text --minutes 60 \\
        --vision nano/vision/state.pt
    python -m lossylens_vlm_nano.training.train joint --out nano/joint --minutes 60 \\
        --vision nano/vision/state.pt --text nano/text/state.pt
    python -m lossylens_vlm_nano.training.train practice --out nano/practice --minutes 60 \\
        --weights nano/joint/weights

The last two write ``weights`` into their folder, which the option ``checkpoint`` of the VLM takes.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from lossylens_vlm_nano.architecture import SIDE
from lossylens_vlm_nano.training.joint import JointTraining
from lossylens_vlm_nano.training.loop import NanoTraining, Settings
from lossylens_vlm_nano.training.practice import PracticeTraining
from lossylens_vlm_nano.training.settings_parser import settings_parser
from lossylens_vlm_nano.training.text import TextTraining
from lossylens_vlm_nano.training.vision import VisionTraining
from lossylens_vlm_nano.vlm import BUNDLED

PARTS: dict[str, type[NanoTraining]] = {
    "vision": VisionTraining,
    "text": TextTraining,
    "joint": JointTraining,
}


def write_weights(training: NanoTraining, folder: Path) -> None:
    """Write half-precision weights, configuration, tokenizer and image processor."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        Qwen2VLImageProcessorPil,
    )

    deepcopy(training.nano.model).half().save_pretrained(folder)
    training.tokenizer.save_pretrained(folder)
    area = SIDE * SIDE
    Qwen2VLImageProcessorPil(min_pixels=area, max_pixels=area).save_pretrained(folder)
    print(f"wrote {folder}", flush=True)


def main() -> None:
    """Command line: every field of :class:`Settings` is an option."""
    parser = settings_parser(Settings, __doc__)
    parser.add_argument("part", choices=[*PARTS, "practice"])
    parser.add_argument("--vision", type=Path, help="state whose vision encoder is taken")
    parser.add_argument("--text", type=Path, help="state whose language model is taken")
    parser.add_argument(
        "--weights", type=Path, default=BUNDLED, help="folder that `practice` begins with"
    )
    arguments = vars(parser.parse_args())
    part, vision, text, weights = (
        arguments.pop(name) for name in ("part", "vision", "text", "weights")
    )
    settings = Settings(**arguments)
    training: NanoTraining
    if part == "practice":
        training = PracticeTraining(settings, weights)
    else:
        training = PARTS[part](settings, vision, text)
    if training.run() and part in ("joint", "practice"):
        write_weights(training, training.settings.out / "weights")


if __name__ == "__main__":
    main()
