"""Two workers against one: the same study of equal jobs, played by one process and by two, turn by turn; prints the ratio of times.

    python tests/benchmarks/workers.py [ROUNDS [ENGINE]]      5 rounds, two processes of this machine; or joblib, ray, slurm

At most 0.6 is asked for. A quiet machine of two cores is needed: whatever else runs on the second counts against it.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from hvgym.bench.protocol import Protocol
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.bench.workers import Engine, Workers
from hvgym.envs.scenario import load, load_group

JOBS, EPISODES = 32, 64
"""Some 2.5 s a job, so that the start of two processes, some 4 s, is a small part."""

MOST = 0.6

ENGINES: dict[str, Workers] = {
    "processes": 2,
    "joblib": Engine("joblib", {"n_jobs": 2}),
    "ray": Engine("ray", {}),
    "slurm": Engine("slurm", {"cluster": "local", "tasks": 2}),
}


def protocol() -> Protocol:
    """Copies of one policy on one scenario."""
    scenario = load("idle-giants").to_dict()
    agents = tuple(load_group("agent", "proxmox") | {"name": f"proxmox-{number}"} for number in range(JOBS))
    suite = Suite("equal", "", (scenario["name"],), tuple(agent["name"] for agent in agents), eval_seeds=EPISODES)
    return Protocol(suite, agents, (scenario,))


def seconds(workers: Workers) -> float:
    """On the clock, from an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run_study(protocol(), Path(folder), workers)
        return time.perf_counter() - began


def main() -> int:
    """Play once to compile, then in turns."""
    rounds, name = int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else "processes"
    seconds(ENGINES[name])
    ratios = []
    for _ in range(rounds):
        one, two = seconds(1), seconds(ENGINES[name])
        ratios.append(two / one)
        print(f"one worker {one:.1f} s, two ({name}) {two:.1f} s: {two / one:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median {ratio:.2f} of {rounds}; at most {MOST} is asked for")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
