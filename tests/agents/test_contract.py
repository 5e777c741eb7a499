"""What every packaged policy keeps to, whoever wrote it: its own profile, its own lane, its own episode, its own VMs.

Policies of clusters read three hosts of which one is emptied and one dies; the agent that composes others is played part by part.
"""

import dataclasses
import functools
import inspect

import numpy as np
import pytest

from hvgym.agents.cluster.composed import Composed
from hvgym.agents.cluster.reading import RESTARTING, RUNNING, WAITING
from hvgym.agents.policy import Policy, make_policy, policy_class
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.rules import declared
from hvgym.envs.scenario import group_files, load, load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HOST_SIGNALS, VM_SIGNALS, Places, Targets, Telemetry

SECONDS = 420
CHANNELS = [field.name for field in dataclasses.fields(Targets)]
OF_HOSTS = ("scan_pages_per_s", "maintenance")


@functools.cache
def policies():
    configs = {name: load_group("agent", name) for name in sorted(group_files("agent"))}
    made = {
        name: make_policy(config) for name, config in configs.items() if not {"train", "checkpoint"} & config.keys()
    }
    return [name for name, one in made.items() if isinstance(one, Policy) and not isinstance(one, Composed)]


def of_clusters():
    return [name for name in policies() if make_policy(load_group("agent", name)).of_cluster]


CLUSTER = {
    "name": "contract",
    "description": "three hosts",
    "stack": "proxmox",
    "episode_s": SECONDS,
    "hosts": [{"name": "a", "count": 2, "ram_mib": 16384, "pcpus": 8}, {"name": "b", "ram_mib": 24576, "pcpus": 12}],
    "maintenance": [{"host": "a-0", "from_s": 45, "deadline_s": 380}],
    "failures": [{"host": "a-1", "at_s": 100, "lasts_s": 200}],
}
"""Two hosts alike, of which one is to be emptied and one dies, and a larger one."""

GUEST = {"memory_mib": 4096, "min_mib": 1024, "demand": {"hot_mib": 600, "warm_mib": 400, "cache_mib": 300}}


def cluster():
    """Seven VMs there, most of them on the first host, two that are asked for later."""
    busy = GUEST | {"demand": GUEST["demand"] | {"cpu_share": 0.9}, "vcpus": 4}
    vms = [
        {"name": "busy", "count": 3, "host": "a-0"} | busy,
        {"name": "near", "count": 2, "host": "a-1"} | GUEST,
        {"name": "far", "count": 2, "host": "b"} | GUEST,
        {"name": "late", "count": 2, "arrive_s": 60} | GUEST,
    ]
    return resolve(CLUSTER | {"vms": vms}, hypervisor=load_group("hypervisor", "kvm"))


@functools.cache
def readings_of(clusters):
    """Second by second, two clusters, or two hosts of which one VM has yet to be started; memory sizes wander."""
    sim = ClusterSimulator(cluster(), 2) if clusters else Simulator(load("late-arrivals"), 2)
    draws = np.random.default_rng(5)
    found = [sim.reset([3, 4])]
    for second in range(SECONDS):
        if second % 30 == 0:
            low, high = sim.vm_specs["min_mib"], sim.vm_specs["memory_mib"]
            sim.apply(Targets(low + draws.uniform(0.2, 1.0, sim.vms.shape) * (high - low)))
        found.append(sim.advance(1))
    return tuple(found)


@functools.cache
def seen_by(clusters, profile):
    """The readings as policies of this profile have them: dozens share one, and none may change what it sees."""
    return [reading.seen_with(profile) for reading in readings_of(clusters)]


def seen(name):
    """What an agent sees of what it is made for."""
    policy = make_policy(load_group("agent", name))
    return seen_by(policy.of_cluster, policy.visibility)


STATISTICS = [signal.name for signal in VM_SIGNALS if signal.visibility in (1, 2, 4)]
"""What a guest tells of itself."""

