"""Hosts that fail, second by second: what each stack notices and fences when, held to its published timers."""

import dataclasses
import math

import numpy as np
import pytest

from hvgym.envs import ha_rules
from hvgym.envs.model import failure, params, placement
from hvgym.envs.model.compiled import entry
from hvgym.envs.model.failure import CRASH, ISOLATION, POWER_LOSS, STALL
from hvgym.envs.model.placement import DEAD, ISOLATED, MACHINE_STATES, RETURNING, STALLED, UP

FAILS_S, BOOT_S, REPAIR_S = 600.0, 300.0, 900.0
"""When a host fails, unless a test says otherwise; a multiple of all heartbeats and rounds."""

STACKS = [name for name in ha_rules.STACKS if name != "none"]


class Cluster:
    """Hosts alike of 40 VMs each; all but the first are led by it."""

    def __init__(self, stack, hosts=3, failures=(), seed=1, mean_s=math.inf, repair_s=REPAIR_S, **changes):
        rules = ha_rules.named(stack) if isinstance(stack, str) else stack
        self.ha = dataclasses.replace(rules, **changes).row()
        self.machines = params.zeros((hosts,), placement.MACHINE).view(np.recarray)
        self.specs = params.zeros((hosts,), placement.MACHINE_SPEC)
        self.specs["mean_time_to_failure_s"], self.specs["repair_s"] = mean_s, repair_s
        self.specs["boot_s"] = BOOT_S
        self.machines["count"] = 40
        self.failures = np.array(sorted(failures, key=lambda f: f[2]), placement.FAILURE)
        self.clock_s = 0.0
        failure.begin(self.machines, self.specs, seed)
        self.arguments = self.machines, self.specs, self.ha, self.failures, seed
        self.advance = entry(failure.advance, *self.arguments, 0.0)

    def second(self):
        self.advance(*self.arguments, self.clock_s)
        self.clock_s += 1.0

    def until(self, clock_s):
        """Up to and with this second."""
        while self.clock_s <= clock_s:
            self.second()
        return self

    def states(self, host=1, until_s=1700.0):
        """What the host becomes, and in which seconds."""
        seen = []
        now = self.machines["state"][host : host + 1]
        while self.clock_s <= until_s:
            self.second()
            state = MACHINE_STATES[now[0]]
            if not seen or seen[-1][1] != state:
                seen.append((self.clock_s - 1.0, state))
        return seen


def after(stack, kind=CRASH, host=1, at_s=FAILS_S, lasts_s=5000.0, **changes):
    """Seconds from a failure until the host is noticed, its VMs are down, and it is fenced; None: never."""
    cluster = Cluster(stack, failures=[(host, kind, at_s, lasts_s)], **changes).until(at_s + 1000.0)
    machine = cluster.machines[host]
    return tuple(None if s < 0 else s - at_s for s in (float(machine[n]) for n in ("noticed_s", "off_s", "fenced_s")))


def first_try(stack, **changes):
    """... until its VMs are started for the first time."""
    return after(stack, **changes)[2] + ha_rules.named(stack).start_s


# Timelines: noticed, VMs down, fenced


@pytest.mark.parametrize(
    ("stack", "timeline"),
    [
        ("vsphere", (15, 0, 18)),
        ("vsphere4", (15, 0, 15)),
        ("proxmox", (60, 0, 120)),
        ("ovirt", (80, 0, 120)),  # 60 s and 40 VMs of 0.5 s, then kdump and power
        ("nova_masakari", (60, 0, 270)),  # the monitor's next look, then 30 and 180 s
        ("hyperv", (10, 0, 250)),
        ("xenserver", (60, 0, 60)),
        ("kubevirt", (40, 0, 340)),
    ],
)
def test_a_host_without_power_is_noticed_and_fenced_by_the_timers_of_its_stack(stack, timeline):
    assert after(stack, POWER_LOSS) == timeline
    assert after(stack, CRASH) == timeline


@pytest.mark.parametrize(
    ("stack", "timeline"),
    [
        ("vsphere", (15, None, None)),  # VMs are left on, and nobody else gets their disks
        ("vsphere4", (15, 14, 15)),
        ("proxmox", (60, 70, 120)),
        ("ovirt", (80, 120, 120)),
        ("nova_masakari", (60, 270, 270)),
        ("hyperv", (10, 250, 250)),
        ("xenserver", (60, 60, 60)),
        ("kubevirt", (40, 340, 340)),
    ],
)
def test_an_isolated_host_is_fenced_or_left_alone(stack, timeline):
    assert after(stack, ISOLATION) == timeline


