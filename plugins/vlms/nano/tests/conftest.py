from __future__ import annotations

import pytest
import torch
from lossylens_vlm_nano.architecture import configuration
from lossylens_vlm_nano.tokenizer import train_tokenizer
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Is there a red star in the image? Please answer yes or no."])


@pytest.fixture(scope="session")
def random_model(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLForConditionalGeneration:
    """A model whose random weights are large enough for answers to differ."""
    torch.manual_seed(3)
    model = Qwen2_5_VLForConditionalGeneration(configuration(tokenizer))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()
