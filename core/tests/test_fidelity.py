"""Fidelity of decoded images: the numbers, and what a run measures, keeps and shares."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math

import numpy as np
import pytest
from lossylens.cli import main
from lossylens.errors import ConfigError, RequirementError
from lossylens.grid.plan import make_plan
from lossylens.images import read_image
from lossylens.registry.fidelity import (
    ALEXNET,
    FIDELITIES,
    INCEPTION,
    VGG16,
    BackboneWeights,
    check_fidelities,
)
from lossylens.run.driver import run
from lossylens.run.picture_distances import frechet_distance, psnr
from lossylens.store.database import Store
from lossylens.testing.pictures import picture
from lossylens_report.measured_fidelity import read_fidelities
from PIL import Image


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def do(config):
    return run(config, lambda line: None)


def values(folder, metric="psnr"):
    """Return value and failure by codec level and image."""
    with Store(folder, writable=False) as store:
        rows = store.rows(
            "SELECT json_extract(description, '$.level') AS level, image, value, failure"
            " FROM fidelity JOIN parts ON key = codec WHERE metric = ?",
            (metric,),
        )
    return {(row["level"], row["image"]): (row["value"], row["failure"]) for row in rows}


@pytest.fixture
def log(monkeypatch, tmp_path):
    """What workers have done, as the sample plugin says."""
    path = tmp_path / "log of calls"
    monkeypatch.setenv("SAMPLE_LOG", str(path))
    return path


class Decoded:
    """How many bitstreams were decoded in order to be measured, since it was cleared."""

    def __init__(self, path):
        self._path, self._before = path, 0

    def _all(self):
        return self._path.read_text().count("decode to measure") if self._path.exists() else 0

    def __len__(self):
        return self._all() - self._before

    def clear(self):
        self._before = self._all()


@pytest.fixture
def decoded(log):
    return Decoded(log)


@pytest.fixture
def features(monkeypatch, log):
    """Make the FID one of simple features; return how many images they were taken of."""
    quick = dataclasses.replace(
        FIDELITIES["fid"], factory="lossylens_sample.features:make", packages=(), weights=None
    )
    monkeypatch.setitem(FIDELITIES, "fid", quick)
    return lambda: log.read_text().count("features") if log.exists() else 0


def test_psnr_is_that_of_the_specification():
    original = picture(256, 256)
    assert psnr(original, as_jpeg(original, 5)) == pytest.approx(22.8347, abs=5e-5)
    assert psnr(original, original) == math.inf
    black, grey = Image.new("RGB", (3, 2)), Image.new("RGB", (3, 2), (0, 0, 30))
    assert psnr(black, grey) == pytest.approx(10 * math.log10(255**2 / 300))


@pytest.mark.parametrize(("first", "second"), [(300, 200), (7, 200), (6, 5)])
def test_frechet_distance_is_the_formula(first, second):
    linalg = pytest.importorskip("scipy.linalg")
    chance = np.random.default_rng(first)
    mix = chance.normal(size=(8, 8))
    sets = [
        chance.normal(size=(first, 8)).astype(np.float32),
        (chance.normal(0.3, 1, (second, 8)) @ mix).astype(np.float32),
    ]
    means = [each.mean(axis=0, dtype=np.float64) for each in sets]
    # A little on the diagonal, since the root of a singular matrix is not found exactly.
    spreads = [np.cov(each, rowvar=False) + 1e-13 * np.eye(8) for each in sets]
    root = linalg.sqrtm(spreads[0] @ spreads[1]).real
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(spreads[0] + spreads[1] - 2 * root)
    assert frechet_distance(*sets) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-6)


def test_a_run_measures_every_encoding_once(make_config, decoded):
    config = make_config(
        "run.fidelity=[PSNR]",
        "codecs.blocky.levels=[b64,b16,b1]",
        "tasks.patches.troubles=',,refused,undecodable'",
    )
    do(config)
    found = values(config.run.out)
    # Six images at three levels, of which one cannot be encoded.
    assert len(found) == len(decoded) == 15
    pictures = {
        hashlib.sha256(data).hexdigest(): np.asarray(read_image(data), int)
        for sample in make_plan(config).benchmarks[0].task.samples()
        for data in [sample.images[0].read()]
    }
    for (level, image), (value, failure) in found.items():
        pixels = pictures[image]
        if pixels[0, 0, 0] == 252:
            assert (value, failure) == (None, "cannot make sense of it")
            continue
        step = int(level[1:])
        error = np.mean((pixels % step) ** 2)
        assert failure is None
        assert value == (pytest.approx(10 * np.log10(255**2 / error)) if error else math.inf)
    decoded.clear()
    do(config)
    assert len(decoded) == 0
    assert values(config.run.out) == found
    # The one that failed is tried again on request, and only that.
    do(dataclasses.replace(config, run=dataclasses.replace(config.run, retry_failed=True)))
    assert len(decoded) == 3


def test_nothing_is_measured_unasked(make_config, decoded):
    config = make_config()
    do(config)
    assert len(decoded) == 0
    assert values(config.run.out) == {}


def test_another_method_measures_anew(make_config, decoded, monkeypatch):
    config = make_config("run.fidelity=[psnr]")
    do(config)
    assert len(decoded) == 12
    other = dataclasses.replace(FIDELITIES["psnr"], definition="of luma")
    monkeypatch.setitem(FIDELITIES, "psnr", other)
    do(config)
    assert len(decoded) == 24
    assert len(values(config.run.out)) == 12


def test_processes_measure_the_same(make_config, tmp_path):
    alone = make_config("run.fidelity=[psnr]")
    pool = make_config("run.fidelity=[psnr]", "run.workers=2", f"run.out={tmp_path / 'pool'}")
    do(alone)
    do(pool)
    assert values(pool.run.out) == values(alone.run.out) != {}


def test_runs_share_values_and_features(make_config, tmp_path, decoded, features):
    settings = ["run.fidelity=[psnr,fid]", f"run.cache={tmp_path / 'cache'}"]
    do(make_config(*settings))
    assert (len(decoded), features()) == (12, 18)
    again = make_config(*settings, f"run.out={tmp_path / 'again'}")
    do(again)
    assert (len(decoded), features()) == (12, 18)
    assert values(again.run.out) == values(tmp_path / "run") != {}
    with Store(again.run.out, writable=False) as store:
        assert len(store.rows("SELECT * FROM set_fidelity WHERE value > 0")) == 2
    # A larger set needs the features of what is new, and no others.
    more = make_config(*settings, "tasks.patches.images=8", f"run.out={tmp_path / 'more'}")
    do(more)
    assert (len(decoded), features()) == (16, 24)


def test_a_run_that_was_interrupted_repeats_nothing(make_config, monkeypatch, decoded, features):
    config = make_config("run.fidelity=[psnr,fid]")
    keep, kept = Store.add_fidelities, []

    def keep_five(store, rows):
        if len(kept) == 5:
            raise KeyboardInterrupt
        keep(store, rows)
        kept.append(rows)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_fidelities", keep_five)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    begun = len(decoded)
    # The sixth was done and not kept; a worker may have begun some more.
    assert 6 <= begun <= 9
    do(config)
    # Their features were kept, their PSNR was not.
    assert len(decoded) == begun + 7
    assert features() == 18


def test_fid_is_of_the_images_of_a_task_that_could_be_decoded(make_config, features):
    config = make_config("run.fidelity=[fid]", "tasks.patches.troubles='undecodable'")
    do(config)
    with Store(config.run.out, writable=False) as store:
        rows = store.rows("SELECT value, images FROM set_fidelity")
    assert [row["images"] for row in rows] == [5, 5]
    assert all(row["value"] > 0 for row in rows)
    with Store(config.run.out, writable=False) as store:
        shown = read_fidelities(store)
    assert sorted(each["FID"] for each in shown.values()) == sorted(row["value"] for row in rows)
    before = features()
    do(config)
    assert features() == before == 15


def test_one_image_has_no_fid(make_config, features):
    config = make_config("run.fidelity=[fid]", "run.limit=1")
    do(config)
    with Store(config.run.out, writable=False) as store:
        rows = store.rows("SELECT value, images FROM set_fidelity")
    assert [tuple(row) for row in rows] == [(None, 1), (None, 1)]


def test_the_codec_alone_is_measured_with_parity(make_config):
    config = make_config("run.fidelity=[psnr]", "run.evaluator_parity=true", "run.limit=2")
    do(config)
    for (level, _), (value, _) in values(config.run.out).items():
        # A second JPEG step would add to the error of quantisation by flooring.
        step = int(level[1:])
        assert value == pytest.approx(10 * math.log10(255**2 / (step**2 / 3)), abs=1)


def test_a_report_has_the_means(make_config):
    pytest.importorskip("plotly")
    from lossylens_report.analysis import analyse
    from lossylens_report.comparing import Source, compare
    from lossylens_report.reading import read_run
    from lossylens_report.tables import all_tables

    config = make_config("run.fidelity=[psnr]", "codecs.blocky.levels=[b64,b16,b4,b1]")
    do(config)
    found = values(config.run.out)
    reading = read_run(config.run.out)
    for cell in reading.results.cells:
        of_level = [value for (level, _), (value, _) in found.items() if level == cell.level]
        expected = {"PSNR": np.mean(np.minimum(of_level, 100))} if of_level else {}
        assert cell.fidelity == pytest.approx(expected)
    analysis = analyse(compare([Source(reading.results, reading.replicates)]))
    names = analysis.correlations.names
    assert "PSNR" in names
    row = analysis.correlations.values[names.index("PSNR")]
    assert row[names.index("bpp")] == pytest.approx(1)
    (table,) = [table for table in all_tables(analysis) if table.name == "fidelity"]
    assert table.columns[-1] == "PSNR"
    assert table.rows[-1][3] == "b1"
    assert table.rows[-1][-1] == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[psnr,lpip]", r"run\.fidelity\[1\]: unknown metric 'lpip'. Did you mean lpips\?"),
        ("[psnr,PSNR]", r"run\.fidelity\[1\]: psnr is named twice"),
        ("psnr", r"run\.fidelity: expected a list"),
    ],
)
def test_a_wrong_choice(make_config, given, message):
    with pytest.raises(ConfigError, match=message):
        make_config(f"run.fidelity={given}")


def test_weights_that_are_not_there(make_config, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    config = make_config("run.fidelity=[lpips,dists,fid]")
    with pytest.raises(RequirementError) as caught:
        do(config)
    message = str(caught.value)
    for weights in (ALEXNET, VGG16, INCEPTION):
        assert f"weights {weights.file} ({weights.megabytes} MB): download " in message
        assert f"{weights.source} to {tmp_path / 'torch/hub/checkpoints' / weights.file}" in message
    assert not config.run.out.exists()


def test_weights_are_checked_against_their_name(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = b"weights"
    weights = BackboneWeights(
        f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth", 1, "https://a.example", "MIT"
    )
    weights.path.parent.mkdir(parents=True)
    assert weights.path.is_relative_to(tmp_path / "torch/hub/checkpoints")
    weights.path.write_bytes(content[:-1])
    assert "hash of" in weights.missing().what
    weights.path.write_bytes(b"<html>")
    assert "is another (a web page, not the file itself; the dow" in weights.missing().what
    weights.path.write_bytes(content)
    assert weights.missing() is None


def test_doctor_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "")
    main(["doctor", "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    found = {each["name"]: each for each in checks if each["kind"] == "fidelity"}
    assert found["psnr"]["status"] == "ready"
    assert found["lpips"]["status"] == "missing"
    assert str(tmp_path / "hub/checkpoints" / ALEXNET.file) in found["lpips"]["detail"]


def test_packages_that_are_not_there(monkeypatch):
    absent = dataclasses.replace(FIDELITIES["ms-ssim"], packages=("no-such-package",))
    monkeypatch.setitem(FIDELITIES, "ms-ssim", absent)
    with pytest.raises(RequirementError, match=r"package no-such-package: pip install 'lossylens"):
        check_fidelities(["psnr", "ms-ssim"])
    check_fidelities(["psnr"])
