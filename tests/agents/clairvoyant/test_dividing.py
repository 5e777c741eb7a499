"""Water-filling: the reference's and the proportional share's divisions against hand-computed and brute-force answers."""

import itertools

import numpy as np
import pytest

from hvgym.agents.baselines.proportional import ProportionalShare, divide
from hvgym.agents.clairvoyant import dividing, planning
from hvgym.agents.clairvoyant.search import plan
from hvgym.agents.policy import make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


@pytest.mark.parametrize(
    ("capacity", "low", "high", "weights", "expected"),
    [
        (100.0, [0, 0], [100, 100], [1, 1], [50, 50]),
        (90.0, [0, 0], [100, 100], [2, 1], [60, 30]),
        (90.0, [0, 40], [100, 100], [2, 1], [50, 40]),
        (150.0, [0, 0], [60, 100], [2, 1], [60, 90]),
        (300.0, [0, 0], [60, 100], [2, 1], [60, 100]),
        (10.0, [20, 5], [60, 100], [2, 1], [20, 5]),
        (70.0, [10, 20, 0], [15, 50, 40], [1, 1, 1], [15, 27.5, 27.5]),
    ],
)
def test_proportional_division_by_hand(capacity, low, high, weights, expected):
    arrays = (np.array(values, float) for values in (low, high, weights))
    np.testing.assert_allclose(divide(capacity, *arrays), expected)


def hidden(name="idle-giants"):
    """On kvm, whose balloons may take all of a VM."""
    sim = Simulator(resolve(load_group("scenario", name), load_group("hypervisor", "kvm")))
    sim.reset([3])
    return sim


def stall(sizes, wanted, specs, reserves):
    """Weighted faults per second of each VM at a size, by the two-stage law solved with plain bisection."""
    total = 0.0
    for size, tiers, spec, reserve in zip(sizes, wanted, specs, reserves, strict=True):
        room = size - spec["kernel_mib"] - reserve
        rates, stays = spec["tier_rate_per_s"], spec["tier_stays"]
        low, high = 1e-3, 1e9
        for _ in range(200):
            age = (low * high) ** 0.5
            low, high = (age, high) if (tiers * (1 - (1 + rates * stays * age / 2) ** -2)).sum() < room else (low, age)
        total += (
            spec["weight"] / spec["fault_parallelism"] * (tiers * rates * (1 + rates * stays * low / 2) ** -2).sum()
        )
    return total


def sizes_of(sim, capacity_mib):
    """Sizes of the VMs of one host for its first demand, by water-filling."""
    work = np.zeros(sim.vms.shape[1], planning.WORK)
    work["wanted_mib"] = sim.demand[0, 0]["tier_mib"]
    dividing.divide(sim.vms[0], sim.vm_specs[0], work, capacity_mib)
    return work["size_mib"]


def test_no_exchange_between_two_vms_lowers_the_stall():
    sim = hidden()
    specs = sim.vm_specs[0]
    wanted = sim.demand[0, 0]["tier_mib"].copy()
    reserves = [float(guest.reserve_mib(vm, spec)) for vm, spec in zip(sim.vms[0], specs, strict=True)]
    sizes = sizes_of(sim, 24_000.0)
    assert sizes.sum() == pytest.approx(24_000.0, abs=1.0)
    best = stall(sizes, wanted, specs, reserves)
    for a, b in itertools.permutations(range(8), 2):
        for amount in (20.0, 200.0):
            tried = sizes.copy()
            tried[a] += amount
            tried[b] -= amount
            if tried[a] <= specs[a]["memory_mib"] and tried[b] >= specs[b]["min_mib"]:
                assert stall(tried, wanted, specs, reserves) >= best * (1 - 1e-4)


def test_ample_ram_gives_every_vm_its_configured_size():
    sim = hidden()
    np.testing.assert_allclose(sizes_of(sim, 1e6), sim.vm_specs[0]["memory_mib"])


def test_a_guest_without_swap_keeps_its_anonymous_memory():
    sim = hidden("no-guest-swap-short")
    anonymous = sim.demand[0, 0]["tier_mib"][:, :3].sum(axis=1)
    assert (sizes_of(sim, 8000.0) >= anonymous + sim.vm_specs[0]["kernel_mib"]).all()


def test_a_heavier_vm_gets_more_from_water_filling():
    sim = hidden()
    light = sizes_of(sim, 16_000.0)[2]
    sim.vm_specs["weight"][0, 2] = 4.0
    assert sizes_of(sim, 16_000.0)[2] > light + 10.0


def test_a_squeeze_takes_no_more_than_its_pace_from_a_vm_in_a_decision():
    sim = hidden()
    plans = plan(planning.SQUEEZE, ("memory_mib",), horizon_s=30.0, shrink_mib_per_s=12.0)[None]
    work = np.zeros(sim.vms.shape, planning.WORK)
    planning.decide(
        sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, sim.slot_s, plans, 5.0, work
    )
    given = sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"] - work["size_mib"]
    assert given.max() == pytest.approx(5.0 * plans["shrink_mib_per_s"][0])


def test_proportional_share_by_hand_from_readings():
    """10,000 MiB, 1,000 of them the host's own, 200 for processes, a tenth kept: 7,800 over size times shares 1 : 3."""
    vm, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["memory_mib"], vm["shares"], vm["resident_mib"] = 8000.0, [[1000.0, 3000.0]], 3000.0
    vm["running"] = 1.0
    host["total_mib"], host["available_mib"] = 10_000.0, 3000.0
    policy = ProportionalShare(keep_free_share=0.1, overhead_mib=100.0)
    sizes = policy.decide(Telemetry(np.zeros(1), vm, host)).memory_mib
    np.testing.assert_allclose(sizes, [[1950.0, 5850.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_shar": 1}, "unknown key 'target_shar' .did you mean 'target_share'"),
        ({"target_share": "high"}, "agent.target_share='high': expected a number"),
        (
            {"_target_": "hvgym.agents.hypervisors.proxmox.Proxmux"},
            "_target_='hvgym.agents.hypervisors.proxmox.Proxmux' cannot be loaded",
        ),
        ({"_target_": "hvgym.agents.proxmox.Proxmox"}, "it is now hvgym.agents.hypervisors.proxmox.Proxmox"),
        ({"_target_": "hvgym.agents.admission.Ratio"}, "it is now hvgym.agents.admission.rules.Ratio"),
        ({"_target_": "pathlib.Path", "max_change_mib": 1, "target_share": 1}, "is not a Policy"),
    ],
)
def test_a_wrong_agent_configuration_is_one_line(change, message):
    with pytest.raises(InputError, match=message) as error:
        make_policy(load_group("agent", "proxmox") | change)
    assert "\n" not in str(error.value)
