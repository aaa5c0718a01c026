"""``lossylens train adaptor cve`` as users start it: killed and resumed, and in two processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

CONFIG = """
out: {out}
cache: cache
vlm: {{nano: }}
codecs: {{jpeg: {{levels: [q1, q5]}}}}
pictures: {{tasks: {{scenes: {{images: 4, seed: 100, size: 96}}}}}}
validation: {{tasks: {{scenes: {{images: 2, seed: 12, size: 96}}}}}}
training:
  steps: 4
  batch: 4
  warmup: 1
  learning_rate: 5e-4
  unlabelled: 0
  validate_every: 4
  device: cpu
  state_minutes: 0
"""


def training(folder: Path, out: str, **variables: str) -> subprocess.Popen[str]:
    config = folder / f"{out}.yaml"
    config.write_text(CONFIG.format(out=out))
    command = [sys.executable, "-m", "lossylens", "train", "adaptor", "cve", config.name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cve")
    finished(training(folder, "whole"))
    return folder


def test_killed_and_resumed_it_comes_to_the_same_weights(folder: Path) -> None:
    process = training(folder, "parts")
    for _ in range(6000):
        if any((folder / "parts/states").glob("step-00000000[1-3]")):
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "parts/adaptor.safetensors").exists()
    assert "Going on at step" in finished(training(folder, "parts"))
    whole, parts = (
        load_file(folder / f"{name}/adaptor.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_two_processes_train_as_one(folder: Path) -> None:
    """Each takes its share of a batch; the record is kept by one of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # As accelerate and torchrun start them.
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        training(folder, "shared", RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank in range(2)
    ]
    said = [finished(each) for each in processes]
    assert ["Memory: " in each for each in said] == [True, False]
    records = (folder / "shared/curve.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [4]
    one, two = (load_file(folder / f"{name}/adaptor.safetensors") for name in ("whole", "shared"))
    start = load_start()
    changed = apart = 0.0
    for name, value in start.items():
        changed += (one[f"vision.{name}"] - value).square().sum().item()
        apart += (two[f"vision.{name}"] - one[f"vision.{name}"]).square().sum().item()
    # A share's error is relative to the variance of that share, so steps are nearly the same.
    assert 0 < apart < 0.5 * changed


def load_start() -> dict[str, object]:
    from lossylens.registry.plugins import load_registry

    return dict(load_registry().build_vlm("nano").vision.parameters())
