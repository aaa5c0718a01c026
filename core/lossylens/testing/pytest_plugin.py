"""The suite's options, which pytest finds through the entry-point group ``pytest11``.

Loaded in every pytest session where lossylens is installed, so it imports next to nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lossylens.run.threads import wait_passively

# Before a test imports torch.
wait_passively()

#: Kinds of plugins that have a suite, as they are called.
_KINDS = {"codec": "codec", "vlm": "VLM", "task": "task", "adaptor": "adaptor"}

#: Where the suites are.
_FOLDER = Path(__file__).parent

pytest.register_assert_rewrite(
    "lossylens_toolkit.external_codec.program_suite",
    "lossylens_toolkit.neural_codec.neural_suite",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lossylens", "conformance of lossylens plugins")
    for kind, what in _KINDS.items():
        group.addoption(
            f"--{kind}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"{what} to be checked by lossylens.testing; can be repeated",
        )
        group.addoption(
            f"--{kind}-option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"option of the {what} that is checked; can be repeated",
        )
    group.addoption(
        "--codec-examples",
        type=int,
        metavar="N",
        help="damaged bitstreams for each kind of damage; by default as many as a few"
        " seconds allow, 25 to 200",
    )
    group.addoption(
        "--adaptor-vlm",
        default="nano",
        metavar="NAME",
        help="VLM with which an adaptor is checked and trained for two steps; by default nano",
    )
    group.addoption(
        "--adaptor-point",
        action="append",
        default=[],
        metavar="CODEC/LEVEL",
        help="codec and level behind which an adaptor is checked; can be repeated; by default"
        " jpeg/q5",
    )
    group.addoption(
        "--adaptor-codec-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the codecs behind which an adaptor is checked, such as variant=nano, or"
        " the square that they are given: square.side=192; can be repeated",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the suites of the kinds of which nothing is to be checked.

    Raises:
        pytest.UsageError: nothing is.
    """
    kind = collection_path.stem.removeprefix("test_")
    if collection_path.parent != _FOLDER or kind not in _KINDS:
        return None
    if not any(config.getoption(f"--{each}") for each in _KINDS):
        wanted = ", ".join(f"--{each}" for each in _KINDS)
        raise pytest.UsageError(f"what is to be checked? Say one of {wanted}, with a name")
    return True if not config.getoption(f"--{kind}") else None
