"""Who gets how much of a disk or a link: reservations, limits and shares; and a latency above which shares count.

Modelled. `divide` is the fluid limit of mClock (Gulati et al., OSDI 2010) and of network I/O control: each VM gets its
shares' part of the capacity, raised to its reservation, cut to its limit and demand, and what nobody takes goes to the
others. Reservations that do not fit are cut alike. `Mclock` is the scheduler itself, request by request by its tags
(Algorithm 1): slower, and an independent witness of the fluid. `take` is a token bucket, for limits that allow bursts. QEMU's
throttling is one (a leaky bucket seen from the other side): it fills at the limit's rate, holds burst rate times burst length,
and is emptied no faster than the burst rate. `next_window` is the control of a datastore shared by hosts (SIOC; Gulati et al.,
FAST 2009, eq. 2): shares bind only while latency is above the threshold; below it windows grow to the most that a host may
have in flight.

Left out: requests of unequal cost, bursts of mClock beyond its tags, the split of a host's window among its VMs, class
hierarchies. Nothing here knows a device: rates are requests or bytes per second alike.

Sources: as named; token buckets, QEMU's docs/throttle.txt and util/throttle.c; SIOC's threshold of 30 ms, period of 4 s and
gain 0.8, and the share of a link that may be reserved, are recalled from VMware's guides and FAST 2009.
"""

import dataclasses
import math
from collections.abc import Sequence

from hvgym.envs.model.compiled import compiled

LEVEL_STEPS = 64
"""Bisections of the level: more than a double's digits, so that the remainder is rounding."""

SIOC_THRESHOLD_S, SIOC_PERIOD_S, SIOC_GAIN = 0.030, 4.0, 0.8

BETA_PER_SHARE = 4.0 / 1000.0
"""Requests that a period adds to a window, per share (a guess): a host of 1,000 shares grows by up to 4."""

WINDOW_LEAST, WINDOW_MOST = 1.0, 64.0
"""Requests of a host in flight; 64 is a usual queue depth of a disk (a guess)."""

NIOC_RESERVABLE = 0.75
"""Share of a link that network I/O control lets be reserved."""


@compiled
def _at_level(level, want, reservation, limit, weight) -> float:  # type: ignore[no-untyped-def]
    """What one VM gets when a unit of weight is worth `level`."""
    return min(max(weight * level, reservation), want, limit)


@compiled
def _served(level, want, reservation, limit, weight) -> float:  # type: ignore[no-untyped-def]
    total = 0.0
    for v in range(len(want)):
        total += _at_level(level, want[v], reservation[v], limit[v], weight[v])
    return total


@compiled
def _highest_level(want, limit, weight, capacity) -> float:  # type: ignore[no-untyped-def]
    """Level at which each VM has all that it may have, or the whole capacity."""
    level = 0.0
    for v in range(len(want)):
        if weight[v] > 0.0:
            level = max(level, min(want[v], limit[v], capacity) / weight[v])
    return level * (1.0 + 1e-12)  # beyond the rounding of the division


@compiled
def divide(want, reservation, limit, weight, capacity, given) -> None:  # type: ignore[no-untyped-def]
    """Fill `given` with each VM's part of `capacity`; all arrays ``[vm]``, one unit. VMs of weight 0 get reservations only."""
    asked = reserved = 0.0
    for v in range(len(want)):
        given[v] = min(want[v], limit[v])
        asked += given[v]
        reserved += min(reservation[v], given[v])
    if asked <= capacity:
        return
    low, high = 0.0, _highest_level(want, limit, weight, capacity)
    if reserved > capacity:
        high = 0.0
    for _ in range(LEVEL_STEPS if high > 0.0 else 0):
        middle = 0.5 * (low + high)
        if _served(middle, want, reservation, limit, weight) > capacity:
            high = middle
        else:
            low = middle
    cut = min(capacity / reserved, 1.0) if high == 0.0 else 1.0
    for v in range(len(want)):
        given[v] = cut * _at_level(low, want[v], reservation[v], limit[v], weight[v])


@compiled
def take(tokens: float, asked: float, per_s: float, most_per_s: float, size: float, dt_s: float) -> tuple[float, float]:
    """Token bucket: what is granted of `asked` within `dt_s`, and the tokens left.

    The bucket holds `size` and fills at `per_s` while it is emptied, at most at `most_per_s`. So never more than
    ``size + per_s t`` is granted in any `t` seconds. A bucket of size 0 is a plain limit.
    """
    filled = tokens + per_s * dt_s
    granted = min(asked, filled, most_per_s * dt_s)
    return granted, min(filled - granted, size)


@compiled
def next_window(window: float, latency_s: float, threshold_s: float, gain: float, beta: float) -> float:
    """Requests that a host may have in flight in the next period."""
    aim = threshold_s / latency_s * window + beta
    return min(max((1.0 - gain) * window + gain * aim, WINDOW_LEAST), WINDOW_MOST)


@compiled
def datastore_latency_s(in_flight: float, per_s: float, idle_s: float) -> float:
    """Latency of a device of this throughput with so many requests in flight (Little's law)."""
    return max(idle_s, in_flight / per_s)


@dataclasses.dataclass(frozen=True)
class Client:
    """One VM of `Mclock`; rates are per second, a limit of infinity is none."""

    reservation_per_s: float
    limit_per_s: float
    weight: float


class Mclock:
    """The tags of mClock. `queue` a request of a VM, then `serve`; a server of capacity C serves every 1 / C seconds.

    A request has three tags: by when its reservation wants it served, from when its limit allows it, and its place by
    shares. They are never behind the clock, so weights count while they are below the rates that they earn.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients
        self._pending: list[list[list[float]]] = [[] for _ in clients]
        self._last = [[-math.inf] * 3 for _ in clients]

    def queue(self, vm: int, now_s: float) -> None:
        """A request arrives; a VM that was idle begins at the lowest place by shares of those that were not."""
        client, last = self._clients[vm], self._last[vm]
        active = [requests[0][2] for requests in self._pending if requests]
        rates = (client.reservation_per_s, client.limit_per_s, client.weight)
        tags = [max(tag + 1.0 / rate, now_s) if rate > 0.0 else math.inf for tag, rate in zip(last, rates, strict=True)]
        if active and not self._pending[vm]:
            tags[2] = max(tags[2], min(active))
        self._last[vm] = list(tags)
        self._pending[vm].append(tags)

    def serve(self, now_s: float) -> int | None:
        """Take the request that is due and return its VM; None when limits hold all of them back."""
        heads = [(requests[0], vm) for vm, requests in enumerate(self._pending) if requests]
        if due := [(tags[0], vm) for tags, vm in heads if tags[0] <= now_s]:
            return self._pop(min(due)[1])
        if allowed := [(tags[2], vm) for tags, vm in heads if tags[1] <= now_s]:
            return self._spare_reservation(self._pop(min(allowed)[1]))
        return None

    def _pop(self, vm: int) -> int:
        self._pending[vm].pop(0)
        return vm

    def _spare_reservation(self, vm: int) -> int:
        """What the shares gave counts as reserved: later requests are due one interval earlier."""
        if rate := self._clients[vm].reservation_per_s:
            for tags in (*self._pending[vm], self._last[vm]):
                tags[0] -= 1.0 / rate
        return vm
