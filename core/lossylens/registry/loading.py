"""Loading one plugin: its import, and its hooks.

Each plugin gets a pluggy manager of its own, so that half a registration is
undone by forgetting the manager, and no plugin wraps the hooks of another.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from inspect import isroutine
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from lossylens import hookspecs
from lossylens.errors import PluginError
from lossylens.hookspecs import GROUP
from lossylens.names import suggestion
from lossylens.registry.discovery import Candidate, core_mismatch

_HOOKS = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, f"{GROUP}_spec")}
# pluggy looks at every name of what it is given, slowly; this has the hooks alone.
_SPECS = ModuleType(hookspecs.__name__)
vars(_SPECS).update(_HOOKS)


def load(candidate: Candidate) -> pluggy.PluginManager:
    """Import a plugin and check its hooks.

    Raises:
        PluginError: it needs another core, or is no valid plugin.
        BaseException: whatever its import raises.
    """
    problem = candidate.problem or core_mismatch(candidate)
    if problem:
        raise PluginError(problem)
    module = EntryPoint(candidate.name, candidate.target, GROUP).load()
    manager = _Manager(GROUP)
    manager.add_hookspecs(_SPECS)
    hooks = _hooks_of(module)
    try:
        manager.register(hooks, candidate.name)
    except pluggy.PluginValidationError as error:
        # Its message spans lines and repeats the plugin's name.
        raise PluginError("; ".join(str(error).split("\n")[1:]) or str(error)) from error
    _check_hooks(manager, hooks)
    return manager


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """Return how an attribute implements a hook; what Python gives every object does not."""
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def _hooks_of(plugin: Any) -> Any:
    """Return what may be a hook in a module, for pluggy to look at."""
    if not isinstance(plugin, ModuleType):
        return plugin
    marked = {
        name: value
        for name, value in vars(plugin).items()
        if isroutine(value) and (hasattr(value, f"{GROUP}_impl") or name in _HOOKS)
    }
    return SimpleNamespace(**marked)


def _check_hooks(manager: pluggy.PluginManager, module: Any) -> None:
    """Refuse hooks that would never be called."""
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        optional = all(impl.optionalhook for impl in caller.get_hookimpls())
        if not caller.has_spec() and not optional:
            raise PluginError(f"unknown hook {caller.name!r}. {suggestion(caller.name, _HOOKS)}")
    implemented = {caller.name for caller in callers}
    for name in _HOOKS:
        if name not in implemented and callable(getattr(module, name, None)):
            raise PluginError(f"{name} is not marked with @lossylens.hookspecs.hookimpl")
    if not implemented:
        raise PluginError(f"implements no hook. Known: {', '.join(_HOOKS)}.")
