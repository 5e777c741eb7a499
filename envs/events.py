"""What happens in an episode, in words: a line for each thing that became other between two looks at a simulator.

VMs: arrivals, waits, starts, kills, moves, failures and restarts. Hosts: states of the hypervisor, host swap that begins or rests,
failures, what the stack notices. VMs to which the same happens between two looks share a line. It is the truth, as of
``cluster_view``: also what nobody in the cluster has noticed.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from hvgym.envs.backends import AnySimulator
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.lines import LONGEST_NAME, Line, short_names
from hvgym.envs.model.placement import (
    ABSENT,
    DEAD,
    ISOLATED,
    LOST,
    MOVING,
    OBSTACLES,
    REFUSED,
    RESTARTING,
    RETURNING,
    RUNNING,
    STALLED,
    UP,
    WAITING,
)
from hvgym.envs.render import clock
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator

ESXI_STATES = ("ample", "clear: large pages are split", "soft: it balloons", "hard: it compresses and swaps",
               "low: it swaps, and halts VMs above their share")  # fmt: skip
LINUX_STATES = ("ample", "short: below the high watermark", "below the low watermark: it reclaims",
                "below the min watermark: VMs reclaim themselves", "all but gone")  # fmt: skip
"""Of free memory, as ``model.host.states`` numbers them."""

LINUX_SAID_FROM = 3
"""A Linux host goes below its high and low watermarks all the time: that is how it reclaims, and no event."""

SWAPS_MIB_PER_S, RESTS_S, LASTS_S = 1.0, 300, 60
"""A host that writes at least so fast swaps out, and rests when it has not for so long; a better state of its memory is said when
it has lasted for so long. Guesses of what a reader takes for an event."""

MOST_NAMED = 3
"""VMs named in a line; the others are counted."""

TIME = 8
"""Characters of the time before an event."""

KEPT = 500
"""Events; older ones are forgotten."""


class Event(NamedTuple):
    """Words and the style beside them (``lines``)."""

    time_s: int
    words: str
    style: str

    def lines(self, width: int) -> list[Line]:
        """As it stands in a log of this width, folded between words where it is longer."""
        room = max(width - TIME, 10)
        folded = textwrap.wrap(self.words, room, break_long_words=True) or [""]
        times = [f"{clock(self.time_s):>{TIME - 1}} ", *[" " * TIME] * (len(folded) - 1)]
        return [[(time, "dim"), (words, self.style)] for time, words in zip(times, folded, strict=True)]


class Log:
    """Events of one lane, the newest last."""

    def __init__(self, sim: AnySimulator, lane: int = 0) -> None:
        self._lane, self._names = lane, short_names(sim.scenario, LONGEST_NAME)
        self._hosts = sim.scenario.host_names if sim.scenario.is_cluster else ("host",)
        self._states = _states(sim.scenario)
        self._from = [LINUX_SAID_FROM if names == LINUX_STATES else 1 if names else np.inf for names in self._states]
        self._worst = np.zeros(len(self._hosts), int)
        self._better_s = np.full(len(self._hosts), np.inf)
        self._before = self._look(sim)
        self._asked_s, self._failed_s = dict[int, int](), dict[int, float]()
        self.events = list[Event]()

    def note(self, sim: AnySimulator) -> None:
        """Look again, and say what is other than at the look before."""
        now, before, time_s = self._look(sim), self._before, int(sim.clock_s[self._lane])
        found = [*self._of_hosts(before, now, time_s), *self._of_vms(before, now, time_s)]
        self.events += [Event(time_s, words, style) for words, style in (*found, *self._of_places(before, now))]
        del self.events[:-KEPT]
        self._before = now

    def _look(self, sim: AnySimulator) -> dict[str, Any]:
        lane, vms = self._lane, sim.vms[self._lane]
        kept = ("admitted", "may_start", "oom_kills", "failed_starts", "down_s")
        seen: dict[str, Any] = {name: vms[name].copy() for name in kept}
        seen["waiting"] = sim.asks[lane] & (vms["admitted"] == 0.0)
        seen["state"], seen["out_mib"] = sim.hosts["state"][lane].copy(), sim.host_signals["swap_out_mib"][lane].copy()
        seen["swap_mib"] = sim.host_signals["swap_used_mib"][lane].copy()
        earlier: dict[str, Any] = getattr(self, "_before", {})
        quiet_s = earlier.get("quiet_s", np.full(len(seen["state"]), np.inf))
        step_s = int(sim.clock_s[lane]) - earlier.get("clock_s", 0)
        wrote = seen["out_mib"] - earlier.get("out_mib", seen["out_mib"]) >= SWAPS_MIB_PER_S * max(step_s, 1)
        seen["quiet_s"] = np.where(wrote, 0.0, quiet_s + step_s)
        seen["clock_s"] = int(sim.clock_s[lane])
        if isinstance(sim, ClusterSimulator):
            seen["residents"] = sim.arrays.residents[lane].copy()
            seen["machines"] = sim.arrays.machines[lane].copy()
        return seen

    def _of_hosts(self, before: dict[str, Any], now: dict[str, Any], time_s: int) -> Iterator[tuple[str, str]]:
        for h, name in enumerate(self._hosts):
            yield from self._of_state(h, name, int(now["state"][h]), time_s)
            swaps, swapped = now["quiet_s"][h] < RESTS_S, before["quiet_s"][h] < RESTS_S
            if swaps and not swapped:
                yield f"{name}: begins to swap out", "red"
            if swapped and not swaps and not ("machines" in now and now["machines"][h]["state"] != UP):
                yield f"{name}: swaps out no more, {now['swap_mib'][h] / 1024.0:.1f} GiB in host swap", ""
        if "machines" in now:
            yield from self._of_machines(before["machines"], now["machines"], time_s)

    def _of_state(self, h: int, name: str, state: int, time_s: int) -> Iterator[tuple[str, str]]:
        """A worse state at once, a better one when it has lasted: states flicker where memory is short."""
        state = state if state >= self._from[h] else 0
        if state >= self._worst[h]:
            self._better_s[h] = np.inf
        else:
            self._better_s[h] = min(self._better_s[h], time_s)
        if state > self._worst[h] or time_s - self._better_s[h] >= LASTS_S:
            yield f"{name}: memory state {self._states[h][state]}", "yellow" if state > self._worst[h] else ""
            self._worst[h], self._better_s[h] = state, np.inf

    def _of_machines(self, before: np.ndarray, now: np.ndarray, time_s: int) -> Iterator[tuple[str, str]]:
        words = {
            UP: ("is up again", "green"), DEAD: ("is dead", "bold red"), ISOLATED: ("is cut off from the network", "bold red"),
            STALLED: ("stands still most of the time", "bold red"), RETURNING: ("boots", ""),
        }  # fmt: skip
        for h, (name, old, new) in enumerate(zip(self._hosts, before, now, strict=True)):
            if old["state"] == UP != new["state"]:
                self._failed_s[h] = float(new["since_s"])
            planned = old["maintenance"] > 0.0 or new["maintenance"] > 0.0
            if new["state"] != old["state"] and not (planned and new["state"] != UP):
                said, style = words[int(new["state"])]
                yield f"{name} {said}", style
            if old["noticed_s"] < 0.0 <= new["noticed_s"] and not planned:
                yield (
                    f"{name} taken for dead, {new['noticed_s'] - self._failed_s.get(h, 0.0):.0f} s after it failed",
                    "yellow",
                )
            if old["fenced_s"] < 0.0 <= new["fenced_s"] and not planned:
                yield f"{name} fenced: its VMs may start elsewhere", "yellow"
            if old["maintenance"] == 0.0 and new["maintenance"] > 0.0:
                by = f" by {clock(int(new['deadline_s']))}" if new["deadline_s"] > 0.0 else ""
                yield f"{name} to be emptied{by}", "yellow"
            if old["emptied_s"] < 0.0 <= new["emptied_s"]:
                yield f"{name} is empty", "green"
            if old["maintenance"] > 0.0 and new["maintenance"] == 0.0:
                yield f"{name} out of maintenance", ""

    def _of_vms(self, before: dict[str, Any], now: dict[str, Any], time_s: int) -> Iterator[tuple[str, str]]:
        """Arrivals and kills."""
        alone = "residents" not in now
        waits = now["waiting"] & ~before["waiting"] if alone else np.zeros(len(self._names), bool)
        kept = waits & (now["may_start"] == 0.0)
        self._asked_s.update(dict.fromkeys(map(int, np.flatnonzero(waits)), time_s))
        yield from self._said(waits & ~kept, "waiting: the host has no room", "yellow")
        yield from self._said(kept, "waiting: kept by the policy", "yellow")
        started = (now["admitted"] > before["admitted"]) if alone else np.zeros(len(self._names), bool)
        after = {int(v): time_s - self._asked_s.pop(int(v), time_s) for v in np.flatnonzero(started)}
        for seconds in sorted(set(after.values())):
            which = np.array([after.get(v) == seconds for v in range(len(self._names))])
            yield from self._said(
                which, f"started, after a wait of {clock(seconds)}" if seconds else "started", "green"
            )
        yield from self._said(now["failed_starts"] > before["failed_starts"], "start given up", "bold red")
        killed = now["oom_kills"] > before["oom_kills"]
        yield from self._said(killed, "killed: the guest ran out of memory", "bold red")
        back = (before["down_s"] > 0.0) & (now["down_s"] <= 0.0) & (now["oom_kills"] > 0.0) & ~killed
        yield from self._said(back, "at work again, cold", "")

    def _of_places(self, before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """What VMs of a cluster become, those to which the same happens together."""
        if "residents" not in now:
            return
        groups = dict[tuple[str, str], list[int]]()
        for v, (old, new) in enumerate(zip(before["residents"], now["residents"], strict=True)):
            for told in self._became(old, new, now["clock_s"]):
                groups.setdefault(told, []).append(v)
        for (words, style), which in groups.items():
            yield from self._said(np.isin(np.arange(len(self._names)), which), words, style)

    def _became(self, old: Any, new: Any, time_s: int) -> Iterator[tuple[str, str]]:
        hosts, was, state = self._hosts, int(old["state"]), int(new["state"])
        if new["moves"] > old["moves"]:
            stopped_ms = 1e3 * float(new["downtime_s"] - old["downtime_s"])
            yield f"moved to {hosts[int(new['host'])]}, {stopped_ms:.0f} ms down", "magenta"
        if new["failed_moves"] > old["failed_moves"]:
            yield "move failed", "red"
        if state == MOVING and (was != MOVING or new["moves"] > old["moves"]):
            yield f"moving {hosts[int(new['source'])]} -> {hosts[int(new['target'])]}", "magenta"
        if state == LOST and was != LOST:
            yield f"down with {hosts[int(old['host'])]}" if old["host"] >= 0 else "down", "bold red"
        if state == RESTARTING and new["tries"] > 0.0 == old["tries"]:
            yield f"cannot be restarted yet: {OBSTACLES[int(new['blocked'])]}", "red"
        if new["restarts"] > old["restarts"] and new["host"] >= 0:
            yield f"restarted on {hosts[int(new['host'])]}", "green"
        if old["recovering"] > 0.0 and new["recovering"] == 0.0 and state in (RUNNING, MOVING):
            yield f"back at work, {time_s - int(old['lost_at_s'])} s after its host failed", "green"
        if state == WAITING and was != WAITING:
            why = f": {OBSTACLES[int(new['blocked'])]}" if new["blocked"] else ""
            yield f"waiting for its start{why}", "yellow"
        if state == RUNNING and was in (ABSENT, WAITING) and new["host"] >= 0:
            yield f"started on {hosts[int(new['host'])]}", "green"
        if state == REFUSED and was != REFUSED:
            yield f"given up after {int(new['tries'])} tries: {OBSTACLES[int(new['blocked'])]}", "bold red"
        if state == ABSENT and was != ABSENT:
            yield "deleted", ""

    def _said(self, which: np.ndarray, words: str, style: str) -> Iterator[tuple[str, str]]:
        names = [self._names[v] for v in np.flatnonzero(which)]
        if names:
            yield f"{_listed(names)} {words}", style


def _listed(names: Sequence[str]) -> str:
    """A few names, the others counted."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    shown = names[: MOST_NAMED - 1]
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"


def _states(scenario: Scenario) -> list[tuple[str, ...]]:
    """Names of the states of each host's free memory, none where its hypervisor has none."""
    if scenario.is_cluster:
        own = [group.hypervisor or scenario.hypervisor for group in scenario.hosts for _ in group.names]
    else:
        own = [scenario.hypervisor]
    return [{"esxi": ESXI_STATES, "linux": LINUX_STATES}.get(hypervisor.last_resort, ()) for hypervisor in own]


def state_in_words(sim: Simulator, lane: int) -> str:
    """The state of a host's free memory now; empty where its hypervisor has none."""
    names = _states(sim.scenario)[0]
    return names[int(sim.hosts["state"][lane, 0])] if names else ""
