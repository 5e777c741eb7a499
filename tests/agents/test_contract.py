"""What every packaged policy keeps to, whoever wrote it: its own profile, its own lane, its own episode, its own VMs."""

import dataclasses
import functools

import numpy as np
import pytest

from hvgym.agents.policy import Policy, make_policy
from hvgym.envs.scenario import group_files, load, load_group
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HOST_SIGNALS, VM_SIGNALS, Targets, Telemetry

SECONDS = 420
CHANNELS = [field.name for field in dataclasses.fields(Targets)]


def policies():
    configs = {name: load_group("agent", name) for name in sorted(group_files("agent"))}
    return [
        name for name, config in configs.items() if "train" not in config and isinstance(make_policy(config), Policy)
    ]


@functools.cache
def readings():
    """Second by second, two hosts on which memory sizes wander, and one VM has yet to be started."""
    sim = Simulator(load("late-arrivals"), 2)
    draws = np.random.default_rng(5)
    found = [sim.reset([3, 4])]
    for second in range(SECONDS):
        if second % 30 == 0:
            low, high = sim.vm_specs["min_mib"], sim.vm_specs["memory_mib"]
            sim.apply(Targets(low + draws.uniform(0.2, 1.0, sim.vms.shape) * (high - low)))
        found.append(sim.advance(1))
    return tuple(found)


def lanes(telemetry, which):
    return Telemetry(telemetry.time_s[which], telemetry.vm[which], telemetry.host[which])


def decide(name, sequence, policy=None):
    """All decisions of a policy that sees a sequence of readings one second apart."""
    policy = policy or make_policy(load_group("agent", name))
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
    return Telemetry(telemetry.time_s, vm, host)


@pytest.mark.parametrize("name", policies())
def test_a_policy_reads_nothing_beyond_its_profile(name):
    profile = make_policy(load_group("agent", name)).visibility
    same(
        decide(name, [r.seen_with(profile) for r in readings()]), decide(name, [spoilt(r, profile) for r in readings()])
    )


@pytest.mark.parametrize("name", policies())
def test_a_decision_does_not_depend_on_the_other_hosts_of_the_batch(name):
    profile = make_policy(load_group("agent", name)).visibility
    seen = [r.seen_with(profile) for r in readings()]
    together = decide(name, seen)
    for lane in (0, 1):
        alone = decide(name, [lanes(r, slice(lane, lane + 1)) for r in seen])
        same(together, alone, slice(lane, lane + 1))


@pytest.mark.parametrize("name", policies())
def test_a_reset_forgets_the_episode_before(name):
    policy = make_policy(load_group("agent", name))
    seen = [r.seen_with(policy.visibility) for r in readings()]
    first = decide(name, seen, policy)
    same(first, decide(name, seen, policy))


@pytest.mark.parametrize("name", policies())
def test_a_decision_is_in_bounds_and_spares_vms_that_do_not_run(name):
    profile = make_policy(load_group("agent", name)).visibility
    policy = make_policy(load_group("agent", name))
    seen = [r.seen_with(profile) for r in readings()][:: max(int(policy.period_s), 1)]
    policy.reset(seen[0], seed=0)
    for reading in seen:
        targets = policy.decide(reading)
        vm, idle = reading.vm, reading.vm["running"] == 0.0
        for channel in CHANNELS:
            value = getattr(targets, channel)
            if value is not None:
                assert value.shape == (reading.host.shape if channel == "scan_pages_per_s" else vm.shape), channel
                assert not (value < 0.0).any(), channel
        if targets.memory_mib is not None:
            assert not (targets.memory_mib > vm["memory_mib"] + 1e-6).any()
        for amounts in (targets.memory_mib, targets.reclaim_mib):
            if amounts is not None:
                acted = (amounts > 0.0) & (amounts < vm["memory_mib"]) & idle
                assert not acted.any()


@pytest.mark.parametrize("name", policies())
def test_guests_without_statistics_are_no_reason_to_fail(name):
    profile = make_policy(load_group("agent", name)).visibility
    silent = []
    for reading in readings():
        vm = reading.seen_with(profile).vm
        for signal in VM_SIGNALS:
            if signal.visibility > 0 or signal.name.startswith(("idle_", "woken_")):
                vm[signal.name] = np.nan
        silent.append(Telemetry(reading.time_s, vm, reading.host))
    for targets in decide(name, silent):
        for channel in CHANNELS:
            value = getattr(targets, channel)
            assert value is None or not np.isinf(value).any(), channel
