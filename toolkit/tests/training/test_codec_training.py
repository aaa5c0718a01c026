import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from lossylens.cli import main
from lossylens.errors import ConfigError
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions
from lossylens_toolkit.training.loop import TrainingError

sys.path.append(str(Path(__file__).parent))

from tiny import LEVELS, TinyCodec
from training import tiny_training


@pytest.fixture(scope="module")
def registry():
    return load_registry(strict=False)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Sums of floats depend on the number of threads, which other tests may have set."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


def finish(training):
    training.run()
    return training.export()


@pytest.fixture(scope="module")
def straight(_one_thread, tmp_path_factory, folder, registry):
    """The folder of a training that nobody disturbed."""
    out = tmp_path_factory.mktemp("straight")
    AcceleratorState._reset_state(reset_partial_state=True)
    finish(tiny_training(out, folder, registry))
    return out


def weights(out):
    return read_checkpoint(out / "q1.safetensors").state


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def curve(out):
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_the_checkpoint_is_the_codecs(tmp_path, folder, registry):
    lines = []
    training = tiny_training(tmp_path, folder, registry, lines.append, steps=48, validate_every=12)
    before = training.validate()["loss"]
    path = finish(training)
    losses = [point["validation"]["loss"] for point in curve(tmp_path)]
    assert len(losses) == len(lines) == 4
    assert losses[-1] < before / 2
    codec = TinyCodec(LEVELS[0], NeuralCodecOptions(tmp_path, device="cpu"))
    image = picture(60, 80)
    assert codec.decode(codec.encode(image)).size == image.size
    about = read_checkpoint(path).about
    assert (about["codec"], about["level"], about["steps"]) == ("tiny", "q1", 48)


