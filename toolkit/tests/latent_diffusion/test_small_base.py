"""A few steps of the recipe of small base weights."""

import json

import pytest
import torch
from lossylens.registry.plugins import load_registry
from lossylens_toolkit.latent_diffusion import small_base
from lossylens_toolkit.latent_diffusion.base_weights import BaseWeights, prompt_tokens
from lossylens_toolkit.latent_diffusion.diffusion_options import SD21_BASE
from lossylens_toolkit.latent_diffusion.small_base import SmallBaseOptions, train_small_base
from lossylens_toolkit.latent_diffusion.vae import Vae
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.training.crops import Crops
from lossylens_toolkit.training.training_options import PictureOptions
from lossylens_toolkit.training.training_pictures import find_pictures

SCENES = {"images": 2, "size": 96, "photographs": "held-in"}
TINY = SmallBaseOptions(vae_steps=6, unet_steps=3, crop=64, batch=1, validate_every=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    patched = pytest.MonkeyPatch()
    for name, seed in (("_TRAIN", 1), ("_VALIDATION", 2)):
        pictures = PictureOptions(tasks={"scenes": {**SCENES, "seed": seed}})
        patched.setattr(small_base, name, pictures)
    folder = tmp_path_factory.mktemp("base")
    said = []
    base = train_small_base(folder, TINY, load_registry(), said.append)
    again = []
    train_small_base(folder, TINY, load_registry(), again.append)
    patched.undo()
    return base, said, again


def test_it_is_what_codecs_take(trained):
    base, _, _ = trained
    weights = BaseWeights(base, SD21_BASE)
    vae, unet = weights.vae(torch.float32), weights.unet(torch.float32)
    context = weights.prompt(prompt_tokens())
    latent = Vae(vae).encode(torch.rand(1, 3, 64, 64))
    assert latent.shape == (1, 4, 8, 8)
    with torch.inference_mode():
        noise = unet(latent, 999, context, return_dict=False)[0]
    assert noise.shape == latent.shape
    size = sum(path.stat().st_size for path in base.rglob("*.safetensors"))
    assert size < 8 * 2**20


def test_latents_have_unit_spread(trained):
    """Diffusion takes it for granted."""
    base, _, _ = trained
    vae = Vae(BaseWeights(base, SD21_BASE).vae(torch.float32))
    options = PictureOptions(tasks={"scenes": {**SCENES, "seed": 1}})
    crops = Crops(find_pictures(options, load_registry(), "train"), Padding(64), 64, 16, 0)
    x = torch.stack([crops[number] for number in range(16)])
    assert vae.encode(2 * x - 1).std() == pytest.approx(1, abs=0.02)


def test_it_learns_and_goes_on(trained):
    base, said, again = trained
    curve = (base.parent / "vae" / "curve.jsonl").read_text().splitlines()
    first, last = (json.loads(line)["training"]["loss"] for line in (curve[0], curve[-1]))
    assert last < first
    assert len(said) == 3
    assert again == ["Going on at step 6 of 6.", "Going on at step 3 of 3."]


def test_another_process_goes_on(trained):
    """What diffusers adds to a network's arguments is in the order of a set there."""
    base, _, _ = trained
    for stage in ("vae", "unet"):
        recorded = json.loads((base.parent / stage / "training.json").read_text())
        assert recorded["network"]["norm_num_groups"] == 8
        assert not [key for key in recorded["network"] if key.startswith("_")]
