"""The hooks that a plugin may implement.

A distribution names a light module in the entry-point group ``lossylens``.
Functions of that module marked with :data:`hookimpl` are called once for each
registry that is loaded.  Such a module imports nothing heavy: the specs name
their implementations by import path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from lossylens.adaptor import AdaptorSpec
    from lossylens.codec import CodecSpec
    from lossylens.executor import ExecutorSpec
    from lossylens.report import ReportSpec
    from lossylens.result import ResultSpec
    from lossylens.task import TaskSpec
    from lossylens.vlm import VlmSpec

#: Entry-point group in which plugins are found, and pluggy project name.
GROUP = "lossylens"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register codecs.

    Called once for each registry that is loaded.  An exception marks the plugin as
    broken and withdraws all that it registered.

    :param register: to be called with each :class:`~lossylens.codec.CodecSpec`;
        raises :class:`~lossylens.errors.PluginError` when the name or an alias
        is taken.

    .. versionadded:: 0.1
    """


@hookspec
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register vision-language models.

    Called and guarded as :func:`register_codecs`.

    :param register: to be called with each :class:`~lossylens.vlm.VlmSpec`.

    .. versionadded:: 0.1
    """


@hookspec
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register tasks.

    Called and guarded as :func:`register_codecs`.

    :param register: to be called with each :class:`~lossylens.task.TaskSpec`.

    .. versionadded:: 0.1
    """


@hookspec
def register_adaptors(register: Callable[[AdaptorSpec], None]) -> None:
    """Register adaptors.

    Called and guarded as :func:`register_codecs`.

    :param register: to be called with each
        :class:`~lossylens.adaptor.AdaptorSpec`.

    .. versionadded:: 0.1
    """


@hookspec
def register_results(register: Callable[[ResultSpec], None]) -> None:
    """Register published results, which reports lay beside runs.

    Called and guarded as :func:`register_codecs`.

    :param register: to be called with each
        :class:`~lossylens.result.ResultSpec`.

    .. versionadded:: 0.1
    """


@hookspec
def register_reports(register: Callable[[ReportSpec], None]) -> None:
    """Register reports, which ``lossylens run`` writes at its end.

    Called and guarded as :func:`register_codecs`.

    :param register: to be called with each
        :class:`~lossylens.report.ReportSpec`.

    .. versionadded:: 0.1
    """


@hookspec
def register_executors(register: Callable[[ExecutorSpec], None]) -> None:
    """Register executors, the places where the work of a run can be done.

    Called and guarded as :func:`register_codecs`.

    :param register: to be called with each
        :class:`~lossylens.executor.ExecutorSpec`.

    .. versionadded:: 0.1
    """


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands to the command line.

    Called when the command line meets a command that the core lacks, or lists
    the commands.  What a command needs is imported inside it.  An exception, or
    a command whose name is taken, marks the plugin as broken and withdraws its
    commands; what it registered otherwise stays.

    :param app: the application; add a sub-application with ``app.add_typer``.

    .. versionadded:: 0.1
    """
