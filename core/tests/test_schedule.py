"""Chunks of work for several workers."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.run.schedule import ImageWork, Schedule
from lossylens.store.records import Picture


def level(plugin, name):
    return SimpleNamespace(choice=SimpleNamespace(where=plugin), name=name)


def works(plugin, sides, levels=2):
    coded = tuple(level(plugin, f"l{number}") for number in range(levels))
    return [
        ImageWork(Picture(f"{plugin}{number}", 1, side, side), coded)
        for number, side in enumerate(sides)
    ]


def draw(schedule, speeds):
    """Return the chunks of (plugin, image, level), where codecs take so long for a pixel."""
    for chunk in schedule:
        yield [
            (work.plugin, work.picture.sha256, each.name) for work in chunk for each in work.codecs
        ]
        for work in chunk:
            for _ in work.codecs:
                size = work.picture.width * work.picture.height
                schedule.learn(work.plugin, size, speeds[work.plugin] * size)


sides = st.lists(st.integers(1, 3000), min_size=1, max_size=80)


@given(st.lists(sides, min_size=1, max_size=3), st.floats(1e-9, 1e-4), st.integers(2, 16))
def test_every_image_is_encoded_once_at_each_level(sizes, speed, workers):
    backlogs = [works(f"codec{number}", each) for number, each in enumerate(sizes)]
    speeds = {each[0].plugin: speed * (1 + number) for number, each in enumerate(backlogs)}
    chunks = list(draw(Schedule(backlogs, workers), speeds))
    assert all(chunks)
    done = [job for chunk in chunks for job in chunk]
    wanted = {
        (work.plugin, work.picture.sha256, each.name)
        for backlog in backlogs
        for work in backlog
        for each in work.codecs
    }
    assert set(done) == wanted
    assert len(done) == len(wanted)


def test_the_slow_codec_and_the_large_images_come_first():
    backlogs = [works("fast", range(100, 200)), works("slow", range(100, 200))]
    chunks = list(draw(Schedule(backlogs, 2), {"fast": 1e-7, "slow": 1e-5}))
    assert [chunk[0][:2] for chunk in chunks[:2]] == [("fast", "fast0"), ("slow", "slow0")]
    order = [job for chunk in chunks[2:] for job in chunk]
    plugins = [plugin for plugin, _, _ in order]
    assert plugins == sorted(plugins, reverse=True)
    images = [int(image[4:]) for plugin, image, _ in order if plugin == "slow"]
    assert images == sorted(images, reverse=True)


@pytest.mark.parametrize(("speed", "jobs"), [(1e-3, 1), (1e-6, 25), (1e-9, 128)])
def test_chunks_take_a_fraction_of_a_second(speed, jobs):
    """With 100 x 100 pixels a job takes 10 s, 10 ms and 10 us."""
    sizes = [
        len(each) for each in draw(Schedule([works("codec", [100] * 1000)], 4), {"codec": speed})
    ]
    assert sizes[0] == 1
    assert set(sizes[1 : len(sizes) // 2]) <= {jobs - 1, jobs, jobs + 1}


def test_chunks_become_smaller_towards_the_end():
    sizes = [
        len(each) for each in draw(Schedule([works("codec", [100] * 1000)], 4), {"codec": 1e-6})
    ]
    assert sizes[-20:] == sorted(sizes[-20:], reverse=True)
    assert sizes[-1] == 1


def test_while_nothing_is_known_there_is_one_job_at_a_time():
    chunks = list(Schedule([works("codec", [10] * 4)], 2))
    assert [len(work.codecs) for chunk in chunks for work in chunk] == [1] * 8
    assert all(len(chunk) == 1 for chunk in chunks)
