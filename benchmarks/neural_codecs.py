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

HiFiC and MS-ILLM at 256x256, encoding and decoding together, on a thread of that machine with
little beside it: 1.21 and 1.12 s in float32, 1.9 and 1.5 times the official implementations' speed
on theirs (beside more other work, 1.3 and 1.4 s).  Nine tenths of it are convolutions that reach
98 of the 115 GFLOP/s of that thread, so that nothing but fewer multiplications would make them
much faster; channel norms are a hundredth of it.  Winograd's algorithm gains little in float32
and loses two bits.
In float64, as by default, they take 4.0 and 3.7 s.

For the codecs on latent diffusion, what counts is the share of time that is spent outside
UNet, VAE and the networks that code the latent: in entropy coding, container, sampler,
noise and pictures. They have the official size and random weights; their times are those
of a second round, or with ``--rounds 1`` of the first, DiffEIC's with 2 steps instead of 50.
A small picture is the hardest case, since all this grows less than the networks' time.

    python benchmarks/neural_codecs.py [--size 512x768] [--rounds 3] [--only elic ...]
    python benchmarks/neural_codecs.py --only diffeic rdeic stablecodec --diffusion-size 64x64
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
    "tic-float32": ("lossylens_codec_tic.network", {}, "float32"),
    "tic": ("lossylens_codec_tic.network", {}, "float64"),
    "ticserial-float32": ("lossylens_codec_tic.network", {"variant": "serial"}, "float32"),
    "dcae-float32": ("lossylens_codec_dcae.network", {}, "float32"),
    "dcae": ("lossylens_codec_dcae.network", {}, "float64"),
    "hific-float32": ("lossylens_codec_hific.network", {}, "float32"),
    "hific": ("lossylens_codec_hific.network", {}, "float64"),
    "msillm-float32": ("lossylens_codec_msillm.network", {}, "float32"),
    "msillm": ("lossylens_codec_msillm.network", {}, "float64"),
}
#: On latent diffusion: module of the codec, its class, a level.
DIFFUSION = {
    "diffeic": ("lossylens_codec_diffeic", "DiffeicCodec", {"steps": 2}),
    "rdeic": ("lossylens_codec_rdeic", "RdeicCodec", {}),
    "stablecodec": ("lossylens_codec_stablecodec", "StableCodecCodec", {}),
}
#: Seconds of processor time to encode and decode 256x256, on one thread.
OFFICIAL = {
    "elic": (0.69, 0.69),
    "tcm": (0.93, 1.14),
    "mlicpp": (1.14, 1.46),
    "tic": (0.6, float("nan")),
    "ticserial": (2.1, 2.8),
    "dcae": (1.45, 1.61),
    "hific": (0.52, 1.8),
    "msillm": (0.32, 1.4),
}
KEEP = (r"entropy_bottleneck\.(quantiles|matrices|factors)", r"gdn\.(beta|gamma)$")
#: Factors that keep activations near those of trained networks.
_SWIN = {r"\.residual_group\..*\.(attn\.proj|mlp\.fc2)\.weight$": 0.3}
SCALE: dict[str, dict[str, float]] = {
    "tcm": {r"\.conv1_2\.weight$": 0.2, r"\.igdn\.gamma$": 0.1},
    "tic": _SWIN,
    "ticserial": {**_SWIN, r"^context_prediction\.proj\.weight$": 0.3},
    "dcae": {
        r"\.res_scale_[123]\.scale$": 50.0,
        r"^g_a\.6\.weight$": 0.25,
        r"^h_a\.2\.weight$": 0.6,
        r"^g_s\.6\.conv\.weight$": 0.1,
    },
}


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
    from lossylens_toolkit.testing.golden_gan import RULES, gan_filled
    from lossylens_toolkit.testing.golden_weights import filled

    codec = name.partition("-")[0]
    if codec in RULES:
        shapes = {each: value.shape for each, value in built.items()}
        return gan_filled(codec, shapes, 0, built)
    return filled(built, 0, KEEP, SCALE.get(codec))


