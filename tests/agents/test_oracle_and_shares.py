"""Water-filling: the oracle's and the proportional share's divisions against hand-computed and brute-force answers."""

import itertools

import numpy as np
import pytest

from hvgym.agents import oracle
from hvgym.agents.policy import make_policy
from hvgym.agents.proportional import divide
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.simulator import Simulator


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
    sim = Simulator(load(name))
    sim.reset([3])
    return sim


def stall(sizes, wanted, specs, reserves):
    """Weighted faults per second of each VM at a size, by Che's approximation solved with plain bisection."""
    total = 0.0
    for size, tiers, spec, reserve in zip(sizes, wanted, specs, reserves, strict=True):
        room = size - spec["kernel_mib"] - reserve
        rates = spec["tier_rate_per_s"]
        low, high = 1e-3, 1e9
        for _ in range(200):
            age = (low * high) ** 0.5
            low, high = (age, high) if (tiers * (1 - np.exp(-rates * age))).sum() < room else (low, age)
        total += spec["weight"] / spec["fault_parallelism"] * (tiers * rates * np.exp(-rates * low)).sum()
    return total


def test_no_exchange_between_two_vms_lowers_the_stall():
    sim = hidden()
    specs = sim.vm_specs[0]
    wanted = sim.demand[0, 0]["tier_mib"].copy()
    reserves = [float(oracle.guest.reserve_mib(vm, spec)) for vm, spec in zip(sim.vms[0], specs, strict=True)]
    sizes = np.empty(8)
    oracle.divide(sim.vms[0], specs, wanted, 24_000.0, sizes)
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
    sizes = np.empty(8)
    oracle.divide(sim.vms[0], sim.vm_specs[0], sim.demand[0, 0]["tier_mib"].copy(), 1e6, sizes)
    np.testing.assert_allclose(sizes, sim.vm_specs[0]["memory_mib"])


def test_a_guest_without_swap_keeps_its_anonymous_memory():
    sim = hidden("no-guest-swap-short")
    sizes = np.empty(4)
    oracle.divide(sim.vms[0], sim.vm_specs[0], sim.demand[0, 0]["tier_mib"].copy(), 8000.0, sizes)
    anonymous = sim.demand[0, 0]["tier_mib"][:, :3].sum(axis=1)
    assert (sizes >= anonymous + sim.vm_specs[0]["kernel_mib"]).all()


def test_oracle_beats_every_heuristic_on_each_quick_scenario():
    for name in load_group("suite", "quick")["scenarios"]:
        goodput = {
            agent: rollout(
                load(name), make_policy(load_group("agent", agent)), range(2_000_000_000, 2_000_000_004)
            ).goodput.mean()
            for agent in ("static", "proportional", "proxmox", "oracle")
        }
        assert max(goodput, key=goodput.get) == "oracle", (name, goodput)


def test_the_three_heuristics_differ_on_each_quick_scenario():
    """A scenario that cannot tell policies apart does not belong into a suite."""
    for name in load_group("suite", "quick")["scenarios"]:
        goodput = [
            rollout(
                load(name), make_policy(load_group("agent", agent)), range(2_000_000_000, 2_000_000_004)
            ).goodput.mean()
            for agent in ("static", "proportional", "proxmox", "oracle")
        ]
        gap = goodput[3] - goodput[0]
        assert gap > 0.01
        assert goodput[1] < goodput[0] + 0.8 * gap  # no trivial policy closes it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_shar": 1}, "unknown key 'target_shar' .did you mean 'target_share'"),
        ({"target_share": "high"}, "agent.target_share='high': expected a number"),
        ({"_target_": "hvgym.agents.proxmox.Proxmux"}, "_target_='hvgym.agents.proxmox.Proxmux' cannot be loaded"),
        ({"_target_": "pathlib.Path", "max_change_mib": 1, "target_share": 1}, "Proxmox|unknown|not a Policy"),
    ],
)
def test_a_wrong_agent_configuration_is_one_line(change, message):
    with pytest.raises(InputError, match=message) as error:
        make_policy(load_group("agent", "proxmox") | change)
    assert "\n" not in str(error.value)
