"""The tokenizer, on models that SentencePiece trained on a few lines.

``sentencepiece.json`` has what SentencePiece 0.2.3 itself makes of texts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import RequirementError
from lossylens_vlm_internvl2_8b.tokenizer import load_tokenizer, read_pieces

HERE = Path(__file__).parent
IDS = json.loads((HERE / "sentencepiece.json").read_text(encoding="utf-8"))


@pytest.fixture
def tokenizer_of(tmp_path):
    spec = importlib.util.spec_from_file_location("conftest_", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def made(pieces="prefix", **added):
        module.write_tokens(tmp_path, pieces, module.ADDED | added.get("added", {}))
        return load_tokenizer(tmp_path)

    return made


@pytest.mark.parametrize("pieces", IDS)
def test_text_is_cut_as_sentencepiece_does(tokenizer_of, pieces):
    tokenizer = tokenizer_of(pieces)
    for text, ids in IDS[pieces].items():
        found = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert found == ids, text
        if pieces != "squeezed":
            assert tokenizer.decode(found) == text


def test_special_tokens(tokenizer_of):
    tokenizer = tokenizer_of()
    ids = tokenizer.encode("<|im_start|>user\n<img><plain>", add_special_tokens=False)
    user = tokenizer.encode("user\n", add_special_tokens=False)
    assert ids == [4, *user, 480, 484], "text between special tokens is as if alone"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\n<plain>"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (1, 2, 485)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 7000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_models_are_refused_or_read(tmp_path_factory, at, value, cut):
    """Nothing else is raised, whatever the bytes."""
    data = (HERE / "prefix.model").read_bytes()
    spoilt = data[:at] if cut else data[:at] + bytes([value]) + data[at + 1 :]
    path = tmp_path_factory.getbasetemp() / "spoilt.model"
    path.write_bytes(spoilt)
    refused = pytest.raises(RequirementError, match=r"spoilt\.model")
    with refused if cut else contextlib.suppress(RequirementError):
        assert all(isinstance(piece, str) for piece, _ in read_pieces(path).pieces)


def test_other_files(tmp_path):
    for data in (b"", b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"<html>", b"\x08" * 99):
        (tmp_path / "tokenizer.model").write_bytes(data)
        with pytest.raises(RequirementError, match=r"tokenizer\.model"):
            read_pieces(tmp_path / "tokenizer.model")


@pytest.mark.parametrize(
    ("added", "reason"),
    [
        ({600: "<gap>"}, "no token precedes 600"),
        ({3: "<other>"}, r"lacks <\|im_end\|>"),
        ({"x": "<other>"}, "'x' is not the id of a token"),
        ({7: ""}, "'7' is not the id of a token, or has none"),
    ],
)
def test_added_tokens_that_do_not_fit(tokenizer_of, added, reason):
    with pytest.raises(RequirementError, match=reason):
        tokenizer_of(added=added)
