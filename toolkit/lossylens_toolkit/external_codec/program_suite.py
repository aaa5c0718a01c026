"""Tests that the plugins around external programs share; their modules derive classes.

Needs ``lossylens[testing]``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from lossylens.codec import CodecSpec
from lossylens.errors import ConfigError
from lossylens.testing.pictures import picture

from lossylens_toolkit.external_codec.program_options import ReferenceOptions, qp_level
from lossylens_toolkit.external_codec.program_testing import stand_ins
from lossylens_toolkit.external_codec.reference import ReferenceCodec
from lossylens_toolkit.external_codec.software import Software
from lossylens_toolkit.external_codec.yuv import CHROMA_STEP, Conversion, Frame, pad, to_raw

#: Options for each convention of the golden numbers.
_CONVENTIONS = {
    "444full709": {"subsampling": "4:4:4", "matrix": "bt709"},
    "420full601": {"subsampling": "4:2:0", "matrix": "bt601"},
}


class WithStandIns:
    """Gives each test stand-ins for the programs.

    Attributes:
        software: whose programs.
    """

    software: ClassVar[Software]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def programs(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Stand-ins, where a codec without options finds them."""
        with stand_ins(tmp_path_factory.mktemp("programs"), cls.software):
            yield


class ReferenceTests:
    """What HM and VTM must do, with golden numbers, but for :class:`CodecConformance`.

    Tests that need the programs run where they are found, by their environment
    variables or on ``PATH``, and say otherwise what is missing.

    Attributes:
        codec: the codec's class.
        spec: its declaration.
        golden: file of golden numbers.
        version: of the software that they are of, as the encoder's banner says it.
        levels: names of the default levels, in order.
        level_sets: names of levels by task.
        outside: name of a level that is just too coarse.
        configs: configuration file by subsampling.
    """

    codec: ClassVar[type[ReferenceCodec]]
    spec: ClassVar[CodecSpec]
    golden: ClassVar[Path]
    version: ClassVar[str]
    levels: ClassVar[tuple[str, ...]]
    level_sets: ClassVar[Mapping[str, tuple[str, ...]]]
    outside: ClassVar[str]
    configs: ClassVar[Mapping[str, str]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test for each golden picture, published task or configuration file."""
        if "row" in metafunc.fixturenames:
            rows = json.loads(self.golden.read_text(encoding="utf-8"))["rows"]
            assert rows, f"no golden numbers in {self.golden}"
            ids = [f"{row['picture']}-{row['convention']}-qp{row['qp']}" for row in rows]
            metafunc.parametrize("row", rows, ids=ids)
        if "task" in metafunc.fixturenames:
            metafunc.parametrize("task", self.level_sets)
        if "subsampling" in metafunc.fixturenames:
            metafunc.parametrize("subsampling", self.configs)

    def _built(self, qp: int, **options: Any) -> ReferenceCodec:
        return self.codec(qp_level(qp), ReferenceOptions(**options))

    def test_golden_input(self, row: Mapping[str, Any]) -> None:
        """The encoder is given the very bytes of which the golden numbers are."""
        height, width, _ = row["picture"]
        options = ReferenceOptions(**_CONVENTIONS[row["convention"]])  # type: ignore[arg-type]
        step = CHROMA_STEP[options.subsampling]
        frame = Frame(-(-width // step) * step, -(-height // step) * step, options.subsampling, 8)
        rgb = pad(np.asarray(picture(*row["picture"])), frame.width, frame.height)
        raw = to_raw(rgb, frame, Conversion(options.matrix))
        assert hashlib.sha256(raw).hexdigest() == row["yuv_in_sha256"]
        assert len(raw) == row["yuv_out_bytes"]

    def test_golden(self, row: Mapping[str, Any]) -> None:
        """With the programs themselves, bytes and PSNR are the golden ones."""
        missing = self.codec.software.missing(ReferenceOptions())
        if missing:
            pytest.skip("; ".join(f"no {each.what}" for each in missing))
        tested = self._built(row["qp"], **_CONVENTIONS[row["convention"]])
        found = tested.provenance()["encoder"]
        if self.version not in found:
            pytest.skip(f"the golden numbers are of version {self.version}, this is {found}")
        image = picture(*row["picture"])
        bitstream = tested.encode(image)
        stream = bitstream[bitstream.index(b"\0\0\0\1") :]
        assert len(stream) == row["bytes"]
        assert hashlib.sha256(stream).hexdigest() == row["bitstream_sha256"]
        error = np.asarray(tested.decode(bitstream), float) - np.asarray(image, float)
        psnr = 10 * np.log10(255**2 / np.mean(error**2))
        assert psnr == pytest.approx(row["psnr_rgb"], abs=1e-3)

    def test_default_is_the_union_of_the_published(self) -> None:
        """Each once, the coarsest first."""
        assert tuple(level.name for level in self.spec.levels) == self.levels

    def test_published_by_task(self, task: str) -> None:
        """The levels of a task are found by its name."""
        assert self.spec.level_set(task) == self.level_sets[task]

    def test_no_such_set(self) -> None:
        """A name that means nothing has no levels."""
        assert self.spec.level_set("popes") is None

    def test_beyond_the_range(self) -> None:
        """The finest quantisation is a level; coarser than the coarsest is none."""
        assert self.spec.level("qp0").parameters == {"qp": 0}
        coarsest = self.spec.level(f"qp{int(self.outside[2:]) - 1}").name
        with pytest.raises(ConfigError, match=f"qp0 to {coarsest}"):
            self.spec.level(self.outside)

    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Both programs, with what to do."""
        software, name = self.codec.software, self.spec.name.upper()
        monkeypatch.setenv(f"LOSSYLENS_{name}_ENCODER", str(tmp_path / software.encoder.names[0]))
        monkeypatch.setenv(f"LOSSYLENS_{name}_DECODER", str(tmp_path))
        missing = self.spec.requirements(ReferenceOptions())
        said = [each.what.partition(" (")[0] for each in missing]
        assert said == [f"{name} encoder", f"{name} decoder"]
        assert f"LOSSYLENS_{name}_ENCODER" in missing[0].remedy

    def test_command_line(self, subsampling: str, tmp_path: Path) -> None:
        """The encoder's, as it is in the manifest."""
        with stand_ins(tmp_path, self.codec.software):
            found = self._built(42, subsampling=subsampling).provenance()
        assert found["encoder_arguments"] == (
            f"-c {self.configs[subsampling]} -i in.yuv -b str.bin -o /dev/null -wdt 0 -hgt 0"
            f" -fr 1 -f 1 -q 42 --InputChromaFormat={subsampling.replace(':', '')}"
            " --InputBitDepth=8 --ConformanceWindowMode=1 --SEIDecodedPictureHash=0"
        )
