"""Which policies of a study are logged as models (``models``), and with which run."""

from collections.abc import Collection
from pathlib import Path

from hvgym.agents.policy import SEES_ALL
from hvgym.bench.jobs import Done
from hvgym.bench.models import Models, checkpoint_of, ground_of, model_name, vms_of
from hvgym.bench.protocol import Protocol, learns
from hvgym.bench.recording import Experiment


class StudyModels:
    """The models of a study: a learner's with its job, any other agent's once with the agent. chosen: agents whose policies are
    logged."""

    def __init__(self, experiment: Experiment, protocol: Protocol, folder: Path, chosen: Collection[str]) -> None:
        self._models, self._protocol, self._folder, self._chosen = (
            Models(experiment),
            protocol,
            folder,
            frozenset(chosen),
        )
        self._registered = set[str]()

    def find(self, runs: Collection[str], gone: Collection[str]) -> None:
        """Look which of these runs have their model, and delete those of runs that are gone."""
        self._models.find(runs, gone)

    def log(self, done: Done, agent: str, training: str) -> None:
        """Log the policy that played, unless it is there. agent, training: ids of the agent's run and, of one that learns, of the
        job's."""
        job, name = done.job, done.job.agent["name"]
        if name not in self._chosen or done.sees == SEES_ALL:
            return
        checkpoint = checkpoint_of(self._folder, done.model, job.agent)
        if not learns(job.agent):
            if self._models.of(agent) is None:
                scenarios = [one for one in self._protocol.scenarios if one["name"] in self._protocol.plays(name)]
                self._models.log(agent, model_name(name), job.agent, vms_of(scenarios), checkpoint)
            return
        if not done.curve:  # a later block of evaluation seeds, played with the network of the first
            return
        if self._models.of(training) is None:
            self._registered.discard(job.key)
            title = model_name(name, job.scenario["name"], job.train_seed)
            self._models.log(training, title, job.agent, vms_of([job.scenario]), checkpoint)
        if job.key not in self._registered:
            ground = ground_of(job.scenario, job.validation_seeds, job.sources)
            best = max(point["best"] for point in done.curve)
            self._models.register(model_name(name, job.scenario["name"]), training, job.key, best, ground)
            self._registered.add(job.key)
