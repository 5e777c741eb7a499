"""What makes a result beside configuration, known by content: the package's code, the traces, and the code of each policy.

The package's code is the model, the rollout, and what all agents share. Of a policy counts: its module, every module of that
folder tree (or of another place that is not Python's library or an installed package) which it imports, also within functions and
in packages, and the files that the code names beside itself or in the folder above. Of a policy of the package these are modules
of ``agents`` that are not everybody's; one that reads weights or learns has all weights, or all learners, of the package with it,
and one whose configuration names other agents has theirs. So an edited policy makes its own rows out of date, and an edited model
all of them. This is found by reading, nothing is imported. Left out: installed packages that a policy uses, names that are put
together at run time, and a module that this process imported before it was edited (each command is a process of its own).
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import hvgym.envs
from hvgym.agents.policy import META_KEYS
from hvgym.envs.fleet.history import table_files
from hvgym.envs.scenario import load_group

DATA = re.compile(
    r"\.(py|json|ya?ml|toml|ini|cfg|txt|[ct]sv|parquet|feather|arrow|h5|hdf5|np[yz]|pth?|ckpt|pkl|pickle|joblib|safetensors|onnx"
    r"|zip|bin|gz)",
    re.IGNORECASE,
)
"""Endings of files that a policy reads. Others may be what it writes, a log say, and would make each run another."""

MOST_FILES = 10_000
"""Of a folder that a policy names."""

TRACES = "traces "
"""Before a folder, in the names of sources."""

PACKAGE, AGENTS = Path(hvgym.envs.__file__).parents[1], "hvgym.agents"


def sources(scenarios: Sequence[Mapping[str, Any]], agents: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
    """Digests of the code that all rows come from, of the files of traces, and of the code of `agents`.

    They are part of a study's identity, so rows of two versions never mix; its agents have digests of their own there. So is what a
    hypervisor or a stack ships with (``agents.stock``), its configuration and its code.
    """
    found = {"code": _digest_here(_everybodys().values())}
    for kind, folder in sorted({(s["workload"]["kind"], str(s["workload"]["path"])) for s in scenarios}):
        if kind in ("bitbrains", "history") and Path(folder).is_dir():  # else `check` says what is wrong
            files = {path.name: path for path in Path(folder).iterdir() if path.is_file()}
            found[f"{TRACES}{folder}"] = digest_of(table_files(Path(folder)) if kind == "history" else files)
    shipped = {(scenario.get(of) or {}).get("stock") for scenario in scenarios for of in ("hypervisor", "stack")}
    for name in sorted(name for name in shipped if name):
        agent = load_group("agent", name)
        found[f"stock {name}"] = digest_of_text(json.dumps([agent, code_of(agent)], sort_keys=True))
    return found | {f"agent {name}": code for name, code in codes_of(agents).items()}


def here() -> dict[str, str]:
    """What this machine and its libraries are. It identifies nothing, but bits may depend on it, so it stands beside results."""
    packages = ("numpy", "numba", "llvmlite", "torch")
    versions = {name: importlib.metadata.version(name) for name in packages}
    from llvmlite import binding

    machine = {"python": platform.python_version(), "platform": platform.platform(), "cpu": binding.get_host_cpu_name()}
    return machine | versions


def package_code() -> str:
    """Digest of all code of the package that makes rows."""
    folders = (PACKAGE / name for name in ("envs", "agents"))
    return _digest_here([*_everybodys().values(), *(path for folder in folders for path in _of_folder(folder))])


def _of_folder(folder: Path) -> list[Path]:
    """Code and weights."""
    return [path for ending in ("py", "json") for path in folder.rglob(f"*.{ending}")]


def _digest_here(paths: Iterable[Path]) -> str:
    return digest_of({path.relative_to(PACKAGE).as_posix(): path for path in paths})


@functools.cache  # which files, not what is in them
def _everybodys() -> dict[str, Path]:
    """Files of the package by module that the rows of every agent come from: the model, the rollout, what agents share."""
    files = {*(PACKAGE / "envs").rglob("*.py"), *(PACKAGE / "agents").glob("*.py"), PACKAGE / "bench" / "rollout.py"}
    shared = {f"hvgym.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}": path for path in files}
    return shared | _closure(["hvgym.bench.rollout"], AGENTS)


def codes_of(agents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digests of the agents' own code, by name; not of those that have none."""
    found = {str(agent.get("name")): code_of(agent) for agent in agents}
    return {name: code for name, code in found.items() if code}


