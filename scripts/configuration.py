"""What the verbs share: reading Hydra's configuration into the project's plain data."""

import hashlib
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hvgym.agents.beside import make_importable
from hvgym.bench.suites import Suite, scenario_of
from hvgym.bench.workers import ENGINES, Engine, Workers, check_engine
from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.files import file_name
from hvgym.envs.rules import RULES
from hvgym.envs.scenario import Scenario, group_files, known_names, load_group, resolve
from hvgym.scripts.failures import note_failed, stop
from hvgym.scripts.sweep import swept_keys


def verb(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a function the Hydra application of a verb.

    Errors leave as ``failures.Stopped``, which ``cli`` prints. So does a policy that calls sys.exit: it must not end a verb as
    if all were well. In a multirun a job that fails is told, and the next one begins.
    """

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        def job(config: DictConfig) -> None:
            try:
                function(config)
            except BrokenPipeError:  # nobody reads what is printed, which ``cli`` takes for no failure
                raise SystemExit(0)  # noqa: B904 - its context tells
            except (Exception, SystemExit) as error:
                if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):  # rich leaves so
                    raise
                if not _others_follow():
                    stop(error)
                note_failed(
                    " ".join(word for word in words() if word.lstrip("+~").split("=")[0] not in NO_PART_OF_IT), error
                )

        application: Callable[[], None] = hydra.main(
            version_base="1.3", config_path="pkg://hvgym.conf", config_name=name
        )(job)
        return application

    return decorate


class OwnFolderFirst(SearchPathPlugin):
    """Has Hydra look into the user's folder before the package, as ``scenario.group_files`` does: by itself it looks there last,
    and a name that both have would mean one thing to a verb that composes it and another to one that reads it."""

    folder: str | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put it in front."""
        if self.folder is not None:
            search_path.prepend(provider="own", path=f"file://{self.folder}")


Plugins.instance().register(OwnFolderFirst)


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


def words() -> list[str]:
    """What the command chose, word by word; in a multirun, with this job's values of what is swept."""
    return [str(word) for word in HydraConfig.get().overrides.task]


def _others_follow() -> bool:
    """Whether this is a job of a multirun that this process plays one after another, Hydra's own way."""
    return multirun() and HydraConfig.get().launcher._target_.endswith("BasicLauncher")


def multirun() -> bool:
    """Whether this is one job of several (-m)."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


LEVELS = ("low", "mid", "high")
"""Of what a table's VMs may need (``envs.fleet.evidence``, which is not imported for ``--help``)."""

NO_PART_OF_IT = ("out", "runs", "tracking", "workers", "engine")
"""Keys, with all below them, that say where things are made and go, not what they are."""


def swept_name(*named: str) -> str:
    """A part of a file's name that tells the jobs of a multirun apart by what they were told, beside `named` keys; empty where
    there is nothing else."""
    keys = {word: word.lstrip("+~").partition("=")[0] for word in words()}
    left_out = (*named, *NO_PART_OF_IT)
    others = sorted(word for word, key in keys.items() if key not in left_out and not key.startswith("engine."))
    if not multirun() or not others:
        return ""
    readable = re.sub(r"[^A-Za-z0-9._=-]+", "_", ",".join(others))
    return readable if len(readable) <= 80 else f"{readable[:60]}-{hashlib.sha256(readable.encode()).hexdigest()[:8]}"


def titled(ground: str) -> str:
    """A name that is short enough for a folder; long ones that differ anywhere stay apart."""
    return ground if len(ground) <= 60 else f"{ground[:51]}-{hashlib.sha256(ground.encode()).hexdigest()[:8]}"


def swept(*but: str) -> dict[str, str]:
    """This job's values of the keys that a multirun sweeps over, without those named; empty where it is no multirun."""
    if not multirun():
        return {}
    keys, pairs = swept_keys(), dict(word.lstrip("+~").partition("=")[::2] for word in words())
    return {key: value for key, value in pairs.items() if key not in but and (keys is None or key in keys)}


def scenario(config: DictConfig) -> Scenario:
    """The scenario with hypervisor, devices, workload and stack replaced where the command says so."""
    if OmegaConf.select(config, "scenario") is None:
        raise InputError(f"scenario=null: expected a name; known: {known_names('scenario', folders())}")
    return resolve(plain(config.scenario), folders=folders(), **_replaced(config))


def named_scenarios(config: DictConfig) -> list[Scenario] | None:
    """The scenarios that the command names, one (``scenario=``) or several (``scenarios=``); None where it names none."""
    said = [word for word in words() if re.match(r"[+~]*scenario[.=]", word)]
    names = plain(config.scenarios)
    if names is None:
        return [scenario(config)] if said else None
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise InputError(f"scenarios={names!r}: expected a list of names, none twice")
    if said:
        raise InputError(f"{said[0]}: stands beside scenarios={','.join(map(str, names))}; give one of the two")
    return scenarios(config, [str(name) for name in names])


def scenarios(config: DictConfig, names: Sequence[str]) -> list[Scenario]:
    """Packaged scenarios by name, changed in the same way."""
    return [scenario_of(name, folders(), **_replaced(config)) for name in names]


def of_suite(config: DictConfig, found: Suite) -> list[Scenario]:
    """The scenarios of a suite, changed in the same way, and those of real VMs where the command names their files."""
    replaced = _replaced(config)
    if replaced["workload"] is not None:
        if found.traces:
            raise InputError(f"suite.traces={found.traces}: stands beside workload=; give one of the two")
        return scenarios(config, found.scenarios)
    if found.left_out:
        print(found.left_out, flush=True)
    return [*scenarios(config, found.scenarios), *found.real_scenarios(folders(), **replaced)]


def at_levels(config: DictConfig, found: Sequence[Scenario]) -> list[Scenario]:
    """Scenarios of a table at low, middle and high, each under its own name (NAME-low), unless the command chooses a level."""
    chosen_level = any(re.match(r"[+~]*workload\.level=", word) for word in words())
    result = list[Scenario]()
    for one in found:
        if chosen_level or one.workload.kind != "history":
            result.append(one)
            continue
        for level in LEVELS:
            data = _data_of(config, one.name)
            work = dict(_workload(config) or data["workload"]) | {"level": level}
            result.append(
                resolve(
                    data | {"name": f"{one.name}-{level}"}, folders=folders(), **_replaced(config) | {"workload": work}
                )
            )
    return result


def _data_of(config: DictConfig, name: str) -> dict[str, Any]:
    """What a scenario's YAML says, with the command's own keys of it."""
    chosen_one = chosen(config, "scenario")
    if chosen_one is not None and chosen_one.get("name") == name:
        return chosen_one
    return load_group("scenario", name, folders())


def _replaced(config: DictConfig) -> dict[str, Any]:
    """What takes the place of a scenario's own."""
    groups = {group: chosen(config, group) for group in ("hypervisor", "disk", "nic", "stack")}
    return groups | {"workload": _workload(config), "rules": rules(config)}


def rules(config: DictConfig) -> str | None:
    """The rules that the command gives, or else the suite that it plays; None leaves a scenario its own."""
    given = plain(OmegaConf.select(config, "rules"))  # a verb that plays nothing has none
    if given is not None and given not in RULES:
        raise InputError(f"rules={shown(given)}: choose one of {', '.join(RULES)}{nearest(str(given), RULES)}")
    of_suite = OmegaConf.select(config, "suite.rules")
    return given if given is not None else of_suite


def chosen(config: DictConfig, group: str) -> dict[str, Any] | None:
    """What the command chose of an optional group; None when it chose nothing."""
    node = OmegaConf.select(config, group)
    if node is not None and not OmegaConf.is_config(node):
        raise InputError(f"{group}={node!r}: not a choice of the group {group}; hvgym list shows them")
    result: dict[str, Any] | None = plain(node)
    return result


def packaged(group: str, name: str) -> dict[str, Any]:
    """The choice of a group that a verb falls back on."""
    return dict(load_group(group, name, folders()))


def _workload(config: DictConfig) -> dict[str, Any] | None:
    """The workload that the command chose, its path made absolute."""
    chosen_workload = chosen(config, "workload")
    if chosen_workload and chosen_workload.get("path"):
        chosen_workload["path"] = str(Path(str(chosen_workload["path"])).expanduser().resolve())
    return chosen_workload


def suite(config: DictConfig) -> Suite:
    """The suite."""
    if OmegaConf.select(config, "suite") is None:
        raise InputError(f"suite=null: expected a name; known: {known_names('suite', folders())}")
    return Suite.from_dict(plain(config.suite) | {"rules": rules(config)})


def agent(name: str) -> dict[str, Any]:
    """An agent's configuration by name."""
    return _named(load_group("agent", name, folders()))


def chosen_agent(config: DictConfig) -> dict[str, Any]:
    """The configuration of the agent that the command chose."""
    return _named(plain(config.agent))


def _named(agent_config: Any) -> dict[str, Any]:
    folders()  # so that a policy beside its YAML can be imported
    if not isinstance(agent_config, dict):
        raise InputError(f"agent={agent_config!r}: expected a name; hvgym list agents shows them")
    name = agent_config.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"agent.name={name!r}: expected text; give the agent's YAML a line name: NAME")
    file_name("agent.name", name)
    if agent_config.get("checkpoint"):
        agent_config = agent_config | {"checkpoint": str(Path(str(agent_config["checkpoint"])).expanduser())}
    return agent_config


