import sys
from pathlib import Path

import pytest
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions

# Modules of tests cannot import each other otherwise, in pytest's importlib mode.
sys.path.append(str(Path(__file__).parent))

from tiny import LEVELS, TinyCodec, write_tiny


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, level in enumerate(LEVELS):
        write_tiny(folder / f"{level.name}.safetensors", seed, {"codec": "tiny"})
    return folder


@pytest.fixture(scope="session")
def codec(folder):
    return TinyCodec(LEVELS[0], NeuralCodecOptions(checkpoints=folder, device="cpu"))


@pytest.fixture(scope="session")
def other_level(folder):
    return TinyCodec(LEVELS[1], NeuralCodecOptions(checkpoints=folder, device="cpu"))