WATCHED = [signal.name for signal in VM_SIGNALS if signal.name.startswith(("active_", "idle_", "woken_"))]
"""What the hypervisor learns from page tables."""


def originals():
    return [name for name in policies() if not name.endswith("_tuned")]


def changed(telemetry, **columns):
    """The reading with other values for some signals of VMs; a callable makes them from the VMs."""
    vm = telemetry.vm.copy()
    for name, value in columns.items():
        vm[name] = value(telemetry.vm) if callable(value) else value
    return Telemetry(telemetry.time_s, vm, telemetry.host.copy(), telemetry.places)


def without_statistics(telemetry, every=1):
    """Every so many VMs tell nothing."""
    silent = changed(telemetry)
    for name in STATISTICS:
        silent.vm[name][:, ::every] = np.nan
    return silent


def with_windows_statistics(telemetry):
    """Free memory includes the standby cache; what is available counts half of it twice."""
    return changed(
        telemetry,
        guest_free_mib=lambda vm: vm["guest_free_mib"] + vm["guest_caches_mib"],
        guest_available_mib=lambda vm: vm["guest_free_mib"] + 1.5 * vm["guest_caches_mib"],
    )


def with_nothing_left(telemetry):
    """Neither host nor guests have any memory free, and everything stalls."""
    none = ("guest_free_mib", "guest_available_mib", "guest_caches_mib")
    full = changed(telemetry, **dict.fromkeys(none, 0.0), guest_psi_some10=1.0, host_psi_some10=1.0)
    full.host["free_mib"] = full.host["available_mib"] = 0.0
    full.host["psi_some10"] = 1.0
    return full


def frozen(sequence, from_s=60):
    """Statistics stay what they were at that second, and age."""
    last, result = sequence[from_s], list(sequence[: from_s + 1])
    for reading in sequence[from_s + 1 :]:
        old = changed(reading, **{name: last.vm[name] for name in STATISTICS})
        old.vm["stats_age_s"] += (reading.time_s - last.time_s)[:, None] + 3600.0
        result.append(old)
    return result


def each(change):
    return lambda sequence: [change(reading) for reading in sequence]


ODD = {
    "some tell nothing": each(lambda r: without_statistics(r, every=2)),
    "nobody tells anything": each(without_statistics),
    "no ages and no samples": each(lambda r: changed(r, **dict.fromkeys(WATCHED, np.nan))),
    "statistics are frozen": frozen,
    "statistics are Windows'": each(with_windows_statistics),
    "no minimum": each(lambda r: changed(r, min_mib=0.0)),
    "nothing configured": each(lambda r: changed(r, min_mib=np.nan, shares=np.nan)),
    "shares of nothing": each(lambda r: changed(r, shares=0.0)),
    "limits": each(lambda r: changed(r, limit_mib=lambda vm: 0.5 * vm["memory_mib"])),
    "small starts": each(lambda r: changed(r, startup_mib=lambda vm: 0.25 * vm["memory_mib"])),
    "no balloon": each(lambda r: changed(r, size_mib=np.nan)),
    "nobody runs": each(lambda r: changed(r, running=0.0, waiting=0.0)),
    "all memory is used": each(with_nothing_left),
}
"""Telemetry that no packaged scenario gives, by what is odd about it."""


def assert_in_range(targets, reading, odd="nothing"):
    """As `Simulator.apply` takes it: finite or NaN, never negative, switches 0 or 1. odd: what is odd about the readings."""
    for channel in CHANNELS:
        value = getattr(targets, channel)
        if value is None:
            continue
        assert value.shape == (reading.host.shape if channel in OF_HOSTS else reading.vm.shape), (channel, odd)
        known = np.asarray(value, float)[~np.isnan(value)]
        assert np.isfinite(known).all(), (channel, odd)
        assert (known >= 0.0).all(), (channel, odd)
        if channel in ("admit", "report_free_pages"):
            assert np.isin(known, (0.0, 1.0)).all(), (channel, odd)
        if channel == "memory_mib":
            assert not (value > reading.vm["memory_mib"] + 1e-6).any(), odd


