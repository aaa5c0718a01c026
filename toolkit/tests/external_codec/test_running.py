import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from lossylens.errors import RequirementError, TransientError
from lossylens_toolkit.external_codec import program_running as running
from lossylens_toolkit.external_codec.program_running import ProgramError, run_program, workspace


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


def test_beginning_and_end_of_the_output(tmp_path):
    """Reference software says its version first, and then prints 450 kB of usage."""
    said = run("print('first'); print('x' * 80 + '\\n', end='') or 1", tmp_path)
    assert said == "first\n" + "x" * 80 + "\n"
    said = run("print('first'); print(('x' * 80 + '\\n') * 6000); print('last')", tmp_path)
    assert said.startswith("first\n")
    assert said.endswith("\nlast\n")
    assert len(said) <= 2 * running._PART + 1


@pytest.mark.parametrize("size", [running._PART - 1, running._PART, 2 * running._PART, 200_000])
def test_nothing_is_read_twice(size, tmp_path):
    text = "".join(f"{number:07}\n" for number in range(size // 8 + 1))[:size]
    (tmp_path / "text").write_text(text)
    said = run("print(open('text').read(), end='')", tmp_path)
    if size <= 2 * running._PART:
        assert said == text
    else:
        assert said == text[: running._PART] + "\n" + text[-running._PART :]


def test_the_last_lines_are_in_the_error(tmp_path):
    code = "import sys; [print('line', n) for n in range(9)]; print(); sys.exit(3)"
    with pytest.raises(ProgramError) as caught:
        run(code, tmp_path)
    assert str(caught.value) == "exit code 3; it said: line 5 | line 6 | line 7 | line 8"


TOOLS = "TOOL CFG: IBD:1 HAD:1 RDQ:1\nTOOL CFG: LFNST:1 MMVD:1\nFAST TOOL CFG: LCTUFast:1\n\n"


@pytest.mark.parametrize(
    ("output", "first"),
    [
        ("Failed to open input YUV file: nope\n\nVTM 23.13\n" + TOOLS, "Failed to open input YUV"),
        (
            "Error: QP exceeds supported range (-QpBDOffsety to 51)\n\n** WARNING: a valid Level"
            " value must be set! **\n\nHM software: Encoder Version [18.0]\n",
            "Error: QP exceeds supported range (-QpBDOffsety to 51)",
        ),
        (TOOLS + "terminate called\n  what():  \nno memory\n" + TOOLS, "terminate called"),
        ("Picture width is not a multiple of 8\n" + TOOLS, "Picture width is not a multiple of 8"),
        ("vvencapp [error]: cannot open\n" + TOOLS, "vvencapp [error]: cannot open"),
        (
            "Traceback (most recent call last):\nValueError: bad\n" + TOOLS,
            "ValueError: bad",
        ),
        ("sh: 1: TAppEncoder: not found\n" + TOOLS, "sh: 1: TAppEncoder: not found"),
        ("write: No space left on device\n" + TOOLS, "write: No space left on device"),
        ("Cost function: Lossy coding (default)\nfirst\n" + TOOLS, "first"),
    ],
)
def test_lines_that_speak_of_an_error_are_quoted_first(output, first):
    quoted = running.quoted(output).removeprefix("; it said: ").split(" | ")
    assert quoted[0].startswith(first)
    assert len(quoted) <= 4


def test_lines_of_the_error_are_not_crowded_out_by_more_of_them():
    quoted = running.quoted("".join(f"Error: {number}\n" for number in range(9)))
    assert quoted == "; it said: Error: 0 | Error: 1 | Error: 2 | Error: 3"


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


WRAPPER = """
    import subprocess, sys, time
    sleeper = [sys.executable, "-SE", "-c", "import time; time.sleep(300)"]
    child = subprocess.Popen(sleeper)
    print(child.pid, flush=True)
"""


def test_a_child_that_outlives_the_program_is_ended_with_it(tmp_path):
    start = time.monotonic()
    child = int(run(WRAPPER, tmp_path))
    assert time.monotonic() - start < 60
    assert ends(child)


def test_the_time_limit_ends_what_the_program_has_started(tmp_path):
    """As where the program is a script around the encoder."""
    with pytest.raises(ProgramError, match=r"^it was ended after 1 s; it said: \d+$") as caught:
        run(f"{WRAPPER}\n    child.wait()", tmp_path, seconds=1)
    assert ends(int(str(caught.value).split()[-1]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_programs_end_with_the_process_that_runs_them(number, temporary):
    """However it ends; the program and what it has started."""
    code = f"""
    import sys
    from lossylens_toolkit.external_codec.program_running import run_program, workspace
    with workspace() as folder:
        run_program([sys.executable, "-c", {textwrap.dedent(WRAPPER + "    child.wait()")!r}],
                    folder=folder, seconds=300)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL
    )
    output = None
    while not output or not output.read_text():
        time.sleep(0.01)
        assert process.poll() is None
        output = next(temporary.glob("*/.output"), None)
    child = int(output.read_text())
    assert not ends(child, patience=0.2)
    process.send_signal(number)
    process.wait()
    assert ends(child)


def test_a_program_does_not_start_when_the_process_that_runs_it_has_ended(tmp_path):
    """Its process group is gone then."""
    with running._process_group() as group:
        os.killpg(group, signal.SIGKILL)
        os.waitpid(group, 0)
        with pytest.raises(RequirementError, match="cannot be run: Operation not permitted"):
            running._start(["/bin/true"], tmp_path, tmp_path / ".output", group)


def ends(process, patience=30.0):
    """Whether a process ends; one that only waits to be asked for its status has."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            if not Path("/proc/self/stat").exists():
                pytest.skip("there is no /proc")
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    "code", ["import os; os.kill(os.getpid(), 9)", "import sys; print('x'); sys.exit(128 + 9)"]
)
def test_a_program_that_others_end_is_not_to_blame(code, tmp_path):
    """Such as the system when memory is short; a shell script turns it into an exit code."""
    with pytest.raises(TransientError, match="ended from outside, or for want of memory"):
        run(code, tmp_path)


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
    with pytest.raises(RequirementError, match=f"^{program} cannot be run: "):
        run_program([program], folder=tmp_path, seconds=10)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may run it")
def test_a_program_that_is_being_written_may_start_later(tmp_path):
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    with program.open("ab"), pytest.raises(TransientError, match="Text file busy"):
        run_program([program], folder=tmp_path, seconds=10)


class TestDisk:
    """What is written into temporary files finds no room."""

    def test_no_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
        with pytest.raises(TransientError, match="no temporary folder can be made"), workspace():
            pass

    def test_files_of_our_own(self, small_disk):
        where = re.escape(str(small_disk))
        with (
            pytest.raises(TransientError, match=f"^cannot write temporary files in {where}: No sp"),
            workspace() as folder,
        ):
            (folder / "in.yuv").write_bytes(bytes(1 << 20))

    def test_a_program_that_does_not_notice(self, small_disk):
        code = """
        with open("str.bin", "wb", buffering=0) as file:
            print(file.write(bytes(1 << 20)))
        raise SystemExit(1)
        """
        with pytest.raises(TransientError, match="No space left on device"), workspace() as folder:
            run(code, folder)

    def test_a_program_that_fails_for_another_reason(self, temporary):
        with pytest.raises(ProgramError, match="exit code 1"), workspace() as folder:
            run("raise SystemExit(1)", folder)
        assert not list(temporary.iterdir())

    def test_a_limit_on_files(self, temporary):
        """For who may not have a small disk of his own."""
        code = """
        import resource
        from lossylens_toolkit.external_codec.program_running import workspace
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with workspace() as folder:
            (folder / "in.yuv").write_bytes(bytes(1 << 20))
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True)
        expected = f"TransientError: cannot write temporary files in {temporary}: File too large"
        assert expected in done.stderr


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
    from lossylens_toolkit.external_codec.program_running import workspace
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
