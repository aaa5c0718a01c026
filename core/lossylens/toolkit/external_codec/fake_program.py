"""Stands in for HM, VTM, VVenC and VVdeC in tests; what it is called decides which it is.

It parses the command lines that the real programs take, refuses what they refuse with
the same exit codes, and writes byte streams whose parameter sets are sound.  What it
codes is no video: samples are quantised, and packed the denser the coarser they are.  It
needs the standard library alone, so that it starts in no time (see :mod:`.testing`).

The environment variable ``LOSSYLENS_FAKE`` makes it fail: ``hang``, ``crash``,
``silent`` (exit code 0, and nothing written), ``short`` (a frame that is too small),
``flood`` (output without end) or ``fork`` (a child of its own outlives it).
"""

# Importing pathlib would take longer than all else.
# ruff: noqa: PTH113, PTH119, PTH123

from __future__ import annotations

import array
import os
import sys
import time
import zlib

TYPE_CHECKING = False  # and so would typing
if TYPE_CHECKING:
    from typing import NoReturn

BANNERS = {
    "TAppEncoder": "HM software: Encoder Version [18.0] (stand-in)",
    "TAppDecoder": "HM software: Decoder Version [18.0] (stand-in)",
    "EncoderApp": "VVCSoftware: VTM Encoder Version 23.13 (stand-in)",
    "DecoderApp": "VVCSoftware: VTM Decoder Version 23.13 (stand-in)",
    "vvencapp": "vvencapp version 1.14.0 (stand-in)",
    "vvdecapp": "vvdecapp version 3.2.0 (stand-in)",
}

#: Options that take a value, by the name under which it is kept.
REFERENCE = {
    **{"-c": "config", "-i": "input", "-b": "bitstream", "-o": "output", "-q": "qp"},
    **{"-wdt": "width", "-hgt": "height", "-fr": "rate", "-f": "frames", "-d": "depth"},
    **{"--InputChromaFormat": "chroma", "--InputBitDepth": "depth", "--Level": "level"},
    **{"--InternalBitDepth": "internal", "--ConformanceWindowMode": "window"},
    **{"--SEIDecodedPictureHash": "hash"},
}
VVENC = {
    **{"--input": "input", "--output": "bitstream", "--size": "size", "--format": "format"},
    **{"--framerate": "rate", "--frames": "frames", "--preset": "preset", "--qp": "qp"},
    **{"--qpa": "qpa", "--internal-bitdepth": "internal", "--threads": "threads"},
}
VVDEC = {"--bitstream": "bitstream", "--output": "output", "--threads": "threads"}


def main() -> None:
    """Do what the program of this name does."""
    name = os.path.basename(sys.argv[0])
    print(f"\n{BANNERS[name]}")
    table = {"vvencapp": VVENC, "vvdecapp": VVDEC}.get(name, REFERENCE)
    if len(sys.argv) == 1 or sys.argv[1:] == ["--version"]:
        print("usage: \0...")
        raise SystemExit(table is REFERENCE)
    options = parse(sys.argv[1:], table)
    misbehave(os.environ.get("LOSSYLENS_FAKE", ""))
    if name in {"TAppEncoder", "EncoderApp", "vvencapp"}:
        encode(name, options)
    else:
        decode(name, options)


def parse(arguments: list[str], table: dict[str, str]) -> dict[str, str]:
    """Return the options on a command line."""
    found = {}
    rest = iter(arguments)
    for argument in rest:
        key, _, value = argument.partition("=")
        if key not in table:
            fail(1, f"Error parsing option: Unknown option: {argument}")
        found[table[key]] = value if "=" in argument else next(rest)
    return found


def misbehave(how: str) -> None:
    """Fail in the way that the test asks for."""
    if how == "hang":
        time.sleep(600)
    if how == "crash":
        print("some lines", "before the end", sep="\n")
        fail(-1, "Assertion `m_fifo_idx < m_fifo.size()' failed.")
    if how == "silent":
        raise SystemExit(0)
    if how == "fork":
        import subprocess

        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
        fail(1, "the parent is gone")
    while how == "flood":
        print("Warning: found NAL_UNIT_UNSPECIFIED" * 1000)


