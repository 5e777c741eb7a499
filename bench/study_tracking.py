"""A study in MLflow: what is recorded, and when.

    experiment hvgym/STUDY      its description is the leaderboard
      run "study"               protocol, environments, report; tag stage=study
      run AGENT                 the rows that one compares: a dozen metrics, written when the study's summary exists; stage=agent
        run AGENT on SCENARIO   a job: its metrics, its learning curve, its episodes as a table; stage=job

A sweep (``hvgym bench -m``) is one experiment too, with such runs for each combination and the swept keys as their
parameters. Agents may be added, as may seeds: several jobs of an agent, a scenario and a training seed are several runs.

The study's folder is the truth. Runs are found again by their tags, and whatever the folder has and MLflow lacks is recorded: so a
study that goes on after a kill repeats nothing and leaves nothing half written, and what was deleted is made anew. Only the process
that leads a study writes. Times are those of the jobs' progress and files (``job_times``).
"""

import json
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hvgym.bench import run_contents, usage, views
from hvgym.bench.beaten import alarms
from hvgym.bench.bulk import NewRun, Point
from hvgym.bench.curves import Curve
from hvgym.bench.identity import digest_of_text
from hvgym.bench.job_times import first_ms, now_ms, span_ms
from hvgym.bench.jobs import Done, job_file
from hvgym.bench.levels import read_levels
from hvgym.bench.progress import Line, file_of, folder_of, follow, read
from hvgym.bench.protocol import Job, Protocol, learns, played, trains
from hvgym.bench.provenance import OfJobs, demands, environment, origin
from hvgym.bench.recording import NOTE, PARENT, Experiment, new_run
from hvgym.bench.study_models import StudyModels
from hvgym.bench.study_note import note_local
from hvgym.bench.study_runs import (
    AGENT_TAG,
    CONFIGURATION,
    EPISODES,
    JOB_TAG,
    STAGE,
    STUDY_TAG,
    TABLES,
    Run,
    StudyRuns,
    key_of,
)
from hvgym.bench.tracking import Place
from hvgym.envs.errors import InputError

ALARM_TAG = "hvgym.beaten"
"""Of a study: the first agent that beats its reference."""

EVERY_S = 1.0
"""How long a finished job that is no training may wait for others, to be recorded with them."""