def lanes(telemetry, which):
    of_cluster, places = telemetry.places, None
    if of_cluster is not None:
        places = Places(of_cluster.vm[which], of_cluster.host[which], of_cluster.obstacles[which])
    return Telemetry(telemetry.time_s[which], telemetry.vm[which], telemetry.host[which], places)


def decide(name, sequence, policy=None):
    """All decisions of a policy that sees a sequence of readings one second apart."""
    policy = policy or make_policy(load_group("agent", name))
    policy.granted(CHANNELS)
    policy.reset(sequence[0], seed=0)
    return [policy.decide(reading) for reading in sequence[:: max(int(policy.period_s), 1)]]


def same(one, other, which=slice(None)):
    for a, b in zip(one, other, strict=True):
        for channel in CHANNELS:
            x, y = getattr(a, channel), getattr(b, channel)
            assert (x is None) == (y is None), channel
            if x is not None:
                np.testing.assert_array_equal(x[which], y, err_msg=channel)


def spoilt(telemetry, profile):
    """The reading with other numbers in every signal that the profile does not include."""
    draws = np.random.default_rng(int(telemetry.time_s[0]))
    vm, host = telemetry.vm.copy(), telemetry.host.copy()
    for signals, array in ((VM_SIGNALS, vm), (HOST_SIGNALS, host)):
        for signal in signals:
            if signal.visibility not in profile.includes:
                array[signal.name] = draws.uniform(0.0, 5000.0, array.shape)
    return Telemetry(telemetry.time_s, vm, host, telemetry.places)


@functools.cache
def spoilt_for(clusters, profile):
    return [spoilt(reading, profile) for reading in readings_of(clusters)]


@pytest.mark.parametrize("name", policies())
def test_a_policy_reads_nothing_beyond_its_profile(name):
    policy = make_policy(load_group("agent", name))
    same(decide(name, seen(name)), decide(name, spoilt_for(policy.of_cluster, policy.visibility)))


def undeclared(telemetry, signals):
    """The reading with other numbers in every signal that is not declared."""
    draws = np.random.default_rng(int(telemetry.time_s[0]))
    vm, host = telemetry.vm.copy(), telemetry.host.copy()
    for prefix, array in (("", vm), ("host.", host)):
        for name in array.dtype.names:
            if f"{prefix}{name}" not in signals:
                array[name] = draws.uniform(0.0, 5000.0, array.shape)
    return Telemetry(telemetry.time_s, vm, host, telemetry.places)


@pytest.mark.parametrize("name", originals())
def test_a_policy_reads_no_signal_that_it_does_not_declare_and_answers_on_no_such_channel(name):
    """What is not declared may be missing or anything: the decisions are those of its whole profile."""
    config = load_group("agent", name)
    who, whole = declared(config), decide(name, seen(name))
    if who.signals is not None:  # else all of its profile
        same(whole, decide(name, [r.restricted_to(who.signals) for r in seen(name)]))
        same(whole, decide(name, [undeclared(r, who.signals) for r in seen(name)]))
    answered = {channel for targets in whole for channel in CHANNELS if getattr(targets, channel) is not None}
    if who.channels is not None:  # else all that its seat has
        assert answered == (
            set() if name == "never_move" else set(who.channels)
        )  # it takes the place of who would move


@pytest.mark.parametrize("name", originals())
def test_the_profile_of_a_policy_includes_every_signal_that_it_declares(name):
    config = load_group("agent", name)
    of_profile = {s.name for s in VM_SIGNALS if s.visibility in make_policy(config).visibility.includes}
    assert {one for one in declared(config).signals or () if not one.startswith("host.")} <= of_profile


@pytest.mark.parametrize("name", policies())
def test_a_decision_does_not_depend_on_the_other_hosts_of_the_batch(name):
    readings = seen(name)
    together = decide(name, readings)
    for lane in (0, 1):
        alone = decide(name, [lanes(r, slice(lane, lane + 1)) for r in readings])
        same(together, alone, slice(lane, lane + 1))


