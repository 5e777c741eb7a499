"""Policies and rewards that lie beside an agent's YAML, in a folder of the user's own: DIR/agent/mine.yaml with DIR/agent/mine.py
or DIR/mine.py."""

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hvgym.envs.errors import InputError

_BESIDE = list[Path]()
"""Folders in which policies lie beside their YAML; on the search path too, which worker processes inherit."""


def make_importable(folders: Iterable[str | Path]) -> None:
    """Let modules beside the YAML of an agent be imported: those in DIR/agent and in DIR, after everything else."""
    for folder in folders:
        for place in (Path(folder).resolve() / "agent", Path(folder).resolve()):
            if place.is_dir() and place not in _BESIDE:
                _BESIDE.append(place)
                sys.path.append(str(place))


def refuse_shadowed(top: str, what: str) -> None:
    """Raise `InputError` when a module beside a YAML has the name of one that Python finds first."""
    for place in _BESIDE:
        for file in (place / f"{top}.py", place / top / "__init__.py"):
            spec = importlib.util.find_spec(top) if top and file.is_file() else None
            first = spec.origin if spec else None
            if first and not (Path(first).exists() and Path(first).samefile(file)):
                raise InputError(f"{what}: {file} has the name of another module ({first}); rename it")


def check_reward(reward: Mapping[str, Any] | None, where: str = "reward") -> None:
    """The same for a reward's function of one's own (``envs.reward``)."""
    if isinstance(reward, Mapping) and "_target_" in reward:
        target = str(reward["_target_"])
        refuse_shadowed(target.partition(".")[0], f"{where}._target_={target!r}")
