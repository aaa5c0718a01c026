"""Stands in for HM, VTM, VVenC and VVdeC in tests; what it is called decides which it is.

It parses the command lines that the real programs take, refuses what they refuse with
the same exit codes and messages, prints as much as they do in the same order, and
writes byte streams whose parameter sets are sound.  What it codes is no video: samples
are quantised, and packed the denser the coarser they are.  It needs the standard library
alone, so that it starts in no time (see :mod:`.program_testing`).

As observed with HM 18.0, VTM 23.13, VVenC 1.14.0 and VVdeC 3.2.0: when the disk is full,
HM's encoder and all decoders leave a cut file and end with exit code 0, VTM's encoder with
1 and VVenC with 255; what is printed before an abort of HM is lost; VVenC quantises an
intra picture finer by 3 than it is asked to, unless it is told otherwise.

The environment variable ``LOSSYLENS_FAKE`` makes it fail: ``hang``, ``crash``,
``silent`` (exit code 0, and nothing written), ``cut`` (half of the file, and all else as
if it were whole, which is what HM does when the disk is full for a while), ``short`` (a
frame that is too small), ``flood`` (output without end), ``kill`` (ended from outside) or
``fork`` (it has a child when it fails).
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
    "vvencapp": "vvencapp: VVenC, the Fraunhofer H.266/VVC Encoder, version 1.14.0 (stand-in)",
    "vvdecapp": "VVdeC, the Fraunhofer VVC/H.266 decoder, version 3.2.0 (stand-in)",
}
VERSIONS = {
    "vvencapp": "vvencapp version 1.14.0 (stand-in)",
    "vvdecapp": "vvdecapp version 3.2.0 (stand-in)",
}

#: Bytes that reference software prints without arguments: its banner, and then usage.
USAGE = {
    **{"TAppEncoder": 81_616, "TAppDecoder": 3_639},
    **{"EncoderApp": 458_834, "DecoderApp": 5_715},
}

#: What HM says where its input is missing; its exit code is 0.
NO_INPUT = "failed to open Input YUV file"

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
    **{"--additional": "additional"},
}
VVDEC = {"--bitstream": "bitstream", "--output": "output", "--threads": "threads"}


def main() -> None:
    """Do what the program of this name does."""
    name = os.path.basename(sys.argv[0]).removesuffix("Static")
    if name in VERSIONS and sys.argv[1:] == ["--version"]:
        print(VERSIONS[name])
        return
    # Reference software begins with an empty line.
    print("\n" * (name in USAGE) + BANNERS[name])
    if len(sys.argv) == 1:
        if name == "vvdecapp":
            refuse("vvdecapp [error]: no bitstream file given.", 255)
        print_usage(name)
        raise SystemExit(name in USAGE)
    options = parse(sys.argv[1:], {"vvencapp": VVENC, "vvdecapp": VVDEC}.get(name, REFERENCE))
    misbehave(name, os.environ.get("LOSSYLENS_FAKE", ""))
    if name in {"TAppEncoder", "EncoderApp", "vvencapp"}:
        encode(name, options)
    else:
        decode(name, options)


def print_usage(name: str) -> None:
    """Fill up to as many bytes as the program prints; VTM's have NUL bytes in them."""
    size = USAGE.get(name, 4_559)
    lines = "        --Option                 what it does\n" * (size // 40)
    if name == "EncoderApp":
        lines = lines.replace("does", "\0\0\0\0")
    print(lines[: size - len(BANNERS[name]) - 3])


def parse(arguments: list[str], table: dict[str, str]) -> dict[str, str]:
    """Return the options on a command line."""
    found = {}
    rest = iter(arguments)
    for argument in rest:
        key, _, value = argument.partition("=")
        if key not in table:
            print(f"\ncommand line error: Unknown option `{key.lstrip('-')}' (value:`{value}')")
            raise SystemExit(1)
        found[table[key]] = value if "=" in argument else next(rest)
    return found


def misbehave(name: str, how: str) -> None:
    """Fail in the way that the test asks for."""
    if how == "hang":
        time.sleep(600)
    if how == "crash":
        print("some lines", "before the end", sep="\n")
        abort(name, "Assertion `m_fifo_idx < m_fifo.size()' failed.")
    if how == "silent":
        print("vvencapp [info]: no frames encoded" if name in VERSIONS else NO_INPUT)
        raise SystemExit(0)
    if how == "kill":
        os.kill(os.getpid(), 9)
    if how == "fork":
        import subprocess

        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
        refuse("the parent is gone")
    if how == "flood":
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
    while how == "flood":
        print("Warning: found NAL_UNIT_UNSPECIFIED" * 1000)


def encode(name: str, options: dict[str, str]) -> None:
    """Code the input file."""
    if name == "vvencapp":
        width, height = map(int, options["size"].split("x"))
        chroma, depth, internal = "420", 10 if options["format"] == "yuv420_10" else 8, 10
    else:
        width, height = int(options["width"]), int(options["height"])
        chroma, depth = options["chroma"], int(options["depth"])
        internal = internal_depth(name, options)
    qp = int(options["qp"])
    if name == "vvencapp" and options.get("additional") != "IntraQPOffset=0":
        qp = max(0, qp - 3)
    check(name, qp, width, height, chroma)
    if name in USAGE:
        print("\nTOOL CFG: IBD:1 HAD:1 RDQ:1 RDQTS:1 RDpenalty:0 LQP:0 SQP:0 ASR:0")
    samples = read_samples(name, options["input"], depth)
    if len(samples) != samples_of(width, height, chroma):
        write(options["bitstream"], b"")
        if name == "EncoderApp":
            time.sleep(600)
        report(name, qp, 0)
        return
    step = 1 + (qp << (depth - 8))
    payload = bytes([qp, depth, internal]) + len(samples).to_bytes(4, "big")
    payload += dense([(sample + step // 2) // step for sample in samples], step, depth)
    # So that each step of the quantisation tells in the rate; it is cut off again.
    payload += b"\x55" * (32 * (63 - qp))
    payload += zlib.crc32(payload).to_bytes(4, "big")
    hevc = name == "TAppEncoder"
    size = (hevc_set if hevc else vvc_set)(width, height, chroma, internal)
    slice_head = b"\x26\x01\x80" if hevc else b"\x00\x39\x80"
    stream = b"\0\0\0\1" + protected(size)
    stream += b"\0\0\1" + protected(slice_head + payload + b"\x80")
    cut = os.environ.get("LOSSYLENS_FAKE") == "cut"
    whole = write(options["bitstream"], stream[: len(stream) // 2] if cut else stream)
    report(name, qp, len(stream))
    if not whole and name == "EncoderApp":
        print("Error writing bitstream file")
    if not whole and name != "TAppEncoder":
        raise SystemExit({"EncoderApp": 1, "vvencapp": 255}[name])


def internal_depth(name: str, options: dict[str, str]) -> int:
    """Return the depth inside the codec, which the profile in HM's configuration file bounds."""
    if not os.path.isfile(options["config"]):
        print(f"{options['config']} error: Failed to open config file")
        raise SystemExit(1)
    with open(options["config"]) as file:
        lines = [line.split("#")[0].partition(":") for line in file]
    config = {key.strip(): value.strip() for key, _, value in lines}
    depth = int(options.get("internal", config.get("InternalBitDepth", "10")))
    bound = {"main": 8, "main10": 10}.get(config.get("Profile", ""), 16)
    if name == "TAppEncoder" and depth > bound:
        print(
            "Error: The internalBitDepth must not be greater than the bitDepthConstraint value",
            file=sys.stderr,
        )
        raise SystemExit(1)
    return depth


def check(name: str, qp: int, width: int, height: int, chroma: str) -> None:
    """Refuse what the programs refuse."""
    largest = 51 if name == "TAppEncoder" else 63
    if qp > largest:
        lowest = "0" if name == "vvencapp" else "-QpBDOffsety"
        refuse(f"Error: QP exceeds supported range ({lowest} to {largest})")
    if chroma == "420" and (width % 2 or height % 2):
        message = "picture width is not an integer multiple of the specified chroma subsampling"
        if name == "EncoderApp":
            abort(name, f"Error: {message}")
        refuse(f"Error: {message}")


def report(name: str, qp: int, size: int) -> None:
    """Print what the encoders print of a file of *size* bytes."""
    if name == "TAppEncoder":
        if size:
            print(f"\nPOC    0 TId: 0 ( I-SLICE, nQP {qp} QP {qp} ) {8 * size:10} bits [Y 30 dB]")
        print(f"\nRVM: 0.000\nBytes written to file: {size} ({size / 125:.3f} kbps)")
        print("\n Total Time:        0.435 sec.")
    if name == "EncoderApp":
        kind = f"IDR_N_LP, I-SLICE, QP {qp}"
        print(f"POC    0 LId:  0 TId: 0 ( {kind} ) {8 * size:10} bits [Y 30 dB]")
        print("\n Total Time:        1.701 sec. [user]        2.839 sec. [elapsed]")
    if name == "vvencapp":
        print(f"vvenc [info]: stats summary: frame I: 1, kbps: {size / 125:.2f}, AvgQP: {qp}.00")
        print(f"vvenc [info]:\t        1    a     {size / 125:.4f}   28.8523   28.6845   28.6926")


def decode(name: str, options: dict[str, str]) -> None:
    """Write the frame in the bitstream."""
    with open(options["bitstream"], "rb") as file:
        unit = file.read().split(b"\0\0\1")[-1].replace(b"\0\0\3", b"\0\0")
    try:
        payload, check = unit[3:-5], unit[-5:-1]
        qp, depth, internal = payload[:3]
        if zlib.crc32(payload).to_bytes(4, "big") != check:
            raise ValueError("the slice is cut or damaged")
    except ValueError:
        if name == "TAppDecoder":
            abort(name, "readByte(UInt&): Assertion `m_fifo_idx < m_fifo.size()' failed.")
        if name == "vvdecapp":
            write(options["output"], b"")
            refuse("vvdecapp [error]: read some input pictures (1), but no output.", 255)
        refuse('ERROR: In function "readByte" in BitStream.h:180: FIFO exceeded')
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
    # None of them notices whether all of it is written.
    write(options["output"], array.array("B" if wanted == 8 else "H", samples).tobytes())


def write(path: str, content: bytes) -> bool:
    """Write as much of a file as there is room for; return whether it is all."""
    with open(path, "wb", buffering=0) as file:
        while content:
            try:
                content = content[file.write(content) :]
            except OSError:
                return False
    return True


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


def read_samples(name: str, path: str, depth: int) -> array.array[int]:
    """Return the samples of a raw file."""
    samples = array.array("B" if depth == 8 else "H")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            samples.frombytes(file.read())
        return samples
    if name == "EncoderApp":
        abort(name, f"Failed to open input YUV file: {path}")
    if name == "vvencapp":
        refuse(f"vvencapp [error]: open input file failed: \nFailed to open: {path}", 255)
    print(NO_INPUT)
    raise SystemExit(0)


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


def refuse(message: str, code: int = 1) -> NoReturn:
    """End with an exit code; the message comes before what waits in standard output."""
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(code)


def abort(name: str, message: str) -> NoReturn:
    """End as HM does by an assertion, and VTM by an exception that nobody catches."""
    if name == "EncoderApp":
        sys.stdout.flush()
        message = (
            f"terminate called after throwing an instance of 'Exception'\n  what():  \n{message}"
        )
    print(message, file=sys.stderr, flush=True)
    os.abort()


if __name__ == "__main__":
    main()
