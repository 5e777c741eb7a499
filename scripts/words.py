"""The words of a command before Hydra reads them: what Hydra would misread is quoted, what it would merge, ignore or explain
in the terms of its grammar is said in one line.

Hydra reads a value as an expression, in which spaces, commas, parentheses, ``~`` and letters beyond ASCII mean something or
are errors. Here a word that is no such expression is taken as it stands, and paths and names always are.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.scenario import group_files, known_names, unknown_choice
from hvgym.scripts.keys import Verb, groups, verb

TEXTS = (
    "runs",
    "out",
    "record",
    "study",
    "host",
    "groups",
    "workload.path",
    "suite.traces",
    "agent.checkpoint",
    "tracking.uri",
)
"""Keys whose value is a path or a name, whatever characters it has."""

OWN_VMS = "own-vms"
"""The scenario whose VMs are a table's."""

PLUGINS = {
    "hydra/launcher": {
        "joblib": "hydra-joblib-launcher",
        "ray": "hydra-ray-launcher",
        "ray_aws": "hydra-ray-launcher",
        "submitit_local": "hydra-submitit-launcher",
        "submitit_slurm": "hydra-submitit-launcher",
        "rq": "hydra-rq-launcher",
    },
    "hydra/sweeper": {
        "optuna": "hydra-optuna-sweeper",
        "ax": "hydra-ax-sweeper",
        "nevergrad": "hydra-nevergrad-sweeper",
    },
    "hydra/job_logging": {"colorlog": "hydra_colorlog"},
    "hydra/hydra_logging": {"colorlog": "hydra_colorlog"},
}
"""Choices that need a package of their own, and its name."""

HOW = {"hydra-ray-launcher": "'hvgym[ray]', then pip install --no-deps hydra-ray-launcher"}
"""To install a package where its name alone would not do: Ray's launcher asks for an older cloudpickle than is here, and works."""

SEVERAL = {
    "capacity": "a density is that of one family of VMs; hvgym capacity -m scenario={names} searches each",
    "demo": "one is shown at a time; hvgym demo -m scenario={names} shows one after the other",
    "describe": "one is described at a time; hvgym describe -m scenario={names} describes each",
}
"""What to do instead, where a verb takes no list of scenarios."""

WORD = re.compile(r"(?P<mark>~|\+{0,2})(?P<key>[^=]*)(?:(?P<equals>=)(?P<value>.*))?", re.DOTALL)
KEY = re.compile(r"[A-Za-z_$][\w$-]*(\.[\w$-]+)*", re.ASCII)


def prepared(name: str, words: Sequence[str], multirun: bool, folders: Sequence[str]) -> list[str]:
    """The words as Hydra may read them. Raises `InputError` for what it must not.

    Jobs of an evaluation that sweeps share a file of rows, which the command determines.
    """
    words = _with_folder(verb(name), words, folders)
    for group in verb(name).groups:
        if len(chosen := [word for word in words if word.startswith(f"{group}=")]) > 1:
            raise InputError(f"{' '.join(chosen)}: one {group} at a time; give one word")
    ready = [_prepared(verb(name), word, multirun, folders) for word in words]
    for word in ready:
        _check_chosen(verb(name), word, ready, folders)
    if multirun and name == "evaluate" and not any(word.startswith("out=") for word in ready):
        ready.append(f"out=${{runs}}/evaluate/{hashlib.sha256(' '.join(ready).encode()).hexdigest()[:8]}.csv")
    return ready


def _with_folder(spec: Verb, words: Sequence[str], folders: Sequence[str]) -> list[str]:
    """``workload=DIR`` in full: the workload and its path; and whoever plays all of a table's VMs and names no scenario plays
    own-vms."""
    found = list[str]()
    for word in words:
        key, _, value = word.partition("=")
        folder = value.strip() if key == "workload" and "workload" in spec.groups else ""
        if folder and folder not in group_files("workload", folders) and _is_folder(folder):
            _check_table(folder)
            found += ["workload=history", f"workload.path={folder}"]
        else:
            found.append(word)
    drawn = any(word.lstrip("+") == "workload.vms=drawn" for word in found)
    named = any(re.match(r"[+~]*scenarios?=", word) for word in found)
    if "workload=history" in found and "scenario" in spec.groups and not (drawn or named):
        found.append(f"scenario={OWN_VMS}")
    return found


def _is_folder(value: str) -> bool:
    """Whether a choice is meant as a path: it is there, or no name could look like it."""
    return Path(value).expanduser().is_dir() or os.sep in value or value.startswith(("~", "."))


