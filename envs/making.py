"""What ``gymnasium.make`` takes for a scenario, and how an environment's spec stays plain data.

A scenario is given by the name of a packaged one, by the path of a YAML, as the plain data of such a file, or as a
`Scenario`; hypervisor, devices, workload and a cluster's stack by name or as plain data, as everywhere in configuration.
"""

import enum
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from hvgym.envs import yaml_file
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario, group_files, load_group, resolve

DEFAULT_SCENARIO = "idle-giants"

Given = str | os.PathLike[str] | Mapping[str, Any] | Scenario | None
Group = str | Mapping[str, Any] | None


def scenario_of(
    scenario: Given = None, hypervisor: Group = None, disk: Group = None, nic: Group = None, workload: Group = None,
    config_dir: str | os.PathLike[str] | None = None, rules: str | None = None, stack: Group = None,
) -> Scenario:  # fmt: skip
    """The scenario that these name. `config_dir`: a folder with groups of the user's own, as ``--config-dir`` takes it; `rules`
    take the place of the scenario's own.

    Raises:
        InputError: naming the key or file, the value, and what would be right.
    """
    folders: tuple[Path, ...] = () if config_dir is None else (_folder(config_dir),)
    replaced = {"hypervisor": hypervisor, "disk": disk, "nic": nic, "workload": workload, "stack": stack}
    chosen: dict[str, Any] = {group: _group(group, given, folders) for group, given in replaced.items()}
    chosen["rules"] = rules
    if isinstance(scenario, Scenario):
        return resolve(scenario.to_dict(), folders=folders, **chosen) if any(chosen.values()) else scenario
    if isinstance(scenario, Mapping):
        return resolve(scenario, folders=folders, **chosen)
    data, folders = _read(DEFAULT_SCENARIO if scenario is None else scenario, folders)
    return resolve(data, folders=folders, **chosen)


def _folder(config_dir: str | os.PathLike[str]) -> Path:
    folder = Path(config_dir).expanduser()
    if not folder.is_dir():
        raise InputError(f"config_dir={str(config_dir)!r}: no such folder")
    return folder


def _group(group: str, given: Group, folders: tuple[Path, ...]) -> Mapping[str, Any] | None:
    if given is None or isinstance(given, Mapping):
        return given
    if not isinstance(given, str):
        raise InputError(f"{group}={given!r}: expected a name or a group of keys")
    return load_group(group, given, folders)


def _read(scenario: str | os.PathLike[str], folders: tuple[Path, ...]) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """A scenario's data and the folders that its names are looked up in."""
    if not isinstance(scenario, (str, os.PathLike)):
        raise InputError(f"scenario={scenario!r}: expected a name, the path of a YAML, or a group of keys")
    path = Path(scenario).expanduser()
    is_path = isinstance(scenario, os.PathLike) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    if not is_path or str(scenario) in group_files("scenario", folders):
        return load_group("scenario", str(scenario), folders), folders
    if path.resolve().parent.name == "scenario":  # a file of a configuration folder names what lies beside it
        folders = (*folders, path.resolve().parent.parent)
    return yaml_file.read(path), folders


class PlainSpec:
    """An environment whose spec holds plain data alone, whatever it was made with, so that ``to_json`` works."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What Gymnasium has made it from."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            spec.kwargs = {key: plain(value) for key, value in spec.kwargs.items()}
        self._spec = spec


def plain(value: Any) -> Any:
    """JSON's form of an argument."""
    if isinstance(value, Scenario):
        return value.to_dict()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value
