"""Ten policies on three real guests, and the same policies on the model of them: ``python tests/validation/rank.py``.

The guests ran under QEMU without hardware help (Linux 6.1, virtio-balloon), on a host confined to 802 MiB; scenario
``real-guests`` is their set-up. Each policy was one and the same object in both worlds and decided every 5 s.

Progress is the mean over the three VMs of touches done over touches asked in the whole episode, as the record of the measurement
says, so the burst's fifty seconds weigh most of its own; `Run.by_second` counts seconds alike instead. Misses are the mean of the
share of a VM's touches that its guest had to read back from its disk. A repeat of a real run differs by up to .02.

The record does not say what guests had done before. Under static, where all VMs have their memory, progress was .944 and .033 of
the touches were misses. Guests of this project's own that had filled their memory and done nothing else show .931 and .073, those
that had run warm .997; the scenario begins cold (``settled_cold``).

With the name of a policy it prints what each VM does, in steps of 10 s: ``python tests/validation/rank.py proportional``. With
``guests`` it measures again, on cold guests of this machine (``make guests`` makes what they boot from; three minutes each), and
keeps each episode: ``python tests/validation/rank.py guests runs/fidelity/again squeezed mom``.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.baselines.proportional import divide
from hvgym.agents.policy import ClairvoyantPolicy, Policy, make_policy
from hvgym.bench import real_episode
from hvgym.bench.looks import COLOURS
from hvgym.bench.statistics import kendall
from hvgym.envs.files import write_atomically
from hvgym.envs.model.params import PAGES_PER_MIB
from hvgym.envs.real.guests.image import built
from hvgym.envs.real.guests.machines import Guests, accelerator
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario, load, load_group
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HiddenState, Targets, Telemetry

DECISION_S, LISTING_S = 5, 10
ACCEPTED = "#f7e3dc"
NEAR = 0.05
"""A figure of the model is near to a real one within this."""

WANTED_NEAR, WANTED_TAU = {"progress": 9, "misses": 8}, 0.9
"""How many of the ten should be near, and how alike the rankings should be: set before the model was run on this scenario."""


@dataclasses.dataclass(frozen=True)
class Real:
    """One policy on the real guests: its parameters, and what was measured, one run."""

    agent: str
    progress: float
    misses: float
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


REAL = {
    "clairvoyant": Real("", 0.958, 0.039),
    "static": Real("best_constant", 0.944, 0.033, {"share": 1.0}),  # asked for what is configured
    "greedy": Real("greedy", 0.912, 0.072, {"chunk_mib": 16.0, "period_s": 5.0}),
    "pressure_pi": Real("pressure_pi", 0.896, 0.094, {"setpoint": 0.5, "period_s": 5.0}),
    "hyperv_like": Real("hyperv_like", 0.756, 0.158),
    "squeezed": Real("squeezed", 0.752, 0.162, {"keep_free_mib": 40.0, "check_s": 5.0}),
    "mom": Real("mom_upstream", 0.739, 0.168, {"monitor_s": 5.0, "engine_s": 5.0, "history": 5}),
    "proportional": Real("proportional", 0.734, 0.174, {"keep_free_share": 0.05, "overhead_mib": 58.0}),
    "proxmox": Real("proxmox", 0.719, 0.185),
    "best_constant": Real("best_constant", 0.691, 0.220, {"share": 0.15}),
}
"""Measured on three QEMU guests, in the order of their progress."""


AGAIN = {
    "static": (0.931, 0.073),
    "clairvoyant": (0.917, 0.116),
    "greedy": (0.895, 0.130),
    "pressure_pi": (0.866, 0.148),
    "squeezed": (0.796, 0.186),
    "proportional": (0.760, 0.208),
    "mom": (0.711, 0.246),
    "best_constant": (0.707, 0.250),
    "proxmox": (0.671, 0.292),
}
"""Progress and misses of the same policies, one run each, on guests of this project's own in the same set-up (another host kernel,
processes of 65 MiB for 58) that began cold, too: ``python tests/validation/rank.py guests FOLDER``. Guests waited for a processor
for 4.5 % of the time at most, 0.53 % of the processors were stolen. hyperv_like reads committed memory, which these guests do not
tell. Guests that have run warm differ most where a policy gives VMs what they need (static .997; docs/fidelity.md has them)."""

REPEAT = 0.02
"""A repeat of a real run differs by up to so much (as the record says): two policies nearer than this are not told apart by it."""


class HotFirst(ClairvoyantPolicy):
    """Gives each VM what its hot set and its kernel need now; what is short is taken in proportion to the hot sets."""

    def __init__(self, scenario: Scenario) -> None:
        self._groups = scenario.groups

    def decide(self, hidden: HiddenState) -> Targets:
        """See `ClairvoyantPolicy`. One lane."""
        now_s, spec, host = int(hidden.clock_s[0]), hidden.vm_specs[0], hidden.host_specs[0, 0]
        stories = [group.story for group in self._groups]
        hot = np.array([story.wanted_mib(now_s)[0] for story in stories if story is not None])
        fixed = spec["kernel_mib"] + spec["kernel_cache_mib"] + spec["watermark_mib"]
        room = float(host["ram_mib"] - host["own_mib"] - host["min_free_mib"] - np.sum(spec["overhead_mib"] + fixed))
        least = np.maximum(spec["min_mib"] - fixed, 0.0)
        return Targets((fixed + divide(room, least, np.maximum(hot, least), hot))[None, :])


class HotFirstByClock(Policy):
    """The same on real guests, whose stories it knows."""

    period_s, declaration = DECISION_S, Declaration(signals=frozenset())

    def __init__(self, scenario: Scenario) -> None:
        self._sizes, sim = HotFirst(scenario), Simulator(scenario)
        sim.reset([0])
        self._hidden = sim.hidden()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return self._sizes.decide(dataclasses.replace(self._hidden, clock_s=np.round(telemetry.time_s)))


@dataclasses.dataclass(frozen=True)
class Run:
    """One policy on the model. vms: the VMs' records every `LISTING_S`, from the start on, ``[row, vm]``; progress (touches done
    over asked), by_second (its mean over seconds) and misses ``[vm]``."""

    vms: np.ndarray
    progress: np.ndarray
    by_second: np.ndarray
    misses: np.ndarray


def policy_of(name: str, scenario: Scenario) -> Policy | ClairvoyantPolicy:
    """A policy with the parameters that it had on the real guests."""
    real = REAL[name]
    return make_policy(load_group("agent", real.agent) | dict(real.changes)) if real.agent else HotFirst(scenario)


def play(name: str, scenario: Scenario) -> Run:
    """Let a policy decide every `DECISION_S` on the model."""
    sim, policy = Simulator(scenario), policy_of(name, scenario)
    telemetry = sim.reset([0])
    if isinstance(policy, Policy):
        policy.reset(telemetry.seen_with(policy.visibility), seed=0)
    rows = [sim.vms[0].copy()]
    asked, done, done_s = asked_touches(scenario), np.zeros(len(scenario.groups)), rows[0]["progress_s"]
    for now_s in range(0, scenario.duration_s, DECISION_S):
        if isinstance(policy, Policy):
            sim.apply(policy.decide(telemetry.seen_with(policy.visibility)))
        else:
            sim.apply(policy.decide(sim.hidden()))
        telemetry = sim.advance(DECISION_S)
        worked = sim.vms[0]["progress_s"] - done_s
        done, done_s = done + worked / DECISION_S * asked[now_s : now_s + DECISION_S].sum(axis=0), done_s + worked
        if (now_s + DECISION_S) % LISTING_S == 0:
            rows.append(sim.vms[0].copy())
    vms = np.stack(rows)
    last = vms[-1]
    by_second = last["progress_s"] / last["asked_s"]
    return Run(vms, done / asked.sum(axis=0), by_second, last["major_faults"] / last["touches"])


def asked_touches(scenario: Scenario) -> np.ndarray:
    """Touches that the workloads ask for in each second, ``[second, vm]``."""
    asked = []
    for group in scenario.groups:
        assert group.story is not None
        rates = np.array([1.0 / tier.retouch_s for tier in group.story.tiers])
        sizes = [group.story.wanted_mib(second)[: len(rates)] for second in range(scenario.duration_s)]
        asked.append(sizes @ rates * PAGES_PER_MIB)
    return np.array(asked).T


def play_all(scenario: Scenario | None = None) -> dict[str, Run]:
    """Every policy of the table."""
    scenario = scenario or load("real-guests")
    return {name: play(name, scenario) for name in REAL}


def interval(one: Sequence[float], other: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap of `kendall` over policies."""
    rng, pairs = np.random.default_rng(0), np.array([one, other])
    taus = [kendall(*pairs[:, rng.integers(0, len(one), len(one))]) for _ in range(draws)]
    low, high = np.nanquantile(taus, (0.025, 0.975))
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far measured and modelled figures agree: policies within `NEAR`, and Kendall's tau with its bootstrap interval."""

    near: int
    tau: float
    low: float
    high: float


