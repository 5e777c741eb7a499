"""Is this tree slower than another? ``make compare BASE=COMMIT``.

One worker process a tree imports the package from it; the workers step the same environments in short turns, so a busy
machine slows all alike, and only CPU time is counted. Printed for each pattern: microseconds of a step of this tree, and the
ratio of times to the base, the median over the rounds with a distribution-free 95 % interval of it; below 1 is faster.
`same` says whether observations and rewards agree with the base's to the bit.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import gymnasium as gym
import numpy as np

HERE = Path(__file__).resolve().parents[2]
BATCH, BATCH_STEPS, SINGLE_STEPS = 1024, 5, 400

PATTERNS = ("no reclaim", "pressure", "random sizes", "single step")


class Turns:
    """One tree's environments, and the steps of one turn in them."""

    def __init__(self, scenario: str) -> None:
        self._scenario = scenario
        self._rng = {pattern: np.random.default_rng(0) for pattern in PATTERNS}
        self._digest = {pattern: hashlib.sha256() for pattern in PATTERNS}
        self._envs = {pattern: self._env(pattern) for pattern in PATTERNS}

    def _env(self, pattern: str) -> gym.Env | gym.vector.VectorEnv:
        if pattern == "single step":
            env = gym.make("hvgym/Host-v1", scenario=self._scenario, disable_env_checker=True).unwrapped
        else:
            env = gym.make_vec("hvgym/Host-v1", BATCH, "vector_entry_point", scenario=self._scenario).unwrapped
        env.reset(seed=0)
        return env

    def play(self, pattern: str) -> tuple[float, str]:
        """Seconds of CPU time of a step in one turn, and a digest of all that the pattern's steps have answered so far."""
        env, digest = self._envs[pattern], self._digest[pattern]
        single = pattern == "single step"
        steps = SINGLE_STEPS if single else BATCH_STEPS
        if single:
            env.reset(seed=1)
        actions = [self._action(pattern, env.action_space.shape) for _ in range(steps)]
        began = time.process_time()
        answers = [env.step(action)[:2] for action in actions]
        spent = time.process_time() - began
        for observation, reward in answers:
            digest.update(observation.tobytes() + np.float64(reward).tobytes())
        return spent / steps, digest.hexdigest()

    def _action(self, pattern: str, shape: tuple[int, ...]) -> np.ndarray:
        if pattern == "random sizes":
            return self._rng[pattern].uniform(-1, 1, shape).astype(np.float32)
        return np.full(shape, 1.0 if pattern == "no reclaim" else 0.1, np.float32)


class Worker:
    """A process that plays turns with the package of one tree."""

    def __init__(self, tree: Path, scenario: str) -> None:
        self._tree = tree
        folder = tree.resolve() / "build" / "compare"  # the same in every run, so that compiled code is found again
        package = folder / "hvgym"
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / "src" / "hvgym" / "__init__.py", package)
        for part in ("envs", "agents", "bench", "conf", "scripts"):
            if not (package / part).exists():
                (package / part).symlink_to(tree.resolve() / part)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(folder), "--scenario", scenario],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(folder)},
        )  # fmt: skip

    def play(self, pattern: str) -> tuple[float, str]:
        """Have one turn played; see `Turns.play`."""
        assert self._process.stdin
        assert self._process.stdout
        print(pattern, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        if not answer:
            sys.exit(f"compare: {self._tree} cannot be played, see above")
        return float(answer[0]), answer[1]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def work(folder: str, scenario: str) -> None:
    """The worker's side: a pattern a line in, time and digest a line out."""
    import hvgym

    if Path(hvgym.__file__).parents[1] != Path(folder):
        sys.exit(f"compare: imported {hvgym.__file__}, not that of {folder}")
    turns = Turns(scenario)
    for line in sys.stdin:
        print(*turns.play(line.strip()), flush=True)


def interval(values: list[float]) -> tuple[float, float]:
    """Order statistics between which the median lies with a probability of 95 % (normal approximation of the binomial)."""
    ordered, n = sorted(values), len(values)
    skip = max(int((n - 1.96 * n**0.5) / 2), 0)
    return ordered[skip], ordered[n - 1 - skip]


def compare(trees: list[Path], scenario: str, rounds: int) -> None:
    """Play and print; the first tree is the base."""
    workers = [Worker(tree, scenario) for tree in trees]
    print("a tree that is new here compiles its model first, a minute or two each", file=sys.stderr)
    for pattern in PATTERNS:
        seconds: list[list[float]] = [[] for _ in trees]
        digests = [""] * len(trees)
        for turn in range(rounds + 1):
            for i in sorted(range(len(trees)), key=lambda i: (i + turn) % len(trees)):
                spent, digests[i] = workers[i].play(pattern)
                seconds[i].append(spent)
        for tree, times, digest in zip(trees, seconds, digests, strict=True):
            ratios = [mine / base for mine, base in zip(times[1:], seconds[0][1:], strict=True)]  # the first warms up
            low, high = interval(ratios)
            same = "same" if digest == digests[0] else "other results"
            print(f"{pattern:<14}{1e6 * median(times[1:]):>9.1f} us  {median(ratios):.3f} [{low:.3f}, {high:.3f}]  "
                  f"{same:<14}{tree}", flush=True)  # fmt: skip
    for worker in workers:
        worker.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, help="roots of checkouts: the base, then others beside this one")
    parser.add_argument("--scenario", default="idle-giants")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.scenario)
    else:
        compare([*given.trees, HERE], given.scenario, given.rounds)


if __name__ == "__main__":
    main()
