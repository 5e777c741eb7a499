"""What the verbs share: reading Hydra's configuration into the project's plain data."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hvgym.agents.beside import make_importable
from hvgym.bench.suites import Suite, scenario_of
from hvgym.envs.errors import InputError
from hvgym.envs.files import file_name
from hvgym.envs.scenario import Scenario, group_files, load_group, resolve


def verb(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a function the Hydra application of a verb.

    Hydra announces every `Exception` of a job with lines of its own, so errors leave as `SystemExit`; ``cli`` prints
    them.
    """

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        def job(config: DictConfig) -> None:
            try:
                function(config)
            except Exception as error:
                raise SystemExit(2) from error

        application: Callable[[], None] = hydra.main(
            version_base="1.3", config_path="pkg://hvgym.conf", config_name=name
        )(job)
        return application

    return decorate


def folders() -> tuple[str, ...]:
    """Configuration folders that the user added with --config-dir; policies that lie beside their YAML can be imported."""
    sources = HydraConfig.get().runtime.config_sources
    found = tuple(source.path for source in sources if source.provider == "command-line")
    if found:
        make_importable(found)
    return found


def plain(node: Any) -> Any:
    """A Hydra node as plain data."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def scenario(config: DictConfig) -> Scenario:
    """The scenario with hypervisor, devices and workload replaced where the command says so."""
    return resolve(plain(config.scenario), folders=folders(), **_replaced(config))


def scenarios(config: DictConfig, names: Sequence[str]) -> list[Scenario]:
    """Packaged scenarios by name, changed in the same way."""
    return [scenario_of(name, folders(), **_replaced(config)) for name in names]


def _replaced(config: DictConfig) -> dict[str, dict[str, Any] | None]:
    """What takes the place of a scenario's own."""
    groups = {group: chosen(config, group) for group in ("hypervisor", "disk", "nic")}
    return groups | {"workload": _workload(config)}


def chosen(config: DictConfig, group: str) -> dict[str, Any] | None:
    """What the command chose of an optional group; None when it chose nothing."""
    node = OmegaConf.select(config, group)
    if node is not None and not OmegaConf.is_config(node):
        raise InputError(f"{group}={node!r}: not a choice of the group {group}; hvgym list shows them")
    result: dict[str, Any] | None = plain(node)
    return result


def _workload(config: DictConfig) -> dict[str, Any] | None:
    """The workload that the command chose, its path made absolute."""
    chosen_workload = chosen(config, "workload")
    if chosen_workload and chosen_workload.get("path"):
        chosen_workload["path"] = str(Path(str(chosen_workload["path"])).expanduser().resolve())
    return chosen_workload


def suite(config: DictConfig) -> Suite:
    """The suite."""
    return Suite.from_dict(plain(config.suite))


def agent(name: str) -> dict[str, Any]:
    """An agent's configuration by name."""
    return _named(load_group("agent", name, folders()))


def chosen_agent(config: DictConfig) -> dict[str, Any]:
    """The configuration of the agent that the command chose."""
    return _named(plain(config.agent))


def _named(agent_config: dict[str, Any]) -> dict[str, Any]:
    folders()  # so that a policy beside its YAML can be imported
    name = agent_config.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"agent.name={name!r}: expected text; give the agent's YAML a line name: NAME")
    file_name("agent.name", name)
    return agent_config


def number(config: DictConfig, key: str, *, least: float, whole: bool = True) -> Any:
    """A number of a verb's own configuration; None where it is not set."""
    given = config[key]
    kinds = (int,) if whole else (int, float)
    if given is not None and (isinstance(given, bool) or not isinstance(given, kinds) or not given >= least):
        raise InputError(f"{key}={given!r}: expected a {'whole ' if whole else ''}number, at least {least:g}")
    return given


def seed(config: DictConfig) -> int:
    """The seed, which must be given."""
    if config.seed is None:
        raise InputError("seed=None: expected a whole number, at least 0")
    return int(number(config, "seed", least=0))


def agent_names(given: Any, default: tuple[str, ...]) -> list[str]:
    """Names from ``agents=[a,b]``, ``agents=all`` or the suite's own list."""
    names = plain(given)
    if names is None:
        return list(default)
    if names == "all":
        return sorted(group_files("agent", folders()))
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise InputError(f"agents={names!r}: expected a list of names, none twice, or all")
    return [str(name) for name in names]


def workers(config: DictConfig) -> int:
    """Number of processes: as many as cores unless told."""
    given = number(config, "workers", least=1)
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(given)


def runs_folder(config: DictConfig) -> Path:
    """Where results land."""
    return Path(str(config.runs)).expanduser().resolve()


def tracking(config: DictConfig) -> str:
    """Where to record."""
    if config.tracking not in ("mlflow", "none"):
        raise InputError(f"tracking={config.tracking!r}: choose one of mlflow, none")
    return str(config.tracking)


def print_trace_report(scenario_data: dict[str, Any]) -> None:
    """Say what was read from traces, and name each file from which rows were dropped; nothing for synthetic demand."""
    chosen_workload = scenario_data["workload"]
    if chosen_workload["kind"] != "phases":
        from hvgym.envs.demand import read_traces

        total, *files = read_traces(chosen_workload["path"]).report.lines()
        dropped = [line for line in files if "bad rows" in line or "left out" in line]
        print("\n".join([total, *dropped]), flush=True)
