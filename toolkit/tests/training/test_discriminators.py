"""Discriminators, their losses and labels."""

import pytest
import torch
from lossylens_toolkit.training.discriminators import (
    Codebook,
    PatchDiscriminator,
    UNetDiscriminator,
)


@pytest.fixture(params=["patch", "unet"])
def discriminator(request):
    torch.manual_seed(0)
    if request.param == "patch":
        return PatchDiscriminator(5, width=4)
    return UNetDiscriminator(5, width=4, labels=6)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 8, 16, generator=generator)
    return torch.nn.functional.interpolate(coarse, (64, 128), mode="bilinear")


def test_shapes(pictures):
    latents = torch.rand(2, 5, 4, 8)
    assert PatchDiscriminator(5, width=4)(pictures, latents).shape == (2, 1, 4, 8)
    assert UNetDiscriminator(5, width=4, labels=6)(pictures, latents).shape == (2, 7, 8, 16)


def test_it_learns_to_tell_and_the_generator_to_deceive(discriminator, pictures):
    discriminator.learn(pictures)
    latents = torch.rand(2, 5, 4, 8)
    fake = torch.nn.Parameter(torch.rand_like(pictures))
    optimizer = torch.optim.Adam(discriminator.parameters(), 3e-3)
    first = discriminator.loss(pictures, fake.detach(), latents).item()
    for _ in range(50):
        optimizer.zero_grad()
        discriminator.loss(pictures, fake.detach(), latents).backward()
        optimizer.step()
    assert discriminator.loss(pictures, fake.detach(), latents).item() < 0.8 * first
    discriminator.eval().requires_grad_(False)
    before = discriminator.generator_loss(fake, latents, pictures)
    generator = torch.optim.Adam([fake], 1e-2)
    for _ in range(10):
        generator.zero_grad()
        discriminator.generator_loss(fake, latents, pictures).backward()
        generator.step()
    assert discriminator.generator_loss(fake, latents, pictures) < before


def test_the_context_counts(discriminator, pictures):
    discriminator.eval()
    one, other = torch.rand(2, 5, 4, 8), torch.rand(2, 5, 4, 8)
    assert not torch.allclose(discriminator(pictures, one), discriminator(pictures, other))


def test_labels_are_those_of_the_nearest_means():
    """Cells of three kinds, each flat, have no label in common."""
    torch.manual_seed(0)
    values = torch.tensor([0.1, 0.5, 0.9])[torch.randint(3, (1, 1, 8, 8))]
    cells = values.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(1, 3, -1, -1)
    codebook = Codebook(12)
    codebook.learn(cells + 0.01 * torch.rand_like(cells))
    labels = codebook(cells)[0]
    assert labels.shape == (8, 8)
    pairs = set(zip(values.flatten().tolist(), labels.flatten().tolist(), strict=True))
    assert len({value for value, _ in pairs}) == 3
    assert len({label for _, label in pairs}) == len(pairs)


def test_the_codebook_is_part_of_the_state(pictures):
    codebook = Codebook(4)
    codebook.learn(pictures)
    other = Codebook(4)
    other.load_state_dict(codebook.state_dict())
    assert torch.equal(other(pictures), codebook(pictures))
