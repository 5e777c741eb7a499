"""What makes a result beside configuration, known by content: the package's code, the traces, and the code of a policy
that lies outside the package.

Of such a policy counts: its module, every module of that folder tree (or of another place that is not Python's library or
an installed package) which it imports, also within functions and in packages, and the data files that the code names beside
itself. This is found by reading, nothing is imported. Left out: installed packages that a policy uses, names that are put
together at run time, and a module that this process imported before it was edited (each command is a process of its own).
"""

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import hvgym.envs
from hvgym.agents.policy import META_KEYS

DATA = re.compile(
    r"\.(json|ya?ml|toml|ini|cfg|csv|np[yz]|pth?|pkl|pickle|joblib|safetensors|onnx|zip|bin|gz)", re.IGNORECASE
)
"""Endings of files that a policy reads. Others may be what it writes, a log say, and would make each run another."""

PACKAGE = Path(hvgym.envs.__file__).parents[1]


def sources(scenarios: Sequence[Mapping[str, Any]], agents: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
    """Digests of the code of model and agents, of the files of traces, and of the code of `agents` outside the package.

    They are part of a study's identity, so rows of two versions never mix; its agents have digests of their own there.
    """
    code = [*(PACKAGE / "envs").rglob("*.py"), *(PACKAGE / "agents").rglob("*.py"), PACKAGE / "bench" / "rollout.py"]
    found = {"code": digest_of({path.relative_to(PACKAGE).as_posix(): path for path in code})}
    for folder in sorted({str(s["workload"]["path"]) for s in scenarios if s["workload"]["kind"] != "phases"}):
        if Path(folder).is_dir():  # else `check` says what is wrong
            files = {path.name: path for path in Path(folder).iterdir() if path.is_file()}
            found[f"traces {folder}"] = digest_of(files)
    return found | {f"agent {name}": code for name, code in codes_of(agents).items()}


def codes_of(agents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digests of the agents whose code lies outside the package, by name."""
    found = {str(agent.get("name")): code_of(agent) for agent in agents}
    return {name: code for name, code in found.items() if code}


def code_of(agent: Mapping[str, Any]) -> str:
    """Digest of an agent's code outside the package, and of the files that it names; "" when there is none."""
    files = outside_files(agent)
    return digest_of(files) if files else ""


def digest_of(files: Mapping[str, Path]) -> str:
    """Of names and contents."""
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def outside_files(agent: Mapping[str, Any]) -> dict[str, Path]:
    """Files of an agent's code outside the package by name: modules, data beside them, and files that its keys name."""
    modules = _modules(agent)
    data = {f"{name}/{file}": path.parent / file for name, path in modules.items() for file in _data_beside(path)}
    return modules | data | _named_files(agent) if modules else {}


def outside_roots(agent: Mapping[str, Any]) -> list[Path]:
    """The same code as top-level modules and folders of packages, for a copy that can be imported elsewhere."""
    roots = {}
    for name, path in _modules(agent).items():
        depth = name.count(".") + (path.name == "__init__.py")
        roots[name.partition(".")[0]] = path.parents[depth - 1] if depth else path
    return [root for root in roots.values() if not _installed(root)]


def _modules(agent: Mapping[str, Any]) -> dict[str, Path]:
    targets = [target.rpartition(".")[0] for target in _targets(agent)]
    modules = [module for module in targets if module and module.partition(".")[0] != "hvgym"]
    if not modules:
        return {}
    importlib.invalidate_caches()
    return _closure(modules)


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a configuration, those of its parts too."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _targets(item)


def _closure(modules: Sequence[str]) -> dict[str, Path]:
    """Files of these modules and of all that they import, by name."""
    own, seen, found = {module.partition(".")[0] for module in modules}, set[str](), dict[str, Path]()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None or not _counts(name.partition(".")[0], own):
            continue
        waiting.append(name.rpartition(".")[0])
        if spec.has_location and spec.origin and Path(spec.origin).is_file():
            found[name] = Path(spec.origin)
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            waiting += _imports(Path(spec.origin), package)
    return found


def _spec(name: str) -> ModuleSpec | None:
    """Where a module would be found; nothing is imported, not even its parents."""
    parts = name.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):
        return None
    for end in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), list(spec.submodule_search_locations))
    return spec


def _counts(top: str, own: set[str]) -> bool:
    """Whether a top-level module belongs to the policy: it is that of a target, or neither the library's nor installed."""
    if top in own:
        return True
    spec = _spec(top)
    if top == "hvgym" or top in sys.stdlib_module_names or spec is None:
        return False
    return not any(map(_installed, [spec.origin or "", *(spec.submodule_search_locations or ())]))


def _installed(place: str | Path) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in Path(place).parts)


def _tree(path: Path) -> ast.AST | None:
    if path.suffix != ".py":
        return None
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # importing it says what is wrong
        return None


def _imports(path: Path, package: str) -> list[str]:
    """Absolute names of what a file imports, or may: each name after ``from x import`` can be a module of x."""
    names = list[str]()
    for node in ast.walk(_tree(path) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names += [_absolute(word, package) for word in _words(node.args[:1])]
    return names


def _absolute(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package) if name.startswith(".") else name
    except ImportError:
        return ""


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _words(nodes: Sequence[ast.AST]) -> list[str]:
    """The values of those that are text."""
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _data_beside(path: Path) -> set[str]:
    """Data files below a module's folder that its code names: as one text, or joined by ``/`` or in one call."""
    found = set[str]()
    for node in ast.walk(_tree(path) or ast.Module([], [])):
        words = _words([node]) if isinstance(node, ast.Constant) else _joined(node)
        for name in {"/".join(words[start:]) for start in range(len(words))}:
            if _is_data(path.parent, name):
                found.add(name)
    return found


def _joined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Call):
        return _words(node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return [*_joined(node.left), *_words([node.right])]
    return []


def _is_data(folder: Path, name: str) -> bool:
    given = Path(name)
    if len(name) > 255 or "\0" in name or given.is_absolute() or ".." in given.parts:
        return False
    return bool(DATA.fullmatch(given.suffix)) and (folder / given).is_file()


def _named_files(agent: Mapping[str, Any]) -> dict[str, Path]:
    """Files that an agent's own keys name, known by content; a checkpoint has a digest of its own."""
    found = {}
    for key, value in agent.items():
        if key not in META_KEYS and isinstance(value, str) and 0 < len(value) < 4096 and "\0" not in value:
            path = Path(value).expanduser()
            if path.is_file():
                found[f"agent.{key}"] = path
    return found
