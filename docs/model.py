"""Writes the second half of each page in docs/model/: what the files of a chapter say of themselves (``make model-docs``).

A page names its modules in a comment, ``<!-- modules: guest.memory guest.lru -->``; what stands before it is written by hand, what
stands after it comes from their docstrings.
"""

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).with_suffix("")
SOURCES = FOLDER.parents[1] / "envs" / "model"

MARK = re.compile(r"<!-- modules: ([\w. ]+) -->\n")

HEAD = "\n## What the files say of themselves\n\nWritten by `make model-docs` from the code.\n"


def file_of(module: str) -> Path:
    """Of a module of the model, or of one of its rooms."""
    path = SOURCES / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def said(file: Path) -> str:
    """The docstring of a file."""
    return ast.get_docstring(ast.parse(file.read_text())) or ""


def as_markdown(docstring: str) -> str:
    """Code in single backticks, and lists that Markdown takes for such."""
    lines, in_list = [""], False
    for line in re.sub(r"``(.*?)``", r"`\1`", docstring, flags=re.DOTALL).splitlines():
        item = line.startswith(" - ")
        goes_on = in_list and line.startswith("  ")
        if line and lines[-1] and (item or goes_on) != in_list:
            lines.append("")
        in_list = item or goes_on
        lines.append(line.strip() if item else f"  {line.strip()}" if goes_on else line)
    return "\n".join(lines).strip()


def made(modules: Sequence[str]) -> str:
    """What stands below the mark."""
    parts = []
    for module in modules:
        file = file_of(module)
        parts.append(f"\n### `{file.relative_to(SOURCES.parents[1])}`\n\n{as_markdown(said(file))}\n")
    return HEAD + "".join(parts)


def page(text: str) -> str:
    """A page made anew: its own text, its mark, and what its modules say."""
    if not (mark := MARK.search(text)):
        return text
    return text[: mark.end()] + made(mark[1].split())


def main() -> None:
    """Write all."""
    for path in sorted(FOLDER.glob("*.md")):
        path.write_text(page(path.read_text()))
        print(path, file=sys.stdout)


if __name__ == "__main__":
    main()
