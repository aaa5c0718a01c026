"""Qwen-VL-Chat behind the core's contract."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import transformers
from lossylens_toolkit.transformers_vlm.family import Family
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from transformers import Qwen2ForCausalLM

from lossylens_vlm_qwen_vl_chat.configuration import read_config
from lossylens_vlm_qwen_vl_chat.family import LIMIT, QwenVLChat
from lossylens_vlm_qwen_vl_chat.files import TOKENIZER_CODE, TOKENS, checkpoint_files
from lossylens_vlm_qwen_vl_chat.plugin import QwenVLChatOptions
from lossylens_vlm_qwen_vl_chat.tokenizer import load_tokenizer
from lossylens_vlm_qwen_vl_chat.weights import (
    expected_shapes,
    language_state,
    read_weights,
    vision_encoder,
)


class QwenVLChatVlm(TransformersVlm):
    """Qwen-VL-Chat; see :class:`TransformersVlm`.

    Transformers has no class for it, and its own code, which comes with the checkpoint,
    is never run.
    """

    model_type = "qwen"
    model_class = Qwen2ForCausalLM
    options: QwenVLChatOptions

    def model_config(self) -> Any:
        """Return the configuration of the language model."""
        return read_config(self.folder).text

    def weight_files(self) -> list[Path]:
        """Return the weight files, in either format."""
        return checkpoint_files(self.folder)

    def load(self) -> Family:
        """Load the checkpoint.

        Raises:
            RequirementError: the memory does not suffice, or a file or tensor is unfit.
        """
        options = self.options
        config = read_config(self.folder)
        parameters = sum(map(prod, expected_shapes(config).values()))
        self.placement.check_memory(str(self.folder), parameters)
        weights = read_weights(self._files, config)
        device, dtype = self.placement.devices[0], self.placement.dtype
        language = self._language(config.text, weights)
        return QwenVLChat(
            vision_encoder(weights, config, device, dtype),
            language,
            load_tokenizer(self.folder / TOKENS),
            config,
            system=options.system,
            space=self._space(),
            limit=options.max_new_tokens or LIMIT,
        )

    def _language(self, config: Any, weights: Any) -> Any:
        transformers.utils.logging.disable_progress_bar()
        model: Any = Qwen2ForCausalLM.from_pretrained(
            None,
            config=config,
            state_dict=language_state(weights, config.num_hidden_layers),
            device_map=self._device_map(),
            **self.placement.loading,
        )
        if self._device_map() is None:
            model.to(self.placement.devices[0])
        return model.eval().requires_grad_(False)

    def _space(self) -> bool:
        """Return whether a space precedes the image, as the checkpoint's code has it."""
        if self.options.picture_space is not None:
            return self.options.picture_space
        code = self.folder / TOKENIZER_CODE
        # The documentation has the space, not every release of the code.
        return not code.is_file() or b"Picture {num_images}: " in code.read_bytes()
