"""``hvgym VERB …``: hands over to the verb's Hydra application, and turns errors into one line.

Nothing heavy is imported here: ``hvgym --help`` and ``hvgym list`` stay fast. Exit codes: 0 done, 1 failure, 2 bad
input, 130 interrupted.
"""

import argparse
import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hvgym.envs.errors import InputError, nearest
from hvgym.scripts.failures import Stopped, in_full, of_the_sweep, raising, said

VERBS = {
    "list": "what there is: agents, scenarios, suites, hypervisors, stacks, workloads, devices",
    "describe": "a scenario in plain words: VMs, host, hypervisor, demand",
    "lab": "on the bench: one guest squeezed or copied, a device, a JVM, a host that fails",
    "demo": "watch one episode live in the terminal",
    "import": "the history of your own VMs, from the files that your tools write",
    "train": "train a learner on a scenario, with checkpoints and validation",
    "tune": "search an agent's parameters: trials, and a YAML of the best",
    "evaluate": "play one agent on a scenario or a suite",
    "bench": "run a suite with several agents: a study with leaderboard and report",
    "capacity": "density at the SLO: how far a host may be overcommitted under each agent",
    "advise": "how far your own hosts may be overcommitted, and with which settings: one page",
    "shadow": "what a policy would do on a real host; it touches nothing",
    "drive": "a policy that sets memory on a real host, within guard rails",
    "real": "a story on real guests on this machine, beside the simulator",
    "record": "a real host as the history of its VMs, to be played again",
    "status": "how far a study is that another terminal is playing, or all of them",
    "explain": "what a policy does, and why: sensitivities, a burst, a small tree of rules",
    "export": "a trained policy as one Python file that runs beside libvirt",
    "dataset": "episodes of agents as a data set for offline learning (Minari)",
    "compare": "who is better, by how much and how sure, in a study or across studies",
    "report": "write leaderboard and report of a study again",
    "validate": "play rows of a study again and compare them to the bit",
    "replay": "watch a row of a study, live or as a GIF",
    "sync": "deliver to its MLflow server what is missing there of a study",
    "ui": "open the MLflow UI on runs/",
}

POSITIONAL = {
    "list": "what",
    "report": "study",
    "status": "study",
    "sync": "study",
    "validate": "study",
    "replay": "study",
}
"""Verbs whose first bare word is short for a key."""

POSITIONALS = {"compare": "studies", "import": "files"}
"""Verbs whose bare words are short for a key that is a list."""

FIRST = {"import": "source"}
"""Verbs whose first bare word is short for another key than those that follow."""

MODULES = {"import": "import_table"}
"""Modules of verbs that Python does not let a module be called after."""

INTERRUPTED = {"import": "interrupted; nothing was written, an earlier import is as it was"}
"""What is said on Ctrl-C of verbs that begin anew when they are given again."""

ONCE = ("list", "status", "compare", "import", "replay", "export", "sync", "ui", "shadow", "drive", "record")
"""Verbs that have nothing to sweep over."""

KEYED = re.compile(r"[+~]*[\w./@:]+=|~")
"""A word that begins with a key, which has no hyphen: ``stacks-hypervisor=kvm`` is the name of a sweep's study."""

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
        return said(f"{verb!r} is no verb{nearest(verb, VERBS)}; known: {', '.join(VERBS)}", 2)
    try:
        return _run(verb, *_sorted_arguments(verb, rest))
    except InputError as error:
        return said(str(error), 2)


