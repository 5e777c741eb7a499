"""Proxmox's decisions against golden vectors: outputs of the original module, in MiB, at most 100 MiB per VM and cycle."""

import numpy as np
import pytest

from hvgym.agents.hypervisors.proxmox import MIB, BalloonedVm, Proxmox, plan
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def vm(vmid: int, minimum: int, balloon: int, maximum: int, free: int, shares: int | None) -> BalloonedVm:
    return BalloonedVm(vmid, minimum * MIB, balloon * MIB, maximum * MIB, free * MIB, shares)


FULL = [
    vm(101, 1024, 4096, 4096, 2000, 1000),
    vm(102, 1024, 4096, 4096, 100, 1000),
    vm(103, 2048, 4096, 8192, 1500, 2000),
]
HALF = [
    vm(101, 1024, 2048, 4096, 100, 1000),
    vm(102, 1024, 2048, 4096, 900, 1000),
    vm(103, 2048, 4096, 8192, 1500, 2000),
]
NEAR_MINIMUM = [vm(101, 1024, 1024, 4096, 900, 1000), vm(102, 1024, 1100, 4096, 900, 1000)]
PRESSED = [vm(101, 1024, 2048, 4096, 100, 1000), vm(102, 1024, 2048, 4096, 80, 1000)]


@pytest.mark.parametrize(
    ("vms", "goal", "expected"),
    [
        (FULL, -500, {101: 3996}),
        (FULL, -150, {101: 3996}),
        (FULL, -50, {101: 4046}),
        (FULL, -9, {}),
        (HALF, 500, {101: 2148}),
        (HALF, 50, {101: 2098}),
        (HALF, 11, {101: 2059}),
        (NEAR_MINIMUM, -500, {102: 1024}),
        (PRESSED, -300, {101: 1948, 102: 1948}),
    ],
)
def test_golden_vectors_a_to_d(vms: list[BalloonedVm], goal: int, expected: dict[int, int]) -> None:
    assert plan(vms, goal * MIB) == {vmid: size * MIB for vmid, size in expected.items()}


def test_golden_vector_e_shares_of_zero_exclude_and_undefined_shares_are_1000() -> None:
    excluded = [vm(101, 1024, 2048, 4096, 100, 0), vm(102, 1024, 2048, 4096, 100, 1000)]
    assert plan(excluded, 50 * MIB) == {102: 2098 * MIB}
    undefined = [vm(101, 1024, 2048, 4096, 100, None), vm(102, 1024, 2048, 4096, 100, 1000)]
    explicit = [vm(101, 1024, 2048, 4096, 100, 1000), vm(102, 1024, 2048, 4096, 100, 1000)]
    assert plan(undefined, 50 * MIB) == plan(explicit, 50 * MIB) == {101: 2073 * MIB, 102: 2073 * MIB}


@pytest.mark.parametrize("goal", [-10, 10])
def test_the_dead_band_is_strict(goal: int) -> None:
    assert plan(PRESSED, goal * MIB) == {}
    assert plan(PRESSED, goal * MIB + (1 if goal > 0 else -1)) != {}


def test_an_idle_vm_below_its_fair_surplus_is_not_shrunk() -> None:
    idle_small = vm(101, 1024, 1500, 4096, 1200, 1000)
    large = vm(102, 1024, 4096, 4096, 900, 1000)
    assert 101 not in plan([idle_small, large], -300 * MIB)


def test_no_vm_moves_more_than_the_cap_or_leaves_its_bounds() -> None:
    for goal in range(-3000, 3001, 250):
        for case in (FULL, HALF, NEAR_MINIMUM, PRESSED):
            for one in case:
                size = plan(case, goal * MIB).get(one.vmid, one.balloon)
                assert abs(size - one.balloon) <= 100 * MIB
                assert one.minimum <= size <= one.maximum


@pytest.mark.parametrize(
    ("available", "expected"),
    [(1000.0, [3900.0, np.nan]), (2000.0, [np.nan, np.nan]), (3000.0, [np.nan, 4100.0])],
)
def test_it_aims_at_80_percent_of_a_host_and_caches_are_not_free_memory(
    available: float, expected: list[float]
) -> None:
    """Of 10,000 MiB: short, it takes from the first VM; in plenty, it gives to the second, whose memory is all cache."""
    vm, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["min_mib"], vm["memory_mib"], vm["shares"], vm["running"] = 1000.0, 8000.0, 1000.0, 1.0
    vm["size_mib"], vm["guest_free_mib"], vm["guest_available_mib"] = 4000.0, [2000.0, 50.0], 2000.0
    host["total_mib"], host["available_mib"] = 10_000.0, available
    sizes = Proxmox().decide(Telemetry(np.zeros(1), vm, host)).memory_mib
    np.testing.assert_array_equal(sizes, [expected])


def test_it_runs_every_10_s() -> None:
    assert Proxmox().period_s == 10.0
