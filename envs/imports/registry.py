"""The kinds of files that are read: each module of `envs.imports.sources` is one, and names itself."""

import importlib
import pkgutil
from functools import cache

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports import sources as package
from hvgym.envs.imports.source import Source


@cache
def sources() -> dict[str, Source]:
    """All of them by name; the plain table comes first."""
    modules = (
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    )
    found = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in sorted(found, key=lambda source: (source.name != "plain", source.name))}


def source_of(name: str) -> Source:
    """By its name. Raises `InputError` for an unknown one."""
    known = sources()
    if name not in known:
        raise InputError(f"source={shown(name)}: no such source{nearest(name, known)}; known: {', '.join(known)}")
    return known[name]
