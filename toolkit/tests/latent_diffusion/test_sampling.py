from unittest import mock

import pytest
import torch
from diffusers.schedulers import scheduling_ddpm
from lossylens_toolkit.latent_diffusion.sampling import (
    picture_noise,
    sample,
    schedule,
    spaced_times,
)
from lossylens_toolkit.neural_codec.container import Content, noise_seed

#: Of the seed 0xCBF43926.
EXPECTED = (
    -1.202566146850586,
    0.22294025123119354,
    -1.9378525018692017,
    -0.061232808977365494,
    1.2354087829589844,
    -0.3017556965351105,
)


@pytest.mark.parametrize(
    ("used", "count", "expected"),
    [
        (300, 2, [0, 299]),
        (300, 5, [0, 75, 150, 224, 299]),
        (1000, 4, [0, 333, 666, 999]),
        (1000, 1, [0]),
        (3, 3, [0, 1, 2]),
    ],
)
def test_spaced_times(used, count, expected):
    assert spaced_times(used, count) == expected


def test_fifty_of_a_thousand():
    times = spaced_times(1000, 50)
    assert (times[:5], times[-3:]) == ([0, 20, 41, 61, 82], [958, 979, 999])
    assert len(set(times)) == 50


@pytest.mark.parametrize("count", [0, 11])
def test_steps_that_do_not_fit(count):
    with pytest.raises(ValueError, match="do not fit"):
        spaced_times(10, count)


@pytest.mark.parametrize("count", [2, 7])
def test_the_steps_are_those_of_diffusers(count):
    """Given the same noise, which its scheduler draws itself."""
    times = spaced_times(1000, count)
    scheduler = scheduling_ddpm.DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        clip_sample=False,
    )
    scheduler.set_timesteps(timesteps=times[::-1])
    start, draw = torch.randn(1, 4, 8, 8), picture_noise(3)
    x = start
    with mock.patch.object(scheduling_ddpm, "randn_tensor", lambda shape, **_: draw(shape)):
        for t in scheduler.timesteps:
            x = scheduler.step(torch.sin(x) + t / 999, t, x).prev_sample
    found = sample(lambda x, t: torch.sin(x) + t / 999, start, times, schedule(), picture_noise(3))
    assert torch.allclose(found, x, rtol=1e-3, atol=1e-4)


def test_the_noise_of_a_picture():
    """These numbers belong to the format of bitstreams."""
    content = Content("diffeic/1_2_16", 1, 1, 0, 0, True, z=b"12345", y=b"6789")
    assert noise_seed(content) == 0xCBF43926
    draw = picture_noise(noise_seed(content))
    first, second = draw((1, 1, 2, 2)), draw((2,))
    expected = torch.tensor(EXPECTED)
    assert torch.equal(torch.cat([first.flatten(), second]), expected)
    assert torch.equal(picture_noise(noise_seed(content))((6,)), expected)