def number(config: DictConfig, key: str, *, least: float, most: float = math.inf, whole: bool = True) -> Any:
    """A number of a verb's own configuration; None where it is not set."""
    given = plain(config[key])
    kinds = (int,) if whole else (int, float)
    right = isinstance(given, kinds) and not isinstance(given, bool) and least <= given <= most
    if given is not None and not right:
        kind = f"a {'whole ' if whole else ''}number, at least {least:g}{f' and at most {most:,.0f}' if most < math.inf else ''}"
        raise InputError(f"{key}={shown(given)}: expected {kind}")
    return given


def needed(config: DictConfig, key: str, *, least: float, most: float = math.inf) -> int:
    """The same for a whole number that must be given."""
    given = number(config, key, least=least, most=most)
    if given is None:
        raise InputError(f"{key}=null: expected a whole number, at least {least:g}")
    return int(given)


def seed(config: DictConfig, most: float = 2**63 - 1) -> int:
    """The seed, which must be given."""
    return needed(config, "seed", least=0, most=most)


def seeds(config: DictConfig, most: float) -> list[int]:
    """One seed or several, none twice."""
    given = plain(config.seed)
    if not isinstance(given, list):
        return [seed(config, most)]
    right = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= most for one in given)
    if not given or not right or len(set(given)) != len(given):
        raise InputError(f"seed={shown(given)}: expected whole numbers, at least 0 and at most {most:,.0f}, none twice")
    return list(given)


