"""``hvgym VERB …``: hands over to the verb's Hydra application, and turns errors into one line.

Nothing heavy is imported here: ``hvgym --help`` and ``hvgym list`` stay fast. Exit codes: 0 done, 1 failure, 2 bad
input, 130 interrupted.
"""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from hvgym.envs.errors import InputError, in_words, nearest

VERBS = {
    "list": "what there is: agents, scenarios, suites, hypervisors, workloads, devices",
    "describe": "a scenario in plain words: VMs, host, hypervisor, demand",
    "lab": "on the bench: one guest squeezed, a device under load, a JVM in its heap",
    "demo": "watch one episode live in the terminal",
    "train": "train a learner on a scenario, with checkpoints and validation",
    "tune": "search an agent's parameters: trials, and a YAML of the best",
    "evaluate": "play one agent on a scenario or a suite",
    "bench": "run a suite with several agents: a study with leaderboard and report",
    "report": "write leaderboard and report of a study again",
    "ui": "open the MLflow UI on runs/",
}

POSITIONAL = {"list": "what", "report": "study"}
"""Verbs whose first bare word is short for a key."""

TWO_WORDS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c", "--package", "-p")
"""Hydra's options that take a value of their own."""


def usage() -> str:
    """What ``hvgym --help`` prints."""
    lines = [f"  {verb:<10} {text}" for verb, text in VERBS.items()]
    return "usage: hvgym VERB [key=value …]\n\n" + "\n".join(lines) + "\n\nhvgym VERB --help shows a verb's keys."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    try:
        code = _verb(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has closed it (``| head``), which is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _verb(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb == "--version":
        import hvgym

        print(hvgym.__version__)
        return 0
    if verb not in VERBS:
        return _fail(f"{verb!r} is no verb{nearest(verb, VERBS)}; known: {', '.join(VERBS)}", 2)
    words, options = _sorted_arguments(rest)
    key = POSITIONAL.get(verb)
    words = [f"{key}={word}" if key and "=" not in word else word for word in words]
    return _run(importlib.import_module(f"hvgym.scripts.{verb}").main, verb, [*words, *options])


def _sorted_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words and options apart: Hydra's parser takes no option between two words."""
    words, options = list[str](), list[str]()
    for word in arguments:
        to_option = word.startswith("-") or bool(options and options[-1] in TWO_WORDS)
        (options if to_option else words).append(word)
    return words, options


def _run(application: Callable[[], Any], verb: str, arguments: list[str]) -> int:
    in_full = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing several lines of its own
    sys.argv = [f"hvgym {verb}", *arguments]
    try:
        application()
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on where this one stopped", 130)
    except BrokenPipeError:
        raise
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich leaves so, and so does a verb
            raise stop.__context__ from None
        if stop.__cause__ is None:
            raise
        return _explain(stop.__cause__, in_full)
    except Exception as error:
        if in_full:
            traceback.print_exception(error)
        return _fail(_hydra_line(error, verb, arguments), 2)
    return 0


def _explain(error: BaseException, in_full: bool) -> int:
    """What stopped a verb, on one line; HYDRA_FULL_ERROR=1 shows the traceback as well."""
    if in_full:
        traceback.print_exception(error)
    if isinstance(error, InputError):
        return _fail(str(error), 2)
    if isinstance(error, OSError) and error.filename:
        return _fail(f"{error.filename}: {error.strerror}", 1)
    return _fail(f"{in_words(error)}; HYDRA_FULL_ERROR=1 shows the traceback", 1)


def _hydra_line(error: Exception, verb: str, arguments: list[str]) -> str:
    """Hydra's complaint on one line; for an unknown name or key, the nearest known one."""
    text = " ".join(str(error).split())
    if missing := re.search(
        r"Could not (?:find|load) '([^/']+)/+([^']*)'(?: Available options in '[^']*': (.*?) Config )?", text
    ):
        group, name, known = missing[1], missing[2], (missing[3] or "").split()
        return f"{group}={name!r}: unknown{nearest(name, known)}; known: {', '.join(known) or 'see hvgym list'}"
    for before in ("Could not override '", "Key '"):
        if before in text:
            return _unknown_key(text.split(before)[1].split("'")[0], verb)
    return f"{text} (given: {' '.join(arguments)})"


def _unknown_key(key: str, verb: str) -> str:
    from hvgym.envs.scenario import group_files

    known, (parent, _, leaf) = _known_keys(verb), key.rpartition(".")
    group = key.partition(".")[0]
    if parent and group not in known and group_files(group):
        if any(word.startswith(f"{group}=") for word in sys.argv):
            return f"{key}: not set by the chosen {group}; +{key}=VALUE sets it, if it is a key of {group}"
        return f"{key}: choose {group}=NAME first; known: {', '.join(group_files(group))}"
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


def _fail(text: str, code: int) -> int:
    print(f"hvgym: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
