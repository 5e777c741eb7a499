"""A tuning in MLflow: an experiment of its own, with a child run a trial, its parameters and every score that it reported."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hvgym.bench.delivery import at_server
from hvgym.bench.job_times import first_ms, span_ms
from hvgym.bench.parented import Parented
from hvgym.bench.progress import file_of, folder_of, read
from hvgym.bench.recording import marked
from hvgym.bench.tuned import Outcome
from hvgym.bench.tuning import Trial, Tuning

STATE_TAG = "hvgym.state"


class TrialTracker(Parented):
    """Records a tuning: a child run a trial, with its parameters and every score that it reported."""

    def __init__(self, runs: Path, name: str, server: str = "") -> None:
        super().__init__(runs, f"tune/{name}", "tune", server)
        self._folder = runs / "tune" / name

    def start(self, tuning: Tuning) -> None:
        """Open the parent run."""
        agent = tuning.agent["name"]
        note = f"Tuning of **{agent}**. Open the artifact trials.png for all trials and the validation of the best."
        params = {"agent": agent, "seeds": tuning.seeds, "seed": tuning.seed}
        began = first_ms([], folder_of(self._folder).glob("*.jsonl"))
        parent = self.open(tuning.hash, f"tune {agent}", note, params, began)
        self.experiment.text(parent, json.dumps(tuning.identity, indent=1), "tuning.json")

    def trial(self, trial: Trial) -> None:
        """Record a finished trial; one that is recorded already is left alone."""
        running = [("running_score", score, point) for point, score in enumerate(trial.running)]
        points = [("score", trial.score, 0), ("steps", float(trial.steps), 0), *running]
        state = "stopped early" if trial.stopped else "played whole"
        span = span_ms(None, read(file_of(self._folder, f"trial-{trial.number}")))
        self.child(str(trial.number), f"trial {trial.number}", points, trial.values, span, **{STATE_TAG: state})

    def finish(self, outcome: Outcome, artifacts: Sequence[Path]) -> None:
        """Record the choice and its files."""
        figures = {"original": outcome.original, "tuned": outcome.best}
        points = [(f"{name}/validation_score", result.score, 0) for name, result in figures.items()]
        points += [(f"{name}/training_score", result.trial.score, 0) for name, result in figures.items()]
        self.close([*points, ("trials", float(len(outcome.trials)), 0)], artifacts)


@contextmanager
def make_trial_tracker(kind: str, runs: Path, name: str) -> Iterator[TrialTracker | None]:
    """`kind` is none, mlflow, or the address of a server; None where nothing is recorded."""
    if kind == "none":
        yield None
        return
    if kind != "mlflow":
        with at_server(kind, lambda: TrialTracker(runs, name, kind)) as tracker:
            yield tracker
        return
    with marked(TrialTracker(runs, name)) as tracker:
        yield tracker
