import re
from pathlib import Path

import pytest
import torch
from lossylens.errors import ConfigError, ImageError
from lossylens.registry.plugins import load_registry
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.training.crops import Crops, picture_tensor
from lossylens_toolkit.training.training_options import PictureOptions
from lossylens_toolkit.training.training_pictures import (
    find_pictures,
    labelled_pictures,
    read_picture,
)


@pytest.fixture(scope="module")
def registry():
    return load_registry(strict=False)


def test_folders(folder, tmp_path, registry):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "4.PNG").write_bytes((folder / "0.png").read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    found = find_pictures(PictureOptions(folders=[folder, tmp_path]), registry, "train")
    assert [name.rpartition("/")[2] for name in found] == ["0.png", "1.png", "2.png", "4.PNG"]
    assert {read_picture(*each).size for each in found.items()} == {(150, 100), (90, 140), (40, 30)}


def test_labels(tmp_path, folder, registry):
    (tmp_path / "red_star").mkdir()
    (tmp_path / "red_star" / "a.png").write_bytes((folder / "0.png").read_bytes())
    options = PictureOptions(
        [tmp_path], photographs="held-out", tasks={"scenes": {"images": 20, "seed": 3, "size": 96}}
    )
    file, *photographs, last = labelled_pictures(options, registry, "train")[:22]
    assert file.label == "red star"
    assert {each.label for each in photographs[:2]} == {""}
    color, shape = last.label.split()
    scene = make_scene(3, 18, 96)
    largest = max(scene.objects, key=lambda each: each.diameter)
    assert (last.name.split()[-1], color, shape) == ("scene-18", largest.color, largest.shape)


def test_photographs_and_tasks(registry):
    options = PictureOptions(photographs="held-out", tasks={"scenes": {"images": 2, "size": 96}})
    found = find_pictures(options, registry, "train")
    assert list(found) == [
        "photograph chelsea",
        "photograph flower",
        "scenes (images=2, size=96) scene-0",
        "scenes (images=2, size=96) scene-1",
    ]
    assert [read_picture(*each).size for each in found.items()][1:] == [(640, 427)] + 2 * [(96, 96)]
    training = find_pictures(PictureOptions(photographs="held-in"), registry, "train")
    assert training.keys().isdisjoint(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PictureOptions(), "train: no pictures; name folders, photographs or tasks"),
        (PictureOptions(folders=[Path("/no/such")]), "train.folders: there is no folder /no/such"),
        (PictureOptions(photographs="held"), "train.photographs: unknown set"),
        (PictureOptions(tasks={"scenes": {"image": 1}}), "train.tasks.scenes.image: unknown"),
    ],
)
def test_what_is_not_there(options, message, registry):
    with pytest.raises(ConfigError, match=re.escape(message)):
        find_pictures(options, registry, "train")


def test_a_damaged_picture_is_named(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"broken\.png: "):
        picture_tensor(str(path), path.read_bytes)


def test_crops(folder, registry):
    found = find_pictures(PictureOptions(folders=[folder]), registry, "train")
    crops, again = (Crops(found, Padding(16), 64, 50, 3) for _ in range(2))
    assert len(crops) == 50
    assert all(torch.equal(crops[number], again[number]) for number in (49, 0, 7))
    stacked = torch.stack([crops[number] for number in range(50)])
    assert stacked.shape == (50, 3, 64, 64)
    assert 0 <= stacked.min() < stacked.max() <= 1
    assert len({crop.numpy().tobytes() for crop in stacked}) > 30
    assert not torch.equal(Crops(found, Padding(16), 64, 50, 4)[0], crops[0])


def test_a_crop_is_of_the_padded_picture(folder, registry):
    found = find_pictures(PictureOptions(folders=[folder]), registry, "train")
    small = {"2": found[str(folder / "2.png")]}
    crop = Crops(small, Padding(16), 64, 1, 0)[0]
    expected = torch.zeros(3, 64, 64)
    expected[:, :30, :40] = picture_tensor("2", small["2"]) / 255
    assert torch.equal(crop, expected) or torch.equal(crop, expected.flip(2))
