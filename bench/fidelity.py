"""The same policies on the same stories, on real guests and in the simulator: what is played, kept, and played again.

An episode is a scenario, a policy and a seed. On real guests a seed changes the order of touches, and every repeat what the machine
does besides; a story draws nothing, so the simulator plays once. Episodes lie in a folder, a JSON each, written at their end: who
is stopped goes on with the next. One whose scenario or policy has changed since, or during which the machine was busy
(``envs.real.guests.crowding``), is played again. The simulator's side is not kept, for it takes a second and follows the model.

Periods are whole seconds of the clock in both worlds. Episodes of two minutes are short for policies made for days, so those with
periods or histories of more than ten seconds have shorter ones here (`POLICIES`), the same in both.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hvgym.agents.learned.searched import shipped
from hvgym.agents.policy import Policy, make_policy
from hvgym.bench.real_episode import Episode, UnfitError, as_measured, misses, play, simulated
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.real.guests.machines import Guests
from hvgym.envs.scenario import Scenario, load, load_group

SCENARIOS = ("real-guests", "guests-idle-giant", "guests-taking-turns", "guests-slow-growth")

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "stock": {},
    "best_constant": {"share": 1.0},
    "proportional": {"keep_free_share": 0.05, "overhead_mib": 58.0},
    "proxmox": {},
    "mom_vdsm": {"monitor_s": 5.0, "engine_s": 5.0, "history": 5},
    "greedy": {"chunk_mib": 16.0, "period_s": 5.0},
    "pressure_pi": {"setpoint": 0.5, "period_s": 5.0},
    "learned_sizes": {},
    "hyperv_like": {},
}
"""Agents, and what is other than in their YAML: periods, and sizes made for hosts of many GiB (docs/validation.md, ranks). A share
of 1 gives VMs all of their memory, so that the host swaps."""

SEEDS = 2
TRIES = 3
"""Of an episode in one run, until the machine is not busy."""

Say = Callable[[str], None]

Victims = Literal["two_lists", "mglru"]
"""How the host's kernel chooses what it swaps, of the words of ``hypervisor.victims``."""


