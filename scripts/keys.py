"""What a verb's YAML says of the verb: its groups, its keys, and ``hvgym VERB --help``."""

import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvgym.envs import yaml_file
from hvgym.envs.scenario import known_names

OF_KEYS = "KEY=VALUE changes a key; --cfg job prints the configuration."

OF_GROUPS = """\
GROUP=NAME chooses, GROUP.KEY=VALUE and KEY=VALUE change what is there, +GROUP.KEY=VALUE sets what a group leaves at its
default; --cfg job prints the whole configuration. -m plays every combination of values with commas between them,
--config-dir DIR adds the YAML of your own folders DIR/agent, DIR/scenario, ..."""


@dataclass(frozen=True)
class Verb:
    """A verb: groups with the names chosen by default, own keys with their values, and the lines that explain them."""

    name: str
    groups: Mapping[str, str | None]
    keys: Mapping[str, Any]
    about: str
    group_lines: tuple[str, ...]
    key_lines: tuple[str, ...]

    def names(self) -> list[str]:
        """Everything that may stand at the start of a word."""
        return [*self.groups, *self.keys]

    def single(self, key: str) -> str | None:
        """The part of a dotted key that is a single value, and so has no keys below it."""
        node: Any = self.keys
        parts = key.split(".")
        for i, part in enumerate(parts[:-1]):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
            if not isinstance(node, Mapping):
                return ".".join(parts[: i + 1])
        return None


def _conf() -> Path:
    return Path(str(importlib.resources.files("hvgym.conf")))


@functools.cache
def groups() -> tuple[str, ...]:
    """Every group there is, used by a verb or by other files."""
    return tuple(sorted(path.name for path in _conf().iterdir() if path.is_dir() and not path.name.startswith("_")))


@functools.cache
def verb(name: str) -> Verb:
    """Read a verb's YAML."""
    file = _conf() / f"{name}.yaml"
    data, lines = yaml_file.read(file), file.read_text().splitlines()
    entries = [entry for entry in data["defaults"] if isinstance(entry, dict)]
    chosen_by_default = {
        group: choice for entry in entries for group, choice in entry.items() if not group.startswith("override")
    }
    own = {key: value for key, value in data.items() if key not in ("defaults", "hydra")}
    start, end = lines.index("defaults:"), lines.index("hydra:")
    body = next((i for i in range(start + 1, end) if lines[i] and lines[i][0] not in " -#"), end)
    about = "\n".join(line.removeprefix("# ").removeprefix("#") for line in lines[:start])
    group_lines = tuple(
        line for line in lines[start:body] if line.strip().partition(":")[0].lstrip("- ") in chosen_by_default
    )
    return Verb(name, chosen_by_default, own, about, group_lines, tuple(lines[body:end]))


def help_text(name: str, folders: Sequence[str]) -> str:
    """What ``hvgym VERB --help`` prints: this verb's groups and keys, and no others."""
    spec = verb(name)
    parts = [spec.about]
    if spec.groups:
        parts.append("Groups:\n" + "\n".join(_group_line(line, spec, folders) for line in spec.group_lines))
    keys = "\n".join(f"  {line}".rstrip() for line in spec.key_lines).strip("\n")
    parts += ["Keys:\n" + keys, OF_GROUPS if spec.groups else OF_KEYS]
    return "\n\n".join(parts)


def _group_line(line: str, spec: Verb, folders: Sequence[str]) -> str:
    entry, _, comment = line.strip().lstrip("- ").partition("#")
    group = entry.partition(":")[0]
    note = f" ({comment.strip()})" if comment else ""
    return f"  {group}={spec.groups[group] or 'null'}{note}: {known_names(group, folders)}"
