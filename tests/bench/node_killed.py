"""A Ray cluster of two node processes on this machine, of which one is killed while it trains: ``hvgym bench`` goes on to its end.

    python tests/bench/node_killed.py RUNS [WORDS of hvgym bench]

Prints which job the killed node was at, and exits as hvgym bench did. The study is called s.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from hvgym.bench.progress import State, read


def parent(pid: int) -> int:
    """Of a process; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def at_work(folder: Path, raylet: int) -> str | None:
    """The job that a node's worker is in the middle of."""
    for path in folder.glob("progress/*.jsonl"):
        state = State.of(read(path))
        pid, busy = state.process[0], state.steps and state.share < 0.5 and not state.over
        if busy and isinstance(pid, int) and parent(pid) == raylet:
            return state.name
    return None


def main() -> int:
    """Kill the second node as soon as it has begun to learn or to play something."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    runs, *words = sys.argv[1:]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    raylet = second.all_processes["raylet"][0].process.pid
    command = [sys.executable, "-m", "hvgym.scripts.cli", "bench", *words, "workers=ray", "study=s", f"runs={runs}"]
    bench = subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": cluster.address})
    while bench.poll() is None and (killed := at_work(Path(runs) / "studies" / "s", raylet)) is None:
        time.sleep(0.02)
    cluster.remove_node(second, allow_graceful=False)
    print(f"killed: {killed}", flush=True)
    code = bench.wait()
    ray.shutdown()
    cluster.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