def code_of(agent: Mapping[str, Any]) -> str:
    """Digest of an agent's own code, in the package and outside, and of the files that it names; "" when there is none."""
    files = inside_files(agent) | outside_files(agent) | _start_file(agent)
    return digest_of(files) if files else ""


def _start_file(agent: Mapping[str, Any]) -> dict[str, Path]:
    """The network that a learner's training begins with."""
    start = (agent.get("train") or {}).get("start")
    if agent.get("checkpoint") or not isinstance(start, str) or not Path(start).is_file():
        return {}
    return {"train.start": Path(start)}


def inside_files(agent: Mapping[str, Any]) -> dict[str, Path]:
    """Files of an agent's own code in the package by name, of what its code outside imports there, of agents that it names, and of
    weights."""
    named = {name: load_group("agent", name) for name in _agents_named(agent)}
    modules = [target.rpartition(".")[0] for one in (agent, *named.values()) for target in targets(one)]
    beyond = _modules(agent)
    modules += [name for path in beyond.values() for name in _imports(path, "") if name.startswith(f"{AGENTS}.")]
    found = _closure([module for module in modules if module.startswith("hvgym.")], AGENTS)
    learned = PACKAGE / "agents" / "learned"
    if any(path.is_relative_to(learned) for path in found.values()):
        if any(one.get("train") for one in (agent, *named.values())):
            found |= {f"hvgym.agents.learned.{path.stem}": path for path in learned.glob("*.py")}
        found |= {path.name: path for path in learned.glob("*.json")} if "weights" in agent or named or beyond else {}
    everybodys = set(_everybodys().values())
    configured = {f"conf/agent/{name}.yaml": _agent_file(name) for name in named}
    return {name: path for name, path in found.items() if path not in everybodys} | configured


def _agents_named(agent: Mapping[str, Any]) -> list[str]:
    """Agents of the package that the configuration of another names, as one that is composed of several does."""
    texts = {
        value for _, value in _texts({key: value for key, value in agent.items() if key not in META_KEYS}, "agent")
    }
    own = {str(agent.get("name")), ""}
    return sorted(text for text in texts - own if _plain_name(text) and os.path.isfile(_agent_file(text)))


def _plain_name(text: str) -> bool:
    return text.replace("_", "").isalnum()


def _agent_file(name: str) -> Path:
    return PACKAGE / "conf" / "agent" / f"{name}.yaml"


def digest_of(files: Mapping[str, Path]) -> str:
    """Of names and contents."""
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def digest_of_text(text: str) -> str:
    """Of a text, as short as the others."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outside_files(agent: Mapping[str, Any]) -> dict[str, Path]:
    """Files of an agent's code outside the package by name: modules, data beside them, and files that its keys name."""
    modules = _modules(agent)
    data = {f"{name}/{file}": place for name, path in modules.items() for file, place in _data_beside(path).items()}
    folders = sorted({path.parent for path in modules.values()})
    return modules | data | _named_files(agent, folders) if modules else {}


def outside_roots(agent: Mapping[str, Any]) -> list[Path]:
    """The same code as top-level modules and folders of packages, for a copy that can be imported elsewhere."""
    roots = {}
    for name, path in _modules(agent).items():
        depth = name.count(".") + (path.name == "__init__.py")
        roots[name.partition(".")[0]] = path.parents[depth - 1] if depth else path
    return [root for root in roots.values() if not _installed(root)]


def _modules(agent: Mapping[str, Any]) -> dict[str, Path]:
    named = [target.rpartition(".")[0] for target in targets(agent)]
    modules = [module for module in named if module and module.partition(".")[0] != "hvgym"]
    if not modules:
        return {}
    importlib.invalidate_caches()
    return _closure(modules)


def is_outside(agent: Mapping[str, Any]) -> bool:
    """Whether an agent has code outside the package."""
    return any(target.partition(".")[0] != "hvgym" for target in targets(agent))


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a configuration, those of its parts too."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from targets(item)