def _check_table(value: str) -> None:
    """Raise `InputError` for a folder that is no table, with the way to make one of it."""
    folder = Path(value).expanduser()
    if not folder.is_dir():
        what = f"is a file; give the folder that holds it, {folder.parent}" if folder.is_file() else "no such folder"
        raise InputError(f"workload={value}: {what}; known workloads: {known_names('workload')}")
    if any(folder.glob("vm_samples*")):
        return
    traces = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    if traces:
        raise InputError(
            f"workload={value}: no table (vm_samples), but {traces[0].name}; hvgym import SOURCE {value} out=TABLE makes one. "
            f"Files of GWA-T-12: hvgym import bitbrains {value} out=TABLE, or workload=bitbrains workload.path={value}"
        )
    raise InputError(f"workload={value}: no table in it (vm_samples); hvgym import SOURCE FILES out=DIR makes one")


def _prepared(spec: Verb, word: str, multirun: bool, folders: Sequence[str]) -> str:
    parts = WORD.fullmatch(word)
    assert parts is not None
    mark, key, value = parts["mark"], parts["key"].strip(), parts["value"]
    if key.startswith(("hydra.", "hydra/")):
        _check_hydra(key, value)
        return word
    if not key or (parts["equals"] is None and mark != "~"):
        raise InputError(_no_value(spec, word, folders))
    _check_key(spec, key, mark)
    if mark == "~":
        return word
    if (
        key in spec.keys and key in groups()
    ):  # Hydra would look for a file of the group, and there is none of what a study has
        return f"{key}={{name: {quoted(str(value).strip())}}}"
    if key in spec.groups:
        return _choice(spec, key, str(value).strip(), multirun, folders)
    if key == "tracking" and not str(value).strip().startswith("{"):  # short for
        key = "tracking.uri"
    if key.startswith("engine."):  # its keys are those of the engine
        mark = "++"
    elif mark:  # + alone would refuse a key that is there
        mark = "" if key in (*spec.keys, "tracking.uri") else "++"
    return f"{mark}{key}={_value(key, str(value), multirun)}"


def _check_chosen(spec: Verb, word: str, words: Sequence[str], folders: Sequence[str]) -> None:
    """Raise `InputError` for a key of a group of which nothing is chosen."""
    key = word.lstrip("+~").partition("=")[0]
    group, dot, _ = key.partition(".")
    if (
        dot
        and group in spec.groups
        and spec.groups[group] is None
        and not any(one.startswith(f"{group}=") for one in words)
    ):
        raise InputError(f"{key}: choose {group}=NAME first; known: {known_names(group, folders)}")


def _no_value(spec: Verb, word: str, folders: Sequence[str]) -> str:
    if word in spec.names():
        return f"{word!r}: expected {word}=VALUE, without spaces around ="
    for group in spec.groups:
        if word in group_files(group, folders):
            return f"{word!r}: expected KEY=VALUE; {group}={word} is meant?"
    return f"{word!r}: expected KEY=VALUE{nearest(word, spec.names())}; hvgym {spec.name} --help shows the keys"


def _check_key(spec: Verb, key: str, mark: str) -> None:
    """Raise `InputError` for a key that this verb would ignore, or that it cannot have."""
    top = re.split(r"[.@/\[]", key)[0]
    if top not in spec.names():
        other = f"; hvgym {spec.name} heeds no {top}" if group_files(top) else ""
        near = nearest(top, spec.names())
        raise InputError(f"{key}: unknown key{near}{other}; hvgym {spec.name} --help shows the known ones")
    if "[" in key:
        dotted = re.sub(r"\[(\w*)\]", r".\1", key)
        raise InputError(f"{key}: write {dotted}")
    if not KEY.fullmatch(key):
        raise InputError(f"{key}: unknown key; hvgym {spec.name} --help shows the known ones")
    if single := spec.single(key):
        raise InputError(f"{key}: {single} is a single value; {single}=VALUE sets it")
    if mark == "~" and "." not in key:
        raise InputError(f"~{key}: {spec.name} needs its key {key}; leave the word out for the default")


def _choice(spec: Verb, group: str, value: str, multirun: bool, folders: Sequence[str]) -> str:
    """A word that chooses from a group."""
    if value.startswith("["):
        return _several(spec, group, [name.strip() for name in value.strip("[]").split(",") if name.strip()], folders)
    names = [name.strip().strip("'\"") for name in value.split(",")]
    if "(" in value and multirun:  # choice(...), glob(...): Hydra knows what it does not find
        return f"{group}={value}"
    if len(names) > 1 and not multirun:
        raise InputError(f"{group}={value}: one at a time; with -m each is played")
    for name in names:
        _check_choice(spec, group, name, folders)
    return f"{group}={','.join(map(_name, names))}"


def _name(name: str) -> str:
    """A choice that Hydra reads as text, though it looks like a number or a switch; null chooses nothing."""
    parsed = _parsed(f"x={name}")
    return name if name == "null" or (parsed is not None and isinstance(parsed.value(), str)) else quoted(name)


