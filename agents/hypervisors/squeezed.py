"""squeezed, XenServer's Dynamic Memory Control: all domains squeezed alike between their minimum and maximum.

Every domain gets its minimum and the same share gamma of the range up to its maximum, such that 72 MiB of the host stay free
(`proportional`). Memory moves in two phases (`iterate`): while a domain has to give, only those that give are told; what came
free is handed out later, so the host never runs dry. A check every 10 s; when targets are off, a pass every second until all
are reached and nothing changes. A driver without progress for 5 s is stuck: for the rest of these passes the others do
without it, and it may keep no more than it has. A domain off its target for 20 s is flagged as uncooperative; nothing here
reads the flag. For a VM that waits its share, or at least its minimum, is freed first; the share takes its minimum for free
already, as in the original. All in KiB.

Sees sizes only, of host and VMs: no pressure, no use. Fails when: needs differ (all get the same gamma), a driver creeps (a
page a second is progress), memory is short that no balloon governs.

Surrogate. A VM's size stands for what it holds of the host, and free is what would be left if each held its size: that is
so where memory is committed (Xen); a host that has promised more than it has lacks the difference. A VM that waits is
served at the next check, alone, once, if it fits beside all minimums; what was freed for it stays free until the check
after, which is all that a reservation does here. What it needs to boot is what it is told to start with, else
``boot_share`` of its memory, a guess. Left out: maximums that the hypervisor enforces, offsets calibrated at boot,
scrubbing, Dom0's own balloon. The original's tolerance of 512 KiB decides only what it logs.

Edge cases. No guest statistics are looked at, so it makes no difference whether they are missing, frozen or Windows';
a driver that is absent or hangs shows by its lack of progress. Start: the memory of a VM is freed first, as said
above; then it has a part in gamma. A range that is not known is the present target, as in the original; a minimum of
0 is a number (XenServer supports none below a quarter of the maximum). Limits: the maximum is the configured size.

Source: algorithm and constants of xen-api's ``squeezed/lib/squeeze.ml``, ``squeezed/src/squeeze_xen.ml`` and
``memory_server.ml``, re-implemented from a description.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

KIB_PER_MIB = 1024
INACCURACY_KIB = 4
"""How far from its target a domain may be and have reached it."""

ADJUST, SUCCESS, FAILED = "adjust", "success", "failed"
"""What a pass says: go on; settled with enough free; settled with too little free."""


@dataclass(frozen=True)
class Domain:
    """One VM; KiB. balloons: whether its driver has shown itself; without one all four are the same."""

    minimum: int
    maximum: int
    target: int
    actual: int
    balloons: bool = True


@dataclass(frozen=True)
class Progress:
    """What was last seen of a domain on its way to its target."""

    actual: int
    moved_at_s: float
    stuck: bool = False


@dataclass(frozen=True)
class Pass:
    """One pass: verdict, targets to send (KiB, by VM), and what the next pass must know."""

    verdict: str = ADJUST
    targets: dict[int, int] = field(default_factory=dict)
    progress: Mapping[int, Progress] = field(default_factory=dict)
    inactive: frozenset[int] = frozenset()


def reached(actual: int, target: int) -> bool:
    """Whether a domain has hit a target."""
    return abs(actual - target) <= INACCURACY_KIB


def freeable(domain: Domain) -> int:
    """What a domain surely gives when told to shrink to its minimum."""
    return max(domain.actual - domain.minimum - 2 * INACCURACY_KIB, 0)


def proportional(domains: Mapping[int, Domain], free: int, keep_free: int) -> dict[int, int]:
    """Targets at the one gamma at which `keep_free` of the host stay free."""
    surplus = max(free + sum(map(freeable, domains.values())) - keep_free, 0)
    span = {key: max(vm.maximum - vm.minimum, 0) for key, vm in domains.items()}
    gamma = min(surplus / max(sum(span.values()), 1), 1.0)
    return {key: vm.minimum + int(gamma * span[key]) for key, vm in domains.items()}


def watched(past: Progress | None, domain: Domain, now_s: float, stuck_after_s: float = 5.0) -> Progress:
    """A domain's progress after one more look; the first look is progress, and stuck lasts until it moves."""
    wants = 0 if reached(domain.actual, domain.target) else domain.target - domain.actual
    if past is None or (domain.actual - past.actual) * wants > 0:
        return Progress(domain.actual, now_s)
    late = wants != 0 and now_s - past.moved_at_s > stuck_after_s
    return Progress(domain.actual, past.moved_at_s, past.stuck or late)