def switch(config: DictConfig, key: str) -> bool:
    """True or false."""
    given = plain(config[key])
    if not isinstance(given, bool):
        raise InputError(f"{key}={shown(given)}: choose one of true, false")
    return given


def text(config: DictConfig, key: str) -> str | None:
    """A name or path of a verb's own configuration, whatever it looks like; None where it is not set."""
    given = plain(config[key])
    if given is None or given == "":
        return None
    if isinstance(given, (dict, list)):
        raise InputError(f"{key}={shown(given)}: expected one name or path")
    return str(given)


def name(config: DictConfig, key: str) -> str | None:
    """A name that files are called after."""
    given = text(config, key)
    return None if given is None else file_name(key, given)


def named(config: DictConfig, key: str) -> str | None:
    """The name that a word gave which for other verbs chooses from a group (``words``); None where it is not set."""
    given = plain(config[key])
    return None if given is None else file_name(key, given.get("name") if isinstance(given, dict) else given)


def path(config: DictConfig, key: str) -> Path | None:
    """A file or folder, absolute; None where it is not set."""
    given = text(config, key)
    return None if given is None else Path(given).expanduser().resolve()


def gif(config: DictConfig, key: str) -> Path | None:
    """A file for a film; None where it is not set."""
    file = path(config, key)
    if file is not None and file.suffix.lower() != ".gif":
        raise InputError(f"{key}={text(config, key)}: expected a file that ends in .gif")
    return file


