"""A tuning in MLflow: an experiment of its own, with a child run a trial, its parameters and every score that it reported."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hvgym.bench import usage
from hvgym.bench.job_times import first_ms, span_ms
from hvgym.bench.parented import Tells
from hvgym.bench.progress import file_of, folder_of, read
from hvgym.bench.space import space_of
from hvgym.bench.told import noted, seen_from
from hvgym.bench.tuned import Outcome
from hvgym.bench.tuning import Trial, Tuning

STATE_TAG = "state"


class TrialTracker:
    """Tells of a tuning: a child run a trial, with its parameters and every score that it reported. folder: of its trials."""

    def __init__(self, folder: Path, tells: Tells) -> None:
        self._folder, self._tells, self._took = folder, tells, list[dict[str, float]]()

    def start(self, tuning: Tuning) -> None:
        """Open the parent run."""
        agent = tuning.agent["name"]
        self._tells.open(
            key=tuning.hash,
            title=f"tune {agent}",
            note=f"Tuning of **{agent}**. Open the artifact trials.png for all trials and the validation of the best.",
            params={"agent": agent, "seeds": tuning.seeds, "seed": tuning.seed},
            start_ms=first_ms([], folder_of(self._folder).glob("*.jsonl")),
            files={"tuning.json": json.dumps(tuning.identity, indent=1)},
            searched=[parameter.key for parameter in space_of(tuning.agent)],
        )

    def trial(self, trial: Trial) -> None:
        """Record a finished trial; one that is recorded already is left alone."""
        lines = read(file_of(self._folder, f"trial-{trial.number}"))
        self._took.append(usage.of(lines))
        running = [("running_score", score, point) for point, score in enumerate(trial.running)]
        self._tells.child(
            key=str(trial.number),
            title=f"trial {trial.number}",
            points=[("score", trial.score, 0), ("steps", float(trial.steps), 0), *running],
            params=trial.values,
            span_ms=span_ms(None, lines),
            took=self._took[-1],
            tags={STATE_TAG: "stopped early" if trial.stopped else "played whole"},
        )

    def finish(self, outcome: Outcome, artifacts: Sequence[Path]) -> None:
        """Record the choice and its files."""
        figures = {"original": outcome.original, "tuned": outcome.best}
        points = [(f"{name}/validation_score", result.score, 0) for name, result in figures.items()]
        points += [(f"{name}/training_score", result.trial.score, 0) for name, result in figures.items()]
        points += [("trials", float(len(outcome.trials)), 0)]
        took, files = usage.together(self._took), seen_from(self._folder, artifacts)
        self._tells.close(points=points, took=took, artifacts=files)


@contextmanager
def make_trial_tracker(kind: str, runs: Path, name: str) -> Iterator[TrialTracker | None]:
    """`kind` is none, mlflow, or the address of a server; None where nothing is recorded."""
    folder = runs / "tune" / name
    with noted(kind, runs, folder) as tells:
        yield TrialTracker(folder, tells) if tells else None