def means(runs: Mapping[str, Run], what: str) -> list[float]:
    """Progress or misses of every policy of the table, in its order: the mean over VMs."""
    return [float(np.mean(getattr(runs[name], what))) for name in REAL]


def by_seconds(runs: Mapping[str, Run]) -> str:
    """The comparison of progress if seconds counted alike instead of touches, in words."""
    got = [float(run.by_second.mean()) for run in runs.values()]
    measured = [real.progress for real in REAL.values()]
    near = sum(abs(a - b) <= NEAR for a, b in zip(got, measured, strict=True))
    return (
        f"If seconds counted alike instead of touches, progress would be within {NEAR:g} for {near} of {len(runs)} "
        f"({min(got):.3f} to {max(got):.3f}), and Kendall's tau {kendall(got, measured):.2f}."
    )


def shortfalls(runs: Mapping[str, Run]) -> str:
    """Figures that are not near, in words."""
    far = [
        f"{name} ({what} {getattr(real, what):.3f} / {got:.3f})"
        for what in WANTED_NEAR
        for (name, real), got in zip(REAL.items(), means(runs, what), strict=True)
        if abs(got - getattr(real, what)) > NEAR
    ]
    return f"Further off than {NEAR:g}, measured / model: {', '.join(far) if far else 'none'}."