@pytest.mark.parametrize("name", policies())
def test_a_reset_forgets_the_episode_before(name):
    policy = make_policy(load_group("agent", name))
    first = decide(name, seen(name), policy)
    same(first, decide(name, seen(name), policy))


@pytest.mark.parametrize("name", policies())
def test_a_decision_is_in_bounds_and_spares_vms_that_do_not_run(name):
    policy = make_policy(load_group("agent", name))
    readings = seen(name)[:: max(int(policy.period_s), 1)]
    policy.granted(CHANNELS)
    policy.reset(readings[0], seed=0)
    for reading in readings:
        targets = policy.decide(reading)
        vm, idle = reading.vm, reading.vm["running"] == 0.0
        for channel in CHANNELS:
            value = getattr(targets, channel)
            if value is not None:
                assert value.shape == (reading.host.shape if channel in OF_HOSTS else vm.shape), channel
                assert not (value < 0.0).any(), channel
        if targets.memory_mib is not None:
            assert not (targets.memory_mib > vm["memory_mib"] + 1e-6).any()
        for amounts in (targets.memory_mib, targets.reclaim_mib):
            if amounts is not None:
                acted = (amounts > 0.0) & (amounts < vm["memory_mib"]) & idle
                assert not acted.any()


@functools.cache
def first_lane(clusters, profile, odd=None):
    """Four minutes of the first of these hosts or clusters, as policies of this profile see them; odd: what is odd about them."""
    if odd is not None:
        return ODD[odd](first_lane(clusters, profile))
    return [lanes(reading, slice(0, 1)).seen_with(profile) for reading in readings_of(clusters)[:240]]


@pytest.mark.parametrize("name", of_clusters())
def test_a_policy_of_clusters_asks_only_for_what_a_stack_could_begin(name):
    """VMs that run and stay where they are, or wait, and hosts that may have them; a VM's own host calls a move off."""
    policy = make_policy(load_group("agent", name))
    for targets, reading in zip(decide(name, seen(name)), seen(name)[:: max(int(policy.period_s), 1)], strict=True):
        if targets.move_to is None:
            continue
        for lane, vm in np.argwhere(~np.isnan(targets.move_to)):
            host, place = int(targets.move_to[lane, vm]), reading.places.vm[lane, vm]
            assert place["state"] in (RUNNING, WAITING, RESTARTING)
            assert reading.places.obstacles[lane, vm, host] == 0


@pytest.mark.parametrize("name", originals())
def test_whatever_it_sees_a_decision_is_in_range(name):
    for odd in ODD:
        policy = make_policy(load_group("agent", name))
        readings = first_lane(policy.of_cluster, policy.visibility, odd)
        decisions = decide(name, readings, policy)
        for targets, reading in zip(decisions, readings[:: max(int(policy.period_s), 1)], strict=True):
            assert_in_range(targets, reading, odd)


@pytest.mark.parametrize("name", sorted({*originals()} - {"squeezed", "learned_sizes", "learned_full"}))
def test_what_is_not_configured_is_no_minimum_and_normal_shares(name):
    """squeezed keeps a VM whose range it does not know at its target, as the original; to learners missing shares are a feature."""
    policy = make_policy(load_group("agent", name))
    spelled_out = [changed(r, min_mib=0.0, shares=1000.0) for r in first_lane(policy.of_cluster, policy.visibility)]
    unknown = first_lane(policy.of_cluster, policy.visibility, "nothing configured")
    same(decide(name, unknown), decide(name, spelled_out))


@pytest.mark.parametrize("name", originals())
def test_the_page_says_what_it_does_where_statistics_fail(name):
    module = inspect.getmodule(policy_class(load_group("agent", name)))
    (paragraph,) = [text for text in module.__doc__.split("\n\n") if text.startswith("Edge cases.")]
    assert len(paragraph.split()) > 4
