"""InternVL2-8B behind the core's contract."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import transformers
from lossylens_toolkit.transformers_vlm.families.internvl import (
    LIMIT,
    TASK_TILES,
    TILES,
    InternVL,
)
from lossylens_toolkit.transformers_vlm.family import Family
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from lossylens_vlm_internvl2_8b.configuration import read_config
from lossylens_vlm_internvl2_8b.files import checkpoint_files
from lossylens_vlm_internvl2_8b.plugin import Options
from lossylens_vlm_internvl2_8b.tokenizer import (
    IMAGE_CONTEXT,
    TURN_END,
    TURN_START,
    load_tokenizer,
)
from lossylens_vlm_internvl2_8b.weights import expected_shapes, read_weights

#: The system prompt with which the authors' code, and so the reference evaluator, asks.
SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害"
    "的人工智能助手。"
)


class InternVL2(InternVL):
    """InternVL2 with InternLM2: InternVL3 but for what surrounds the user's turn.

    Turns follow each other without a newline, the first behind the token that begins a
    sequence.
    """

    def __init__(self, *args: Any, system: str = SYSTEM, **settings: Any) -> None:
        super().__init__(*args, system=system, **settings)
        turn = f"{TURN_START}system\n{system}{TURN_END}" if system else ""
        begin = self.tokenizer.bos_token
        self.opening = (self.special(f"{begin}{turn}{TURN_START}"), "user\n")
        self.closing = (self.special(f"{TURN_END}{TURN_START}assistant\n"),)
        self.stop = frozenset(self.special(TURN_END))


class InternVL2Vlm(TransformersVlm):
    """InternVL2-8B; see :class:`TransformersVlm`.

    Transformers has no class for it, and its own code, which comes with the checkpoint, is
    never run: InternViT is that of InternVL3, and InternLM2 is run as LLaMA.
    """

    model_type = "internvl_chat"
    model_class = InternVLForConditionalGeneration
    options: Options

    def weight_files(self) -> list[Path]:
        """Return the weight files."""
        return checkpoint_files(self.folder)

    def model_config(self) -> Any:
        """Return the configuration, which the files have in another form."""
        return read_config(self.folder, self._image_token(load_tokenizer(self.folder)))

    @staticmethod
    def _image_token(tokenizer: PreTrainedTokenizerFast) -> int:
        token = tokenizer.convert_tokens_to_ids(IMAGE_CONTEXT)
        assert isinstance(token, int)
        return token

    def load(self) -> Family:
        """Load the checkpoint.

        Raises:
            RequirementError: the memory does not suffice, or a file or tensor is unfit.
        """
        options = self.options
        tokenizer = load_tokenizer(self.folder)
        config: Any = read_config(self.folder, self._image_token(tokenizer))
        side = config.vision_config.image_size[0]
        return InternVL2(
            self._model_of(config),
            tokenizer,
            GotOcr2ImageProcessorPil(
                size={"height": side, "width": side},
                image_mean=list(IMAGENET_DEFAULT_MEAN),
                image_std=list(IMAGENET_DEFAULT_STD),
            ),
            system=SYSTEM if options.system is None else options.system,
            limit=options.max_new_tokens or LIMIT,
            tiles=lambda task: options.max_tiles or TASK_TILES.get(task, TILES),
        )

    def _model_of(self, config: Any) -> Any:
        self.placement.check_memory(
            str(self.folder), sum(map(prod, expected_shapes(config).values()))
        )
        transformers.utils.logging.disable_progress_bar()
        device_map = self._device_map()
        model: Any = InternVLForConditionalGeneration.from_pretrained(
            None,
            config=config,
            state_dict=read_weights(self._files, config),
            device_map=device_map,
            **self.placement.loading,
        )
        if device_map is None:
            model.to(self.placement.devices[0])
        return model.eval().requires_grad_(False)
