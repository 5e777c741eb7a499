"""A tuning in MLflow: an experiment of its own, with a child run a trial, its parameters and every score that it reported."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hvgym.bench import store
from hvgym.bench.tracking import Experiment, marked
from hvgym.bench.tuned import Outcome
from hvgym.bench.tuning import Trial, Tuning

STATE_TAG = "hvgym.state"


class TrialTracker(Experiment):
    """Records a tuning: a child run a trial, with its parameters and every score that it reported."""

    def __init__(self, runs: Path, name: str) -> None:
        super().__init__(runs, f"tune/{name}")

    def start(self, tuning: Tuning) -> None:
        """Open the parent run."""
        agent = tuning.agent["name"]
        note = f"Tuning of **{agent}**. Open the artifact trials.png for all trials and the validation of the best."
        params = {"agent": agent, "seeds": tuning.seeds, "seed": tuning.seed}
        with store.explained(self._runs):
            self._open_parent(tuning.hash, f"tune {agent}", note, params)
            self._client.log_dict(self._parent, tuning.identity, "tuning.json")

    def trial(self, trial: Trial) -> None:
        """Record a finished trial; one that is recorded already is left alone."""
        if str(trial.number) not in self._recorded:
            with store.explained(self._runs):
                self._record(trial)

    def _record(self, trial: Trial) -> None:
        key = str(trial.number)
        state = "stopped early" if trial.stopped else "played whole"
        run_id = self._open_child(key, f"trial {key}", **{STATE_TAG: state})
        self._log_params(run_id, trial.values)
        running = [("running_score", score, point) for point, score in enumerate(trial.running)]
        self._log_metrics(run_id, [("score", trial.score, 0), ("steps", float(trial.steps), 0), *running])
        self._close_child(run_id, key)

    def finish(self, outcome: Outcome, artifacts: Sequence[Path]) -> None:
        """Record the choice and its files."""
        figures = {"original": outcome.original, "tuned": outcome.best}
        points = [(f"{name}/validation_score", result.score, 0) for name, result in figures.items()]
        points += [(f"{name}/training_score", result.trial.score, 0) for name, result in figures.items()]
        with store.explained(self._runs):
            self._close_parent([*points, ("trials", float(len(outcome.trials)), 0)], artifacts)


@contextmanager
def make_trial_tracker(kind: str, runs: Path, name: str) -> Iterator[TrialTracker | None]:
    """The same for a tuning; None where nothing is recorded."""
    if kind == "none":
        yield None
        return
    with marked(TrialTracker(runs, name)) as tracker:
        yield tracker
