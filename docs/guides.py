"""Runs the guides that are written by hand, and puts below each command what it printed (``make guides``).

A guide is a Markdown page. A fence with a title, ``python title="mine/agent/half.py"``, is a file; a fence ``sh`` is one command,
which has to end with exit code 0, or as a comment above it says (``<!-- exit code 2 -->``); the fence ``text`` after it is its
output. Files and commands of a page share one folder. Left out of outputs: the progress of single jobs, whose order is that of the
processes.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
GUIDES = ("write-a-policy", "defend-a-result")

WIDTH = 100
"""Characters of a line of output, longer than which nothing is wrapped."""

FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```\n', re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^(?:<!-- exit code (\d+) -->\n)?```sh\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL
)
PROGRESS = re.compile(r"^\[\d+/\d+\] ")


def played(page: str, folder: Path) -> str:
    """The page with new outputs. Raises RuntimeError for a command that ends otherwise than it says."""
    for name, text in FILE.findall(page):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return COMMAND.sub(lambda found: _run(found, folder), page)


def _run(found: re.Match[str], folder: Path) -> str:
    code, command = int(found[1] or 0), found[2].strip()
    done = subprocess.run(
        _words(command), cwd=folder, env=_environment(command), capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        raise RuntimeError(f"{command}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
    shown = "\n".join(_shown((done.stdout + done.stderr).replace(f"{folder}/", ""))).strip("\n")
    head = (f"<!-- exit code {code} -->\n" if code else "") + f"```sh\n{command}\n```\n"
    return head + (f"\n```text\n{shown}\n```\n" if shown else "")


def _words(command: str) -> list[str]:
    """Of a command, which runs in this Python."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z]+=", word)]
    first = [sys.executable, "-m", "hvgym.scripts.cli"] if words[0] == "hvgym" else [sys.executable]
    return [*first, *words[1:]]


def _environment(command: str) -> dict[str, str]:
    """A terminal of fixed width that is none, and variables that stand before the command."""
    own = dict(word.split("=", 1) for word in shlex.split(command) if re.match(r"[A-Z]+=", word))
    if "PYTHONPATH" in own and "PYTHONPATH" in os.environ:
        own["PYTHONPATH"] += f"{os.pathsep}{os.environ['PYTHONPATH']}"
    return {**os.environ, "COLUMNS": str(WIDTH), "LINES": "40", "CI": "1", **own}


def _shown(text: str) -> Iterator[str]:
    """Lines of an output, without progress, and without blanks at their ends."""
    for line in text.splitlines():
        if not PROGRESS.match(line):
            yield line.rstrip()


def main() -> None:
    """Play all guides, or those that are named."""
    for name in sys.argv[1:] or GUIDES:
        path = HERE / f"{name}.md"
        with tempfile.TemporaryDirectory() as folder:
            path.write_text(played(path.read_text(), Path(folder).resolve()))
        print(path)


if __name__ == "__main__":
    main()