def agent_names(given: Any, default: tuple[str, ...]) -> list[str]:
    """Names from ``agents=[a,b]``, ``agents=all`` or the suite's own list."""
    names = plain(given)
    if names is None:
        return list(default)
    if names == "all":
        files = group_files("agent", folders()).items()
        return sorted(name for name, file in files if not _wants_a_file(file.read_bytes()))
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise InputError(f"agents={names!r}: expected a list of names, none twice, or all")
    return [str(name) for name in names]


def listed(config: DictConfig, key: str) -> list[Any] | None:
    """A list of values of a verb's own configuration, or one value; None where it is not set."""
    given = plain(config[key])
    if given is None:
        return None
    values = given if isinstance(given, list) else [given]
    if not values or len(set(map(str, values))) != len(values):
        raise InputError(f"{key}={shown(given)}: expected a list of values, none twice")
    return values


def _wants_a_file(agent_yaml: bytes) -> bool:
    """Whether an agent plays what somebody else made for it, and nothing trains it."""
    return b"\ncheckpoint: null" in agent_yaml and b"\ntrain:" not in agent_yaml


def agents_with_weights() -> tuple[str, ...]:
    """Agents that were trained and whose weights lie beside their YAML, so that they play without a checkpoint."""
    files = group_files("agent", folders())
    return tuple(sorted(name for name, file in files.items() if b"\nweights:" in file.read_bytes()))


def workers(config: DictConfig, otherwise: int | None = None) -> Workers:
    """Number of processes, as many as cores unless told or `otherwise`; or an engine, with what it is told."""
    given, options = plain(config.workers), plain(config.engine)
    if not isinstance(options, dict):
        raise InputError(f"engine={shown(options)}: expected keys of an engine, as in engine.num_cpus=2")
    if isinstance(given, str):
        if given not in ENGINES:
            known = ", ".join(ENGINES)
            raise InputError(
                f"workers={given}: expected a number of processes, or one of {known}{nearest(given, ENGINES)}"
            )
        check_engine(given)
        return Engine(given, options)
    if options:
        raise InputError(f"engine.{next(iter(options))}: is of an engine; give workers={'|'.join(ENGINES)}, too")
    count = number(config, "workers", least=1)
    if count is None and otherwise is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(count or otherwise or 1)


def runs_folder(config: DictConfig) -> Path:
    """Where results land."""
    folder = path(config, "runs")
    if folder is None:
        raise InputError(f"runs={plain(config.runs)!r}: expected a folder")
    return folder


def tracking(config: DictConfig) -> str:
    """Where to record: none, mlflow (the store under RUNS), or the address of a server."""
    asked = plain(config.tracking)
    given = asked.get("uri") if isinstance(asked, dict) and asked.keys() <= {"uri"} else asked
    word = f"tracking.uri={shown(given)}"
    if given in (None, "mlflow"):
        given = os.environ.get("MLFLOW_TRACKING_URI") or "local"
        word = f"MLFLOW_TRACKING_URI={given}"
    if given in ("none", "local"):
        return "none" if given == "none" else "mlflow"
    if not isinstance(given, str) or not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", given):
        raise InputError(f"{word}: choose none, local (RUNS/mlflow.db) or a server, http://HOST:PORT")
    return given.rstrip("/")


def print_trace_report(scenario_data: dict[str, Any]) -> None:
    """Say what was read from traces, and name each file from which rows were dropped; nothing for synthetic demand."""
    chosen_workload = scenario_data["workload"]
    if chosen_workload["kind"] == "bitbrains":
        from hvgym.envs.demand import by_clusters, read_traces, split_by_time

        traces = read_traces(chosen_workload["path"])
        total, *files = traces.report.lines()
        dropped = [line for line in files if "bad rows" in line or "left out" in line]
        few = [] if by_clusters(Scenario.from_dict(scenario_data), traces) else [split_by_time(traces)]
        print("\n".join([total, *dropped, *few]), flush=True)
    if chosen_workload["kind"] == "history":
        from hvgym.envs.fleet.telling import lines

        print("\n".join(lines(chosen_workload)), flush=True)
