"""A goodput that no policy can pass: each second's best division of host RAM, with every move free and no queue.

Computed per episode from the specification, the demand, and the state at its start. Why nothing passes it:

Speed. A VM works at x <= 1 / (b + s), and no faster than a thread of each of its devices allows. b is what a second's work
takes with its own I/O's exits, batched as at full speed, and its page walks, at the share of large pages that it can have by
then (split ones are put together no faster than ``sharing.COLLAPSE_PER_S``). s is its stall: a page of tier k that is not in
RAM when a second begins is touched in that second with the tier's ``tier_touched_share``, which stalls the VM by at least the
idle latency of the best place where it can be, over the faults in flight; sequential reads and read-ahead count as if they
were perfect.

RAM. When a second ends, the VMs' pages, kernels and processes fit beside the hypervisor: its last resort sees to it, and
what commits memory grows only into what is free (a host that begins in debt may keep it). Merged pages are at most
``mergeable_share`` of the most that VMs want; a page in a full compressed pool costs its slot and is taken not to stall; both
count as RAM that all may use. A host's page cache saves no more reads than it has room for, so it is RAM too. What a zram
stores takes its share. A VM that arrives late, or that starts small as the episode begins, costs nothing until it runs, then
boots and fills no faster than it grows, and only such sets of VMs run as reservations or commitments allow.

Division. The best pages stay, whatever their age: a VM's curve of progress over RAM (``curves``) has its points where pages
are taken in the order of the stall that they save per MiB; in between it is convex, so the chords lie above. For any price
p >= 0 of RAM, then, in each second

    sum w x  <=  p RAM + sum over VMs of worth,    worth = max over the points of (w x - p RAM),

and the price is chosen that proves most. Nor can a second bring more than pCPUs carry when they serve those VMs first
that are worth most per pCPU. The lesser of the two counts.

Outside. Pages that are out at the start come back when they are touched, each with a stall, while the demand of their kind
(anonymous or page cache) stays as it was. A kill forgets them, so each VM may choose the best second to be killed, lose
``restart_s`` and be charged ``kill_cost_s``, and go on without them; it will not where that costs more than it brings. A
second kill finds nothing left to forget. An OutOfMemoryError of a JVM forgets as much and is charged nothing.

Lags. A workload whose demand has risen lacks d MiB of its pages for a while. It gets on no better than with d MiB more RAM
and all pages, so if it works at the share t of that it gains at most t p d; and d shrinks by the rate of growth times its
progress. After a kill the workload is back to a share r, works at most at r of its speed, and lacks (1 - r) of its pages and
a second's growth: it gains nothing while its worth is above the price of all its pages (worth is taken to be that at least),
but for the last seconds. `_lags` adds up the worst case of both at the highest price. Each return but the first (and a late
VM's second, for its start is the first) follows a kill whose charge is not counted yet, so it gains its last seconds less that,
if anything.

Starts. Nobody leaves, so a VM that is not of the set that runs is never started; if the episode lasts so long, its start has
failed and is charged. A VM of the set may start in time. The set that has run is part of one of the largest, and charged for
more.

Channels. Where nobody can set a rate of page sharing and the hypervisor does not scan, nothing is merged. Other channels change
nothing here: whatever a seat lacks, the hypervisor's own policy, its last resort or a guest may do by chance.

In the bound's favour: moves cost nothing, nothing queues, balloons have no limits and VMs none of host memory, no actuator need
know more of a page than its age (real ones know no more), what was evicted during the episode need not fault, the link is
never full, operations of the application's own wait for nothing, and the room of a JVM's heap costs neither memory nor time.
"""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterator

import numpy as np

from hvgym.agents.clairvoyant.curves import Curves, Pieces, curves, cut, down_s, outside_mib, speeds, stored_mib
from hvgym.envs.model.host import admission
from hvgym.envs.telemetry import HiddenState

MOST_ARRIVALS = 12
"""Of so many late VMs every set is tried for which the hypervisor has room; of more, all are taken to run."""

