"""What MLflow costs a study of many short jobs: the same jobs played without it and with it, in one process each time.

    python tests/benchmarks/recording.py [AGENTS SCENARIOS]     100 and 10: a thousand jobs

Jobs are those of suite micro: some tens of milliseconds each, so anything longer has a smaller ratio. Prints seconds of the
processor and on the clock, without the report's, and how much is added. The store is there before: it is made once a runs folder.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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
    suite = Suite("short", "", names, tuple(agent["name"] for agent in (*varied, *ends)), eval_seeds=4)
    return Protocol(suite, (*varied, *ends), copies)


def now() -> np.ndarray:
    """Seconds of this process's processor time, and on the clock."""
    return np.array([time.process_time(), time.perf_counter()])


def play(kind: str, protocol: Protocol, runs: Path, name: str) -> np.ndarray:
    """What a study takes without its report."""
    folder, began = runs / "studies" / name, now()
    with make_tracker(kind, runs, Place(name)) as tracker:
        tracker.start(protocol, folder, [agent["name"] for agent in protocol.agents])
        run_study(protocol, folder, 1, lambda done, *_: tracker.job(done))
        reported = now()
        summary, files = write_report(folder)
        report = now() - reported
        tracker.finish(summary, files)
    return now() - began - report


def main() -> None:
    """Play once to compile, then without and with MLflow."""
    agents, scenarios = map(int, sys.argv[1:] or ("100", "10"))
    protocol = protocol_of(agents, scenarios)
    with tempfile.TemporaryDirectory() as folder:
        play("mlflow", protocol_of(1, 2), Path(folder), "warm")
        bare = play("none", protocol, Path(folder), "bare")
        tracked = play("mlflow", protocol, Path(folder), "tracked")
    print(f"{len(protocol.jobs())} jobs of {agents + 2} agents, without and with MLflow")
    for what, without, with_it in zip(("processor", "clock"), bare, tracked, strict=True):
        print(f"{what:10} {without:7.1f} s {with_it:7.1f} s  {with_it / without - 1:+.1%}")


if __name__ == "__main__":
    main()