class MlflowTracker:
    """Records a study in MLflow."""

    def __init__(self, runs: Path, place: Place, server: str = "") -> None:
        self._place, self._experiment, self._server = place, Experiment(runs, place.experiment, server), server
        self._lock = threading.RLock()  # the thread that looks at learning curves records, too
        self._study: Run | None = None
        self._agents, self._jobs, self._live = dict[str, Run](), dict[str, Run](), dict[str, Run]()
        self._done, self._curves, self._training = dict[str, Done](), dict[str, Curve](), dict[str, Job]()
        self._waiting, self._added_s = dict[str, NewRun](), 0.0
        self._keys_of = dict[str, str]()
        self._usage, self._of_jobs = dict[str, dict[str, float]](), OfJobs()

    @property
    def experiment(self) -> str:
        """The id of the experiment, once it is open."""
        return self._experiment.id

    def start(self, protocol: Protocol, folder: Path, models: Collection[str] = ()) -> None:
        """See `Tracker`."""
        with self._lock:
            self._protocol, self._folder = protocol, folder
            jobs = protocol.jobs()
            self._configs = {job.agent["name"]: job.agent for job in jobs}
            self._keys_of_jobs = {
                name: [job.key for job in jobs if job.agent["name"] == name] for name in self._configs
            }
            self._apart = run_contents.differing(self._configs.values())
            self._hash = key_of(protocol, folder.name, self._place)
            self._models = StudyModels(self._experiment, protocol, folder, models)
            self._experiment.open(views.of_study(self._place.swept))
            if not self._server:
                note_local(folder, self._place)
            self._find()
            self._open_study()
            self._training = {job.key: job for job in jobs if learns(job.agent) and job.key not in self._jobs}
            self._news = follow(folder_of(folder))

    def _find(self) -> None:
        """What of this study is recorded. A job that was cut short, or lost its artifacts or its agent's run, is deleted."""
        found = StudyRuns.find(self._experiment, self._hash)
        self._study, self._agents, self._jobs, self._bare = found.study, found.agents, found.jobs, found.bare
        self._live, self._waiting = {}, {}
        self._models.find(found.ids, found.gone)

    def _open_study(self) -> None:
        """Open the study's run, or take it up again; what it is about stands in its artifacts from the start."""
        protocol = self._protocol
        if self._study:
            self._experiment.running(self._study.id)
        else:
            tags = self._tags("study") | {NOTE: run_contents.note(protocol)}
            start = first_ms((self._folder / "jobs").glob("*.json"), folder_of(self._folder).glob("*.jsonl"))
            self._study = Run(self._experiment.create(f"study{self._place.suffix}", tags, start))
            self._experiment.log(self._study.id, params=self._place.swept)
        content = {"agents": protocol.agents, "codes": protocol.codes} | protocol.identity
        self._experiment.text(self._study.id, json.dumps(content, indent=1), "protocol.json")
        for scenario in protocol.scenarios:
            self._experiment.text(self._study.id, environment(scenario), f"environments/{scenario['name']}.json")

    def _tags(self, stage: str) -> dict[str, str]:
        of_study = run_contents.tags_of_study(self._protocol, self._folder)
        return {STUDY_TAG: self._hash, STAGE: stage} | of_study | origin("bench")

    def job(self, done: Done) -> None:
        """See `Tracker`."""
        with self._lock:
            self._done[done.job.key] = done
            self._record(done)
            if time.monotonic() - self._added_s > EVERY_S:
                self._add()

    def _record(self, done: Done) -> None:
        """Record what of a finished job is not there; one that is no training at the next `_add`."""
        job, key = done.job, done.job.key
        lines = read(file_of(self._folder, key))
        start, end = span_ms(job_file(self._folder, job), lines)
        self._usage[key] = usage.of(lines)
        agent = self._agent(job, done.sees, start)
        agent.end_ms = max(agent.end_ms, end)
        if key not in self._jobs and key not in self._waiting:
            if agent.status != "RUNNING":
                self._experiment.running(agent.id)
                agent.status = "RUNNING"
            points = [Point(name, value, 0, end) for name, value in run_contents.means(done.rows).items()]
            points += usage.points(self._usage[key], end)
            if learns(job.agent):
                self._close_training(done, agent, points, start, end)
            else:
                new = self._new_job(job, agent, done.sees, start)
                files = {EPISODES: run_contents.episodes(done)}
                self._waiting[key] = replace(new, end_ms=end, points=points, files=files)
        self._models.log(done, agent.id, self._jobs[key].id if learns(job.agent) else "")

    def _add(self) -> None:
        """Record the jobs that wait for it, all at once."""
        ids = self._experiment.add(list(self._waiting.values()))
        for (key, run), run_id in zip(self._waiting.items(), ids, strict=True):
            self._jobs[key] = Run(run_id, "FINISHED", parent=run.tags[PARENT])
        self._waiting, self._added_s = {}, time.monotonic()

    def _close_training(self, done: Done, agent: Run, points: list[Point], start: int, end: int) -> None:
        job, run = done.job, self._live.pop(done.job.key, None)
        if run is None or self._experiment.is_deleted(run.id):
            self._curves.pop(job.key, None)
            run = self._open_training(job, agent, done.sees, start)
        curve = self._curve(job)
        points += [*curve.points(read(file_of(self._folder, job.key))), *curve.rest(done.curve, end)]
        self._experiment.log(run.id, points)
        self._experiment.text(run.id, run_contents.episodes(done), EPISODES)
        self._experiment.close(run.id, end)
        self._jobs[job.key] = run
        self._training.pop(job.key, None)

    def _agent(self, job: Job, sees: str, start_ms: int) -> Run:
        """The run of a job's agent, with what belongs to it from the start."""
        name = job.agent["name"]
        if name not in self._keys_of:
            content = [self._hash, played(job.agent), job.code]
            self._keys_of[name] = digest_of_text(json.dumps(content, sort_keys=True))
        key = self._keys_of[name]
        if key not in self._agents:
            tags = self._tags("agent") | run_contents.tags_of_agent(job.agent, sees) | {AGENT_TAG: key}
            files = {CONFIGURATION: json.dumps(job.agent, indent=1)}
            title, inputs = f"{name}{self._place.suffix}", demands(self._protocol, self._configs[name])
            began = min(start_ms, self._began_ms(name))
            new = new_run(title, tags, self._params(name), began, files=files, demands=inputs)
            digests = frozenset(one.digest for one in inputs)
            self._agents[key] = Run(self._experiment.add([new])[0], params=dict(new.params), demands=digests)
        agent = self._agents[key]
        if agent.id in self._bare:
            self._experiment.text(agent.id, json.dumps(job.agent, indent=1), CONFIGURATION)
            self._bare.discard(agent.id)
        return agent

    def _began_ms(self, agent: str) -> int:
        """When the first of an agent's jobs began: another one may be finished first."""
        return first_ms([], [file_of(self._folder, key) for key in self._keys_of_jobs[agent]])

    def _params(self, agent: str) -> dict[str, Any]:
        return {"agent": agent} | dict(self._place.swept) | self._apart.get(agent, {})

    def _log_params(self, agent: Run, name: str) -> None:
        """Those that are not there; agents that are added later may differ in more."""
        missing = {key: str(value) for key, value in self._params(name).items() if key not in agent.params}
        if missing:
            self._experiment.log(agent.id, params=missing)
            agent.params |= missing

    def _log_demands(self, agent: Run, name: str) -> None:
        """Those that are not there; seeds and scenarios may be added later."""
        wanted = demands(self._protocol, self._configs[name])
        if missing := [one for one in wanted if one.digest not in agent.demands]:
            self._experiment.demands(agent.id, missing)
            agent.demands |= {one.digest for one in missing}

    def _new_job(self, job: Job, agent: Run, sees: str, start_ms: int) -> NewRun:
        tags = self._tags("job") | run_contents.tags_of_agent(job.agent, sees) | {JOB_TAG: job.key} | TABLES
        tags |= {"hypervisor": job.scenario["hypervisor"]["name"], "scenario": job.scenario["name"]}
        params = {"agent": job.agent["name"], "scenario": job.scenario["name"]} | dict(self._place.swept)
        params |= {"train_seed": job.train_seed} if learns(job.agent) else {}
        tags |= {"trains": "yes"} if trains(job) else {}
        inputs = self._of_jobs.of(job)
        return new_run(f"{job.name}{self._place.suffix}", tags, params, start_ms, agent.id, demands=inputs)

    def _open_training(self, job: Job, agent: Run, sees: str, start_ms: int) -> Run:
        new = self._new_job(job, agent, sees, start_ms)
        return Run(self._experiment.add([new])[0], params=dict(new.params), parent=agent.id)

    def _curve(self, job: Job) -> Curve:
        if job.key not in self._curves:
            levels = lambda: read_levels(self._folder, job.agent, job.scenario, job.validation_seeds)  # noqa: E731
            self._curves[job.key] = Curve(levels)
        return self._curves[job.key]

    def look(self) -> None:
        """Record what trainings that run have told since the last time, and the jobs that wait."""
        with self._lock:
            if self._waiting:
                self._add()
            if not self._training:
                return
            for key, lines in self._news().items():
                if key in self._training:
                    self._go_on(self._training[key], lines)

    def _go_on(self, job: Job, lines: Sequence[Line]) -> None:
        if job.key not in self._live:
            start = round(lines[0]["at"] * 1000)
            sees = run_contents.seen_in_training(job.agent)
            self._live[job.key] = self._open_training(job, self._agent(job, sees, start), sees, start)
        try:
            self._experiment.log(self._live[job.key].id, self._curve(job).points(lines))
        except InputError:  # it was deleted, say; at the training's end all of it is recorded, or what is wrong is said
            del self._training[job.key]

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """See `Tracker`."""
        with self._lock:
            self._add()
            if not self._is_there():  # what was deleted while the study ran is made anew
                self._find()
                if self._study is None:
                    self._open_study()
                for done in self._done.values():
                    self._record(done)
                self._add()
            self._delete_stale()
            self._log_scores(summary)
            self._close_agents(summary)
            self._close_study(summary, artifacts)

    def _is_there(self) -> bool:
        """Whether everything that has been recorded still is, with its artifacts."""
        runs = [*self._agents.values(), *self._jobs.values(), *([self._study] if self._study else [])]
        tables = {run.id: EPISODES for run in self._jobs.values()}
        files = tables | {run.id: CONFIGURATION for run in self._agents.values()}
        return self._study is not None and self._experiment.holds([run.id for run in runs], files)

    def _delete_stale(self) -> None:
        """Jobs of an agent that are none of the study's: its folder was deleted and made anew. Those of code that was edited stay
        with the run that their agent had then."""
        current = {self._jobs[key].parent for key in self._done}
        for key, run in list(self._jobs.items()):
            if key not in self._done and run.parent in current:
                self._experiment.delete(run.id)
                del self._jobs[key]

    def _log_scores(self, summary: Mapping[str, Any]) -> None:
        at_ms, new = now_ms(), dict[str, list[Point]]()
        for key, score in run_contents.scores(self._protocol, self._done.values(), summary).items():
            if self._jobs[key].metrics.get("score") != score:
                new[self._jobs[key].id] = [Point("score", score, 0, at_ms)]
        self._experiment.log_many(new)

    def _close_agents(self, summary: Mapping[str, Any]) -> None:
        """Give every agent its figures. One that is no longer played, for its code was edited say, keeps what it has."""
        at_ms, rows, took = now_ms(), dict[str, list[dict[str, float]]](), dict[str, list[dict[str, float]]]()
        for key, done in self._done.items():
            rows.setdefault(done.job.agent["name"], []).extend(done.rows)
            took.setdefault(done.job.agent["name"], []).append(self._usage[key])
        current = {self._agents[self._keys_of[name]].id: name for name in rows}
        new = dict[str, list[Point]]()
        for agent in [one for one in self._agents.values() if one.id in current]:
            name = current[agent.id]
            figures = run_contents.means(rows[name]) | run_contents.figures(summary, name)
            points = [Point(key, value, 0, at_ms) for key, value in figures.items()]
            points += usage.points(usage.together(took[name]), agent.end_ms)
            new[agent.id] = [point for point in points if agent.metrics.get(point.name) != point.value]
            self._log_params(agent, name)
            self._log_demands(agent, name)
        self._experiment.log_many(new)
        for agent in self._agents.values():
            if agent.id in current:
                self._experiment.close(agent.id, agent.end_ms)
            elif agent.status == "RUNNING":
                self._experiment.close(agent.id, at_ms, "KILLED")

    def _close_study(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        assert self._study is not None
        note = run_contents.note(self._protocol, summary)
        tags = {NOTE: note}
        for line in alarms(summary)[:1]:  # the report has them all
            tags[ALARM_TAG] = line
        end_ms = max((run.end_ms for run in self._agents.values()), default=now_ms())
        took = usage.together(self._usage[key] for key in self._done)
        self._experiment.log(self._study.id, usage.points(took, end_ms), tags=tags)
        for path in artifacts:
            self._experiment.file(self._study.id, path)
        self._experiment.close(self._study.id, end_ms)
        self._experiment.describe(self._description(self._study.id, note))

    def _description(self, study: str, note: str) -> str:
        """Of the experiment: the leaderboard, in a sweep that of each combination."""
        learners = any(learns(agent) for agent in self._configs.values())
        if not self._place.swept:
            return f"{views.links(self._experiment.id, study, learners)}\n\n{note}"
        studies = self._experiment.runs(STAGE, "study")
        notes = [
            f"#### {run.info.run_name}\n{views.report(self._experiment.id, run.info.run_id)}\n\n{run.data.tags.get(NOTE, '')}"
            for run in studies
        ]
        return "\n\n".join([views.links(self._experiment.id, learners=learners), *notes])

    def stopped(self, status: str) -> None:
        """Close the runs that are still open, after a failure (FAILED) or an interrupt (KILLED)."""
        with self._lock:
            with suppress(Exception):
                self._add()
            at_ms = now_ms()
            open_agents = [run for run in self._agents.values() if run.status == "RUNNING"]
            for run in [*self._live.values(), *open_agents, *([self._study] if self._study else [])]:
                with suppress(Exception):  # one that was deleted
                    self._experiment.close(run.id, at_ms, status)
