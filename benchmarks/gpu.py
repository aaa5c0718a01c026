"""One check on a GPU: speed, memory and equality of all that promises to work on one.

It needs no download: models have their published sizes and random weights made on the
device; answers have fixed lengths.  The device's own rates of products and copies are
measured first, and each part has its share of the time; what there is no time for is
listed as not measured.  At the end comes one table, and beside it a JSON file.  The exit
status is 1 where something is contrary to what is promised (``FAULT`` in the table), and 3
where the time was up.

    python benchmarks/gpu.py [--json gpu.json] [--seconds 530] [--only card answering ...]
    python benchmarks/gpu.py --tiny        the same with tiny models, on a CPU
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import warnings
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch
from gpu_parts.card import Setting
from gpu_parts.record import Record

#: Parts in order, with their shares of the time; the rest is for starting.  Each is a module
#: of ``gpu_parts``, imported when its turn comes: a package that is missing costs one part.
SHARES = {"card": 0.03, "answering": 0.45, "codecs": 0.22, "equality": 0.15, "adaptors": 0.10}
VERSIONS = ("lossylens", "torch", "transformers", "accelerate", "compressai", "numpy")


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="tiny models and few pictures")
    parser.add_argument("--device", help="cuda by default, cpu with --tiny")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--seconds", type=float, default=530, help="for everything")
    parser.add_argument("--only", nargs="+", choices=SHARES, default=list(SHARES))
    arguments = parser.parse_args()
    device = torch.device(arguments.device or ("cpu" if arguments.tiny else "cuda"))
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no GPU that torch can use; --tiny works on a CPU", file=sys.stderr)
        return 2
    # Full precision where float32 is compared.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    record = Record(arguments.json, facts(device, tiny=arguments.tiny))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("once")
        timer = record.stop_at(arguments.seconds, Path(folder))
        setting = Setting(device, Path(folder), arguments.tiny)
        for part, share in SHARES.items():
            if part in arguments.only:
                with record.part(part, share * arguments.seconds) as clock:
                    setting.folder = Path(folder, part)
                    setting.folder.mkdir()
                    import_module(f"gpu_parts.{part}").measure(record, clock, setting)
            else:
                record.skip(part, "", "all", "not asked for")
        timer.cancel()
    record.write()
    print(record.table())
    return 1 if record.faulty else 0


def facts(device: torch.device, *, tiny: bool) -> dict[str, Any]:
    """Return what the figures belong to."""
    found: dict[str, Any] = {"form": "tiny: its figures say nothing" if tiny else "full"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["device"] = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
        found["cuda"] = torch.version.cuda
    else:
        found["device"] = f"cpu, {torch.get_num_threads()} threads"
    found["python"] = platform.python_version()
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    sys.exit(main())
