"""Importing implementations and checking that they can work here."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lossylens.adaptor import Adaptor
from lossylens.codec import Codec
from lossylens.errors import LossylensError, PluginError, RequirementError, describe
from lossylens.executor import Executor
from lossylens.registry.import_paths import import_object
from lossylens.registry.plugin_info import Registered
from lossylens.report import Report
from lossylens.result import PublishedResults
from lossylens.spec import Missing
from lossylens.task import Task
from lossylens.vlm import Vlm

_CONTRACTS: dict[str, type] = {
    "codec": Codec,
    "vlm": Vlm,
    "task": Task,
    "adaptor": Adaptor,
    "result": PublishedResults,
    "report": Report,
    "executor": Executor,
}


def load_factory(found: Registered[Any]) -> type[Any]:
    """Import the class that implements *found*.

    Raises:
        PluginError: it cannot be imported or does not follow the contract.
    """
    spec = found.spec
    try:
        factory = import_object(spec.factory)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = f"{spec.factory} cannot be imported: {describe(error)}"
        raise PluginError(f"{_who(found)}: {reason}") from error
    contract = _CONTRACTS[spec.kind]
    if not (isinstance(factory, type) and issubclass(factory, contract)):
        what = f"{contract.__module__}.{contract.__name__}"
        raise PluginError(f"{_who(found)}: {spec.factory} is not a subclass of {what}")
    if inspect.isabstract(factory):
        absent = ", ".join(sorted(vars(factory)["__abstractmethods__"]))
        raise PluginError(f"{_who(found)}: {spec.factory} lacks {absent}")
    return factory


def composed(
    found: Registered[Any], options: Any, registry: Any, where: str
) -> tuple[Registered[Any], Any]:
    """Return a codec that is made of others as its options make it, and the options.

    Raises:
        ConfigError: the options are wrong.
        PluginError: the plugin is at fault.
    """
    try:
        spec, options = found.spec.compose(options, registry, where)
    except LossylensError:
        raise
    except Exception as error:
        raise PluginError(f"{_who(found)}: composing it failed: {describe(error)}") from error
    return replace(found, spec=spec), options


def missing(found: Registered[Any], options: Any) -> Sequence[Missing]:
    """Return what *found* needs, given its *options*, and this machine lacks.

    Raises:
        PluginError: the plugin's check failed.
    """
    try:
        return tuple(found.spec.requirements(options))
    except LossylensError:
        raise
    except Exception as error:
        reason = f"its requirement check failed: {describe(error)}"
        raise PluginError(f"{_who(found)}: {reason}") from error


def check_requirements(found: Registered[Any], options: Any) -> None:
    """Make sure that nothing is missing that *found* needs.

    Raises:
        RequirementError: something is; the message lists it with the remedies.
        PluginError: the plugin's check failed.
    """
    lacking = missing(found, options)
    if not lacking:
        return
    spec = found.spec
    listed = "\n".join(f"  {each.what}: {each.remedy}" for each in lacking)
    raise RequirementError(f"{spec.kind} {spec.name!r} cannot run, this is missing:\n{listed}")


def _who(found: Registered[Any]) -> str:
    return f"{found.spec.kind} {found.spec.name!r} of plugin {found.plugin.label}"
