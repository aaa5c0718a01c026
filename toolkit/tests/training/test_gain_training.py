import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from lossylens.errors import ConfigError
from lossylens.registry.plugins import load_registry
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions, lambda_level
from lossylens_toolkit.training.gain_training import GainTraining, draw_level_map
from lossylens_toolkit.training.training_options import GainOptions

sys.path.append(str(Path(__file__).parent))

from tiny import GainedTinyCodec, write_tiny
from training import tiny_options

LEVELS = ["lambda0.0512", "lambda0.0256", "lambda0.0128"]


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


def trained(out, pictures, start, lines=None, **values):
    options = tiny_options(out, pictures, start=start, **values)
    options.level, options.multiplier = "lambda0.0256", values.get("multiplier")
    codec = GainedTinyCodec(lambda_level("lambda0.0256"), NeuralCodecOptions(device="cpu"))
    training = GainTraining(codec, options, load_registry(strict=False), (lines or []).append)
    training.run()
    return training.export()


def test_a_network_of_one_rate_becomes_one_of_many(tmp_path, folder):
    start = tmp_path / "start.safetensors"
    write_tiny(start, about={"codec": "tiny", "level": "q1", "config": {"width": 6}})
    path = trained(tmp_path / "out", folder, start, gains=GainOptions(LEVELS), steps=4)
    assert path.name == "levels.safetensors"
    checkpoint = read_checkpoint(path)
    assert checkpoint.about["config"]["lambdas"] == [0.0512, 0.0256, 0.0128]
    assert "level" not in checkpoint.about
    codecs = {
        name: GainedTinyCodec(
            lambda_level(name), NeuralCodecOptions(checkpoints=path.parent, device="cpu")
        )
        for name in (*LEVELS, "lambda0.02", "lambda0.1")
    }
    places = [codecs[name].place for name in LEVELS]
    assert places == [0, 1, 2]
    assert 1 < codecs["lambda0.02"].place < 2
    outside = r"tiny-gained lambda0.1: .* outside of 0.0128 to 0.0512"
    with pytest.raises(ConfigError, match=outside):
        _ = codecs["lambda0.1"].place
    assert {codec.space for codec in codecs.values()} == {"tiny-gained"}
    # What it began with is in none of the parameters any more: all of them were trained.
    before = read_checkpoint(start).state
    moved = {n: not torch.equal(v, before[n]) for n, v in checkpoint.state.items() if n in before}
    assert all(moved.values())
    gains = [v for n, v in checkpoint.state.items() if n.startswith("level_gains.")]
    assert all(table.std(1).max() > 0 for table in gains)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "gains.levels: must be given"),
        ({"gains": GainOptions(["q1"])}, "level 'q1' names no lambda"),
        ({"gains": GainOptions(LEVELS), "multiplier": 0.1}, "are for networks of one rate"),
        ({"gains": GainOptions(LEVELS[::-1])}, "must be positive and fall"),
    ],
)
def test_what_contradicts_is_refused(tmp_path, folder, values, message):
    start = tmp_path / "start.safetensors"
    write_tiny(start, about={"codec": "tiny", "level": "q1", "config": {"width": 6}})
    with pytest.raises(ConfigError, match=message):
        trained(tmp_path / "out", folder, start, **values)


def test_level_maps_hold_one_level_or_blocks_or_a_ramp():
    torch.manual_seed(0)
    maps = [draw_level_map(5, 8, 12) for _ in range(300)]
    assert {tuple(each.shape) for each in maps} == {(8, 12)}
    distinct = [len(each.unique()) for each in maps]
    assert 60 < distinct.count(1) < 140
    ramps = [
        each
        for each in maps
        if len(each.unique()) == 5
        and (each.diff(dim=0).eq(0).all() or each.diff(dim=1).eq(0).all())
    ]
    assert 60 < len(ramps) < 140
