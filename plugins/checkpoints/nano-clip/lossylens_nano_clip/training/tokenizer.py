"""The tokenizer of nano-clip: a small byte-level BPE of lower-case text."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def train_text_tokenizer(
    texts: Iterable[str], positions: int, vocabulary: int = 768
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of at most *vocabulary* entries on *texts*.

    A text begins and ends with a token of its own, as CLIP's do, and has at most
    *positions* tokens.
    """
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_BEGIN, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    ends = [(token, bpe.token_to_id(token)) for token in (_BEGIN, _END)]
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A {_END}", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=_BEGIN,
        eos_token=_END,
        pad_token=_END,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