def encode(name: str, options: dict[str, str]) -> None:
    """Code the input file."""
    if name == "vvencapp":
        width, height = map(int, options["size"].split("x"))
        chroma, depth, internal = "420", 10 if options["format"] == "yuv420_10" else 8, 10
    else:
        if not os.path.isfile(options["config"]):
            fail(1, f"error: Failed to open config file {options['config']}")
        width, height = int(options["width"]), int(options["height"])
        chroma, depth = options["chroma"], int(options["depth"])
        internal = int(options.get("internal", "10"))
    qp = int(options["qp"])
    if qp > (51 if name == "TAppEncoder" else 63):
        fail(1, "QP exceeds supported range")
    if chroma == "420" and (width % 2 or height % 2):
        fail(1, "picture width is not an integer multiple of the specified chroma subsampling")
    samples = read_samples(options["input"], depth)
    if len(samples) != samples_of(width, height, chroma):
        raise SystemExit(0)  # as HM does, which then has written nothing
    step = 1 + (qp << (depth - 8))
    payload = bytes([qp, depth, internal]) + len(samples).to_bytes(4, "big")
    payload += dense([(sample + step // 2) // step for sample in samples], step, depth)
    # So that each step of the quantisation tells in the rate; it is cut off again.
    payload += b"\x55" * (32 * (63 - qp))
    payload += zlib.crc32(payload).to_bytes(4, "big")
    hevc = name == "TAppEncoder"
    size = (hevc_set if hevc else vvc_set)(width, height, chroma, internal)
    slice_head = b"\x26\x01\x80" if hevc else b"\x00\x39\x80"
    with open(options["bitstream"], "wb") as file:
        for start, content in ((4, size), (3, slice_head + payload + b"\x80")):
            file.write(b"\0" * (start - 1) + b"\1" + protected(content))


def decode(name: str, options: dict[str, str]) -> None:
    """Write the frame in the bitstream."""
    with open(options["bitstream"], "rb") as file:
        unit = file.read().split(b"\0\0\1")[-1].replace(b"\0\0\3", b"\0\0")
    try:
        payload, check = unit[3:-5], unit[-5:-1]
        qp, depth, internal = payload[:3]
        if zlib.crc32(payload).to_bytes(4, "big") != check:
            raise ValueError("the slice is cut or damaged")
    except ValueError as error:
        fail(-1, f"Assertion failed: {error}")
    step = 1 + (qp << (depth - 8))
    coarse = spread(payload[7:], step, depth)[: int.from_bytes(payload[3:7], "big")]
    samples = [min(value * step, (1 << depth) - 1) for value in coarse]
    wanted = internal if name == "vvdecapp" else int(options["depth"]) or internal
    if wanted > depth:
        samples = [sample << (wanted - depth) for sample in samples]
    elif wanted < depth:
        half = 1 << (depth - wanted - 1)
        samples = [min((each + half) >> (depth - wanted), (1 << wanted) - 1) for each in samples]
    if os.environ.get("LOSSYLENS_FAKE") == "short":
        samples.pop()
    with open(options["output"], "wb") as file:
        array.array("B" if wanted == 8 else "H", samples).tofile(file)


def radix(step: int, depth: int) -> tuple[int, int]:
    """Return how many values there are, and how many of them go into 8 bytes."""
    values = ((1 << depth) - 1 + step // 2) // step + 1
    count = 1
    while values ** (count + 1) <= 1 << 64:
        count += 1
    return values, count


def dense(coarse: list[int], step: int, depth: int) -> bytes:
    """Return quantised samples as digits of 8-byte numbers."""
    values, count = radix(step, depth)
    coarse = coarse + [0] * (-len(coarse) % count)
    packed = bytearray()
    for start in range(0, len(coarse), count):
        word = 0
        for digit in coarse[start : start + count]:
            word = word * values + digit
        packed += word.to_bytes(8, "big")
    return bytes(packed)


def spread(packed: bytes, step: int, depth: int) -> list[int]:
    """Return the quantised samples in 8-byte numbers."""
    values, count = radix(step, depth)
    coarse = []
    for start in range(0, len(packed), 8):
        word, digits = int.from_bytes(packed[start : start + 8], "big"), []
        for _ in range(count):
            word, digit = divmod(word, values)
            digits.append(digit)
        coarse += digits[::-1]
    return coarse


def read_samples(path: str, depth: int) -> array.array[int]:
    """Return the samples of a raw file; none, as HM, where there is no such file."""
    samples = array.array("B" if depth == 8 else "H")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            samples.frombytes(file.read())
    return samples


def samples_of(width: int, height: int, chroma: str) -> int:
    """Return the number of samples of a frame."""
    return width * height * 3 // (2 if chroma == "420" else 1)


def hevc_set(width: int, height: int, chroma: str, depth: int) -> bytes:
    """Return the sequence parameter set of an HEVC stream, padded to multiples of 8."""
    bits = [f"{33 << 9 | 1:016b}", "00000001", "0" * 88, f"{93:08b}", golomb(0)]
    bits += [golomb(1 if chroma == "420" else 3), "0" * (chroma == "444")]
    bits += [window(width, height, chroma), golomb(depth - 8), golomb(depth - 8)]
    return packed("".join(bits) + "0" * 40)


def vvc_set(width: int, height: int, chroma: str, depth: int) -> bytes:
    """Return the beginning of the sequence parameter set of a VVC stream."""
    bits = [f"{15 << 3 | 1:016b}", "00000000000", "01" if chroma == "420" else "11", "10"]
    bits += ["1", f"{33:07b}", "0", f"{80:08b}", "1", "0", "0"]
    written = "".join(bits)
    written += "0" * (-len(written) % 8) + "0" * 8  # no sub-profiles
    return packed(written + "00" + window(width, height, chroma) + "0" + golomb(depth - 8))


def window(width: int, height: int, chroma: str) -> str:
    """Return padded size and conformance window."""
    right, below = -width % 8, -height % 8
    size = golomb(width + right) + golomb(height + below)
    if not right and not below:
        return size + "0"
    step = 2 if chroma == "420" else 1
    crop = (golomb(value) for value in (0, right // step, 0, below // step))
    return size + "1" + "".join(crop)


def golomb(value: int) -> str:
    """Return ue(v)."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def packed(bits: str) -> bytes:
    """Return bits with the stop bit, as bytes."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def protected(unit: bytes) -> bytes:
    """Return a NAL unit with emulation prevention."""
    result, zeros = bytearray(), 0
    for byte in unit:
        if zeros == 2 and byte <= 3:
            result.append(3)
            zeros = 0
        result.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(result)


def fail(code: int, message: str) -> NoReturn:
    """End with an exit code, or for -1 as an assertion does."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    if code == -1:
        os.abort()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
