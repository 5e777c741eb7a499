"""What MLflow costs a study of many short jobs: the same jobs played without it and with it, in one process each time.

    python tests/benchmarks/recording.py [AGENTS SCENARIOS]     100 and 10: a thousand jobs

Jobs are those of suite micro, with two evaluation seeds: tens of milliseconds each, so anything longer has a smaller ratio. Prints
seconds and the ratio of what is added.
"""

import sys
import tempfile
import time
from pathlib import Path

from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.bench.tracking import Place, make_tracker
from hvgym.envs.scenario import load, load_group


def protocol_of(agents: int, scenarios: int) -> Protocol:
    """Copies of Proxmox's policy beside the ends, on copies of micro's scenarios."""
    plain = [load(name).to_dict() for name in ("no-guest-swap-short", "idle-giants-short")]
    copies = tuple(plain[i % 2] | {"name": f"{plain[i % 2]['name']}-{i}"} for i in range(scenarios))
    policy = load_group("agent", "proxmox")
    varied = [policy | {"name": f"proxmox-{i}", "target_share": 0.7 + 0.2 * i / agents} for i in range(agents)]
    ends = [load_group("agent", name) for name in ("stock", "reference")]
    names = tuple(scenario["name"] for scenario in copies)
    suite = Suite("short", "", names, tuple(agent["name"] for agent in (*varied, *ends)), eval_seeds=2)
    return Protocol(suite, (*varied, *ends), copies)


def play(kind: str, protocol: Protocol, runs: Path) -> tuple[float, float]:
    """Seconds in all, and for the report."""
    folder, began = runs / "studies" / "s", time.perf_counter()
    with make_tracker(kind, runs, Place("s")) as tracker:
        tracker.start(protocol, folder, [agent["name"] for agent in protocol.agents])
        run_study(protocol, folder, 1, lambda done, *_: tracker.job(done))
        reported = time.perf_counter()
        summary, files = write_report(folder)
        report = time.perf_counter() - reported
        tracker.finish(summary, files)
    return time.perf_counter() - began, report


def main() -> None:
    """Play once to compile, then without and with MLflow."""
    agents, scenarios = map(int, sys.argv[1:] or ("100", "10"))
    protocol = protocol_of(agents, scenarios)
    with tempfile.TemporaryDirectory() as folder:
        play("mlflow", protocol_of(1, 2), Path(folder) / "warm")
        bare, report = play("none", protocol, Path(folder) / "bare")
        tracked, again = play("mlflow", protocol, Path(folder) / "tracked")
    bare, tracked = bare - report, tracked - again
    print(
        f"{len(protocol.jobs())} jobs of {agents + 2} agents: {bare:.1f} s bare, {tracked:.1f} s with MLflow, ", end=""
    )
    print(f"{tracked / bare - 1:.1%} more")


if __name__ == "__main__":
    main()