PRICE_STEPS, CHEAPEST, DEAREST = 60, 1e-14, 1e2
"""Ternary search of the price. Any price is valid; what is left of the search costs tightness only."""

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Tried between the prices that prove most when no VM is killed and when all are."""

ROUNDING = 1e-12
"""A bound that is reached is a sum in another order."""

TAIL_SHARE, LEAST_SHARE = 0.01, 0.01
"""A VM counts as back when it lacks this share of its memory, and works at this share with none (``tick._refill_share``)."""


def goodput(hidden: HiddenState, duration_s: int | None = None, channels: Collection[str] | None = None) -> np.ndarray:
    """Bound of each episode, ``[env]``, from the state at its start; an episode lasts as long as its demand if not told.
    channels: those of the policies that it is to hold for, all if not told.

    Raises:
        ValueError: if an episode has gone on since.
    """
    if np.any(hidden.clock_s != 0):
        raise ValueError("a bound is computed at the start of an episode")
    seconds = hidden.demand.shape[1] * hidden.slot_s if duration_s is None else duration_s
    if channels is not None and "scan_pages_per_s" not in channels:
        hidden = _unscanned(hidden)
    return np.array([_of_lane(hidden, lane, seconds) for lane in range(len(hidden.vms))])


def _unscanned(hidden: HiddenState) -> HiddenState:
    """With nothing to be merged where the hypervisor does not scan by itself."""
    specs, scans = hidden.vm_specs.copy(), hidden.host_specs["scan_pages_per_s"][:, 0] > 0.0
    specs["mergeable_share"] *= scans[:, None]
    return dataclasses.replace(hidden, vm_specs=specs)


def _of_lane(hidden: HiddenState, lane: int, seconds: int) -> float:
    pieces = cut(hidden, lane, seconds)
    most = max(_most(pieces, runs) - _failed(pieces, runs) for runs in startable(pieces))
    asked = float((pieces.length_s @ pieces.asked * pieces.specs["weight"]).sum())
    return most / asked * (1.0 + math.copysign(ROUNDING, most))


def _failed(pieces: Pieces, runs: np.ndarray) -> float:
    """What is charged at least for starts that fail when these VMs run and no others."""
    given_up = np.ceil(pieces.specs["arrive_s"] + admission.GIVEN_UP_S) <= pieces.end_s[-1]
    return float((pieces.specs["weight"] * pieces.specs["kill_cost_s"])[~runs & given_up].sum())


def _kill_cost(specs: np.ndarray) -> np.ndarray:
    """Weighted seconds that a VM pays at least to forget its pages, ``[vm]``."""
    return np.where(specs["jvm"]["present"] > 0.0, 0.0, specs["weight"] * specs["kill_cost_s"])


def startable(pieces: Pieces) -> Iterator[np.ndarray]:
    """The largest sets of VMs, ``[vm]`` of bool, that the hypervisor can have started together."""
    spec, host, arrive = pieces.specs, pieces.spec, np.flatnonzero(pieces.late)
    room = host["ram_mib"] - host["own_mib"]
    takes = spec["min_mib"] + spec["overhead_mib"]
    if host["admission"] == admission.COMMIT and host["pages_restarts"] == 0.0:
        cap = np.where(spec["balloons"] > 0.0, spec["balloon_cap_mib"], 0.0)
        least = np.maximum(spec["min_mib"], spec["memory_mib"] - cap)
        takes = np.where(pieces.late, np.minimum(least, spec["startup_mib"]), least) + spec["overhead_mib"]
        room -= host["min_free_mib"]
    elif host["admission"] != admission.RESERVATION:
        arrive = arrive[:0]
    if not 0 < len(arrive) <= MOST_ARRIVALS:
        yield np.ones(len(spec), bool)
        return
    room -= takes[~pieces.late].sum()
    sets = [set(s) for n in range(len(arrive) + 1) for s in itertools.combinations(arrive.tolist(), n)]
    fit = [s for s in sets if takes[list(s)].sum() <= room] or [set[int]()]
    for chosen in (s for s in fit if not any(s < other for other in fit)):
        yield ~pieces.late | np.isin(np.arange(len(spec)), list(chosen))


def _most(pieces: Pieces, runs: np.ndarray) -> float:
    """Weighted progress of an episode in which these VMs run: the least that one of the prices tried proves."""
    runs = pieces.asked & runs
    out = outside_mib(pieces)
    kept, forgotten = curves(pieces, out), curves(pieces, 0.0 * out)
    processors = _on_processors(pieces, runs)
    low, high = (_price(pieces, runs, curve) for curve in (kept, forgotten))
    return min(_proven(pieces, runs, low + mix * (high - low), kept, forgotten, processors) for mix in MIXES)


def _proven(
    pieces: Pieces, runs: np.ndarray, price: np.ndarray, kept: Curves, forgotten: Curves, processors: np.ndarray
) -> float:
    """The bound at a price for each piece; `forgotten` are the curves of VMs that have been killed."""
    before, after = _worth(pieces, runs, price, kept), _worth(pieces, runs, price, forgotten)
    memory = price * ram_mib(pieces) + before.sum(axis=1)
    counts = memory <= processors
    kills = _kills(pieces, before * counts[:, None], after * counts[:, None])
    slow_s = pieces.length_s @ ((kept.progress[:, :, -1] < 0.5) & runs)
    lags = _lags(pieces, float((price * counts).max()), slow_s)[runs.any(axis=0)]
    return float(pieces.length_s @ np.minimum(memory, processors) + kills.sum() + lags.sum())


def ram_mib(pieces: Pieces) -> np.ndarray:
    """What the pages of all workloads can take, ``[piece]``; pages that are merged or compressed count in full."""
    spec, host = pieces.specs, pieces.spec
    merged = (spec["mergeable_share"] * pieces.demand["tier_mib"].sum(axis=2).max(axis=0)).sum()
    ram = host["ram_mib"] - host["own_mib"] + max(-pieces.host["free_mib"], 0.0)
    ram -= (spec["kernel_mib"] + spec["overhead_mib"])[~pieces.late].sum()
    if host["swaps"] > 0.0:
        ram += (spec["zip_cap_mib"] * (1.0 / spec["zip_stored_share"] - 1.0)).sum()
    if host["commits"] > 0.0 and (spec["deflate_on_oom_mib_per_s"] > 0.0).any():
        ram += spec["memory_mib"].sum()  # such a driver takes what the host does not have
    if host["pages_restarts"] > 0.0:  # what a VM lacked when it started is not waited for
        ram += np.maximum(spec["startup_mib"] - spec["min_mib"], 0.0)[pieces.late].sum()
    return np.asarray(
        np.maximum(ram, stored_mib(pieces)) + merged
    )  # swap that lies in RAM is filled even if there is none


def _worth(pieces: Pieces, runs: np.ndarray, price: np.ndarray, curve: Curves) -> np.ndarray:
    """What each VM brings a second at most beyond the RAM that it pays for, ``[piece, vm]``."""
    paid = price[:, None, None] * curve.ram_mib
    everything = price[:, None] * pieces.wanted_mib
    worth = np.maximum((pieces.specs["weight"][:, None] * curve.progress - paid).max(axis=2), everything)
    back = _back(pieces)
    booting = np.minimum(worth, back * (pieces.specs["weight"] + everything))
    return np.where(runs, np.where(back < 1.0, booting, worth), 0.0)


def _back(pieces: Pieces) -> np.ndarray:
    """Share of its work that a VM can do at most while it grows after it has been started, ``[piece, vm]``."""
    grown = (pieces.end_s[:, None] - pieces.up_s) * pieces.specs["growth_mib_per_s"]
    share = grown / np.maximum((1.0 - TAIL_SHARE) * pieces.wanted_mib, 1e-9)
    back = np.maximum.accumulate(np.where(grown > 0.0, np.clip(share, LEAST_SHARE, 1.0), 0.0), axis=0)
    return np.where(pieces.late, back, 1.0)


def _price(pieces: Pieces, runs: np.ndarray, curve: Curves) -> np.ndarray:
    """The price of a MiB for a second that proves most, ``[piece]``."""
    low, high = np.full((2, len(pieces.length_s)), np.log([[CHEAPEST], [DEAREST]]))
    ram = ram_mib(pieces)

    def total(price: np.ndarray) -> np.ndarray:
        bound: np.ndarray = price * ram + _worth(pieces, runs, price, curve).sum(axis=1)
        return bound

    for _ in range(PRICE_STEPS):
        third = (high - low) / 3.0
        falls = total(np.exp(low + third)) > total(np.exp(high - third))
        low, high = np.where(falls, low + third, low), np.where(falls, high, high - third)
    found = np.exp(0.5 * (low + high))
    return np.where(total(0.0 * found) <= total(found), 0.0, found)


def _on_processors(pieces: Pieces, runs: np.ndarray) -> np.ndarray:
    """The most that the pCPUs carry in a second, ``[piece]``: those VMs first that are worth most per pCPU."""
    work_s, pcpus, top = speeds(pieces)
    weight, each = pieces.specs["weight"], work_s * pcpus
    room = pieces.spec["pcpus"] * max(1.0 - pieces.spec["own_cpu_share"], 0.05)
    order = np.argsort(each / weight, axis=1)
    gain, cost = (np.take_along_axis(value, order, axis=1) for value in (runs * top * weight, runs * top * each))
    served = np.clip(room - (np.cumsum(cost, axis=1) - cost), 0.0, cost)
    share = np.divide(served, cost, out=np.ones_like(cost), where=cost > 0.0)
    carried: np.ndarray = (gain * share).sum(axis=1)
    return carried


def _kills(pieces: Pieces, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What the best moment for a kill, if there is one, brings each VM beyond its charge, ``[vm]``; worths of VMs before and
    after it."""
    edges = np.append(0.0, pieces.end_s)
    first, then = (np.vstack([0.0 * w[:1], np.cumsum(w * pieces.length_s[:, None], axis=0)]) for w in (before, after))
    gains, cost = np.zeros(len(pieces.specs)), _kill_cost(pieces.specs)
    for v, restart_s in enumerate(down_s(pieces.specs)):
        moments = np.clip(np.append(edges, edges - restart_s), 0.0, edges[-1])
        lived = np.interp(moments, edges, first[:, v])
        left = then[-1, v] - np.interp(moments + restart_s, edges, then[:, v])
        gains[v] = max(float((lived + left).max() - first[-1, v]) - cost[v], 0.0)
    return gains