@dataclass(frozen=True)
class Job:
    """One episode."""

    scenario: str
    policy: str
    seed: int

    def file(self, folder: Path) -> Path:
        """Where it lies."""
        return folder / self.scenario / f"{self.policy}-{self.seed}.json"

    def identity(self) -> str:
        """Of what is played; an episode of another one is out of date."""
        said = [load(self.scenario).to_dict(), _agent(self.policy), self.seed, *_weights(self.policy)]
        text = json.dumps(said, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _agent(name: str) -> dict[str, Any]:
    return load_group("agent", name) | dict(POLICIES.get(name, {}))


def _weights(name: str) -> list[str]:
    """Content of the file of weights that an agent's YAML names, if it names one."""
    named = _agent(name).get("weights")
    return [] if named is None else [shipped(named).read_text()]


def policy_of(name: str) -> Policy:
    """New, with the parameters of both worlds."""
    policy = make_policy(_agent(name))
    if not isinstance(policy, Policy) or policy.of_cluster:
        raise InputError(f"policies={name}: needs the future or several hosts; choose one that reads one host")
    return policy


def jobs(scenarios: Sequence[str], policies: Sequence[str], seeds: int) -> list[Job]:
    """All of them, the first seed of everything first."""
    return [Job(scenario, policy, seed) for seed in range(seeds) for scenario in scenarios for policy in policies]


def read(job: Job, folder: Path) -> dict[str, Any] | None:
    """What was kept of an episode; None where there is none, or one of another scenario or policy."""
    try:
        found = json.loads(job.file(folder).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("identity") == job.identity() else None


def counts(found: Mapping[str, Any] | None) -> bool:
    """Whether an episode was played to its end, on a machine that was not busy."""
    return found is not None and "progress" in found and not found.get("busy")


def done(found: Mapping[str, Any] | None) -> bool:
    """Whether nothing is left to play: it counts, or the policy cannot run."""
    return found is not None and ("refused" in found or counts(found))


Player = Callable[[Job], Episode]
"""Plays an episode on real guests; tests have their own."""


def play_all(todo: Iterable[Job], folder: Path, player: Player, say: Say = print, tries: int = TRIES) -> list[Job]:
    """Play what is not there. Returns the episodes that are still missing, or were played on a busy machine."""
    all_of = list(todo)
    left = [job for job in all_of if not done(read(job, folder))]
    say(f"{len(all_of)} episodes, {len(all_of) - len(left)} of them are there")
    walls, refused = list[float](), dict[str, str]()
    for number, job in enumerate(left):
        begun = time.monotonic()
        told = _refusal(job, folder, refused.get(job.policy)) or _tried(job, folder, player, say, refused, tries)
        walls.append(time.monotonic() - begun)
        to_come_min = float(np.mean(walls)) * (len(left) - number - 1) / 60.0
        say(f"{number + 1}/{len(left)} {job.scenario} {job.policy} {job.seed}: {told}; {to_come_min:.0f} min left")
    return [job for job in left if not done(read(job, folder))]


def _refusal(job: Job, folder: Path, reason: str | None) -> str | None:
    """Keep why a policy cannot run, which holds for every episode of it."""
    if reason is None:
        return None
    write_atomically(job.file(folder), json.dumps({"identity": job.identity(), "refused": reason}) + "\n")
    return reason


def _tried(job: Job, folder: Path, player: Player, say: Say, refused: dict[str, str], tries: int) -> str:
    """Play an episode until it counts; in words what came of it."""
    told = ""
    for _ in range(tries):
        begun = time.monotonic()
        try:
            kept = record(job, player(job), time.monotonic() - begun)
        except UnfitError as error:
            refused[job.policy] = str(error)
            return str(_refusal(job, folder, str(error)))
        except InputError as error:
            told = f"not played: {error}"
            continue
        write_atomically(job.file(folder), json.dumps(kept) + "\n")
        told = f"progress {kept['progress']:.3f} in {kept['wall_s']:.0f} s, guests used {kept['machine']['guests']:.2f} processors"
        if not kept["busy"]:
            return told
        told = f"the machine was busy: {kept['busy']}"
        say(f"{job.scenario} {job.policy} {job.seed}: {told}")
    return told


def record(job: Job, episode: Episode, wall_s: float) -> dict[str, Any]:
    """What is kept of an episode."""
    return {
        "identity": job.identity(), **episode.figures(), "misses": misses(load(job.scenario), episode.progress),
        "kills": float(len(episode.lost)), "busy": episode.crowding.busy, "machine": asdict(episode.crowding),
        "host": episode.host, "victims": victims_here(), "signals": list(episode.signals),
        "wall_s": round(wall_s, 1), "begun_at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "rows": episode.rows, "seconds": np.round(episode.progress, 4).tolist(),
    }  # fmt: skip


def on_guests(kernel: Path, initrd: Path, folder: Path, accelerator: str) -> Player:
    """Plays on real guests of this machine. folder: for sockets and host swap."""

    def player(job: Job) -> Episode:
        guests = Guests(load(job.scenario), kernel, initrd, folder, accelerator)
        return play(guests, policy_of(job.policy), job.policy, job.seed)

    return player


def model_of(scenario: Scenario, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The simulator's side of an episode that was kept, with what it says of its host: how that chooses what it swaps
    (`victims_here`), which signals there are, and what `as_measured` reads of the guests."""
    scenario = replace(scenario, hypervisor=replace(scenario.hypervisor, victims=found["victims"]))
    scenario = as_measured(scenario, found.get("rows", ()))
    return simulated(scenario, policy_of(name), name, found.get("signals"))


def victims_here(switch: Path = Path("/sys/kernel/mm/lru_gen/enabled")) -> Victims:
    """How this machine's kernel chooses, in the words of ``hypervisor.victims``: multi-generational lists where they are on."""
    try:
        return "mglru" if int(switch.read_text(), 16) & 1 else "two_lists"
    except (OSError, ValueError):
        return "two_lists"