def kept(domain: Domain) -> int:
    """Target of a stuck domain: it may give more, not take more."""
    return min(max(min(domain.target, domain.actual), domain.minimum), domain.maximum)


def chosen(active: Mapping[int, Domain], free: int, keep_free: int) -> dict[int, int]:
    """Targets of this phase: of those that have to give, or else of all."""
    ideal = proportional(active, free, keep_free)
    giving = {k: size for k, size in ideal.items() if active[k].actual - size > INACCURACY_KIB}
    return giving or ideal


def iterate(
    past: Pass, domains: Mapping[int, Domain], free: int, keep_free: int, enough: bool, now_s: float,
    stuck_after_s: float = 5.0,
) -> Pass:  # fmt: skip
    """One pass after `past`; `enough` says whether what is free will do once all is settled."""
    progress = {k: watched(past.progress.get(k), vm, now_s, stuck_after_s) for k, vm in domains.items()}
    active = {k: vm for k, vm in domains.items() if vm.balloons and not progress[k].stuck}
    inactive = frozenset(domains) - frozenset(active)
    lost = {k: kept(vm) for k, vm in domains.items() if k in inactive - past.inactive and vm.balloons}
    targets = chosen(active, free, keep_free)
    if _settled(active) and all(active[k].target == size for k, size in targets.items()):
        return Pass(SUCCESS if enough else FAILED, lost, progress, inactive)
    return Pass(ADJUST, targets | lost, progress, inactive)


class _Host:
    """squeezed on one host: between checks, or amid passes that free `goal` KiB, for the VM it `serves` if any."""

    def __init__(self, policy: "Squeezed") -> None:
        self.policy = policy
        self.checks_at_s = -math.inf
        self.past: Pass | None = None
        self.serves: int | None = None
        self.served: set[int] = set()
        self.goal = policy.keep_free
        self.cooperated_at_s: dict[int, float] = {}

    def look(
        self, domains: Mapping[int, Domain], waiting: Mapping[int, Domain], free: int, now_s: float
    ) -> dict[int, int]:
        """Targets to send now."""
        if now_s < self.checks_at_s:
            return {}
        self._watch(domains, now_s)
        if self.past is None or (self.serves is not None and self.serves not in waiting):
            self._choose(domains, waiting, free)
        if self.past is None and self.serves is not None and free >= self.goal and _settled(domains):
            self._close(SUCCESS, now_s)
            return {}
        return self._pass(domains, waiting, free, now_s)

    def _choose(self, domains: Mapping[int, Domain], waiting: Mapping[int, Domain], free: int) -> None:
        """Serve the first VM that waits and whose minimum fits beside all minimums; otherwise balance."""
        keep = self.policy.keep_free
        most = free - keep + sum(map(freeable, domains.values()))
        self.served &= waiting.keys()
        self.serves = next((key for key, vm in waiting.items() if key not in self.served and vm.minimum <= most), None)
        self.goal = keep
        if self.serves is not None:
            self.goal += proportional({**domains, self.serves: waiting[self.serves]}, free, keep)[self.serves]

    def _pass(
        self, domains: Mapping[int, Domain], waiting: Mapping[int, Domain], free: int, now_s: float
    ) -> dict[int, int]:
        """One pass; a check that finds all targets as they should be is the only one."""
        checks = self.past is None and self.serves is None
        enough = self.serves is None or free >= waiting[self.serves].minimum + self.policy.keep_free
        done = iterate(self.past or Pass(), domains, free, self.goal, enough, now_s, self.policy.stuck_after_s)
        self.past = done
        if done.verdict != ADJUST or (
            checks and all(domains[key].target == size for key, size in done.targets.items())
        ):
            self._close(done.verdict, now_s)
        return done.targets

    def _close(self, verdict: str, now_s: float) -> None:
        """Wait for the next check; until then nobody takes what was freed."""
        if self.serves is not None and verdict == SUCCESS:
            self.served.add(self.serves)
        self.past = None
        self.checks_at_s = now_s + self.policy.check_s

    def _watch(self, domains: Mapping[int, Domain], now_s: float) -> None:
        """Note when each domain was last where it should be; a new one is."""
        past = self.cooperated_at_s
        self.cooperated_at_s = {
            key: now_s if reached(vm.actual, vm.target) else past.get(key, now_s) for key, vm in domains.items()
        }