def _sorted_arguments(verb: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words and options apart: Hydra's parser takes no option between two words."""
    from hvgym.scripts.words import quoted

    words, options = list[str](), list[str]()
    for word in arguments:
        if word.startswith(("agent.shield=", "agent.shield.")):  # which no agent's YAML has, and every agent may have
            word = f"++{word}"
        to_option = word.startswith("-") or bool(options and options[-1] in TWO_WORDS)
        (options if to_option else words).append(word)
    if key := POSITIONAL.get(verb):
        words = [word if KEYED.match(word) else f"{key}={quoted(word) if '=' in word else word}" for word in words]
        if len([word for word in words if word.startswith(f"{key}=")]) > 1:
            raise InputError(f"{' '.join(arguments)}: one {key} at a time")
    if key := POSITIONALS.get(verb):
        words = _listed(verb, key, words)
    return words, options


def _listed(verb: str, key: str, words: Sequence[str]) -> list[str]:
    """Bare words as one list, each as it was typed; the first of them apart, where it is another key."""
    from hvgym.scripts.words import quoted

    bare = [word for word in words if not KEYED.match(word) or _is_file(word)]
    others = [word for word in words if word not in bare]
    if verb in FIRST and bare and not any(word.startswith(f"{FIRST[verb]}=") for word in others):
        first, *bare = bare
        others.append(f"{FIRST[verb]}={quoted(first)}")
    if bare and any(word.startswith(f"{key}=") for word in others):
        raise InputError(f"{' '.join(words)}: {key} are there twice; give them as words alone")
    return [*others, *([f"{key}=[{','.join(map(quoted, bare))}]"] if bare else [])]


def _is_file(word: str) -> bool:
    """Whether a word with = in it is the path of something that is there."""
    return "/" in word.partition("=")[0] and Path(word).exists()


def _run(verb: str, words: list[str], options: list[str]) -> int:
    from hvgym.scripts import keys
    from hvgym.scripts.words import config_folder, prepared

    sys.argv = [f"hvgym {verb}"]  # by which argparse and Hydra know the program
    given = _options(verb, options)
    dirs, others = _folders(options)
    folders = config_folder(dirs, verb)
    if given.help:
        print(keys.help_text(verb, folders))
        if verb == "import":
            from hvgym.scripts.import_table import listed

            print(f"\n{listed()}")
        return 0
    if given.multirun and verb in ONCE:
        raise InputError(f"-m: {verb} has nothing to sweep over; leave it out")
    _check_place()
    words = prepared(verb, words, given.multirun, folders)
    options = [*others, *(["--config-dir", folders[0]] if folders else [])]
    with _sigterm_as_ctrl_c():
        from hvgym.scripts.configuration import OwnFolderFirst

        main = importlib.import_module(f"hvgym.scripts.{MODULES.get(verb, verb)}").main
        OwnFolderFirst.folder = folders[0] if folders else None
        return _ended(main, verb, [*words, *options])


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A verb that is told to end stops its workers, marks its runs and says how to go on, as with Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Options(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _options(verb: str, options: Sequence[str]) -> argparse.Namespace:
    """Hydra's options as it will read them. Raises `InputError` for an unknown one."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.__class__ = _Options
    known, unknown = parser.parse_known_args(list(options))
    for option in unknown:
        bare = option.lstrip("-")
        hint = f"; {bare}, without dashes" if "=" in bare else ""
        raise InputError(f"{option}: no such option{hint}; hvgym {verb} --help shows keys and options")
    return known


def _folders(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """What --config-dir names, and the other options."""
    given, others = list[str](), list[str]()
    left = iter(options)
    for option in left:
        name, equals, value = option.partition("=")
        if name in ("--config-dir", "-cd"):
            given.append(value if equals else next(left, ""))
        else:
            others.append(option)
    return given, others


def _check_place() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder has been deleted; cd to one that exists") from None


def _ended(application: Callable[[], Any], verb: str, arguments: list[str]) -> int:
    """Run the verb's Hydra application; its exit code."""
    from hvgym.scripts.files import check_files
    from hvgym.scripts.refusals import refusal

    check_files()
    sys.argv = [*sys.argv, *arguments]
    try:
        with raising():
            application()
    except KeyboardInterrupt:
        return said(INTERRUPTED.get(verb, "interrupted; the same command goes on where this one stopped"), 130)
    except BrokenPipeError:
        raise
    except Stopped as stopped:
        return said(stopped.text, stopped.exit_code)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich leaves so, and so does a verb
            raise stop.__context__ from None
        raise
    except Exception as error:
        if in_full():
            traceback.print_exception(error)
        return said(refusal(error, verb, arguments), 2)
    return of_the_sweep()


if __name__ == "__main__":
    sys.exit(main())
