"""Where a run comes from, for MLflow: who ran it, the code's version and commit, the environments and the demand that was played.

Left out: what is installed beside hvgym, and the machine; a study's results do not depend on the latter.
"""

import copy
import functools
import getpass
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

import hvgym
import hvgym.envs
from hvgym.bench import suites
from hvgym.bench.identity import TRACES, digest_of_text
from hvgym.bench.protocol import Job, Protocol, learns, trains


@dataclass(frozen=True)
class Demand:
    """What an agent was trained, validated or tested on (context): scenarios on seeds, known by content. source, profile: JSON."""

    name: str
    digest: str
    context: str
    source: str
    profile: str


def origin(verb: str) -> dict[str, str]:
    """MLflow's own tags: user, command and, where the package lies in a checkout, its commit."""
    commit = _commit()
    tags = {"mlflow.user": _user(), "mlflow.source.name": f"hvgym {verb}", "mlflow.source.type": "LOCAL"}
    return tags | {"hvgym.version": hvgym.__version__} | commit


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in a container
        return "unknown"


@functools.cache
def _commit() -> dict[str, str]:
    """The commit of the package's own checkout; nothing where a package that is installed lies within somebody else's."""
    here = Path(hvgym.envs.__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return {}
    commit, changed = _git(here.parent, "rev-parse", "HEAD"), _git(here.parent, "status", "--porcelain", "-uno")
    return {"mlflow.source.git.commit": commit, "mlflow.source.git.dirty": str(bool(changed))} if commit else {}


def _git(folder: Path, *words: str) -> str | None:
    """What git says, None where it fails or is not installed."""
    try:
        said = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()


def environment(scenario: Mapping[str, Any]) -> str:
    """The environment that learners train in, scenario and all, as Gymnasium's ``EnvSpec.from_json`` reads it back."""
    spec = copy.deepcopy(
        gymnasium.spec("hvgym/Cluster-v0" if scenario.get("hosts") else "hvgym/Host-v1")
    )  # the registry holds the other
    spec.kwargs = {"scenario": json.loads(json.dumps(dict(scenario)))}
    return spec.to_json()


def demands(protocol: Protocol, agent: Mapping[str, Any]) -> list[Demand]:
    """Of an agent of a study: the test, and for one that learns training and validation, too."""
    suite, names = protocol.suite, protocol.plays(agent["name"])
    scenarios = [scenario for scenario in protocol.scenarios if scenario["name"] in names]
    seeds: dict[str, Sequence[int]] = {"test": suites.seeds("test", suite.eval_seeds)}
    if learns(agent):
        seeds["validation"] = suites.seeds("validation", suite.validation_seeds)
        seeds["train"] = [suites.training_seed(seed) for seed in range(suite.train_seeds)]
    return [_demand(suite.name, context, scenarios, of_it, protocol.sources) for context, of_it in seeds.items()]


class OfJobs:
    """What each job of a study was trained, validated and tested on; many jobs share it, and it is digested once."""

    def __init__(self) -> None:
        self._known = dict[tuple[str, str, Sequence[int]], Demand]()

    def of(self, job: Job) -> list[Demand]:
        """The test, and for one that trains training and validation, too."""
        seeds: dict[str, Sequence[int]] = {"test": job.seeds}
        if trains(job):
            seeds["validation"] = suites.seeds("validation", job.validation_seeds)
            seeds["train"] = (suites.training_seed(job.train_seed),)
        return [self._demand(job, context, of_it) for context, of_it in seeds.items()]

    def _demand(self, job: Job, context: str, seeds: Sequence[int]) -> Demand:
        name = str(job.scenario["name"])
        if (name, context, seeds) not in self._known:
            self._known[name, context, seeds] = _demand(name, context, [job.scenario], seeds, job.sources)
        return self._known[name, context, seeds]


def demands_of_training(
    name: str, scenarios: Sequence[Mapping[str, Any]], seed: int, validation_seeds: int
) -> list[Demand]:
    """Of a training alone, which has a name for what it trains on."""
    seeds: dict[str, Sequence[int]] = {"train": [suites.training_seed(seed)]}
    seeds["validation"] = suites.seeds("validation", validation_seeds)
    return [_demand(name, context, scenarios, of_it, {}) for context, of_it in seeds.items()]


def _demand(
    name: str, context: str, scenarios: Sequence[Mapping[str, Any]], seeds: Sequence[int], sources: Mapping[str, str]
) -> Demand:
    """Seeds are the episodes' own, or of a training the first of those that it draws from. What is played counts, the code not."""
    traces = {key: value for key, value in sources.items() if key.startswith(TRACES)}
    content = {"scenarios": list(scenarios), "seeds": list(seeds), "traces": traces, "context": context}
    kind = "first_seeds" if context == "train" else "seeds"
    source = {"suite": name, "scenarios": [one["name"] for one in scenarios], kind: _shown(seeds)} | traces
    profile = {"scenarios": len(scenarios)} | ({} if context == "train" else {"episodes": len(scenarios) * len(seeds)})
    digest = digest_of_text(json.dumps(content, sort_keys=True))
    return Demand(name, digest, context, json.dumps(source), json.dumps(profile))


def _shown(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if isinstance(seeds, range) else ", ".join(map(str, seeds))
