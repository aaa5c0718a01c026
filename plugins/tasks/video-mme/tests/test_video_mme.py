from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
from lossylens.errors import ConfigError, DataError
from lossylens.registry.plugins import load_registry
from lossylens.vlm import default_prompt
from lossylens_task_video_mme.answers import first_letter
from lossylens_task_video_mme.plugin import VideoMmeOptions
from lossylens_task_video_mme.sampling import at_rate, evenly_spaced
from lossylens_task_video_mme.task import VideoMmeTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv
from PIL import Image

GOLDEN = Path(__file__).parent / "golden"

CELLS = {
    "video": "one",
    "video_path": "./video/one.mkv",
    "duration": "short",
    "domain": "Knowledge",
    "candidates": "['A. One.', 'B. Two.', 'C. Three.', 'D. Four.']",
    "sub_category": "Law",
    "task_type": "OCR Problems",
    "subtitle_path": "./subtitle/one.srt",
    "question": "What?",
    "answer": "B",
}

SUBTITLES = (
    "1\n00:00:00,100 --> 00:00:00,500\nFirst\nline\n\n2\n00:00:00,400 --> 00:00:02,000\nOther\n"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


def grey(number: int) -> int:
    """The brightness of a film's frame."""
    return 10 + 5 * number


def film(path: Path, frames: int, fps: int = 10, options: dict[str, str] | None = None) -> Path:
    """Write a film whose frames are 32x24 pixels of one grey each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "libx264", rate=fps)
        stream.width, stream.height = 32, 24
        stream.pix_fmt = "gray" if path.suffix == ".mkv" else "yuv420p"
        stream.options = options or {}
        for number in range(frames):
            pixels = np.full((24, 32), grey(number), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "gray")))
        container.mux(stream.encode(None))
    return path


def pictures(folder: Path, names: list[str], notes: dict[str, float] | None = None) -> Path:
    """Write a folder of pictures, each of one grey."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.new("L", (32, 24), grey(number)).save(folder / name)
    if notes is not None:
        (folder / "film.json").write_text(json.dumps(notes))
    return folder


def greys(sample) -> list[int]:
    """The brightness of each image of a sample."""
    found = [Image.open(io.BytesIO(image.read())).convert("L") for image in sample.images]
    return [image.getpixel((5, 5)) for image in found]


@pytest.fixture
def make(tmp_path):
    def make(*rows: dict[str, object], **options: object) -> VideoMmeTask:
        full = [{**CELLS, **row} for row in rows]
        path = write_tsv(tmp_path / "Video-MME.tsv", *full, columns=["index", *CELLS])
        return VideoMmeTask(VideoMmeOptions(data=str(path), **options))

    return make


class TestGolden(GoldenTests):
    task_class = VideoMmeTask
    name = "videomme"
    folder = GOLDEN

    def test_prompts_equal_the_reference_evaluators(self, case, tmp_path) -> None:
        """The default wording of the recorded questions, with subtitles and without."""
        cases = (("generic", False), ("generic_subtitles", True))
        names = [f"frame-{number}-of-8.png" for number in range(1, 9)]
        expected = case.expected["prompts"]
        lines = case.data.read_text(encoding="utf-8").splitlines()
        videos = {line.split("\t")[1] for line in lines if line.split("\t")[0] in expected}
        for video in videos:
            pictures(tmp_path / "frames" / video, names, {"frames": 1000, "fps": 25})
            said = tmp_path / "frames" / "subtitle" / f"{video}.srt"
            said.parent.mkdir(exist_ok=True)
            said.write_text(case.expected["subtitle_file"], encoding="utf-8")
        for key, subtitles in cases:
            options = VideoMmeOptions(
                data=str(case.data),
                frames=8,
                subtitles=subtitles,
                pictures=str(tmp_path / "frames"),
            )
            seen = 0
            for sample in VideoMmeTask(options).samples():
                if sample.id in expected:
                    prompt = "<image>" * len(sample.images) + default_prompt(sample.question)
                    assert prompt == expected[sample.id][key]
                    seen += 1
            assert seen == len(expected) > 0

    def test_pictures_can_be_read(self, samples) -> None:
        """Without films none can, which is each sample's own failure."""
        for sample in samples.values():
            assert len(sample.images) == 16
            with pytest.raises(DataError, match=r"row \d+ .*'video_path'.*no film at"):
                sample.images[0].read()

    def test_frames_are_those_of_the_reference_evaluator(self, case) -> None:
        """Of films of several lengths, by number and by rate."""
        for each in case.expected["frame_sampling"]:
            if "nframe" in each:
                found = evenly_spaced(each["frames_in_video"], each["nframe"])
            else:
                found = at_rate(each["frames_in_video"], each["video_fps"], each["fps"])
            assert found == each["indices"]

    def test_metrics_equal_to_the_last_digit(self, task, case) -> None:
        """And, rounded, the evaluator's texts."""
        metrics = task.score(case.predictions).metrics
        assert metrics == case.expected["metrics"]
        for duration, reported in case.expected["metrics_as_reported"].items():
            assert f"{metrics[duration]['overall']:.3f}" == reported["overall"]


def test_both_names_find_it():
    registry = load_registry()
    names = ("video-mme", "videomme", "Video_MME")
    assert {registry.find("task", name).spec.name for name in names} == {"video-mme"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" The best answer is: C", "C"),
        ("The answer A", "A"),
        ("Answer: D", "D"),
        ("Option:B", "B"),
        ("Best answer: C", "B"),
        ("The best option is D", "D"),
        ("Definitely A", "D"),
        ("At the dock", "A"),
        ("b", ""),
        ("nan", ""),
    ],
)
def test_letters(text, letter):
    assert first_letter(text) == letter


