"""The package holds what the folders hold, and imports run one way."""

import ast
import importlib.resources
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hvgym
from hvgym.envs.scenario import group_files, load_group

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"envs": 0, "agents": 1, "bench": 2, "scripts": 3}
ROOMS = {"guest": 0, "host": 1, "devices": 2}
"""Of the model; what stands above them (tick, start) may import all."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(*floors):
    return [path for floor in floors or FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_folder_with_python_or_configuration_is_listed_as_a_package():
    mapped = {"hvgym"} | {
        "hvgym." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in [*FLOORS, "conf"]
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".yaml")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == mapped


def test_every_package_has_an_init_file():
    for folder in {path.parent for path in sources()} | {ROOT / "conf"}:
        assert (folder / "__init__.py").exists(), folder


def test_the_installed_package_carries_every_configuration_file():
    installed = Path(str(importlib.resources.files("hvgym.conf")))
    ours = {str(path.relative_to(ROOT / "conf")) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {str(path.relative_to(installed)) for path in installed.rglob("*.yaml")} == ours
    assert (Path(hvgym.__file__).parent / "py.typed").exists()


def test_the_installed_package_carries_the_weights_that_its_agents_name():
    installed = {path.stem for path in Path(str(importlib.resources.files("hvgym.agents.learned"))).glob("*.json")}
    assert installed == {path.stem for path in (ROOT / "agents" / "learned").glob("*.json")}
    named = [load_group("agent", name).get("weights") for name in group_files("agent")]
    assert {name for name in named if name} == installed
    assert {"learned_sizes", "learned_full", "learned_moves"} <= installed


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_one_way(floor):
    for path, module in [(file, module) for file in sources(floor) for module in imported(file)]:
        parts = module.split(".")
        assert parts[0] not in FLOORS, f"{path}: import {module} as hvgym.{module}"
        if parts[0] == "hvgym" and len(parts) > 1 and parts[1] in FLOORS:
            assert FLOORS[parts[1]] <= FLOORS[floor], f"{path} imports {module}"
        if parts[0] == "mlflow":
            allowed = [ROOT / "bench" / "recording.py", ROOT / "bench" / "models.py", ROOT / "scripts" / "ui_page.py"]
            assert path in allowed
        if parts[0] in ("stable_baselines3", "torch"):
            assert floor in ("agents", "scripts"), path
        if floor == "envs":
            assert parts[0] not in ("hydra", "omegaconf", "mlflow")
        if path.is_relative_to(ROOT / "envs" / "model"):
            assert parts[0] != "gymnasium"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_model_import_only_those_below_and_nothing_above(room):
    model = ROOT / "envs" / "model"
    above = {"hvgym.envs.model.tick", "hvgym.envs.model.planning", "hvgym.envs.model.start"}
    for path in sorted((model / room).rglob("*.py")):
        for module in imported(path):
            parts = module.split(".")
            assert module not in above, f"{path} imports {module}"
            if module.startswith("hvgym.envs.model.") and parts[3] in ROOMS:
                assert ROOMS[parts[3]] <= ROOMS[room], f"{path} imports {module}"


def test_no_module_is_imported_in_a_circle():
    """Imports at the head of a module; those within functions run later."""
    modules = {
        ".".join(("hvgym", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p for p in sources()
    }
    needs = {}
    for name, path in modules.items():
        heads = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.module]
        found = {f"{node.module}.{alias.name}" for node in heads for alias in node.names} | {n.module for n in heads}
        needs[name] = (found & modules.keys()) - {name, name.rpartition(".")[0]}
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    assert not needs


def test_importing_hvgym_is_light_and_registers_once():
    code = (
        "import sys, hvgym, importlib; importlib.reload(hvgym); import gymnasium, json;"
        "print(json.dumps([m for m in ('numba', 'torch', 'mlflow', 'pandas') if m in sys.modules]));"
        "assert 'hvgym/Host-v1' in gymnasium.registry"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(out) == []


def test_every_direct_dependency_is_pinned_once_without_an_index():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    names = [pin.split("==")[0].lower().replace("_", "-") for pin in pins if pin and not pin.startswith("#")]
    assert len(names) == len(set(names))
    assert not any("://" in pin or pin.startswith("-") for pin in pins)
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    for requirement in wanted:
        name = requirement.split(">")[0].split("=")[0].split("<")[0].strip().lower()
        assert name in names, name


def test_the_version_is_one():
    assert hvgym.__version__ == PROJECT["project"].get("version", hvgym.__version__)
    assert hvgym.__version__ in (ROOT / "CHANGELOG.md").read_text()