def share(name: str, height: int, width: int, warm: bool) -> None:
    """Print seconds of encoding and decoding, the share outside networks, and peak memory."""
    import torch
    from lossylens.testing.pictures import picture

    clock = Clock()
    torch.nn.modules.module.register_module_forward_pre_hook(clock.enter)
    torch.nn.modules.module.register_module_forward_hook(clock.leave, always_call=True)
    codec = of_official_size(name)
    image = picture(height, width)
    if warm:
        codec.decode(codec.encode(image))
        clock.inside = 0.0
    start = time.process_time()
    bitstream = codec.encode(image)
    middle = time.process_time()
    codec.decode(bitstream)
    end = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    outside = 1 - clock.inside / (end - start)
    print(json.dumps([middle - start, end - middle, peak, outside]), flush=True)


class Clock:
    """Adds up the processor time within modules, the outermost ones."""

    def __init__(self) -> None:
        self.inside = 0.0
        self._depth = 0
        self._start = 0.0

    def enter(self, *_: Any) -> None:
        if not self._depth:
            self._start = time.process_time()
        self._depth += 1

    def leave(self, *_: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self.inside += time.process_time() - self._start


def of_official_size(name: str) -> Any:
    """Return a codec on latent diffusion whose networks have random weights."""
    import importlib

    import torch
    from lossylens.testing.registering import registered
    from lossylens_toolkit.latent_diffusion import ldm
    from lossylens_toolkit.latent_diffusion.control import Control, control_config

    package, kind, given = DIFFUSION[name]
    network = importlib.import_module(f"{package}.network")
    module = importlib.import_module(f"{package}.codec")
    plugin = importlib.import_module(f"{package}.plugin")
    torch.manual_seed(0)
    config = ldm.unet_config(ldm.SD21_UNET)
    unet, vae = ldm.UNet2DConditionModel(**config), ldm.AutoencoderKL(**ldm.vae_config(ldm.SD_VAE))
    parts = {"unet": unet, "vae": vae, "network": network.build()}
    if name == "stablecodec":
        network.with_input(unet, parts["network"].latent_channels)
        parts["auxiliary"] = module.AuxiliaryEncoder()
    else:
        parts["control"] = Control(config, control_config(network.CONTROL))
    for part in parts.values():
        part.requires_grad_(False).eval()
    for each in (unet, vae):
        each.to(memory_format=torch.channels_last)
    kept = {**parts, "context": torch.randn(1, 77, 1024), "checkpoint": "random weights"}
    codec = type(kind, (getattr(module, kind),), kept)
    options = registered(plugin.register_codecs).options(device="cpu", **given)
    return codec(plugin.LEVELS[0], options)


def plain(network: Any) -> Any:
    """Return CompressAI's network with the weights of ours, which have the same names."""
    from lossylens_toolkit.neural_codec.compressai import Elic2022Chandelier

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
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="512x768", help="height and width")
    parser.add_argument("--rounds", type=int, default=3)
    names = [*CONTENDERS, *DIFFUSION]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--diffusion-size", default="64x64", help="the same, of those on diffusion")
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    if arguments.contend:
        contend(arguments.contend, height, width)
        return
    if arguments.share:
        share(arguments.share, height, width, arguments.rounds > 1)
        return
    if contenders := [name for name in arguments.only if name in CONTENDERS]:
        compare(contenders, arguments)
    if diffusion := [name for name in arguments.only if name in DIFFUSION]:
        print_shares(diffusion, arguments.diffusion_size, arguments.rounds)


def print_shares(names: list[str], size: str, rounds: int) -> None:
    """Print a table of the codecs on latent diffusion, each in a process of its own."""
    print(f"{size}; seconds of processor time; share outside networks")
    print(f"{'':16}{'encode':>8}{'decode':>8}{'both':>8}{'MiB':>8}{'outside':>9}")
    for name in names:
        command = [sys.executable, __file__, "--share", name, "--size", size]
        command += ["--rounds", str(rounds)]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        encode, decode, peak, outside = json.loads(found.splitlines()[-1])
        both = encode + decode
        print(f"{name:16}{encode:8.2f}{decode:8.2f}{both:8.2f}{peak:8.0f}{outside:9.1%}")


def compare(names: list[str], arguments: argparse.Namespace) -> None:
    """Print a table of the contenders, which take turns."""
    height, width = map(int, arguments.size.split("x"))
    processes = {name: start(name, arguments.size) for name in names}
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
