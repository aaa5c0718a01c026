"""Import paths such as ``"package.module:Class"``, by which specs name implementations."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from lossylens.spec import PluginSpec


def import_object(path: str) -> Any:
    """Return what an import path ``"package.module:Name"`` names."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def factory_problem(spec: PluginSpec) -> str:
    """Return why the implementation of *spec* cannot be imported, as far as that shows.

    Nothing is imported for it, so that it costs little: only the module is looked for.
    """
    module = spec.factory.partition(":")[0]
    if _module_is_there(module):
        return ""
    return f"there is no module {module} for its factory {spec.factory}"


def _module_is_there(name: str) -> bool:
    """Whether a module can be found; unlike ``find_spec`` this imports no parent package."""
    folders: Any = None
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        module = sys.modules.get(path)
        if module is not None:
            folders = getattr(module, "__path__", ())
            continue
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = (find(path, folders) for find in finders if find)
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return False
        folders = spec.submodule_search_locations or ()
    return True
