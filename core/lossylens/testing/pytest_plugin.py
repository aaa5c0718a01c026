"""The suite's options, which pytest finds through the entry-point group ``pytest11``.

Loaded in every pytest session where lossylens is installed, so it imports next to nothing.
"""

from __future__ import annotations

import pytest

from lossylens.run.threads import wait_passively

# Before a test imports torch.
wait_passively()

pytest.register_assert_rewrite(
    "lossylens_toolkit.external_codec.program_suite",
    "lossylens_toolkit.neural_codec.neural_suite",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("lossylens", "conformance of lossylens plugins")
    group.addoption(
        "--codec",
        action="append",
        default=[],
        metavar="NAME",
        help="codec to be checked by lossylens.testing; can be repeated",
    )
    group.addoption(
        "--codec-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the codec that is checked; can be repeated",
    )
    group.addoption(
        "--codec-examples",
        type=int,
        metavar="N",
        help="damaged bitstreams for each kind of damage; by default as many as a few"
        " seconds allow, 25 to 200",
    )
