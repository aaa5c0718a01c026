"""A training of the tiny codec."""

from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions
from lossylens_toolkit.training.codec_training import CodecTraining
from lossylens_toolkit.training.training_options import CodecTrainingOptions, PictureOptions
from tiny import LEVELS, TinyCodec


def tiny_options(out, pictures, **values):
    chosen = {"steps": 12, "multiplier": 0.01, "validate_every": 4}
    chosen |= {"crop": 64, "batch": 2, "learning_rate": 1e-2, "device": "cpu", **values}
    where = PictureOptions(folders=[pictures])
    return CodecTrainingOptions(out=out, level="q1", train=where, validation=where, **chosen)


def tiny_training(out, pictures, registry, say=lambda line: None, level=LEVELS[0], **values):
    codec = TinyCodec(level, NeuralCodecOptions(device="cpu"))
    return CodecTraining(codec, tiny_options(out, pictures, **values), registry, say)