def _check_choice(spec: Verb, group: str, name: str, folders: Sequence[str]) -> None:
    known = group_files(group, folders)
    if name in known or (name == "null" and spec.groups[group] is None):
        return
    if name in ("", "null"):
        raise InputError(f"{group}={name}: expected a name; known: {known_names(group, folders)}")
    if Path(name).suffix in (".yaml", ".yml"):
        raise InputError(
            f"{group}={name}: expected a name, not a file; put it into FOLDER/{group}/ and give "
            f"{group}={Path(name).stem} --config-dir FOLDER"
        )
    raise InputError(unknown_choice(group, name, folders))


def _several(spec: Verb, group: str, names: list[str], folders: Sequence[str]) -> str:
    """A list of choices, which Hydra would merge into one without a word."""
    for name in names:
        _check_choice(spec, group, name, folders)
    if f"{group}s" in spec.keys:
        return f"{group}s=[{','.join(names)}]"
    listed = ",".join(names)
    if group == "scenario" and spec.name in SEVERAL:
        raise InputError(f"scenario=[{listed}]: {SEVERAL[spec.name].format(names=listed)}")
    compare = f"; hvgym bench agents=[{listed}] compares them" if group == "agent" else ""
    raise InputError(
        f"{group}=[{listed}]: one {group} at a time; hvgym {spec.name} -m {group}={listed} takes each{compare}"
    )


def _value(key: str, value: str, multirun: bool) -> str:
    """A value that Hydra reads as what was typed."""
    parsed = _parsed(f"{key}={value}")
    swept = parsed is not None and parsed.is_sweep_override()
    if key == "runs" or (key in TEXTS and not (swept and multirun)):  # all jobs of a sweep share one folder
        return _text(value, parsed)
    if parsed is None:
        return quoted(value)
    if swept and not multirun:
        raise InputError(
            f"{key}={value}: several values; -m plays each, {key}=[...] is a list, {key}='\"...\"' is text"
        )
    return value


def _text(value: str, parsed: Any) -> str:
    """A path or a name: what Hydra's grammar calls text stays so, everything else becomes it."""
    if parsed is not None and not parsed.is_sweep_override():
        read = parsed.value()
        if value == "" or read is None or (read == value and not value.startswith("~")):
            return value
        if isinstance(read, str) and read != value:  # quoted or escaped by someone who knows the grammar
            value = read
    return quoted(str(Path(value).expanduser()) if value.startswith("~") else value)


def quoted(value: str) -> str:
    """A value that Hydra reads as text, whatever characters it has."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value, Quote.single).with_quotes()


def _parsed(word: str) -> Any:
    """A word as Hydra's grammar reads it; None where it is an error."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, ValueError):  # ValueError: a whole number of thousands of digits
        return None


def _check_hydra(key: str, value: str | None) -> None:
    """Raise `InputError` for a launcher, sweeper or logging whose package is missing."""
    package = PLUGINS.get(key, {}).get(value or "")
    if package and not _installed(f"hydra_plugins.{package.replace('-', '_')}"):
        raise InputError(f"{key}={value}: its package is missing; pip install {HOW.get(package, package)}")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _check_ends(given: str, folder: Path) -> None:
    """Raise `InputError` for an own agent with the name of an end of the score: everybody's scores would be others."""
    if not (folder / "agent").is_dir():
        return
    from hvgym.bench.references import ENDS

    if taken := [name for name in ENDS if (folder / "agent" / f"{name}.yaml").exists()]:
        raise InputError(
            f"--config-dir={given}: agent/{taken[0]}.yaml: scores are measured by {taken[0]}; give yours another name"
        )


def config_folder(given: Sequence[str], verb: str) -> list[str]:
    """The folder that --config-dir names, checked for a verb; none where it is not given."""
    if len(given) > 1:
        raise InputError(f"--config-dir is there {len(given)} times; put your folders into one")
    for name in given:
        folder = Path(name).expanduser().resolve()
        if not folder.is_dir():
            raise InputError(f"--config-dir={name}: {'not a folder' if folder.exists() else 'no such folder'}")
        if not any((folder / group).is_dir() for group in groups()):
            up = f"; give {folder.parent}" if folder.name in groups() else ""
            raise InputError(f"--config-dir={name}: holds none of the folders {', '.join(groups())}{up}")
        if (folder / f"{verb}.yaml").exists():  # Hydra would take it for the verb's keys
            raise InputError(
                f"--config-dir={name}: {verb}.yaml has the name of the verb; put {', '.join(groups())} apart from it"
            )
        _check_ends(name, folder)
        return [str(folder)]
    return []
