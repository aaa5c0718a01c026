import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from lossylens.toolkit.external_codec import running
from lossylens.toolkit.external_codec.running import ProgramError, run_program, workspace


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files that starts empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def run(code, folder, seconds=60.0, **arguments):
    command = [sys.executable, "-SE", "-c", textwrap.dedent(code)]
    return run_program(command, folder=folder, seconds=seconds, **arguments)


def test_output_and_folder(tmp_path):
    code = "import os, sys; print(os.getcwd()); print('to stderr\\0', file=sys.stderr)"
    assert {*run(code, tmp_path).split("\n")} == {str(tmp_path), "to stderr", ""}


def test_nothing_is_read_from_standard_input(tmp_path):
    assert run("print(repr(input()) if 0 else __import__('sys').stdin.read() == '')", tmp_path)


def test_the_last_lines_are_in_the_error(tmp_path):
    code = "import sys; [print('line', n) for n in range(9)]; print(); sys.exit(3)"
    with pytest.raises(ProgramError) as caught:
        run(code, tmp_path)
    assert str(caught.value) == "exit code 3; it said: line 5 | line 6 | line 7 | line 8"


def test_any_status(tmp_path):
    assert run("print('usage'); raise SystemExit(1)", tmp_path, any_status=True) == "usage\n"


def test_signals_have_names(tmp_path):
    with pytest.raises(ProgramError, match=r"^killed by SIGABRT; it said nothing$"):
        run("import os; os.abort()", tmp_path)


def test_time_limit(tmp_path):
    start = time.monotonic()
    with pytest.raises(ProgramError, match=r"^it was ended after 0\.5 s"):
        run("import time; print('begun', flush=True); time.sleep(300)", tmp_path, seconds=0.5)
    assert time.monotonic() - start < 60


def test_a_child_that_outlives_the_program_is_not_waited_for(tmp_path):
    code = """
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-SE", "-c", "import time; time.sleep(300)"])
    print(child.pid)
    """
    start = time.monotonic()
    child = int(run(code, tmp_path))
    assert time.monotonic() - start < 60
    os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot bound another process")
def test_output_without_end_is_stopped(tmp_path):
    code = """
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
    while True:
        print("x" * 10**6)
    """
    with pytest.raises(ProgramError, match=r"^killed by SIGXFSZ"):
        run(code, tmp_path)
    assert (tmp_path / ".output").stat().st_size <= running._FILE_SLACK


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/hostname"])
def test_what_does_not_start(program, tmp_path):
    with pytest.raises(ProgramError, match="it does not start: "):
        run_program([program], folder=tmp_path, seconds=10)


def test_a_workspace_is_removed_whatever_happens(temporary):
    def interrupted():
        with workspace() as folder:
            (folder / "inner").mkdir()
            assert folder.parent == temporary
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(temporary.iterdir())


def test_what_a_killed_process_leaves_is_removed_by_the_next(temporary):
    code = """
    import time
    from lossylens.toolkit.external_codec.running import workspace
    with workspace() as folder:
        print(folder, flush=True)
        time.sleep(300)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        left = process.stdout.readline().strip()
        long_ago = time.time() - 2 * running._STALE
        os.utime(left, (long_ago, long_ago))
        with workspace() as own:
            assert {str(each) for each in temporary.iterdir()} == {left, str(own)}, "it is in use"
        process.kill()
    with workspace() as own:
        assert list(temporary.iterdir()) == [own]


def test_a_young_folder_without_an_owner_is_left_alone(temporary):
    young = temporary / f"{running._PREFIX}young"
    young.mkdir()
    with workspace():
        assert young.is_dir()