class Squeezed(Policy):
    """Runs squeezed on every host of the batch."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(
        self,
        check_s: float = 10.0,
        keep_free_mib: float = 72.0,
        stuck_after_s: float = 5.0,
        uncooperative_after_s: float = 20.0,
        boot_share: float = 0.5,
    ) -> None:
        self.check_s = check_s
        self.keep_free = _kib(keep_free_mib)
        self.stuck_after_s = stuck_after_s
        self.uncooperative_after_s = uncooperative_after_s
        self.boot_share = boot_share

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.hosts = [_Host(self) for _ in first.vm]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane, host in enumerate(self.hosts):
            free, now_s = _kib(_free_mib(telemetry.vm[lane], telemetry.host[lane, 0])), float(telemetry.time_s[lane])
            for key, target in host.look(*_read(telemetry.vm[lane], self.boot_share), free, now_s).items():
                sizes[lane, key] = target / KIB_PER_MIB
        return Targets(sizes)

    def uncooperative(self, lane: int, now_s: float) -> frozenset[int]:
        """VMs of one host that have been off their targets for so long."""
        seen = self.hosts[lane].cooperated_at_s
        return frozenset(key for key, then_s in seen.items() if now_s - then_s > self.uncooperative_after_s)


def _free_mib(row: np.ndarray, host: np.void) -> float:
    """What a host would have free if its VMs held what they are told they have, ``[vm]`` of telemetry."""
    promised = row["size_mib"] + row["overhead_mib"] - row["resident_mib"]
    return float(host["free_mib"] - promised[(row["running"] > 0.0) & ~np.isnan(promised)].sum())


def _read(row: np.ndarray, boot_share: float) -> tuple[dict[int, Domain], dict[int, Domain]]:
    """Domains of one host, ``[vm]`` of telemetry, and those that wait, as if they ran with nothing."""
    names = ("running", "waiting", "min_mib", "memory_mib", "startup_mib", "target_mib", "size_mib", "overhead_mib")
    domains, waiting = {}, {}
    for key, (runs, waits, low, high, start, target, size, extra) in enumerate(
        zip(*(row[n].tolist() for n in names), strict=True)
    ):
        if waits > 0.0:
            least = max(0.0 if math.isnan(low) else low, boot_share * high) if math.isnan(start) else start
            boots, most = _kib(least + extra), _kib(high + extra)
            waiting[key] = Domain(boots, most, boots, 0)
        elif runs > 0.0 and math.isnan(size):
            domains[key] = Domain(_kib(high), _kib(high), _kib(high), _kib(high), balloons=False)
        elif runs > 0.0 and math.isnan(low):
            domains[key] = Domain(_kib(target), _kib(target), _kib(target), _kib(size))
        elif runs > 0.0:
            domains[key] = Domain(_kib(low), _kib(high), _kib(target), _kib(size))
    return domains, waiting


def _settled(domains: Mapping[int, Domain]) -> bool:
    return all(reached(vm.actual, vm.target) for vm in domains.values())


def _kib(mib: float) -> int:
    return round(mib * KIB_PER_MIB)