@pytest.mark.parametrize(
    ("stack", "timeline"),
    [
        ("vsphere", (32, 0, 35)),  # an election first
        ("proxmox", (180, 0, 180)),  # the manager's lock must run out
        ("ovirt", (100, 0, 140)),  # the golden figure of a fence: 60 + 20 + 20
        ("hyperv", (10, 0, 250)),
    ],
)
def test_a_host_that_leads_takes_longer_to_replace(stack, timeline):
    assert after(stack, host=0) == timeline


def test_the_grace_of_ovirt_is_a_whole_number_of_seconds():
    cluster = Cluster("ovirt", failures=[(0, CRASH, 0.0, 0.0)])
    cluster.machines["count"] = 41
    assert cluster.until(200).machines[0].noticed_s == 100.0


def test_without_a_stack_nobody_notices_and_vms_may_start_when_their_host_is_back():
    assert after("none", lasts_s=900.0) == (None, None, 900)


@pytest.mark.parametrize(
    ("stack", "least", "most"),
    [
        ("vsphere", 18, 18),
        ("proxmox", 120, 140),
        ("nova_masakari", 213, 273),  # to service in about 5 min, with a boot of 15 to 60 s
        ("xenserver", 57, 80),
        ("kubevirt", 330, 340),
    ],
)
def test_first_restarts_come_as_published_whenever_the_host_fails(stack, least, most):
    tries = [first_try(stack, at_s=FAILS_S + second) for second in range(60)]
    assert least <= min(tries)
    assert max(tries) <= most


def test_an_isolated_proxmox_node_resets_itself_in_60_to_70_s_and_before_others_start_its_vms():
    times = [after("proxmox", ISOLATION, at_s=FAILS_S + second) for second in range(10)]
    assert {off for _, off, _ in times} == set(range(61, 71))
    assert all(off < fenced for _, off, fenced in times)


def test_a_proxmox_cluster_that_lost_its_master_takes_170_to_200_s():
    assert 170 <= first_try("proxmox", host=0) <= 200


# Isolation


def test_vsphere_switches_vms_off_at_60_s_where_told_to_and_the_primary_at_35_s():
    assert after("vsphere", ISOLATION, response="power_off") == (15, 60, 60)
    assert after("vsphere", ISOLATION, host=0, response="power_off") == (32, 35, 35)


def test_card_13_2_the_agent_of_vsphere_4_is_exact():
    cluster = Cluster("vsphere4", failures=[(1, ISOLATION, FAILS_S, math.inf), (2, POWER_LOSS, FAILS_S, math.inf)])
    isolated, dead = cluster.until(FAILS_S + 60).machines[1:]
    assert dead.noticed_s - FAILS_S == 15
    assert isolated.declares_s - FAILS_S == 12
    assert isolated.off_s - FAILS_S == 14
    assert isolated.fenced_s - FAILS_S == 15
    assert ha_rules.named("vsphere4").start_s == 0


def test_hyperv_lets_an_isolated_host_come_back_within_its_resiliency_period():
    machine = Cluster("hyperv", failures=[(1, ISOLATION, FAILS_S, 200.0)]).until(1000).machines[1]
    assert (machine.state, machine.off_s, machine.fenced_s) == (UP, -1, -1)


def test_hyperv_takes_the_vms_away_after_it_and_the_host_needs_no_boot():
    cluster = Cluster("hyperv", failures=[(1, ISOLATION, FAILS_S, 400.0)])
    assert cluster.states() == [(0, "up"), (600, "isolated"), (1000, "up")]
    assert cluster.machines[1].fenced_s == FAILS_S + 250


def test_an_isolated_host_that_was_reset_is_back_when_it_has_booted_and_its_network_is_back():
    short = Cluster("proxmox", failures=[(1, ISOLATION, FAILS_S, 100.0)])
    assert short.states() == [(0, "up"), (600, "isolated"), (670, "dead"), (671, "returning"), (970, "up")]
    long = Cluster("proxmox", failures=[(1, ISOLATION, FAILS_S, 1000.0)])
    assert long.states() == [(0, "up"), (600, "isolated"), (670, "dead"), (1300, "returning"), (1600, "up")]


def test_a_host_that_comes_back_before_anybody_noticed_lets_its_vms_start():
    cluster = Cluster("vsphere4", failures=[(1, ISOLATION, FAILS_S, 14.5)]).until(FAILS_S + 14)
    assert (cluster.machines[1].state, cluster.machines[1].off_s) == (ISOLATED, FAILS_S + 14)
    machine = cluster.until(FAILS_S + 15).machines[1]
    assert (machine.state, machine.noticed_s, machine.off_s, machine.fenced_s) == (UP, -1, -1, FAILS_S + 15)


# How failures go by


def test_power_comes_back_and_the_host_boots():
    cluster = Cluster("vsphere", failures=[(1, POWER_LOSS, FAILS_S, 100.0)])
    assert cluster.states() == [(0, "up"), (600, "dead"), (700, "returning"), (1000, "up")]
    assert cluster.machines[1].down_s == 400.0