def _closure(modules: Sequence[str], within: str = "") -> dict[str, Path]:
    """Files of these modules and of all that they import, by name; within: of a package, and no others."""
    own, seen, found = {module.partition(".")[0] for module in modules}, set[str](), dict[str, Path]()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None or not (within or _counts(name.partition(".")[0], own)):
            continue
        if within and name not in modules and not f"{name}.".startswith(f"{within}."):
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
    if parts[0] == "hvgym" and len(parts) > 1:  # in a checkout its folders lie apart
        place = PACKAGE.joinpath(*parts[1:])
        whole = place / "__init__.py"
        at, inside = (whole, [str(place)]) if whole.is_file() else (place.with_suffix(".py"), None)
        return (
            importlib.util.spec_from_file_location(name, at, submodule_search_locations=inside)
            if at.is_file()
            else None
        )
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


def _imports(path: Path, package: str) -> tuple[str, ...]:
    """Absolute names of what a file imports, or may: each name after ``from x import`` can be a module of x."""
    read = path.stat()
    return _imports_as_of(path, package, read.st_mtime_ns, read.st_size)


@functools.lru_cache(maxsize=4096)
def _imports_as_of(path: Path, package: str, mtime_ns: int, size: int) -> tuple[str, ...]:
    names = list[str]()
    for node in ast.walk(_tree(path) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names += [_absolute(word, package) for word in _words(node.args[:1])]
    return tuple(names)


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


def _data_beside(path: Path) -> dict[str, Path]:
    """Files that a module's code names, as one text, or joined by ``/`` or in one call: below its folder, the one above, the
    working folder, or by an absolute path; with its own name and another ending; or all data of a folder below its own."""
    found = dict[str, Path]()
    places = {"": path.parent, "../": path.parent.parent, "./": Path.cwd()}
    for node in ast.walk(_tree(path) or ast.Module([], [])):
        words = _words([node]) if isinstance(node, ast.Constant) else _joined(node)
        for name in {"/".join(words[start:]) for start in range(len(words))}:
            found |= {f"{prefix}{name}": place / name for prefix, place in places.items() if _is_data(place / name)}
            if DATA.fullmatch(name) and _is_data(path.with_suffix(name)):  # as in with_suffix(".json")
                found[path.with_suffix(name).name] = path.with_suffix(name)
            if name.strip("./") and _is_folder(path.parent / name):
                found |= _data_of(path.parent / name, f"{name}/")
    return found


def _data_of(folder: Path, prefix: str) -> dict[str, Path]:
    """The data files of a folder and those below it."""
    inside = sorted(one for one in folder.rglob("*") if _is_data(one) and "__pycache__" not in one.parts)
    return {f"{prefix}{one.relative_to(folder).as_posix()}": one for one in inside[:MOST_FILES]}


def _joined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Call):
        return _words(node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return [*_joined(node.left), *_words([node.right])]
    return []


def _is_data(file: Path) -> bool:
    return bool(DATA.fullmatch(file.suffix)) and os.path.isfile(file)  # Path's own raises where a text is no path


def _is_folder(place: Path) -> bool:
    return os.path.isdir(place)


def _named_files(agent: Mapping[str, Any], beside: Sequence[Path]) -> dict[str, Path]:
    """Files and folders that an agent's own keys name, by themselves or beside its modules, known by content; a checkpoint has a
    digest of its own."""
    found = {}
    for key, value in _texts({key: value for key, value in agent.items() if key not in META_KEYS}, "agent"):
        if not value or "\0" in value:
            continue
        given = Path(value).expanduser()
        others = [] if given.is_absolute() else [(f"{key}:{value}", folder / given) for folder in beside]
        for name, place in ((key, given), *others):
            if os.path.isfile(place):
                found[name] = place
            elif value.strip("./") and _is_folder(place):
                found |= _data_of(place, f"{name}/")
    return found


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a configuration with its dotted key."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, part in node.items():
            yield from _texts(part, f"{key}.{name}")
    elif isinstance(node, (list, tuple)):
        for index, part in enumerate(node):
            yield from _texts(part, f"{key}.{index}")
