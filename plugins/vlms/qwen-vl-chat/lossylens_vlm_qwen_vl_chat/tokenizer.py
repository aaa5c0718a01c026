"""The tokenizer, from the official ``qwen.tiktoken``.

The file has the byte sequence of each token in base64, and its rank.  A byte-level BPE
that merges the pair of lowest rank first is what the ``tokenizers`` library has, once
the merges are known.  They are found by tokenising each token with the tokens of lower
rank: what is left are the two parts that it was made of.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from lossylens.errors import RequirementError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, IMAGE_PAD = "<img>", "</img>", "<imgpad>"

#: Marks of places in the picture.  They are part of what the model writes, so they are
#: entries of the vocabulary that decoding keeps, and no text is tokenised as them.
PLACE_MARKS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")

#: In the order of their ids, which follow those of the file.
SPECIAL_TOKENS = (
    END_OF_TEXT,
    TURN_START,
    TURN_END,
    *(f"<|extra_{number}|>" for number in range(205)),
    *PLACE_MARKS,
    IMAGE_START,
    IMAGE_END,
    IMAGE_PAD,
)

#: How text is cut before merging: contractions, words, single digits, punctuation, space.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_LONGEST_TOKEN = 1024


def read_ranks(path: Path) -> dict[bytes, int]:
    """Return the rank of each token in a ``.tiktoken`` file.

    Raises:
        RequirementError: the file cannot be read, or a line is malformed.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RequirementError(f"{path} cannot be read: {error.strerror}") from error
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(filter(None, lines)):
        encoded, _, rank = line.partition(b" ")
        try:
            token = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            token = b""
        if not 0 < len(token) <= _LONGEST_TOKEN or token in ranks or rank != b"%d" % number:
            raise RequirementError(f"{path}, token {number}: not base64, a blank and {number}")
        ranks[token] = number
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise RequirementError(f"{path} is cut off: it lacks tokens of a single byte")
    return ranks


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the pairs that make up the tokens of several bytes, by rank.

    Raises:
        RequirementError: a token is not made of two of lower rank.
    """
    found = []
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = _split(token, ranks, rank)
        if len(parts) != 2:
            raise RequirementError(f"{token!r} in qwen.tiktoken is not made of two lower tokens")
        found.append((parts[0], parts[1]))
    return found


def _split(token: bytes, ranks: dict[bytes, int], limit: int) -> list[bytes]:
    """Merge the bytes of *token* with ranks below *limit*, the lowest first."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(parts[at] + parts[at + 1], limit) for at in range(len(parts) - 1)]
        lowest = min(pairs)
        if lowest >= limit:
            break
        at = pairs.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of an official ``qwen.tiktoken``.

    Raises:
        RequirementError: see :func:`read_ranks` and :func:`merges`.
    """
    ranks = read_ranks(path)
    symbols = bytes_to_unicode()

    def written(token: bytes) -> str:
        return "".join(symbols[byte] for byte in token)

    vocabulary = {written(token): rank for token, rank in ranks.items()}
    vocabulary |= {token: len(ranks) + number for number, token in enumerate(SPECIAL_TOKENS)}
    pairs = [(written(left), written(right)) for left, right in merges(ranks)]
    bpe = Tokenizer(models.BPE(vocabulary, pairs))
    bpe.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    bpe.decoder = decoders.ByteLevel()
    special = [token for token in SPECIAL_TOKENS if token not in PLACE_MARKS]
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE_PAD},
    )
