"""Options, schedule, objective, states and curve."""

import itertools
import math

import pytest
import torch
from lossylens.errors import ConfigError
from lossylens_toolkit.training.codec_training import schedule, transform_rate
from lossylens_toolkit.training.objective import Objective, estimated_bits, psnr
from lossylens_toolkit.training.states import States
from lossylens_toolkit.training.train_command import load_options
from lossylens_toolkit.training.training_curve import TrainingCurve
from lossylens_toolkit.training.training_options import CodecTrainingOptions


def options(**values):
    return CodecTrainingOptions(**{"out": "o", "level": "q1", **values})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop=0", "crop must be at least 1, got 0"),
        ("learning_rate=-1", "learning_rate must be a number above 0"),
        ("multiplier=.nan", "multiplier must be a number above 0"),
        ("decay=2", "decay is a share of the steps"),
        ("warmup=-1", "warmup must not be negative"),
        ("hold=-1", "hold must not be negative"),
        ("begin=dct", "begin 'dct' is not one of random, klt"),
        ("mixed_precision=fp8", "mixed_precision 'fp8' is not one of no, bf16, fp16"),
        ("train.folder=x", "train.folder: unknown option. Did you mean folders?"),
        ("steps=many", "steps: expected a whole number, got 'many'"),
        ("level=null", "level: expected text, got null"),
    ],
)
def test_options_that_make_no_sense(override, message, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("out: here\nlevel: q1\n")
    assert load_options(config, ["steps=7"]).steps == 7
    with pytest.raises(ConfigError) as caught:
        load_options(config, [override])
    assert message in str(caught.value)


def test_what_must_be_given(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("level: q1\n")
    with pytest.raises(ConfigError, match="out: must be given"):
        load_options(config, [])


def test_rates_of_transforms_follow_the_magnitude_of_their_tensors():
    """Gains that begin as zeros learn as those at one do; other zeros have a usual magnitude."""
    chosen = options(transform_learning_rate=0.01)
    rates = {
        (0.5, (8, 4, 3, 3)): 0.005,
        (0.0, (8, 4, 3, 3)): 0.0003,
        (0.001, (8,)): 0.0003,
        (0.0, (1, 8, 1, 1)): 0.01,
        (3.0, (1, 8, 1, 1)): 0.03,
    }
    for (value, shape), rate in rates.items():
        parameter = torch.nn.Parameter(torch.full(shape, value))
        assert transform_rate(parameter, chosen) == pytest.approx(rate)


def test_schedule():
    chosen = options(steps=100, warmup=9, decay=0.5)
    rates = [schedule(step, chosen) for step in range(100)]
    assert rates[:10] == [pytest.approx(0.1 * (step + 1)) for step in range(10)]
    assert rates[10:51] == [1.0] * 41
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[50:]))
    assert rates[75] == pytest.approx(0.505)
    assert rates[-1] == pytest.approx(0.01, rel=0.2)
    assert schedule(99, options(steps=100, decay=0.0)) == 1.0


def test_objective():
    x = torch.rand(2, 3, 8, 16)
    likelihoods = {"y": torch.full((2, 4, 2, 1), 0.25), "z": torch.full((2, 1), 0.5)}
    assert estimated_bits(likelihoods).item() == 16 * 2 + 2
    terms = Objective(0.01)({"likelihoods": likelihoods, "x_hat": x + 2 / 255}, x)
    assert terms.values() == pytest.approx(
        {"bpp": 34 / 256, "distortion": 4.0, "loss": 34 / 256 + 0.04}, rel=1e-4
    )


def test_ms_ssim():
    x = torch.rand(1, 3, 192, 192)
    same = Objective(10, "ms-ssim")({"likelihoods": {"y": torch.ones(1)}, "x_hat": x}, x)
    noisy = {"likelihoods": {"y": torch.ones(1)}, "x_hat": x + 0.2 * torch.rand_like(x)}
    assert same.values() == pytest.approx({"bpp": 0, "distortion": 0, "loss": 0}, abs=1e-4)
    assert 0.01 < Objective(10, "ms-ssim")(noisy, x).distortion < 1


def test_psnr():
    x = torch.full((3, 4, 4), 100 / 255)
    assert psnr(x + 0.4 / 255, x) == math.inf
    assert psnr(x + 10 / 255, x) == pytest.approx(20 * math.log10(25.5), rel=1e-4)
    assert psnr(x - 5, x) == pytest.approx(20 * math.log10(2.55), rel=1e-4)


def test_the_last_finished_state_counts(tmp_path):
    states = States(tmp_path / "states")
    assert states.newest() is None
    (states.prepare() / "weights").write_text("10")
    states.finish(10)
    # The process dies while it writes the next one.
    (states.prepare() / "weights").write_text("2")
    assert states.newest() == (tmp_path / "states" / "step-000000010", 10)
    (states.prepare() / "weights").write_text("20")
    assert [path.name for path in states.unfinished.iterdir()] == ["weights"]
    states.finish(20)
    newest, step = states.newest()
    assert (step, (newest / "weights").read_text()) == (20, "20")
    assert list(states.folder.iterdir()) == [newest]


def test_curve(tmp_path):
    curve = TrainingCurve(tmp_path / "curve.jsonl")
    assert curve.points() == []
    for step in (10, 20, 30):
        curve.add({"step": step})
    with curve.path.open("a") as file:
        file.write('{"step": 4')
    assert [point["step"] for point in curve.points()] == [10, 20, 30]
    curve.go_back(20)
    curve.add({"step": 30, "new": True})
    assert curve.points() == [{"step": 10}, {"step": 20}, {"step": 30, "new": True}]
