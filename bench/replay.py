"""A finished job of a study played again from the study's folder alone: scenario, agent and seeds from the job's file, networks
from ``models/``. Nothing is trained again.

Playing imports the policy that a study names. Those of the package are safe wherever the study comes from; code outside it is
somebody else's program, and runs only where the user says so (`check_trusted`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvgym.bench import suites
from hvgym.bench.identity import outside_files, targets
from hvgym.bench.jobs import Done, network_file
from hvgym.bench.protocol import policy_of
from hvgym.bench.rollout import METRICS, Watcher, rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario


@dataclass(frozen=True)
class Difference:
    """A figure of an episode that is another one now."""

    seed: int
    metric: str
    there: float
    here: float


def play_again(done: Done, folder: Path, seeds: Sequence[int], watch: Watcher | None = None) -> list[dict[str, float]]:
    """The rows of some of a job's evaluation seeds as they come out here. Raises `InputError` as `rollout` does, and where the
    network of the job is not there."""
    job = done.job
    scenario = suites.split_of(Scenario.from_dict(job.scenario), "test")
    policy = policy_of(_with_network(done, folder))
    return rollout(scenario, policy, seeds, watch, job.agent["name"]).rows()


def _with_network(done: Done, folder: Path) -> dict[str, Any]:
    """The agent with the network that played."""
    agent = done.job.agent
    if done.model is not None:
        file = (folder / str(done.model)).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise InputError(f"{done.job.name}: model={done.model!r}: lies outside the study's folder")
    elif agent.get("checkpoint"):
        file = network_file(folder, agent)
    else:
        return agent
    if not file.is_file():
        raise InputError(f"{done.job.name}: its network is not there ({file})")
    return agent | {"checkpoint": str(file)}


def differences(done: Done, rows: Sequence[Mapping[str, float]]) -> list[Difference]:
    """Figures that differ in any bit from those of the job's rows of the same seeds."""
    recorded = {int(row["eval_seed"]): row for row in done.rows}
    return [
        Difference(int(row["eval_seed"]), name, there, here)
        for row in rows
        for name in METRICS
        if repr(there := float(recorded[int(row["eval_seed"])][name])) != repr(here := float(row[name]))
    ]


def outside_code(agent: Mapping[str, Any]) -> str:
    """The code outside the package that an agent's policy would run, in words; empty for one of the package."""
    named = sorted({target for target in targets(agent) if target.partition(".")[0] != "hvgym"})
    files = sorted(str(path) for path in outside_files(agent).values() if path.suffix == ".py")
    return f"{', '.join(named)} ({', '.join(files) or 'found nowhere here'})" if named else ""


def check_trusted(agents: Sequence[Mapping[str, Any]], trust: bool) -> None:
    """Raise `InputError` that names code outside the package which would be run, unless it is trusted."""
    for agent in agents:
        if (code := outside_code(agent)) and not trust:
            raise InputError(
                f"agent {agent['name']}: would run code outside the package, {code}; read it, then trust=true runs it"
            )