def measured_twice(runs: Mapping[str, Run]) -> str:
    """How far two measurements are from one another, and the model from the second, in words."""
    lines = []
    for i, what in enumerate(WANTED_NEAR):
        got = dict(zip(REAL, means(runs, what), strict=True))
        again = {name: pair[i] for name, pair in AGAIN.items()}
        first = [getattr(REAL[name], what) for name in again]
        near = sum(abs(got[name] - value) <= NEAR for name, value in again.items())
        apart = np.abs(np.subtract(first, [*again.values()]))
        lines.append(
            f"The two measurements of {what} are {apart.mean():.3f} apart on average, Kendall's tau "
            f"{kendall(first, [*again.values()]):.2f}; the model is within {NEAR:g} of the second in {near} of {len(again)}, tau "
            f"{kendall([*again.values()], [got[name] for name in again]):.2f}."
        )
    return " ".join(lines)


def decided(runs: Mapping[str, Run], what: str) -> tuple[int, int]:
    """Of the pairs of policies that the measurement tells apart (`REPEAT`), how many the model has in the same order."""
    got, measured = means(runs, what), [getattr(real, what) for real in REAL.values()]
    told = [(i, j) for i in range(len(got)) for j in range(i) if abs(measured[i] - measured[j]) > REPEAT]
    return sum((got[i] - got[j]) * (measured[i] - measured[j]) > 0.0 for i, j in told), len(told)


def agreement(runs: Mapping[str, Run], what: str) -> Agreement:
    """Of progress or misses."""
    got, measured = means(runs, what), [getattr(real, what) for real in REAL.values()]
    near = sum(abs(a - b) <= NEAR for a, b in zip(got, measured, strict=True))
    return Agreement(near, kendall(measured, got), *interval(measured, got))


def table(runs: Mapping[str, Run]) -> list[str]:
    """The comparison in plain text."""
    lines = [f"{'policy':14} {'progress':>8} {'model':>6} {'diff':>6}   {'misses':>6} {'model':>6} {'diff':>6}"]
    progress, misses = means(runs, "progress"), means(runs, "misses")
    for (name, real), p, m in zip(REAL.items(), progress, misses, strict=True):
        pairs = (real.progress, p), (real.misses, m)
        lines.append(f"{name:14}" + "  ".join(f"{a:9.3f} {b:6.3f} {b - a:+6.3f}" for a, b in pairs))
    for what, wanted in WANTED_NEAR.items():
        agreed = agreement(runs, what)
        lines.append(
            f"{what}: {agreed.near} of {len(REAL)} within {NEAR:g} (wanted {wanted}); Kendall's tau {agreed.tau:.2f} "
            f"[{agreed.low:.2f}, {agreed.high:.2f}] (wanted {WANTED_TAU:g}); {' of '.join(map(str, decided(runs, what)))} "
            f"pairs that differ by more than {REPEAT:g} in its order"
        )
    return [*lines, shortfalls(runs)]


def panels(runs: Mapping[str, Run]) -> list[tuple[str, Callable[[Any], None]]]:
    """Measured against modelled figures, with the band that counts as near."""

    def drawn(axes: Any, what: str) -> None:
        measured, got = [getattr(real, what) for real in REAL.values()], means(runs, what)
        ends = np.array([min(*measured, *got) - NEAR, max(*measured, *got) + NEAR])
        axes.fill_between(ends, ends - NEAR, ends + NEAR, color=ACCEPTED, linewidth=0)
        axes.plot(measured, got, "o", color=COLOURS[0])
        for i, (x, name, y) in enumerate(
            sorted(zip(measured, REAL, got, strict=True))
        ):  # above left, below right by turns
            left = i % 2 == 0
            axes.annotate(
                name,
                (x, y),
                textcoords="offset points",
                xytext=(-3, 4) if left else (3, -8),
                ha="right" if left else "left",
                fontsize=6,
            )
        axes.set_xlim(ends[0] - 2.0 * NEAR, ends[1] + NEAR)
        axes.set_xlabel(f"{what}, measured on three QEMU guests")
        axes.set_ylabel("model")

    return [(what.capitalize(), functools.partial(drawn, what=what)) for what in WANTED_NEAR]


