"""Reading one YAML file of configuration strictly: what is broken, doubled or out of proportion is said in one line.

YAML alone takes the last of two equal keys, reads ``010`` as eight and ``1:30`` as ninety, and lets a few lines of aliases
stand for gigabytes. Here keys may not repeat, numbers are decimal (``1e-3`` too, as in Hydra), and a file is at most
`MOST_BYTES` long and `MOST_VALUES` large with its aliases written out (both guesses, a hundred times what is packaged).
"""

import copy
import functools
import re
from pathlib import Path
from typing import Any

import yaml

from hvgym.envs.errors import InputError

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000
MOST_DEPTH = 100


class _Loader(yaml.SafeLoader):
    """YAML's plain types with decimal numbers only, and no dates."""


_DROPPED = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DROPPED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_DIGITS = "[0-9][0-9_]*"
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        rf"^[-+]?(?:(?:{_DIGITS}\.[0-9_]*|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?|{_DIGITS}[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$"
        r"|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))


def read(file: str | Path) -> dict[str, Any]:
    """The keys and values of a file. Raises `InputError` that names file, place, and what would be right."""
    path = Path(file)
    return copy.deepcopy(_parsed(path, _text(path)))


@functools.lru_cache(maxsize=1024)
def _parsed(path: Path, text: str) -> dict[str, Any]:
    """Of a file with this text: suites and rules read the same few hundred files over and over, each for milliseconds."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _Checked(path).value(node, 0)
        data = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        tab = "; indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
        raise InputError(f"{place}: not valid YAML: {error.problem or error.context}{tab}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({error})") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; at most {MOST_DEPTH} levels") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise error if isinstance(error, InputError) else InputError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        what = "it is empty" if data is None else f"it is {type(data).__name__} {str(data)[:40]!r}"
        raise InputError(f"{path}: expected keys and values, as in name: x; {what}")
    return data


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: longer than {MOST_BYTES:,} bytes; this is no configuration file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


class _Checked:
    """Walks a composed file, counting values as they are once aliases are written out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[int, int] = {}

    def value(self, node: yaml.Node | None, depth: int) -> int:
        """How many values a node stands for."""
        if node is None or isinstance(node, yaml.ScalarNode):
            return 1
        if depth > MOST_DEPTH:
            raise RecursionError
        if id(node) not in self._sizes:
            self._sizes[id(node)] = MOST_VALUES  # an alias inside of its own anchor has no end
            self._sizes[id(node)] = self._children(node, depth)
        if self._sizes[id(node)] >= MOST_VALUES:
            raise InputError(
                f"{self._place(node)}: aliases stand for {MOST_VALUES:,} values or more; write out what is meant"
            )
        return self._sizes[id(node)]

    def _children(self, node: yaml.Node, depth: int) -> int:
        if isinstance(node, yaml.MappingNode):
            self._keys(node)
            return 1 + sum(self.value(child, depth + 1) for _, child in node.value)
        return 1 + sum(self.value(child, depth + 1) for child in node.value)

    def _keys(self, node: yaml.MappingNode) -> None:
        seen = dict[str, int]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{self._place(key)}: a key must be a word, not a list or a group")
            if key.value in seen:
                raise InputError(
                    f"{self._place(key)}: {key.value} is there twice, first in line {seen[key.value]}; keep one"
                )
            seen[key.value] = key.start_mark.line + 1

    def _place(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"
