"""What stock and the references reach on the seeds of a tuning, kept for the next one.

    RUNS/tune/ends/KEY.json    goodput by seed, of one agent on one scenario

A reference searches, and on a suite that takes longer than many trials. All agents of a seat are measured by the same one, so each
seed is played once, a few at a time: what was stopped goes on, and an agent that is tuned later finds it there. The key is a digest
of scenario, agent, and the code of both (``identity``): of another version everything is played anew. A file that is damaged, or
that cannot be written, counts as none.
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from hvgym.agents.policy import make_policy
from hvgym.bench.identity import digest_of_text, sources
from hvgym.bench.progress import Progress, file_of
from hvgym.bench.rollout import rollout
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario

AT_ONCE = 4
"""Seeds that are played together; an interruption loses no more."""


def goodput(scenario: str, agent: str, seeds: Sequence[int], kept: Path, watched: Path) -> np.ndarray:
    """Of an agent on each seed of a scenario, both as JSON. kept: the folder of the files; watched: the one of the tuning, for its
    progress."""
    played, who = Scenario.from_dict(json.loads(scenario)), json.loads(agent)
    identity = json.dumps([scenario, agent, sources([json.loads(scenario)], [who])], sort_keys=True)
    file = kept / f"{digest_of_text(identity)}.json"
    found = _read(file)
    missing = [seed for seed in seeds if seed not in found]
    if missing:
        steps, title = played.duration_s // played.control_interval_s, f"{who['name']} on {played.name}"
        with Progress(file_of(watched, f"{who['name']}-{played.name}"), title, len(seeds) * steps) as progress:
            for first in range(0, len(missing), AT_ONCE):
                part = missing[first : first + AT_ONCE]
                found |= zip(part, rollout(played, make_policy(who), part).goodput.tolist(), strict=True)
                _write(file, played.name, who["name"], found)
                progress.note("play", sum(seed in found for seed in seeds) * steps, len(seeds) * steps)
    return np.array([found[seed] for seed in seeds])


def _read(file: Path) -> dict[int, float]:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        read = {int(seed): float(value) for seed, value in json.loads(file.read_bytes())["goodput"].items()}
        if all(map(math.isfinite, read.values())):
            return read
    return {}


def _write(file: Path, scenario: str, agent: str, found: dict[int, float]) -> None:
    with suppress(OSError):  # a full disk, say: it is played again next time
        write_atomically(file, json.dumps({"scenario": scenario, "agent": agent, "goodput": found}) + "\n")