def test_power_that_does_not_come_back_leaves_the_host_dead():
    cluster = Cluster("vsphere", failures=[(1, POWER_LOSS, FAILS_S, math.inf)])
    assert cluster.states() == [(0, "up"), (600, "dead")]


def test_a_crash_lasts_as_long_as_told_or_as_the_host_takes_its_boot_included():
    told = Cluster("vsphere", failures=[(1, CRASH, FAILS_S, 400.0)])
    assert told.states() == [(0, "up"), (600, "dead"), (700, "returning"), (1000, "up")]
    own = Cluster("vsphere", failures=[(1, CRASH, FAILS_S, 0.0)])
    assert own.states() == [(0, "up"), (600, "dead"), (1200, "returning"), (1500, "up")]
    assert (own.machines[1].failures, own.machines[1].down_s) == (1, 900)
    quick = Cluster("vsphere", failures=[(1, CRASH, FAILS_S, 60.0)])
    assert quick.states() == [(0, "up"), (600, "dead"), (601, "returning"), (660, "up")]


@pytest.mark.parametrize("stack", STACKS)
def test_nobody_notices_a_stalled_host(stack):
    cluster = Cluster(stack, failures=[(1, STALL, FAILS_S, 1000.0)])
    assert cluster.states() == [(0, "up"), (600, "stalled"), (1600, "up")]
    machine = cluster.machines[1]
    assert (machine.noticed_s, machine.fenced_s, machine.off_s, machine.down_s) == (-1, -1, -1, 0)


def test_a_stalled_host_boots_anew_once_it_is_empty_and_only_if_it_is_in_maintenance():
    cluster = Cluster("vsphere", failures=[(1, STALL, FAILS_S, math.inf)]).until(700)
    cluster.machines[1]["count"] = 0
    assert cluster.until(750).machines[1].state == STALLED
    cluster.machines[1].maintenance = 1.0
    machine = cluster.until(751).machines[1]
    assert (machine.state, machine.noticed_s, machine.off_s, machine.fenced_s) == (RETURNING, 751, 751, 751)
    assert cluster.until(750 + BOOT_S).machines[1].state == RETURNING
    assert cluster.until(751 + BOOT_S).machines[1].state == UP


def test_a_host_that_is_down_or_booting_does_not_fail_again():
    other = [(1, kind, at_s, math.inf) for kind in (POWER_LOSS, ISOLATION, STALL) for at_s in (700.0, 1300.0)]
    cluster = Cluster("vsphere", failures=[(1, CRASH, FAILS_S, 0.0), *other])
    assert cluster.states() == [(0, "up"), (600, "dead"), (1200, "returning"), (1500, "up")]
    assert cluster.machines[1].failures == 1


def test_an_isolated_host_that_crashes_has_been_silent_since_it_was_isolated():
    cluster = Cluster("vsphere", failures=[(1, ISOLATION, FAILS_S, math.inf), (1, CRASH, FAILS_S + 10, 5000.0)])
    machine = cluster.until(700).machines[1]
    assert (machine.state, machine.off_s, machine.noticed_s, machine.fenced_s) == (DEAD, 610, 615, 618)
    late = Cluster("vsphere", failures=[(1, ISOLATION, FAILS_S, math.inf), (1, CRASH, FAILS_S + 50, 5000.0)])
    machine = late.until(700).machines[1]
    assert (machine.noticed_s, machine.off_s, machine.fenced_s) == (615, 650, 650)  # its locks are free now


def test_a_second_fence_waits_until_180_s_after_the_first_in_ovirt():
    failures = [(1, CRASH, FAILS_S, 130.0), (1, CRASH, FAILS_S + 150, 5000.0)]
    machine = Cluster("ovirt", failures=failures).until(FAILS_S + 149).machines[1]
    assert machine.fenced_s == FAILS_S + 120
    machine = Cluster("ovirt", failures=failures).until(1500).machines[1]
    assert machine.noticed_s == FAILS_S + 150 + 80
    assert machine.fenced_s == FAILS_S + 120 + 180


def test_the_host_that_leads_is_the_one_longest_at_work():
    cluster = Cluster("vsphere", failures=[(0, CRASH, FAILS_S, 400.0), (2, STALL, 1200.0, 10.0)])
    leaders = {}
    while cluster.clock_s < 1500:
        leaders.setdefault(int(failure.leader(cluster.machines)), cluster.clock_s)
        cluster.second()
    assert leaders == {0: 0, 1: FAILS_S + 1}  # and 1 goes on when 0 is back
    cluster.machines["state"] = DEAD
    assert failure.leader(cluster.machines) == -1


