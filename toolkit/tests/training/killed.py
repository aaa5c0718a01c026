"""Trains the tiny codec until it is killed: python killed.py OUT PICTURES."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "neural_codec"))
sys.path.append(str(Path(__file__).parent))

from lossylens.registry.plugins import load_registry
from training import tiny_training

if __name__ == "__main__":
    out, pictures = map(Path, sys.argv[1:])
    tiny_training(out, pictures, load_registry(strict=False), state_minutes=0).run()
