"""The runs of a study as they stand in MLflow, found by their tags."""

import json
from dataclasses import dataclass, field
from typing import Any

from hvgym.bench.identity import digest_of_text
from hvgym.bench.protocol import Protocol
from hvgym.bench.recording import PARENT, Experiment
from hvgym.bench.tracking import Place

STUDY_TAG, AGENT_TAG, JOB_TAG, STAGE = "hvgym.study", "hvgym.agent", "hvgym.job", "stage"
"""By these a run is found: digests of what it is of, and whether that is a study, an agent or a job."""

EPISODES, CONFIGURATION = "episodes.json", "agent.json"
"""The artifact that each job has, and the one that each agent has."""

TABLES = {"mlflow.loggedArtifacts": json.dumps([{"path": EPISODES, "type": "table"}])}
"""The tag by which MLflow's UI and ``load_table`` know that an artifact is a table."""


@dataclass
class Run:
    """A run as it stands in MLflow. demands: digests of its inputs; parent: its agent's run; end_ms: when its last job ended."""

    id: str
    status: str = "RUNNING"
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    demands: frozenset[str] = frozenset()
    parent: str = ""
    end_ms: int = 0

    @staticmethod
    def of(found: Any) -> "Run":
        """As the client gives it."""
        inputs = found.inputs.dataset_inputs if found.inputs else []
        digests, parent = frozenset(one.dataset.digest for one in inputs), found.data.tags.get(PARENT, "")
        return Run(found.info.run_id, found.info.status, found.data.metrics, found.data.params, digests, parent)


@dataclass
class StudyRuns:
    """Of a study: its own run, those of agents and of finished jobs by key; bare: ids of agents' without configuration; all ids;
    gone: ids of those that were deleted."""

    study: Run | None = None
    agents: dict[str, Run] = field(default_factory=dict)
    jobs: dict[str, Run] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    @staticmethod
    def find(experiment: Experiment, key: str) -> "StudyRuns":
        """Look for them. A job's run that was cut short, or lost its artifacts or its agent's run, is deleted."""
        found, runs = experiment.runs(STUDY_TAG, key), StudyRuns()
        runs.ids = {run.info.run_id for run in found}
        for one in found:
            tags, run = one.data.tags, Run.of(one)
            if tags[STAGE] == "study":
                runs.study = run
            elif tags[STAGE] == "agent":
                runs.agents[tags[AGENT_TAG]] = run
                if not experiment.furnished(one, CONFIGURATION):
                    runs.bare.add(run.id)
            elif run.status == "FINISHED" and run.parent in runs.ids and experiment.furnished(one, EPISODES):
                runs.jobs[tags[JOB_TAG]] = run
            else:
                experiment.delete(run.id)
                runs.gone.add(run.id)
        return runs


def key_of(protocol: Protocol, study: str, place: Place) -> str:
    """What a study's runs have in common and others' have not, also when it grows by agents, scenarios or seeds."""
    suite, code = protocol.suite, protocol.sources.get("code", "")
    content = [study, code, suite.validation_seeds, suite.train_steps, protocol.rules, dict(place.swept)]
    return digest_of_text(json.dumps(content))
