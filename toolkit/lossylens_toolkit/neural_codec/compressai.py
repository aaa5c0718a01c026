"""What lossylens uses of CompressAI, imported here alone.

Importing CompressAI 1.2.8 compiles two TorchScript functions, of which torch
warns; the warning is none of the user's business.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r".*torch\.jit", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
    from compressai._CXX import pmf_to_quantized_cdf
    from compressai.ans import RansDecoder, RansEncoder
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.layers import (
        GDN,
        AttentionBlock,
        ResidualBlock,
        ResidualBlockUpsample,
        ResidualBlockWithStride,
        conv1x1,
        conv3x3,
        subpel_conv3x3,
    )
    from compressai.models import CompressionModel, Elic2022Chandelier
    from compressai.models.sensetime import ResidualBottleneckBlock
    from compressai.ops import LowerBound, quantize_ste

__all__ = [
    "GDN",
    "AttentionBlock",
    "CompressionModel",
    "Elic2022Chandelier",
    "EntropyBottleneck",
    "GaussianConditional",
    "LowerBound",
    "RansDecoder",
    "RansEncoder",
    "ResidualBlock",
    "ResidualBlockUpsample",
    "ResidualBlockWithStride",
    "ResidualBottleneckBlock",
    "conv1x1",
    "conv3x3",
    "pmf_to_quantized_cdf",
    "quantize_ste",
    "subpel_conv3x3",
]
