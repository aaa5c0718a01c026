"""Stands in for the Inception network: few features, and every image is counted."""

from __future__ import annotations

import numpy as np

from lossylens_sample import log


def make():
    def features(image):
        log("features")
        pixels = np.asarray(image, np.float32)
        return np.concatenate([pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))]) / 255

    return features
