"""What the conformance suites of all kinds of plugins share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from lossylens.errors import LossylensError
from lossylens.options.overrides import parse_pairs
from lossylens.testing.decoding_process import raised
from lossylens.testing.subject import PluginSubject, fail


class ConformanceSuite:
    """Tests that every plugin of a kind must pass, each for each plugin.

    Attributes:
        kind: of the plugins; the names of those under test are in an attribute of that name
            with an ``s``, or else in the option of pytest.
        options: of the plugins, as in a configuration.  Where tests make what they name, a
            derived class overrides the fixture ``plugin_options`` instead.
    """

    kind: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def make_subject(
        cls, name: str, given: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> PluginSubject[Any]:
        """Return the plugin under test with its options.

        Raises:
            LossylensError: there is none of that name, or the options are wrong.
        """
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each plugin."""
        if "subject" in metafunc.fixturenames:
            names = getattr(self, f"{self.kind}s") or metafunc.config.getoption(f"--{self.kind}")
            if not names:
                raise pytest.UsageError(
                    f"which {self.kind} is to be checked? Say --{self.kind} NAME"
                )
            metafunc.parametrize("subject", names, indirect=True, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def plugin_options(cls) -> Mapping[str, Any]:
        """The plugin's options, as in a configuration."""
        return cls.options

    @pytest.fixture(scope="class")
    @classmethod
    def subject(
        cls, request: pytest.FixtureRequest, plugin_options: Mapping[str, Any]
    ) -> Iterator[PluginSubject[Any] | Untestable]:
        """The plugin under test, where it can run."""
        option = f"--{cls.kind}-option"
        try:
            pairs = parse_pairs(request.config.getoption(option) or (), option)
            subject = cls.make_subject(request.param, {**plugin_options, **pairs}, request)
            subject.skip_unless_it_can_run()
            subject.check_built()
        except LossylensError as error:
            yield Untestable(str(error))
            return
        except Exception as error:
            yield Untestable(f"{cls.kind} {request.param!r} cannot be built: {raised(error)}")
            return
        yield subject
        subject.close()

    @pytest.fixture(autouse=True)
    def _told_once(self, request: pytest.FixtureRequest) -> None:
        """Say once why a plugin cannot be tested, not for every test."""
        if "subject" not in request.fixturenames:
            return
        subject = request.getfixturevalue("subject")
        if isinstance(subject, Untestable):
            if subject.told:
                pytest.skip("not tested: see the error of the first test")
            subject.told = True
            fail(subject.reason)


@dataclasses.dataclass
class Untestable:
    """In place of a plugin that cannot be tested.

    Attributes:
        reason: why.
        told: whether a test has said so.
    """

    reason: str
    told: bool = False