def test_stopped_and_resumed_it_is_the_same_training(tmp_path, folder, registry, straight):
    lines = []

    def stop(line):
        lines.append(line)
        if line.startswith("step 8"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_training(tmp_path, folder, registry, stop, state_minutes=0).run()
    finish(tiny_training(tmp_path, folder, registry, lines.append))
    assert "Going on at step 7 of 12." in lines
    assert same(weights(tmp_path), weights(straight))
    assert [point["validation"] for point in curve(tmp_path)] == [
        pytest.approx(point["validation"]) for point in curve(straight)
    ]


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_training(tmp_path, folder, registry, straight):
    script = Path(__file__).with_name("killed.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, script, tmp_path, folder], env=environment)
    states = tmp_path / "states"
    while process.poll() is None and not list(states.glob("step-*[3-9]")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finish(tiny_training(tmp_path, folder, registry))
    assert same(weights(tmp_path), weights(straight))
    assert [point["step"] for point in curve(tmp_path)] == [4, 8, 12]


def copied(straight, tmp_path):
    out = tmp_path / "copied"
    shutil.copytree(straight, out)
    (state,) = (out / "states").iterdir()
    return out, state


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        (b"", "empty; the download has failed"),
        (b"<html>", "a web page"),
        (b"nothing", "not a checkpoint of torch or safetensors"),
        (b"PK\x03\x04", "damaged or cut off"),
    ],
)
def test_a_damaged_state_is_named(tmp_path, folder, registry, straight, instead, reason):
    out, state = copied(straight, tmp_path)
    for path in sorted(state.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(instead)
        with pytest.raises(TrainingError, match=reason) as caught:
            tiny_training(out, folder, registry)
        assert str(path) in str(caught.value)
        assert f"delete {state} to begin anew" in str(caught.value)
        path.write_bytes(whole)


def test_a_state_of_something_else(tmp_path, folder, registry, straight):
    out, state = copied(straight, tmp_path)
    for path in sorted(state.glob("*.bin")):
        whole = path.read_bytes()
        torch.save({"a": torch.zeros(1)}, path)
        with pytest.raises(TrainingError, match="cannot be taken up; delete"):
            tiny_training(out, folder, registry)
        path.write_bytes(whole)


@pytest.mark.parametrize("content", ["", "<html>", "[1, 2]", "3"])
def test_a_record_that_is_none(tmp_path, folder, registry, straight, content):
    out, _ = copied(straight, tmp_path)
    (out / "training.json").write_text(content)
    with pytest.raises(TrainingError, match=r"training\.json: cannot be read as a record"):
        tiny_training(out, folder, registry)


def test_a_finished_training_is_left_as_it_is(folder, registry, straight):
    before = weights(straight)
    finish(tiny_training(straight, folder, registry))
    assert same(weights(straight), before)


def test_fine_tuning_at_a_lower_rate(tmp_path, folder, registry, straight):
    start = straight / "q1.safetensors"
    tuned = tiny_training(tmp_path, folder, registry, start=start, level=LEVELS[1], steps=1)
    beginning = tuned.validate()
    before = curve(straight)[-1]["validation"]
    assert beginning["bpp"] == pytest.approx(before["bpp"], rel=1e-4)
    lower = tiny_training(
        tmp_path / "low", folder, registry, start=start, multiplier=1e-5, steps=40
    )
    finish(lower)
    assert curve(tmp_path / "low")[-1]["validation"]["bpp"] < beginning["bpp"] / 2


def test_width_of_the_network(tmp_path, folder, registry):
    finish(tiny_training(tmp_path, folder, registry, steps=1, network={"width": 10}))
    assert read_checkpoint(tmp_path / "q1.safetensors").about["config"] == {"width": 10}
    with pytest.raises(ConfigError, match=r"network: .*unexpected keyword argument 'depth'"):
        tiny_training(tmp_path / "other", folder, registry, network={"depth": 1})


@pytest.mark.parametrize("values", [{"hold": 2}, {"transform_learning_rate": 1e-30}])
def test_the_transforms_can_be_held_or_learn_slower(values, tmp_path, folder, registry):
    training = tiny_training(tmp_path, folder, registry, steps=2, **values)
    before = {name: each.clone() for name, each in training.network.named_parameters()}
    training.run()
    changed = {
        name.partition(".")[0]
        for name, each in training.network.named_parameters()
        if not torch.equal(each, before[name])
    }
    assert changed == {"h_a", "h_s", "entropy_bottleneck"}


def test_a_network_that_cannot_begin_as_a_klt(tmp_path, folder, registry):
    with pytest.raises(ConfigError, match="a transform with Conv2d cannot begin as a KLT"):
        tiny_training(tmp_path, folder, registry, begin="klt")


def test_mixed_precision_leaves_the_probability_model_alone(tmp_path, folder, registry):
    training = tiny_training(tmp_path, folder, registry, mixed_precision="bf16", steps=4)
    dtypes = {}
    for name in ("g_a", "h_a", "h_s"):
        getattr(training.network, name).register_forward_hook(
            lambda module, args, out, name=name: dtypes.update({(name, module.training): out.dtype})
        )
    training.run()
    single, half = torch.float32, torch.bfloat16
    assert {name: dtype for (name, trained), dtype in dtypes.items() if trained} == {
        "g_a": half,
        "h_a": single,
        "h_s": single,
    }
    assert curve(tmp_path)[0]["training"]["loss"] > 0


def test_half_precision_of_the_checkpoint(tmp_path, folder, registry):
    finish(tiny_training(tmp_path, folder, registry, steps=1, weights="float16"))
    assert {value.dtype for value in weights(tmp_path).values()} == {torch.float16}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mixed_precision": "fp16"}, "fp16 needs a GPU"),
        ({"multiplier": None}, "multiplier: must be given; level q1 of tiny names none"),
        ({"start": Path("/no/such.safetensors")}, "/no/such.safetensors"),
    ],
)
def test_refused(values, message, tmp_path, folder, registry):
    with pytest.raises(ConfigError, match=message):
        tiny_training(tmp_path, folder, registry, **values)
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_training(folder, registry, straight):
    message = f"{straight} holds a training with multiplier 0.01, not 0.02"
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny_training(straight, folder, registry, multiplier=0.02)


def test_divergence(tmp_path, folder, registry):
    training = tiny_training(tmp_path, folder, registry)
    with torch.no_grad():
        training.network.g_a[0].bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan at step 4"):
        training.run()


def test_a_codec_without_a_network(tmp_path, folder, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(f"out: {tmp_path}/out\nlevel: q5\n")
    assert main(["train", "codec", "jpeg", str(config)]) == 2
    assert capsys.readouterr().err == (
        "lossylens: codec 'jpeg' has no network of lossylens's to train\n"
    )