def test_durations_are_scored_apart_and_an_absent_one_left_out(make):
    task = make({}, {"duration": "long"}, {"duration": "long", "domain": "Multilingual"})
    score = task.score({"0": "B", "1": "A", "2": "B"})
    assert list(score.metrics) == ["short", "long", "overall"]
    assert score.metrics["long"]["overall"] == 0.5
    assert score.metrics["long"]["domain"] == {"Knowledge": 0, "Multilingual": 1}
    assert score.value == pytest.approx(2 / 3)
    assert score.verdicts == {"0": 1, "1": 0, "2": 1}


# The times of a film's frames come apart from their order in the file where there are B-frames.
@pytest.mark.parametrize(
    ("name", "options"), [("one.mkv", {}), ("one.mp4", {"crf": "0", "bf": "2", "g": "7"})]
)
def test_frames_are_extracted_once_and_exactly(make, tmp_path, name, options):
    path = film(tmp_path / "video" / name, 40, options=options)
    shown = {"video_path": f"./video/{name}"}
    first, second = make(shown, {**shown, "question": "Why?"}, frames=4).samples()
    assert first.images == second.images
    assert first.cluster == second.cluster == "one"
    assert first.fields["seconds"] == "4.000"
    assert first.fields["topic"] == "short"
    expected = [grey(index) for index in (8, 16, 24, 32)]
    tolerance = 0 if name.endswith(".mkv") else 2
    assert greys(first) == pytest.approx(expected, abs=tolerance)
    # From now on the film itself is not needed, in another process neither.
    moved = pickle.loads(pickle.dumps(second.images))
    path.rename(tmp_path / "elsewhere")
    assert [image.read() for image in moved] == [image.read() for image in first.images]
    [notes] = (tmp_path / "cache" / "films").glob("*/film.json")
    assert json.loads(notes.read_bytes())["frames"] == 40
    [extraction] = (tmp_path / "cache" / "films").glob("*/*/extraction.json")
    assert json.loads(extraction.read_bytes())["pyav"] == av.__version__


def test_frames_by_rate(make, tmp_path):
    film(tmp_path / "video" / "one.mkv", 25, fps=10)
    [sample] = make({}, fps=2).samples()
    assert greys(sample) == [grey(index) for index in (0, 5, 10, 15, 20)]


def test_provenance_says_what_frames_were_made_with(make, tmp_path):
    film(tmp_path / "video" / "one.mkv", 8)
    assert "PyAV" in make({}, frames=4).provenance()["frames"]
    folder = str(tmp_path / "frames")
    assert folder in make({}, frames=4, pictures=folder).provenance()["frames"]


def test_another_film_makes_another_fingerprint(make, tmp_path):
    film(tmp_path / "video" / "one.mkv", 8)
    before = make({}).fingerprint()
    assert make({}).fingerprint() == before
    film(tmp_path / "video" / "one.mkv", 9)
    assert make({}).fingerprint() != before


def test_all_pictures_of_a_folder_are_the_film(make, tmp_path):
    pictures(tmp_path / "frames" / "one", [f"{number}.png" for number in range(12)])
    [sample] = make({}, frames=3, pictures=str(tmp_path / "frames")).samples()
    assert greys(sample) == [grey(index) for index in (3, 6, 9)]
    assert "seconds" not in sample.fields


def test_pictures_that_are_the_frames_asked_for(make, tmp_path):
    names = [f"frame-{number}-of-3.jpg" for number in (1, 2, 3)]
    pictures(tmp_path / "frames" / "one", [*names, "cover.png"], {"frames": 100, "fps": 10})
    [sample] = make({}, frames=3, pictures=str(tmp_path / "frames")).samples()
    assert greys(sample) == pytest.approx([grey(index) for index in range(3)], abs=2)
    assert sample.fields["seconds"] == "10.000"


def test_subtitles_are_those_at_the_frames(make, tmp_path):
    film(tmp_path / "video" / "one.mkv", 12)
    (tmp_path / "subtitle").mkdir()
    (tmp_path / "subtitle" / "one.srt").write_text(SUBTITLES)
    # Frames 3, 6 and 9 are shown at 0.3, 0.6 and 0.9 seconds.
    [sample] = make({}, frames=3, subtitles=True).samples()
    assert "subtitles are listed below:\nFirst line\nOther\nOther\nSelect" in sample.question.text
    [sample] = make({}, frames=3).samples()
    assert "subtitles" not in sample.question.text
    # A film without subtitles leaves an empty line.
    [sample] = make({"subtitle_path": "./subtitle/no.srt"}, frames=3, subtitles=True).samples()
    assert "listed below:\n\nSelect" in sample.question.text


