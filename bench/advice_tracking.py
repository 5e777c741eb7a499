"""An advice in MLflow: an experiment of its own, ``advise/NAME``, with the page as artifact and a child run a policy: its safe
ratio at every reading, and its curves (step: ratio in per cent)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvgym.bench.advice import Advice
from hvgym.bench.advice_own import OwnFleet
from hvgym.bench.delivery import at_server
from hvgym.bench.density import Rule
from hvgym.bench.identity import digest_of_text
from hvgym.bench.job_times import first_ms, span_ms
from hvgym.bench.parented import Parented
from hvgym.bench.progress import file_of, folder_of
from hvgym.bench.recording import marked

CURVE = ("missed", "missed_lo", "missed_hi", "kills")


class AdviceTracker(Parented):
    """Records an advice."""

    def __init__(self, runs: Path, name: str, server: str = "") -> None:
        super().__init__(runs, f"advise/{name}", "advise", server)
        self._folder = runs / "advice" / name

    def start(self, own: OwnFleet, rule: Rule) -> None:
        """Open the parent run."""
        case = own.case
        params = {
            "hypervisor": case.hypervisor["name"], "vms": len(case.names), "hosts": case.hosts, "ram_mib": case.ram_mib,
            "windows": len(case.seeds), "share_played": own.windows.share,
        } | asdict(rule)  # fmt: skip
        key = digest_of_text(json.dumps({"case": case.hash, "params": params}, sort_keys=True))
        note = "How far these hosts may be overcommitted. Open the artifact **advice.html**."
        began = first_ms((self._folder / "jobs").glob("*.json"), folder_of(self._folder).glob("*.jsonl"))
        self.open(key, "advice", note, params, began)

    def finish(self, advice: Advice, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record every policy that is not there yet, and the files."""
        points = list[tuple[str, float, int]]()
        for name, one in summary["policies"].items():
            figures = {"safe_ratio": one["safe"]}
            for level, of_it in one["levels"].items():
                figures |= {
                    f"ratio_{level}": of_it["density"],
                    f"ratio_{level}_lo": of_it["lo"],
                    f"ratio_{level}_hi": of_it["hi"],
                }
            self._policy(advice, name, one, figures)
            points += [(f"{name}/{key}", value, 0) for key, value in figures.items()]
        self.close(points, artifacts)

    def _policy(self, advice: Advice, name: str, one: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        points = [
            (f"{figure}_{level}", float(at[figure]), round(100 * float(ratio)))
            for level, of_it in one["levels"].items()
            for ratio, at in of_it["curve"].items()
            for figure in CURVE
        ]
        points += [(figure, value, 0) for figure, value in figures.items()]
        key = digest_of_text(json.dumps([name, points]))
        self.child(key, name, points, {"agent": name}, self._span_ms(advice, name))

    def _span_ms(self, advice: Advice, name: str) -> tuple[int, int]:
        """From the first of an agent's jobs to the last."""
        jobs = [advice.job(name, level, ratio) for level, one in advice.found[name].items() for ratio in one.raw]
        spans = [span_ms(job.file(self._folder), file_of(self._folder, job.key)) for job in jobs]
        return min(start for start, _ in spans), max(end for _, end in spans)


@contextmanager
def make_advice_tracker(kind: str, runs: Path, name: str) -> Iterator[AdviceTracker | None]:
    """`kind` is none, which gives None, mlflow, or the address of a server. What fails or is interrupted is marked so."""
    if kind == "none":
        yield None
        return
    if kind != "mlflow":
        with at_server(kind, lambda: AdviceTracker(runs, name, kind)) as tracker:
            yield tracker
        return
    with marked(AdviceTracker(runs, name)) as tracker:
        yield tracker
