"""An advice in MLflow: an experiment of its own, ``advise/NAME``, with the page as artifact and a child run a policy: its safe
ratio at every reading, and its curves (step: ratio in per cent)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvgym.bench import usage
from hvgym.bench.advice import Advice
from hvgym.bench.advice_own import OwnFleet
from hvgym.bench.density import Rule
from hvgym.bench.identity import digest_of_text
from hvgym.bench.job_times import first_ms
from hvgym.bench.parented import Figure, Tells
from hvgym.bench.progress import folder_of
from hvgym.bench.told import ADVICE, noted, seen_from, tell_child

CURVE = ("missed", "missed_lo", "missed_hi", "kills")


class AdviceTracker:
    """Tells of an advice. folder: its own."""

    def __init__(self, folder: Path, tells: Tells) -> None:
        self._folder, self._tells = folder, tells

    def start(self, own: OwnFleet, rule: Rule) -> None:
        """Open the parent run."""
        case = own.case
        params = {
            "hypervisor": case.hypervisor["name"], "vms": len(case.names), "hosts": case.hosts, "ram_mib": case.ram_mib,
            "windows": len(case.seeds), "share_played": own.windows.share,
        } | asdict(rule)  # fmt: skip
        self._tells.open(
            key=digest_of_text(json.dumps({"case": case.hash, "params": params}, sort_keys=True)),
            title="advice",
            note="How far these hosts may be overcommitted. Open the artifact **advice.html**.",
            params=params,
            start_ms=first_ms((self._folder / "jobs").glob("*.json"), folder_of(self._folder).glob("*.jsonl")),
            files={},
        )

    def finish(self, advice: Advice, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record every policy that is not there yet, and the files."""
        points, took = list[Figure](), dict[str, dict[str, float]]()
        for name, one in summary["policies"].items():
            figures = {"safe_ratio": one["safe"]}
            for level, of_it in one["levels"].items():
                figures |= {
                    f"ratio_{level}": of_it["density"],
                    f"ratio_{level}_lo": of_it["lo"],
                    f"ratio_{level}_hi": of_it["hi"],
                }
            took |= self._policy(advice, name, one, figures)
            points += [(f"{name}/{key}", value, 0) for key, value in figures.items()]
        files = seen_from(self._folder, artifacts)
        self._tells.close(points=points, took=usage.together(took.values()), artifacts=files)

    def _policy(
        self, advice: Advice, name: str, one: Mapping[str, Any], figures: Mapping[str, float]
    ) -> dict[str, dict[str, float]]:
        """Tell of a policy; what each of its jobs took, by key."""
        points = [
            (f"{figure}_{level}", float(at[figure]), round(100 * float(ratio)))
            for level, of_it in one["levels"].items()
            for ratio, at in of_it["curve"].items()
            for figure in CURVE
        ]
        points += [(figure, value, 0) for figure, value in figures.items()]
        jobs = [
            advice.job(name, level, ratio).key for level, found in advice.found[name].items() for ratio in found.raw
        ]
        return tell_child(self._tells, self._folder, name, digest_of_text(json.dumps([name, points])), points, jobs)


@contextmanager
def make_advice_tracker(kind: str, runs: Path, name: str) -> Iterator[AdviceTracker | None]:
    """`kind` is none, which gives None, mlflow, or the address of a server. What fails or is interrupted is marked so."""
    folder = runs / ADVICE / name
    with noted(kind, runs, folder) as tells:
        yield AdviceTracker(folder, tells) if tells else None