@pytest.mark.parametrize("stack", STACKS)
def test_vms_are_never_fenced_while_they_run(stack):
    """Safety, on lists of failures at random: a VM never runs on two hosts. And what is silent is not at work."""
    rng = np.random.default_rng(7)
    hosts, many = 12, 120
    failures = zip(rng.integers(0, hosts, many), rng.integers(0, 4, many), rng.uniform(0, 5000, many),
                   rng.uniform(1, 900, many), strict=True)  # fmt: skip
    cluster = Cluster(stack, hosts=hosts, failures=failures)
    fences = 0
    while cluster.clock_s < 6000:
        cluster.second()
        state, off_s, fenced_s, ends_s = (cluster.machines[n] for n in ("state", "off_s", "fenced_s", "ends_s"))
        down = (state == DEAD) | (state == RETURNING)
        silent = down | (state == ISOLATED)
        fenced = silent & (fenced_s >= 0)
        assert ((off_s >= 0) & (off_s <= fenced_s))[fenced].all()
        assert (off_s < 0)[~silent].all()
        assert (off_s >= 0)[down].all()
        assert (ends_s > cluster.clock_s - 1)[state != UP].all()
        fences += fenced.sum()
    assert fences > 0


# Failures by chance


def crashes(cluster, until_s):
    """Seconds in which each host crashes."""
    seen = [[] for _ in cluster.machines]
    counted = np.zeros(len(cluster.machines))
    while cluster.clock_s < until_s:
        cluster.second()
        for h in np.flatnonzero(cluster.machines["failures"] > counted):
            seen[h].append(cluster.clock_s - 1.0)
        counted = cluster.machines["failures"].copy()
    return seen


def test_a_host_fails_at_the_sums_of_its_draws_while_it_is_at_work():
    cluster = Cluster("vsphere", mean_s=2000.0, repair_s=400.0)
    at_s, expected = 0.0, []
    for draw in range(100):
        at_s += failure.gap_s(2000.0, 1, 2, draw)
        if not expected or math.ceil(at_s) >= expected[-1] + 400:
            expected.append(math.ceil(at_s))
    got = crashes(cluster, 20_000.0)[2]
    assert len(got) > 5
    assert got == [s for s in expected if s < 20_000]


def test_the_same_seed_gives_the_same_failures_whatever_happens_elsewhere():
    alone = crashes(Cluster("vsphere", hosts=1, mean_s=1000.0, repair_s=100.0), 6_000.0)[0]
    busy = [(h, kind, 100.0 * h + 900.0 * kind, 500.0) for h in (1, 2, 3) for kind in range(4)]
    among = Cluster("proxmox", hosts=8, failures=busy, mean_s=1000.0, repair_s=100.0)
    assert crashes(among, 6_000.0)[0] == alone
    assert crashes(Cluster("vsphere", hosts=1, mean_s=1000.0, repair_s=100.0, seed=2), 6_000.0)[0] != alone


def test_a_host_that_was_down_or_stalled_fails_afterwards_when_it_would_have():
    """So a policy that empties a stalled host cannot shift what is to come."""
    free = crashes(Cluster("vsphere", hosts=1, mean_s=1000.0, repair_s=100.0), 6_000.0)[0]
    stalled = Cluster("vsphere", hosts=1, failures=[(0, STALL, 0.0, 2000.0)], mean_s=1000.0, repair_s=100.0)
    got = crashes(stalled, 6_000.0)[0]
    assert [s for s in got if s > 2500] == [s for s in free if s > 2500]


def test_no_host_fails_by_chance_without_a_mean_time():
    for mean_s in (math.inf, 0.0):
        assert crashes(Cluster("vsphere", mean_s=mean_s), 5000.0) == [[], [], []]


def test_the_rate_is_right_over_ten_thousand_host_years():
    """0.58 failures a host-year, 0.08 of the hardware and 0.5 others, on 1,000 hosts for ten years, looked at once a day."""
    year_s, rate = 365.0 * 86400.0, 0.58
    cluster = Cluster("vsphere", hosts=1000, mean_s=year_s / rate, repair_s=600.0)
    for day in range(3650):
        cluster.clock_s = 86400.0 * day
        cluster.second()
    failures = cluster.machines["failures"]
    assert failures.sum() == pytest.approx(10_000 * rate, abs=3.0 * math.sqrt(10_000 * rate))
    assert failures.var() == pytest.approx(10 * rate, rel=0.15)  # Poisson: as its mean


def test_gaps_are_exponential():
    gaps = np.sort([failure.gap_s(100.0, 3, host, draw) for host in range(100) for draw in range(100)])
    expected = 1.0 - np.exp(-gaps / 100.0)
    assert np.abs(expected - (np.arange(10_000) + 0.5) / 10_000).max() < 1.63 / 100.0  # Kolmogorov's 1 %