def listing(name: str, scenario: Scenario) -> list[str]:
    """What each VM did under one policy, in steps of `LISTING_S`; rates are means over a step, sizes are at its end."""
    run = play(name, scenario)
    head = (
        "size",
        "target",
        "resident",
        "host swap",
        "progress",
        "misses",
        "read/s",
        "written/s",
        "host in/s",
        "host out/s",
    )
    lines = []
    for v, group in enumerate(scenario.groups):
        lines += ["", f"{name}, {group.name} (MiB, pages/s)", "from  to " + " ".join(f"{word:>10}" for word in head)]
        for i, (before, after) in enumerate(zip(run.vms[:-1, v], run.vms[1:, v], strict=True)):
            lines.append(
                f"{i * LISTING_S:4}{(i + 1) * LISTING_S:4} " + " ".join(_cells(before, after, group.memory_mib))
            )
    return lines[1:]


def _cells(before: Any, after: Any, memory_mib: float) -> list[str]:
    """A line of the listing."""
    grown = {name: float(after[name] - before[name]) / LISTING_S for name in (
        "progress_s", "touches", "major_faults", "swap_in_mib", "swap_out_mib", "host_swap_in_mib", "host_swap_out_mib",
    )}  # fmt: skip
    sizes = (memory_mib - after["balloon_mib"], after["asked_mib"], after["resident_mib"].sum(),
             after["host_swapped_mib"].sum() + after["free_swapped_mib"])  # fmt: skip
    misses = grown["major_faults"] / grown["touches"] if grown["touches"] > 0.0 else float("nan")
    pages = (grown[f"{what}_mib"] * PAGES_PER_MIB for what in ("swap_in", "swap_out", "host_swap_in", "host_swap_out"))
    return [
        *(f"{size:10.1f}" for size in sizes),
        f"{grown['progress_s']:10.3f}",
        f"{misses:10.3f}",
        *(f"{rate:10.1f}" for rate in pages),
    ]


def measure(name: str, folder: Path, guests: Path = Path("runs/guests")) -> Path:
    """Play a policy on real guests of this machine, and keep what was seen. guests: what they boot from. Raises InputError."""
    scenario, (kernel, initrd) = load("real-guests"), built(guests)
    if REAL[name].agent:  # an interface of another hypervisor is a name: the balloon's target is the same through any
        config = load_group("agent", REAL[name].agent) | dict(REAL[name].changes) | {"interfaces": []}
        policy = make_policy(config)
    else:
        policy = HotFirstByClock(scenario)
    assert isinstance(policy, Policy)
    on = Guests(scenario, kernel, initrd, guests / "run", accelerator(kernel, initrd))
    played = real_episode.play(on, policy, name, seed=0, warm_up_s=0.0)
    kept = played.figures() | {"busy": played.crowding.busy, "machine": dataclasses.asdict(played.crowding)}
    path = folder / f"{name}.json"
    write_atomically(
        path, json.dumps(kept | {"rows": played.rows, "seconds": played.progress.round(4).tolist()}) + "\n"
    )
    return path


def by_touches(path: Path) -> str:
    """What a file of ``make fidelity`` or ``hvgym real`` says of a real episode of `real-guests`, counted as `REAL` is."""
    found = json.loads(path.read_bytes())
    if (seconds := found.get("seconds")) is None:
        return f"{path.name}: not played"
    progress, asked = np.array(seconds, float), asked_touches(load("real-guests"))
    known = min(len(progress), len(asked))
    touches = (progress[:known] * asked[:known]).sum(axis=0)
    done, misses = touches / asked[:known].sum(axis=0), np.array([*found["faults"].values()]) / touches
    busy = f"; does not count: {found['busy']}" if found.get("busy") else ""
    return f"{path.name}: progress {done.mean():.3f} by touches, {progress.mean():.3f} by seconds, misses {misses.mean():.3f}{busy}"


def main(names: Sequence[str]) -> None:
    """Print the table, the listings of the policies that are named, or what files of real episodes say."""
    if names and all(name.endswith(".json") for name in names):
        print("\n".join(by_touches(Path(name)) for name in names))
        return
    folder = names[1:2] if names[:1] == ["guests"] else []
    unknown = [name for name in (names[2:] if folder else names) if name not in REAL]
    if unknown:
        sys.exit(f"{unknown[0]}: unknown policy; known: {', '.join(REAL)}")
    if folder:
        for name in names[2:] or REAL:
            print(by_touches(measure(name, Path(folder[0]))), flush=True)
        return
    scenario = load("real-guests")
    lines = [line for name in names for line in [*listing(name, scenario), ""]] if names else table(play_all(scenario))
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