def broken(tmp_path: Path) -> None:
    (tmp_path / "video" / "two.mkv").write_bytes(b"no film at all" * 99)


def short(tmp_path: Path) -> None:
    film(tmp_path / "video" / "two.mkv", 3)


def cut(tmp_path: Path) -> None:
    whole = film(tmp_path / "two.mp4", 40, options={"g": "40"}).read_bytes()
    (tmp_path / "video" / "two.mkv").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda tmp_path: None, r"no film at .*two.mkv; put it there, or name the folder"),
        (broken, r"two.mkv cannot be read as a film \(.*\); replace it"),
        (cut, r"two.mkv cannot be read as a film \(.*\); replace it"),
        (short, r"two.mkv has 3 frames, fewer than the 4 .* set tasks.video-mme.frames to at m"),
    ],
)
def test_a_bad_film_is_its_samples_own_failure(make, tmp_path, spoil, problem):
    film(tmp_path / "video" / "one.mkv", 8)
    spoil(tmp_path)
    task = make({}, {"video": "two", "video_path": "video/two.mkv"}, {}, frames=4)
    first, bad, last = task.samples()
    assert greys(first) == greys(last)
    for image in bad.images:
        with pytest.raises(
            DataError, match=rf"row 2 \(index 1\), column 'video_path': .*{problem}"
        ):
            image.read()


def test_frames_that_cannot_be_decoded(make, tmp_path):
    path = film(tmp_path / "video" / "one.mkv", 40)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : 2 * len(data) // 3] = b"\xff" * (2 * len(data) // 3 - len(data) // 3)
    [good] = make({}, frames=4).samples()  # as long as it is whole
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"row 1 .*'video_path': .*one.mkv .*replace it"):
        [image.read() for image in good.images]


@pytest.mark.parametrize(
    ("notes", "options", "problem"),
    [
        ({}, {"frames": 13}, "has 12 frames, fewer than the 13"),
        ({}, {"fps": 1}, "no film.json that says how many frames a second"),
        ({"fps": 100}, {"fps": 1}, "has 0.12 seconds, too few"),
        ({"fps": -1}, {}, "must be positive"),
        ({"fps": "fast"}, {}, "not JSON with the numbers"),
    ],
)
def test_a_bad_folder_of_pictures(make, tmp_path, notes, options, problem):
    names = [f"{number}.png" for number in range(12)]
    pictures(tmp_path / "frames" / "one", names, notes or None)
    [sample] = make({}, **{"frames": 4, "pictures": str(tmp_path / "frames"), **options}).samples()
    with pytest.raises(DataError, match=rf"row 1 \(index 0\), column 'video': .*{problem}"):
        sample.images[0].read()


def test_subtitles_need_the_times_of_the_frames(make, tmp_path):
    pictures(tmp_path / "frames" / "one", [f"{number}.png" for number in range(12)])
    (tmp_path / "frames" / "subtitle").mkdir()
    (tmp_path / "frames" / "subtitle" / "one.srt").write_text(SUBTITLES)
    task = make({}, frames=3, subtitles=True, pictures=str(tmp_path / "frames"))
    [sample] = task.samples()
    with pytest.raises(DataError, match=r"'subtitle_path': .*add film.json .* or set"):
        sample.images[0].read()


@pytest.mark.parametrize("path", ["../one.mkv", "/etc/passwd", "video/../../one.mkv"])
def test_paths_stay_in_their_folder(make, path):
    [sample] = make({"video_path": path}).samples()
    with pytest.raises(DataError, match="is not a path below"):
        sample.images[0].read()


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"answer": "E"}, "'answer': Video-MME has no 'E', only A, B, C, D"),
        ({"duration": "endless"}, "'duration': Video-MME has no 'endless'"),
        ({"domain": "Cooking"}, "'domain'"),
        ({"candidates": "A. One. B. Two."}, "'candidates': not a list of texts"),
    ],
)
def test_malformed_rows(make, cells, problem):
    with pytest.raises(DataError, match=problem):
        list(make(cells).samples())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"frames": 0}, "frames must be between"),
        ({"fps": -1}, "fps must be between"),
        ({"data": "download"}, "no file to download"),
    ],
)
def test_options_are_checked(make, options, problem, tmp_path):
    make({})
    given = {"data": str(tmp_path / "Video-MME.tsv"), **options}
    with pytest.raises(ConfigError, match=problem):
        VideoMmeTask(VideoMmeOptions(**given))


def test_the_files_of_other_tasks_are_refused(tmp_path):
    path = write_tsv(
        tmp_path / "POPE.tsv", {"question": "?", "answer": "Yes", "category": "random"}
    )
    with pytest.raises(DataError, match=r"video_path.*a file of POPE"):
        VideoMmeTask(VideoMmeOptions(data=str(path)))
