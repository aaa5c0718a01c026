"""Finding plugins by their metadata alone."""

from __future__ import annotations

import sys

import pytest
from lossylens.registry.discovery import BUILTIN, Candidate, core_mismatch, find_candidates


def mismatch(requires: str, running: str = "0.1.0") -> str:
    return core_mismatch(Candidate("x", "x", "lossylens-x", "1", (requires,)), running)


@pytest.mark.parametrize(
    "requires",
    [
        "lossylens",
        "lossylens>=0.1",
        "lossylens[report]>=0.1,<1",
        "LossyLens ~= 0.1.0",
        "lossylens-toolkit>=9",
        "numpy>=99",
        "lossylens>=9; extra == 'test'",
        "lossylens>=9; python_version < '3'",
    ],
)
def test_a_met_requirement_is_no_mismatch(requires):
    assert mismatch(requires) == ""


def test_a_plugin_for_a_newer_core_says_how_to_upgrade():
    expected = "needs lossylens >=9, this is 0.1.0: upgrade lossylens"
    assert mismatch("lossylens>=9") == expected
    assert mismatch("lossylens (>=9)") == expected


@pytest.mark.parametrize("requires", ["lossylens<0.1", "lossylens==0.0.*"])
def test_a_plugin_for_an_older_core_is_what_to_upgrade(requires):
    assert mismatch(requires).endswith("upgrade lossylens-x")


@pytest.mark.parametrize("running", ["0.1", "0.1.0", "0.1.0.0", "0.1.0.post1", "0.2.0.dev1"])
def test_release_numbers_compare_as_versions(running):
    assert mismatch("lossylens>=0.1", running) == ""
    assert mismatch("lossylens>=0.1.0", running) == ""
    assert mismatch("lossylens>=0.2", running)
    assert mismatch("lossylens>=0.10", running)


def test_a_prerelease_of_the_core_meets_what_admits_it():
    assert mismatch("lossylens>=0.2", "0.2.0.dev1")
    assert mismatch("lossylens>=0.1", "0.2.0.dev1") == ""


def test_a_malformed_requirement_is_said_to_be_one():
    assert mismatch("lossylens >= one").startswith("malformed requirement 'lossylens >= one'")


def test_the_core_comes_first_and_then_distributions_by_name(plants):
    plants.plant("aaa", "", distribution="zebra")
    plants.plant("zzz", "", distribution="Antelope")
    assert [each.name for each in find_candidates()] == ["builtin", "zzz", "aaa"]
    assert find_candidates()[0] is BUILTIN


def test_finding_imports_nothing(plants):
    module = plants.plant("one", "raise RuntimeError")
    assert find_candidates()[1].target == module
    assert module not in sys.modules


def test_the_distribution_that_shadows_another_is_the_one(plants, tmp_path, monkeypatch):
    plants.plant("one", "", version="1.0")
    plants.folder = tmp_path / "front"
    plants.folder.mkdir()
    monkeypatch.syspath_prepend(plants.folder)
    plants.plant("one", "", version="2.0")
    assert [each.version for each in find_candidates()[1:]] == ["2.0"]


@pytest.mark.parametrize("target", ["no spaces here", "a:b:c", "1module", "a/b.py", ""])
def test_a_malformed_entry_point_breaks_its_plugin_only(plants, target):
    plants.plant("bad", "", entry_points=f"[lossylens]\nbad = {target}\n")
    plants.plant_codec("good")
    registry = plants.load()
    (broken,) = registry.broken
    assert broken.name == "bad"
    assert broken.error.startswith(f"malformed entry point {target!r}")
    assert registry.find("codec", "good")


def test_a_malformed_entry_point_file_breaks_its_distribution_only(plants):
    plants.plant("bad", "", entry_points="[lossylens]\nno equals sign\n")
    plants.plant_codec("good")
    registry = plants.load()
    (broken,) = registry.broken
    assert broken.distribution == "lossylens-codec-bad"
    assert "malformed" in broken.error
    assert registry.find("codec", "good")


def test_a_plugin_for_a_newer_core_is_not_imported(plants):
    module = plants.plant("new", "raise RuntimeError", requires="lossylens>=9")
    (broken,) = plants.load().broken
    assert "needs lossylens >=9" in broken.error
    assert module not in sys.modules


def test_a_distribution_whose_folder_has_another_name_is_found(plants):
    plants.plant_codec("one")
    (folder,) = plants.folder.glob("*.dist-info")
    folder.rename(folder.with_name("something_else-1.0.dist-info"))
    assert plants.load().find("codec", "one").plugin.distribution == "lossylens-codec-one"


def test_undecodable_metadata_disturb_nobody(plants):
    plants.plant("odd", "")
    (folder,) = plants.folder.glob("*.dist-info")
    (folder / "METADATA").write_bytes(b"Name: \xff\xfe\n")
    plants.plant_codec("one")
    assert plants.load().find("codec", "one")
