"""What Hydra and OmegaConf refuse, on one line that names the key, the value and what would be right."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.scenario import load_group
from hvgym.scripts.keys import groups


def refusal(error: Exception, verb: str, arguments: Sequence[str]) -> str:
    """Hydra's complaint on one line; for an unknown name or key, the nearest known one."""
    if isinstance(error, InputError):
        return str(error)
    reasons = [error, error.__cause__] if error.__cause__ else [error]
    text = " ".join(" ".join(str(reason).split()) for reason in reasons)
    if missing := re.search(
        r"Could not (?:find|load) '([^']+)'(?: Available options in '[^']*': (.*?) Config )?", text
    ):
        group, _, name = missing[1].rpartition("/")
        known = (missing[2] or "").split()
        return f"{group}={name!r}: unknown{nearest(name, known)}; known: {', '.join(known) or 'see hvgym list'}"
    if "Could not override '" in text or "is not in struct" in text:
        inner = re.search(r"full_key: (\S+)", text) or re.search(r"(?:Could not override|Key) '([^']*)'", text)
        return _unknown_key(inner[1] if inner else text, verb, arguments)
    if merged := re.search(r"Error merging override (.*?) (Cannot .*?|Value .*?|Unexpected .*?)? ?full_key:", text):
        reason = f" ({merged[2]})" if merged[2] else ""
        return f"{merged[1]}: of another kind than what is there{reason}; hvgym {verb} --cfg job shows it"
    if "IS THE PLUGIN INSTALLED" in text:
        return f"{text.split(' IS THE PLUGIN')[0]}; install the package of this plug-in with pip"
    return f"{text} (given: {' '.join(arguments)})"


def _unknown_key(key: str, verb: str, arguments: Sequence[str]) -> str:
    known, (parent, _, leaf) = _known_keys(verb), key.rpartition(".")
    group = key.partition(".")[0]
    if group == "hydra":
        return f"{key}: unknown key; hvgym {verb} --cfg hydra shows Hydra's own"
    chosen = [word.partition("=")[2] for word in arguments if word.startswith(f"{group}=")]
    if group in groups() and chosen:  # of what was chosen, not of the default
        close = nearest(leaf, _keys_of(group, chosen[0].strip("'"), parent.split(".")[1:], arguments))
        add = "" if close else f"; +{key}=VALUE sets it, if it is a key of {group}"
        return f"{key}: not set by the chosen {group}{close}{add}"
    beside = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == parent]
    close = nearest(leaf, beside)
    add = f"; +{key}=VALUE sets one that {parent} leaves at its default" if parent and not close else ""
    return f"{key}: unknown key{close}; hvgym {verb} --help shows the known ones{add}"


def _known_keys(verb: str) -> list[str]:
    """Every key of a verb, dotted."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig

    def walk(node: DictConfig, prefix: str) -> list[str]:
        keys = []
        for key in node:
            keys.append(f"{prefix}{key}")
            child = node._get_node(key)
            keys += walk(child, f"{prefix}{key}.") if isinstance(child, DictConfig) and not child._is_none() else []
        return keys

    GlobalHydra.instance().clear()
    with initialize_config_module("hvgym.conf", version_base="1.3"):
        return walk(compose(verb), "")


def _keys_of(group: str, name: str, path: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """What the YAML of a choice sets, or a part of it; nothing where it cannot be read."""
    folders = [after for word, after in pairwise(arguments) if word == "--config-dir"]
    try:
        node: Any = load_group(group, name, folders)
    except InputError:
        return []
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return list(map(str, node)) if isinstance(node, dict) else []
