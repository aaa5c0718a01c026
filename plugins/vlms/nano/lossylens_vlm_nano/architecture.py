"""Size and special tokens of the nano VLM.

The classes are those of Qwen2.5-VL in transformers; only the numbers are ours.
Pictures of 224x224 give 16x16 patches, merged 2x2 into 64 visual tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLConfig

PATCH = 14
MERGE = 2
#: Side of the training pictures, in pixels; others are scaled to about this area.
SIDE = 224

#: How many rotary frequencies of the language model, from the fastest on, turn with time,
#: row, column, time and so on.  The fastest six must turn with columns and rows: a picture
#: is 8 visual tokens wide, over which the slower ones hardly turn, so that places could not
#: be read.  All visual tokens have one time, and for text the three are equal.
ROTARY_SECTIONS = (0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 6, 6, 6)

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    TURN_START,
    TURN_END,
    VISION_START,
    VISION_END,
    IMAGE_PAD,
    VIDEO_PAD,
)


def configuration(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
    """Return the model configuration, with token ids from *tokenizer*."""
    from transformers import Qwen2_5_VLConfig

    token: Any = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": list(ROTARY_SECTIONS),
        },
        "bos_token_id": None,
        "eos_token_id": token(TURN_END),
        "pad_token_id": token(END_OF_TEXT),
    }
    vision = {
        "depth": 6,
        "hidden_size": 192,
        "num_heads": 4,
        "intermediate_size": 512,
        "out_hidden_size": text["hidden_size"],
        "fullatt_block_indexes": [2, 5],
        "window_size": 8 * PATCH,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token(IMAGE_PAD),
        video_token_id=token(VIDEO_PAD),
        vision_start_token_id=token(VISION_START),
        vision_end_token_id=token(VISION_END),
        tie_word_embeddings=True,
    )
