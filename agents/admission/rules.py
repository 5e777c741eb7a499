"""Admission: which VMs a host may start, by reservations, by a fixed ratio, by failover capacity, or by predicted peaks.

Five rules, each with its pure function: reservations and overheads must fit (`reservation_admits`); configured memory
may exceed RAM by a ratio, but no single VM may (`ratio_admits`, OpenStack Nova); so many hosts must be able to fail that
the rest still has a slot for every VM, or a share of memory must stay unreserved (``failover``, vSphere HA); the predicted
peak and the new VM's limit must fit (``predictors``).

Everything here is the control plane's or the host's own (P0). A VM that has been approved and does not run yet counts as
if it did, at its limit. VMs that have not asked yet are answered too, for they may arrive between two decisions; those
that wait come first. What runs is never touched.

Fails: reservations say nothing of use, so a host is half empty or drowns, as its tenants have reserved; a ratio holds on
average over many hosts, not on this one; predictors count newcomers at their limit for two hours, see peaks only that
have happened, and take memory that the host has swapped out for memory that is not used.

Surrogate: use of memory is the VM's resident memory, read every 300 s (the original takes a statistic of each 300 s of
CPU time); it does not fall when a guest frees memory without telling. There is one host, so failover is a share of it
that stays empty; how many CPUs it has no signal tells, so they are taken to suffice. Left out: priorities, CPU admission.
Hypervisors have their own check besides (``model.host.admission``).

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM without
a reservation has reserved nothing but its overhead. What a VM starts with counts nowhere. A limit below its
configured memory is its limit to predictors; ratios, reservations and slots do not know it.

Sources: OpenStack Nova's options ram_allocation_ratio 1.5 and reserved_host_memory_mb 512, and its RAM filter; the others
as ``failover`` and ``predictors`` say.
"""

import abc
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.admission import predictors as peaks
from hvgym.agents.admission.failover import Resources, host_slots, slot_size, unreserved_share
from hvgym.agents.admission.predictors import Predictor, Samples
from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib, limit_mib
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


@dataclass(frozen=True)
class Vm:
    """What the control plane knows of a VM, and the memory it uses."""

    memory_mib: float
    min_mib: float
    overhead_mib: float
    resident_mib: float = 0.0
    limit_mib: float = math.inf

    @property
    def most_mib(self) -> float:
        """What it may use of the host: configured memory, or its limit."""
        return min(self.memory_mib, self.limit_mib)

    @property
    def reserved_mib(self) -> float:
        """Reservation and overhead."""
        return self.min_mib + self.overhead_mib


@dataclass(frozen=True)
class Host:
    """RAM, and what of it is not for VMs."""

    total_mib: float
    own_mib: float


def reservation_admits(vms: Sequence[Vm], capacity_mib: float) -> bool:
    """Whether reservations and overheads of these VMs, the new one among them, fit."""
    return sum(vm.reserved_mib for vm in vms) <= capacity_mib


def ratio_admits(vms: Sequence[Vm], new: Vm, total_mib: float, ratio: float, reserved_mib: float) -> bool:
    """Whether configured memory stays within `ratio` of RAM less what is reserved for the host; no VM beats RAM alone."""
    configured = sum(vm.memory_mib for vm in vms) + new.memory_mib
    return new.memory_mib <= total_mib and configured <= (total_mib - reserved_mib) * ratio


class Admission(Policy):
    """Answers, for every VM that does not run, whether it may start."""

    period_s = 10.0
    visibility = Visibility.P0

    @abc.abstractmethod
    def admits(self, lane: int, running: Sequence[Vm], approved: Sequence[Vm], new: Vm, host: Host) -> bool:
        """Whether `new` may start beside those that run and those that have been approved."""

    def observe(self, lane: int, now_s: float, vms: Sequence[Vm], running: Sequence[bool]) -> None:
        """See a reading of one host before it is asked about VMs."""

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        admit = np.full(telemetry.vm.shape, np.nan)
        for lane, row in enumerate(telemetry.vm):
            vms, host = _read(row, telemetry.host[lane, 0])
            runs, waits = (row["running"] > 0.0).tolist(), (row["waiting"] > 0.0).tolist()
            self.observe(lane, float(telemetry.time_s[lane]), vms, runs)
            running = [vm for vm, there in zip(vms, runs, strict=True) if there]
            approved: list[Vm] = []
            for v in sorted((v for v in range(len(vms)) if not runs[v]), key=lambda v: not waits[v]):
                admit[lane, v] = self.admits(lane, running, approved, vms[v], host)
                if admit[lane, v]:
                    approved.append(vms[v])
        return Targets(admit=admit)


def _read(row: np.ndarray, host: np.void) -> tuple[list[Vm], Host]:
    """VMs, ``[vm]`` of telemetry, and the host."""
    columns = (row["memory_mib"], least_mib(row), row["overhead_mib"], row["resident_mib"], limit_mib(row))
    own_mib = host["total_mib"] - host["available_mib"] - row["resident_mib"].sum()
    return [Vm(*fields) for fields in zip(*(c.tolist() for c in columns), strict=True)], Host(
        float(host["total_mib"]), float(own_mib)
    )


