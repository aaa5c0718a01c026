"""CLIP against transformers' own, on a tiny random checkpoint."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from lossylens.errors import ConfigError, RequirementError
from lossylens_toolkit.clip.clip_checkpoint import LARGE_336, missing
from lossylens_toolkit.clip.clip_testing import save_clip
from lossylens_toolkit.clip.model import load_clip
from lossylens_toolkit.clip.templates import TEMPLATES
from lossylens_toolkit.transformers_vlm.tower_tests import TowerTests, close
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks, save_janus
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

torch.set_num_threads(1)
IMAGES = [blocks(80, 60, 1), blocks(60, 190, 2), blocks(64, 64, 3)]


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    save_clip(path)
    return path


@pytest.fixture(scope="session")
def clip(folder):
    return load_clip(str(folder))


@pytest.fixture(scope="session")
def reference(folder):
    return CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.fixture
def copied(folder, tmp_path):
    """A checkpoint that may be damaged."""
    shutil.copytree(folder, tmp_path / "clip")
    return tmp_path / "clip"


class TestTower(TowerTests):
    """The image encoder does what those of VLMs do."""

    @pytest.fixture
    def tower(self, clip):
        return clip.tower


@torch.inference_mode()
def test_image_embeddings_are_transformers_own(folder, clip, reference):
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    expected = reference.get_image_features(**processor(images=IMAGES, return_tensors="pt"))
    pictures = clip.prepare(IMAGES)
    embedded = clip.embed_images(pictures)
    close(embedded, expected.pooler_output)
    assert embedded.shape == (3, clip.width)
    # Hidden states from elsewhere have an embedding too.
    states = clip.tower.hidden_states(pictures, [2])[2]
    entered = clip.tower.enter(2, states, [each.layout for each in pictures])
    close(torch.cat([each.features for each in entered]), embedded)


@torch.inference_mode()
def test_text_embeddings_are_transformers_own(folder, clip, reference):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["a red star", "a photo of two blue circles", "x"]
    # One by one, so without padding.
    expected = [
        reference.get_text_features(**tokenizer([text], return_tensors="pt")).pooler_output
        for text in texts
    ]
    close(clip.embed_texts(texts), torch.cat(expected))


@torch.inference_mode()
def test_class_attention_is_transformers_own(clip, reference):
    pictures = clip.prepare(IMAGES, "squash")
    pixels = torch.cat([each.pixels for each in pictures])
    attentions = reference.vision_model(pixels, output_attentions=True).attentions
    found = clip.class_attention(pictures, [2, 0])
    assert found.shape == (3, 2, 4, 4)
    for place, layer in enumerate((0, 2)):
        expected = attentions[layer].mean(1)[:, 0, 1:].unflatten(1, (4, 4))
        close(found[:, place], expected)
    assert (found.sum((2, 3)) < 1).all()
    assert found.std((2, 3)).min() > 0
    with pytest.raises(ConfigError, match="no layer 4"):
        clip.class_attention(pictures, [4])


def test_class_vectors(clip, reference):
    names = ["red star", "blue circle", "a {} thing"]
    templates = ["a {}.", "the {} in a game."]
    found = clip.class_vectors(names, templates)
    for name, vector in zip(names, found, strict=True):
        texts = [template.replace("{}", name) for template in templates]
        each = [clip.embed_texts([text])[0] for text in texts]
        mean = sum(one / one.norm() for one in each) / 2
        close(vector, mean / mean.norm())
    assert clip.class_vectors(["cat"]).shape == (1, clip.width)
    assert clip.scale == pytest.approx(reference.logit_scale.exp().item())
    with pytest.raises(ConfigError, match="'a cat' must have one"):
        clip.class_vectors(names, ["a cat"])


def test_templates_are_the_authors():
    assert len(set(TEMPLATES)) == 80
    assert all(each.count("{}") == 1 for each in TEMPLATES)
    # The seven with which they found these nearly to suffice.
    assert {"itap of a {}.", "a {} in a video game.", "a photo of the small {}."} < set(TEMPLATES)


def test_many_texts_are_encoded_in_portions(clip, monkeypatch):
    texts = [f"{number}" for number in range(9)]
    whole = clip.embed_texts(texts)
    monkeypatch.setattr("lossylens_toolkit.clip.model._TEXTS", 4)
    close(clip.embed_texts(texts), whole)


def test_too_long_a_text_is_named(clip):
    clip.embed_texts(["a" * 62])
    with pytest.raises(ConfigError, match=r"'a+'\.\.\. has 65 tokens; CLIP takes 64"):
        clip.embed_texts(["short", "a" * 63])


def test_ways_to_make_a_square(clip):
    image = blocks(112, 56, 1)
    boxes = {
        fit: clip.prepare([image], fit)[0].layout.rectangles[0] for fit in ("crop", "pad", "squash")
    }
    assert boxes == {
        "crop": (0.25, 0, 0.75, 1),
        "pad": (0, -0.5, 1, 1.5),
        "squash": (0, 0, 1, 1),
    }
    pixels = [clip.prepare([image], fit)[0].pixels for fit in ("crop", "pad", "squash")]
    assert not any(torch.equal(pixels[number], pixels[number - 1]) for number in range(3))
    with pytest.raises(ConfigError, match="not by 'stretch'"):
        clip.prepare([image], "stretch")


def test_files_of_torch_are_read_without_unpickling(copied, clip):
    """Some published checkpoints have nothing else."""
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    assert missing(str(copied)) == ()
    close(load_clip(str(copied)).embed_texts(["x"]), clip.embed_texts(["x"]))
    torch.save({"a": print}, copied / "pytorch_model.bin")
    with pytest.raises(RequirementError, match="holds objects other than tensors"):
        load_clip(str(copied))


def test_what_is_missing(copied, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    [absent] = missing(LARGE_336)
    assert absent.remedy.startswith(f"hf download {LARGE_336} (1.7 GB)")
    (copied / "preprocessor_config.json").unlink()
    [found] = missing(str(copied))
    assert "holds no preprocessor_config.json" in found.what


def test_lacking_weights_and_other_models(copied, tmp_path):
    weights = load_file(copied / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequirementError, match=r"lack visual_projection\.weight"):
        load_clip(str(copied))
    other = tmp_path / "janus"
    save_janus(other)
    with pytest.raises(RequirementError, match="type 'janus', not 'clip'"):
        load_clip(str(other))


def test_the_first_layers_alone_attend_as_all_do(clip, folder):
    some = load_clip(str(folder), layers=2)
    pictures = clip.prepare(IMAGES, "squash")
    assert torch.equal(
        some.class_attention(pictures, [0, 1]), clip.class_attention(pictures, [0, 1])
    )
    assert some.tower.layers == 2
    names = set(some.tower.parameters())
    assert not any(".layers.2." in name for name in names)
    with pytest.raises(ConfigError, match="without its text encoder"):
        some.embed_texts(["a"])
