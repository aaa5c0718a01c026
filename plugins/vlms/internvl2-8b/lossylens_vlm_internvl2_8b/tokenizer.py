"""The tokenizer, from the official ``tokenizer.model`` and ``tokenizer_config.json``.

The first is a model of SentencePiece: a BPE of characters, which spells those that it does
not know as bytes, written as a message of protobuf.  Of it are read the pieces and how text
is normalised.  The second names the tokens that were added, in the places of pieces that
were left free or behind them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.errors import RequirementError
from lossylens_toolkit.transformers_vlm.checkpoint import read_json
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

from lossylens_vlm_internvl2_8b.files import PIECES, TOKENS

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, IMAGE_CONTEXT = "<img>", "</img>", "<IMG_CONTEXT>"

#: What SentencePiece writes for a blank.
_BLANK = "\N{LOWER ONE EIGHTH BLOCK}"

#: ``TrainerSpec.ModelType`` of a BPE.
_BPE = 2

_MOST_PIECES = 2**20


@dataclass(frozen=True)
class PieceModel:
    """What is read of a ``tokenizer.model``.

    Attributes:
        pieces: with their scores, by id; a pair that makes up the piece of the highest score
            is merged first.
        prefix: whether a blank is put before every text.
        squeeze: whether blanks at both ends, and all but one of several, are left out.
    """

    pieces: tuple[tuple[str, float], ...]
    prefix: bool
    squeeze: bool


def read_pieces(path: Path) -> PieceModel:
    """Read a model of SentencePiece.

    Raises:
        RequirementError: it cannot be read, or is another kind of model.
    """
    try:
        fields = list(_fields(path.read_bytes()))
        pieces = tuple(_piece(value) for number, value in fields if number == 1)
        trained, normal = (
            dict(_fields(b"".join(value for number, value in fields if number == part)))
            for part in (2, 3)
        )
        # model_type and byte_fallback; a table of characters would be the second of normal.
        kind = trained.get(3), trained.get(35)
    except OSError as error:
        raise RequirementError(f"{path} cannot be read: {error.strerror}") from error
    except (LookupError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise RequirementError(f"{path} is damaged: it is no model of SentencePiece") from error
    if kind != (_BPE, 1) or normal.get(2):
        raise RequirementError(f"{path}: not a BPE with bytes that takes text as it is")
    if not 0 < len(pieces) <= _MOST_PIECES or len({piece for piece, _ in pieces}) < len(pieces):
        raise RequirementError(f"{path} is damaged: it has {len(pieces)} pieces, or some twice")
    # Both are on unless the file says otherwise.
    return PieceModel(pieces, bool(normal.get(3, 1)), bool(normal.get(4, 1)))


def _piece(message: Any) -> tuple[str, float]:
    held = dict(_fields(message))
    (score,) = struct.unpack("<f", held.get(2, bytes(4)))
    return held[1].decode(), score


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield numbers and values of a message's fields: whole numbers, or bytes.

    Raises:
        ValueError: it is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("unknown kind of field")
        if at + length > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at*, and where the next begins."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("cut off")


def read_added(path: Path) -> dict[int, AddedToken]:
    """Return the tokens that were added, by id.

    Raises:
        RequirementError: it cannot be read, or names none.
    """
    listed = read_json(path).get("added_tokens_decoder")
    if not isinstance(listed, dict):
        raise RequirementError(f"{path} names no tokens (added_tokens_decoder)")
    found = {}
    for number, token in listed.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not (number.isascii() and number.isdigit() and len(number) < 8) or not content:
            raise RequirementError(f"{path}: {number!r} is not the id of a token, or has none")
        special = token.get("special") is True
        found[int(number)] = AddedToken(str(content), special=special, normalized=False)
    return found


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of an official checkpoint.

    Raises:
        RequirementError: a file is unfit, or a token that prompts need is not there.
    """
    model = read_pieces(folder / PIECES)
    added = read_added(folder / TOKENS)
    tokens = [piece for piece, _ in model.pieces]
    for number, token in sorted(added.items()):
        if number > len(tokens):
            raise RequirementError(f"{folder / TOKENS}: no token precedes {number}")
        tokens[number : number + 1] = [token.content]
    needed = (BEGIN, END, UNKNOWN, TURN_START, TURN_END, IMAGE_START, IMAGE_END, IMAGE_CONTEXT)
    if lacking := set(needed) - {token.content for token in added.values()}:
        raise RequirementError(f"{folder / TOKENS} lacks {', '.join(sorted(lacking))}")
    bpe = Tokenizer(_bpe(model, {token: number for number, token in enumerate(tokens)}, added))
    bpe.normalizer = _normalizer(model)
    written = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.prefix:
        written.append(decoders.Strip(" ", 1, 0))
    bpe.decoder = decoders.Sequence(written)
    bpe.add_special_tokens([token for token in added.values() if token.special])
    bpe.add_tokens([token for token in added.values() if not token.special])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _bpe(
    model: PieceModel, vocabulary: dict[str, int], added: Mapping[int, AddedToken]
) -> models.BPE:
    scores = [each for number, each in enumerate(model.pieces) if number not in added]
    merges = generate_merges(vocabulary, scores)
    return models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)


def _normalizer(model: PieceModel) -> normalizers.Normalizer:
    steps: list[Any] = []
    if model.squeeze:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" +"), " ")]
    if model.prefix:
        steps.append(normalizers.Prepend(_BLANK))
    steps.append(normalizers.Replace(" ", _BLANK))
    return normalizers.Sequence(steps)