class Reservation(Admission):
    """Reservations only: the hypervisor's own rule, on any hypervisor."""

    def admits(self, lane: int, running: Sequence[Vm], approved: Sequence[Vm], new: Vm, host: Host) -> bool:
        """See `Admission`."""
        return reservation_admits([*running, *approved, new], host.total_mib - host.own_mib)


class Ratio(Admission):
    """A fixed ratio of configured memory to RAM."""

    def __init__(self, ratio: float = 1.5, reserved_mib: float = 512.0) -> None:
        self.ratio = ratio
        self.reserved_mib = reserved_mib

    def admits(self, lane: int, running: Sequence[Vm], approved: Sequence[Vm], new: Vm, host: Host) -> bool:
        """See `Admission`."""
        return ratio_admits([*running, *approved], new, host.total_mib, self.ratio, self.reserved_mib)


class SlotFailover(Admission):
    """A slot of the largest reservation for every VM, on the host less what is kept for failover."""

    def __init__(self, failover_share: float = 0.25) -> None:
        self.failover_share = failover_share

    def admits(self, lane: int, running: Sequence[Vm], approved: Sequence[Vm], new: Vm, host: Host) -> bool:
        """See `Admission`."""
        left = Resources(math.inf, (1.0 - self.failover_share) * (host.total_mib - host.own_mib))
        reserved = [Resources(0.0, vm.reserved_mib) for vm in (*running, *approved, new)]
        return host_slots(left, slot_size(reserved)) >= len(reserved)


class PercentageFailover(Admission):
    """A share of the host that no VM may have reserved."""

    def __init__(self, failover_share: float = 0.25) -> None:
        self.failover_share = failover_share

    def admits(self, lane: int, running: Sequence[Vm], approved: Sequence[Vm], new: Vm, host: Host) -> bool:
        """See `Admission`."""
        total = Resources(math.inf, host.total_mib - host.own_mib)
        reserved = [Resources(0.0, vm.reserved_mib) for vm in (*running, *approved, new)]
        return unreserved_share(total, reserved).memory_mib >= self.failover_share


class PredictedPeak(Admission):
    """The predicted peak of what runs, and the limits of what has been approved and of the new VM, must fit into RAM."""

    def __init__(
        self,
        predictors: Sequence[str] = ("rc_like", "n_sigma"),
        share: float = 0.9,
        sigmas: float = 5.0,
        percentile: float = 99.0,
        min_num_samples: int = 24,
        history: int = 24,
        sample_s: float = 300.0,
    ) -> None:
        known: dict[str, Predictor] = {
            "borg_default": functools.partial(peaks.borg_default, share=share),
            "vm_max": peaks.vm_max,
            "rc_like": functools.partial(peaks.rc_like, percentile=percentile),
            "n_sigma": functools.partial(peaks.n_sigma, sigmas=sigmas),
        }
        wrong = [name for name in predictors if name not in known]
        if wrong or not predictors:
            raise InputError(f"agent.predictors={list(predictors)}: choose from {', '.join(known)}")
        if history < 1 or sample_s <= 0.0:
            raise InputError(
                f"agent.history={history!r}, agent.sample_s={sample_s!r}: history of at least 1, sample_s above 0"
            )
        self.predictors = [known[name] for name in predictors]
        self.min_num_samples = min_num_samples
        self.history = history
        self.sample_s = sample_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """Forget all samples."""
        lanes, vms = first.vm.shape
        self._samples = [[Samples()] * vms for _ in range(lanes)]
        self._sampled_of = [[False] * vms for _ in range(lanes)]
        self._next_s = first.time_s.tolist()
        self._peak_mib = [0.0] * lanes

    def observe(self, lane: int, now_s: float, vms: Sequence[Vm], running: Sequence[bool]) -> None:
        """Sample when it is time, and predict anew when something has changed."""
        due, changed = now_s >= self._next_s[lane], running != self._sampled_of[lane]
        if due:
            self._next_s[lane] = now_s + self.sample_s
        if due or changed:
            self._sampled_of[lane] = list(running)
            self._samples[lane] = [
                self._sampled(old, vm, due) if there else Samples()
                for old, vm, there in zip(self._samples[lane], vms, running, strict=True)
            ]
            there = [v for v in range(len(vms)) if running[v]]
            samples, limits = [self._samples[lane][v] for v in there], [vms[v].most_mib for v in there]
            self._peak_mib[lane] = peaks.predicted_peak_mib(samples, limits, self.predictors, self.min_num_samples)

    def _sampled(self, old: Samples, vm: Vm, due: bool) -> Samples:
        """A VM whose use is not known gets no sample."""
        if not due or math.isnan(vm.resident_mib):
            return old
        return old.with_sample(vm.resident_mib, vm.most_mib, self.history)

    def admits(self, lane: int, running: Sequence[Vm], approved: Sequence[Vm], new: Vm, host: Host) -> bool:
        """See `Admission`."""
        limits_mib = sum(vm.most_mib for vm in approved) + new.most_mib
        return self._peak_mib[lane] + limits_mib <= host.total_mib - host.own_mib
