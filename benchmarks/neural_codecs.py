"""Time and memory of the learned codecs, beside CompressAI's own ELIC.

Weights are deterministic and untrained, so strings are longer than real ones. Every
contender encodes and decodes the same picture in a process of its own, on the same
number of threads; the contenders take turns, and the least processor time of each
counts. The first four are ELIC with the same weights:

* ``compressai``: ``Elic2022Chandelier`` as CompressAI has it;
* ``elic-float32``: this repository's, all in float32;
* ``elic-entropy64``: the probability model in float64, the transforms in float32, as with
  the option ``dtype=float32``;
* ``elic``: all in float64, as the codec is by default.

``official`` are the times of the official implementations, measured once on one thread
of another machine at 256x256; they are scaled by nothing.

Measured on one thread of an EPYC (Zen 4, shared with other work), encoding and decoding
together, as a multiple of CompressAI's speed with ELIC at the same size: at 512x768
``elic-float32`` 1.13, ``elic-entropy64`` 1.02 and ``elic`` 0.58; at 256x256 1.18, 0.88
and 0.51. What pictures and bitstreams that are the same everywhere cost, transforms in
float64 beside float32, the probability model being in float64 anyway, as a multiple of
the time to encode and to decode:

======= ================== ==================
codec   512x768            256x256
======= ================== ==================
ELIC    1.76 and 1.76      1.74 and 1.67
TCM     2.11 and 1.90      1.76 and 1.59
MLIC++  1.25 and 1.29      1.10 and 1.20
======= ================== ==================

    python benchmarks/neural_codecs.py [--size 512x768] [--rounds 3] [--only elic ...]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

#: Module of the network, arguments of ``build``, what is in float64: nothing, the
#: probability model (``entropy64``), or all.
CONTENDERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "compressai": ("lossylens_codec_elic.network", {}, "float32"),
    "elic-float32": ("lossylens_codec_elic.network", {}, "float32"),
    "elic-entropy64": ("lossylens_codec_elic.network", {}, "entropy64"),
    "elic": ("lossylens_codec_elic.network", {}, "float64"),
    "tcm-float32": ("lossylens_codec_tcm.network", {"N": 64}, "float32"),
    "tcm-entropy64": ("lossylens_codec_tcm.network", {"N": 64}, "entropy64"),
    "tcm": ("lossylens_codec_tcm.network", {"N": 64}, "float64"),
    "mlicpp-float32": ("lossylens_codec_mlicpp.network", {}, "float32"),
    "mlicpp-entropy64": ("lossylens_codec_mlicpp.network", {}, "entropy64"),
    "mlicpp": ("lossylens_codec_mlicpp.network", {}, "float64"),
    "hific-float32": ("lossylens_codec_hific.network", {}, "float32"),
    "hific": ("lossylens_codec_hific.network", {}, "float64"),
    "msillm-float32": ("lossylens_codec_msillm.network", {}, "float32"),
    "msillm": ("lossylens_codec_msillm.network", {}, "float64"),
}
#: Seconds of processor time to encode and decode 256x256, on one thread.
OFFICIAL = {
    "elic": (0.69, 0.69),
    "tcm": (0.93, 1.14),
    "mlicpp": (1.14, 1.46),
    "hific": (0.52, 1.8),
    "msillm": (0.32, 1.4),
}
KEEP = (r"entropy_bottleneck\.(quantiles|matrices|factors)", r"gdn\.(beta|gamma)$")
SCALE = {r"\.conv1_2\.weight$": 0.2, r"\.igdn\.gamma$": 0.1}


def contend(name: str, height: int, width: int) -> None:
    """Answer each line of the standard input with one round's seconds, and peak memory."""
    import importlib

    import torch
    from lossylens.testing.pictures import picture

    module_name, config, precision = CONTENDERS[name]
    module = importlib.import_module(module_name)
    network = module.build(**config)
    module.load_official(network, state(name, module.official_state_dict(network)))
    if name == "compressai":
        network = plain(network)
    else:
        if precision == "float64":
            network.double()
        elif precision == "entropy64":
            network.set_entropy_dtype(torch.float64)
        network = network.to(memory_format=torch.channels_last)
    network.requires_grad_(False)
    x = torch.frombuffer(bytearray(picture(height, width).tobytes()), dtype=torch.uint8)
    x = x.reshape(1, height, width, 3).permute(0, 3, 1, 2) / 255
    print("ready", flush=True)
    for _ in sys.stdin:
        with torch.inference_mode():
            start = time.process_time()
            coded = network.compress(x)
            middle = time.process_time()
            network.decompress(coded["strings"], coded["shape"])
        seconds = (middle - start, time.process_time() - middle)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([*seconds, peak]), flush=True)


def state(name: str, built: Mapping[str, Any]) -> dict[str, Any]:
    """Return deterministic weights for a network that is *built*."""
    from lossylens.testing.golden_gan import RULES, gan_filled
    from lossylens.testing.weights import filled

    codec = name.removesuffix("-float32")
    if codec in RULES:
        shapes = {each: value.shape for each, value in built.items()}
        return gan_filled(codec, shapes, 0, built)
    return filled(built, 0, KEEP, SCALE if codec == "tcm" else {})


def plain(network: Any) -> Any:
    """Return CompressAI's network with the weights of ours, which have the same names."""
    from lossylens.toolkit.neural_codec.compressai import Elic2022Chandelier

    other = Elic2022Chandelier().eval()
    own = dict(network.named_parameters())
    for name, parameter in other.named_parameters():
        parameter.data.copy_(own[name].data)
    other.update(force=True)
    return other


def start(name: str, size: str) -> subprocess.Popen[str]:
    """Return a contender that has loaded its weights."""
    command = [sys.executable, __file__, "--contend", name, "--size", size]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def one_round(process: subprocess.Popen[str]) -> list[float]:
    """Return seconds of encoding and decoding, and MiB at the peak."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    return json.loads(process.stdout.readline())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="512x768", help="height and width")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    if arguments.contend:
        contend(arguments.contend, height, width)
        return
    processes = {name: start(name, arguments.size) for name in arguments.only}
    rounds = [
        {name: one_round(process) for name, process in processes.items()}
        for _ in range(arguments.rounds)
    ]
    print(f"{height}x{width}, best of {arguments.rounds}; seconds of processor time")
    print(f"{'':16}{'encode':>8}{'decode':>8}{'both':>8}{'MiB':>8}")
    for name, process in processes.items():
        best = [min(each[name][i] for each in rounds) for i in range(2)]
        peak = max(each[name][2] for each in rounds)
        print(f"{name:16}{best[0]:8.2f}{best[1]:8.2f}{sum(best):8.2f}{peak:8.0f}")
        assert process.stdin
        process.stdin.close()
        process.wait()
    for name, (encode, decode) in OFFICIAL.items():
        print(f"official {name:7}{encode:8.2f}{decode:8.2f}{encode + decode:8.2f}  (256x256)")


if __name__ == "__main__":
    main()
