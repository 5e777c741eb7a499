"""``hvgym VERB …``: hands over to the verb's Hydra application, and turns errors into one line.

Nothing heavy is imported here: ``hvgym --help`` and ``hvgym list`` stay fast. Exit codes: 0 done, 1 failure, 2 bad
input, 130 interrupted.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hvgym.envs.errors import InputError, nearest

VERBS = {
    "list": "what there is: agents, scenarios, suites, hypervisors, workloads",
    "describe": "a scenario in plain words: VMs, host, hypervisor, demand",
    "demo": "watch one episode live in the terminal",
    "train": "train a learner on a scenario, with checkpoints and validation",
    "evaluate": "play one agent on a scenario or a suite",
    "bench": "run a suite with several agents: a study with leaderboard and report",
    "report": "write leaderboard and report of a study again",
    "ui": "open the MLflow UI on runs/",
}

POSITIONAL = {"list": "what", "report": "study"}
"""Verbs whose first bare word is short for a key."""


def usage() -> str:
    """What ``hvgym --help`` prints."""
    lines = [f"  {verb:<10} {text}" for verb, text in VERBS.items()]
    return "usage: hvgym VERB [key=value …]\n\n" + "\n".join(lines) + "\n\nhvgym VERB --help shows a verb's keys."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
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
    key = POSITIONAL.get(verb)
    rest = [f"{key}={word}" if key and "=" not in word and not word.startswith("-") else word for word in rest]
    return _run(importlib.import_module(f"hvgym.scripts.{verb}").main, verb, rest)


def _run(application: Callable[[], Any], verb: str, arguments: list[str]) -> int:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing several lines of its own
    sys.argv = [f"hvgym {verb}", *arguments]
    try:
        application()
    except SystemExit as stop:
        if isinstance(stop.__cause__, InputError):
            return _fail(str(stop.__cause__), 2)
        raise
    except (HydraException, OmegaConfBaseException) as error:
        return _fail(_hydra_line(error, verb), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on where this one stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _hydra_line(error: BaseException, verb: str) -> str:
    """Hydra's complaint on one line; for an unknown key, the nearest known one."""
    text = " ".join(str(error).split())
    for before in ("Could not override '", "Key '"):
        if before in text:
            key = text.split(before)[1].split("'")[0]
            return f"{key}: unknown key{nearest(key, _known_keys(verb))}; hvgym {verb} --help shows the known ones"
    return text


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
