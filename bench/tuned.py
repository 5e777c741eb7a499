"""What a tuning ends with: the best few trials on validation seeds, the tuned YAML, a table and a picture of all trials.

The original plays the validation seeds too, and stays unless another trial beats it there. The choice among a few
favours the lucky one a little; ``hvgym bench`` gives the honest figure, on test seeds.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hvgym.bench.looks import COLOURS
from hvgym.bench.space import with_values
from hvgym.bench.trial import Ground, scores_of
from hvgym.bench.tuning import Trial, Tuning
from hvgym.bench.workers import Submit, called

SPREAD_SHOWN = 1.5
"""How far below the original the picture goes, in distances from it to the best; worse trials are drawn at the edge."""


@dataclass(frozen=True)
class Validated:
    """A trial on validation seeds: mean score of each scenario."""

    trial: Trial
    scores: dict[str, float]

    @property
    def score(self) -> float:
        """Mean over scenarios."""
        return float(np.mean(list(self.scores.values())))


@dataclass(frozen=True)
class Outcome:
    """A finished tuning. agent: as its YAML has it; ground: the suite or scenario; validated: the original first."""

    agent: dict[str, Any]
    ground: str
    command: str
    seeds: int
    validation_seeds: int
    trials: Sequence[Trial]
    validated: Sequence[Validated]

    @property
    def original(self) -> Validated:
        """The agent as it is."""
        return self.validated[0]

    @property
    def best(self) -> Validated:
        """The best on validation seeds; the original unless another one beats it."""
        return max(self.validated, key=lambda one: (one.score, -one.trial.number))

    @property
    def name(self) -> str:
        """Of the tuned agent."""
        return f"{self.agent['name']}_tuned"

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Original and tuned values where they differ."""
        before, after = self.original.trial.values, self.best.trial.values
        return {key: (before[key], after[key]) for key in after if after[key] != before[key]}


def validate(
    tuning: Tuning, trials: Sequence[Trial], finalists: int, places: Sequence[Ground], folder: Path,
    submit: Submit | None = None,
) -> list[Validated]:  # fmt: skip
    """The original, then the best `finalists` others, on `places` of validation seeds; folder: of the trials; submit: of a crew."""
    others = sorted(
        (trial for trial in trials[1:] if not trial.stopped), key=lambda trial: (-trial.score, trial.number)
    )
    chosen = [trials[0], *others[:finalists]]
    wanted = [
        (with_values(tuning.agent, trial.values), place, folder / f"trial-{trial.number}")
        for trial in chosen
        for place in places
    ]
    scores = iter(called(submit, scores_of, wanted))
    return [Validated(trial, {place.scenario.name: next(scores) for place in places}) for trial in chosen]


def yaml_text(outcome: Outcome) -> str:
    """The tuned agent's YAML; it says how it came about."""
    stopped = sum(trial.stopped for trial in outcome.trials)
    steps = sum(trial.steps for trial in outcome.trials)
    best, original = outcome.best, outcome.original
    changes = ", ".join(f"{key} {before} -> {after}" for key, (before, after) in outcome.changes.items())
    verdict = (
        f"{best.score:.4f} with these values (trial {best.trial.number}), {original.score:.4f} with the original ones."
        if changes
        else f"{original.score:.4f} with the original values, which no trial beat: they are kept."
    )
    lines = [
        f"Made by: {' '.join(outcome.command.split())}",
        f"{len(outcome.trials)} trials ({stopped} stopped early), {steps:,} environment steps, on {outcome.seeds} training seeds a "
        f"scenario of {outcome.ground}.",
        f"Mean score on {outcome.validation_seeds} validation seeds a scenario: {verdict}",
        *([f"Changed: {changes}"] if changes else []),
    ]
    about = f"{outcome.agent.get('description', outcome.agent['name'])}; tuned on {outcome.ground}"
    agent = with_values(outcome.agent, outcome.best.trial.values) | {"name": outcome.name, "description": about}
    body: str = yaml.safe_dump(agent, sort_keys=False, width=120, allow_unicode=True)
    return "".join(f"# {line}\n" for line in lines) + body


def csv_text(trials: Sequence[Trial]) -> str:
    """A row a trial, floats in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(trials[0].values)
    writer.writerow(["trial", "score", "stopped", "reports", "steps", *keys])
    for trial in trials:
        counts = [len(trial.running), trial.steps]
        writer.writerow(
            [trial.number, repr(trial.score), int(trial.stopped), *counts, *(trial.values[key] for key in keys)]
        )
    return text.getvalue()


def picture(outcome: Outcome) -> bytes:
    """PNG: the trials in order, and the chosen one beside the original on each scenario's validation seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    history, validation = figure.subplots(1, 2, width_ratios=(3, 2))
    for axes in (history, validation):
        axes.spines[["top", "right"]].set_visible(False)
    _history(history, outcome.trials)
    _validation(validation, outcome)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return data.getvalue()


def _history(axes: Any, trials: Sequence[Trial]) -> None:
    whole = [trial for trial in trials if not trial.stopped]
    original, top = trials[0].score, max(trial.score for trial in whole)
    floor = original - SPREAD_SHOWN * max(top - original, 0.05)
    for group, mark, label in ((whole, "o", "played whole"), ([t for t in trials if t.stopped], "x", "stopped early")):
        inside = [trial for trial in group if trial.score >= floor]
        if inside:
            axes.plot([t.number for t in inside], [t.score for t in inside], mark, color=COLOURS[0], label=label)
    below = [trial.number for trial in trials if trial.score < floor]
    if below:
        axes.plot(below, [floor] * len(below), "v", color="#9aa6b2", label="below the edge")
    best = np.maximum.accumulate([-np.inf if trial.stopped else trial.score for trial in trials])
    axes.step(range(len(trials)), best, where="post", color=COLOURS[1], label="best so far")
    axes.axhline(original, color="#1d2733", linestyle="--", linewidth=1, label="original")
    axes.set_xlabel("trial")
    axes.set_ylabel("mean score on training seeds")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _validation(axes: Any, outcome: Outcome) -> None:
    best, original = outcome.best, outcome.original
    rows = {"mean": (original.score, best.score)}
    rows |= {name: (original.scores[name], best.scores[name]) for name in reversed(best.scores)}
    for y, (before, after) in enumerate(rows.values()):
        axes.plot([before, after], [y, y], color="#c5cdd6", linewidth=2, zorder=0)
        axes.plot(before, y, "o", color="#1d2733", label="original" if y == 0 else None)
        if outcome.changes:
            axes.plot(after, y, "o", color=COLOURS[1], label=f"tuned (trial {best.trial.number})" if y == 0 else None)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("mean score on validation seeds")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