def _lags(pieces: Pieces, price: float, slow_s: np.ndarray) -> np.ndarray:
    """What each VM gains at most while it has fewer pages than its demand, ``[vm]``; slow_s: seconds below half speed.

    A rise by D is worked off in at most 2 (D / growth + 1) seconds of what a VM can do, for at half speed or above it takes
    half the rate of growth; the rest that a tick leaves falls by half each. After a kill there are at most
    2 sqrt(S / growth) + 1 last seconds, and then the tail.
    """
    tiers, growth = pieces.demand["tier_mib"], pieces.specs["growth_mib_per_s"]
    rises = np.maximum(np.diff(tiers, axis=0), 0.0).sum(axis=2)
    most_mib = np.maximum((tiers - np.minimum.accumulate(tiers, axis=0)).sum(axis=2).max(axis=0), growth)
    lagging_s = 2.0 * ((rises / growth + 1.0) * (rises > 0.0)).sum(axis=0) + 2.0 * slow_s
    whole = tiers.sum(axis=2)
    refill_s = down_s(pieces.specs) + (1.0 - TAIL_SHARE) * whole.min(axis=0) / growth
    last_mib = growth * (2.0 * np.sqrt(whole.max(axis=0) / growth) + 1.0)
    last_mib += most_mib * 2.0 * (TAIL_SHARE * whole.max(axis=0) / growth + 1.0)
    returns, charged_mib = pieces.end_s[-1] / np.maximum(refill_s, 1.0), np.full(len(last_mib), np.inf)
    if price > 0.0:
        charged_mib = _kill_cost(pieces.specs) / price
    gained_mib = returns * np.maximum(last_mib - charged_mib, 0.0)
    gained_mib += np.minimum(returns, 1.0 + pieces.late) * np.minimum(last_mib, charged_mib)
    lags: np.ndarray = price * (most_mib * lagging_s + gained_mib)
    return lags
