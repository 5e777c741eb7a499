"""Proxmox's decisions against golden vectors: outputs of the original module, in MiB, at most 100 MiB per VM and cycle."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.hypervisors.proxmox import MIB, BalloonedVm, Proxmox, plan
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def vm(vmid: int, minimum: int, balloon: int, maximum: int, free: int | None, shares: int | None) -> BalloonedVm:
    return BalloonedVm(vmid, minimum * MIB, balloon * MIB, maximum * MIB, None if free is None else free * MIB, shares)


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
    vm["limit_mib"] = vm["startup_mib"] = np.nan
    vm["min_mib"], vm["memory_mib"], vm["shares"], vm["running"] = 1000.0, 8000.0, 1000.0, 1.0
    vm["size_mib"], vm["guest_free_mib"], vm["guest_available_mib"] = 4000.0, [2000.0, 50.0], 2000.0
    host["total_mib"], host["available_mib"] = 10_000.0, available
    policy, seen = Proxmox(), Telemetry(np.zeros(1), vm, host)
    policy.reset(seen, 0)
    sizes = policy.decide(seen).memory_mib
    np.testing.assert_array_equal(sizes, [expected])


MB, GB = 1000**2, 1000**3


def mb(vmid: int, minimum: int, balloon: int, free: int, shares: int) -> BalloonedVm:
    return BalloonedVm(vmid, minimum * MB, balloon * MB, 2 * GB, free * MB, shares)


ALIKE = [mb(100, 1000, 1000, 0, 2000), mb(101, 1000, 1000, 0, 1000)]
AT_MAXIMUM = [mb(100, 2000, 2000, 0, 2000), mb(101, 1000, 1000, 0, 1000)]
ONE_ROOMY = [mb(100, 2000, 2000, 0, 2000), mb(101, 1000, 1007, 0, 1000), mb(102, 1000, 1000, 512, 1000)]


@pytest.mark.parametrize(
    ("vms", "goal", "expected"),
    [
        (ALIKE, 0, {}),
        (ALIKE, 90, {100: 1060, 101: 1030}),
        (ALIKE, 150, {100: 1100, 101: 1050}),
        (ALIKE, 270, {100: 1100, 101: 1090}),
        (AT_MAXIMUM, 18, {101: 1018}),
        (AT_MAXIMUM, 500, {101: 1100}),
        (ONE_ROOMY, 11, {101: 1018}),
        (ONE_ROOMY, 80, {101: 1087}),
        (ONE_ROOMY, 200, {101: 1107}),
    ],
)
def test_the_originals_own_cases(vms: list[BalloonedVm], goal: int, expected: dict[int, int]) -> None:
    """pve-manager's test/balloontest.pl, in units of 10 ** 6 bytes."""
    assert plan(vms, goal * MB, 100 * MB) == {vmid: size * MB for vmid, size in expected.items()}


def settled(vms: list[BalloonedVm], goal: int) -> tuple[list[BalloonedVm], dict[int, int]]:
    """Cycles until nothing changes, each guest's free memory following its size; what has changed, as in that file."""
    changed: dict[int, int] = {}
    while sizes := plan(vms, goal, 100 * MB):
        goal -= sum(sizes[one.vmid] - one.balloon for one in vms if one.vmid in sizes)
        changed |= sizes
        vms = [
            dataclasses.replace(
                one, balloon=sizes[one.vmid], free=max((one.free or 0) + sizes[one.vmid] - one.balloon, 0)
            )
            if one.vmid in sizes
            else one
            for one in vms
        ]
    return vms, {vmid: size // MB for vmid, size in changed.items()}


def test_the_originals_own_simulations_end_where_it_ends() -> None:
    assert settled(ALIKE, 180 * MB)[1] == {100: 1120, 101: 1060}
    assert settled(ALIKE, 600 * MB)[1] == {100: 1300, 101: 1300}
    assert settled(ALIKE, 900 * MB)[1] == {100: 1600, 101: 1300}
    grown, sizes = settled(ONE_ROOMY, 593 * MB)
    assert sizes == {101: 1300, 102: 1300}
    assert settled(grown, -200 * MB)[1] == {101: 1200, 102: 1200}
    assert settled(grown, -400 * MB)[1] == {101: 1200, 102: 1000}
    assert settled(grown, -593 * MB)[1] == {101: 1007, 102: 1000}


UNEQUAL = [
    vm(1, 1024, 1024, 2048, 396, 100),
    vm(2, 1024, 1618, 2048, 86, None),
    vm(3, 2048, 2048, 8192, 110, 50000),
    vm(4, 512, 2048, 2048, 3, 2000),
]


def test_a_first_pass_that_gains_nothing_net_is_no_progress_and_all_vms_are_considered() -> None:
    """Growing by 2000 MiB, the three pressured VMs change by -100, +100 and -100: 2100 are left. Over all,
    that and what is above the minimums, 2100 + 0 + 494 + 100 + 1436, is divided by 53,100 shares: the first has 100."""
    surplus = sum(size - least for size, least in ((1024, 1024), (1518, 1024), (2148, 2048), (1948, 512))) + 2100
    first = 1024 * MIB + int(surplus * MIB / 53100 * 100)
    assert plan(UNEQUAL, 2000 * MIB) == {1: first, 2: 1518 * MIB, 3: 2148 * MIB, 4: 1948 * MIB}
    assert round(first / MIB, 2) == 1031.78


def test_a_first_pass_that_gains_nothing_at_all_is_none_either() -> None:
    """The pressured VM's minimum is its maximum; the roomy one gets what it cannot take."""
    assert plan([vm(1, 2048, 2048, 2048, 10, None), vm(2, 1024, 1024, 4096, 900, None)], 50 * MIB) == {2: 1074 * MIB}


def test_a_first_pass_that_gains_a_little_is_the_last() -> None:
    """The pressured VM takes the 24 MiB up to its maximum; the roomy one gets none of the rest."""
    vms = [vm(1, 1024, 2024, 2048, 10, None), vm(2, 1024, 1024, 4096, 900, None)]
    assert plan(vms, 2000 * MIB) == {1: 2048 * MIB}


def test_shrinking_turns_to_the_pressured_only_when_the_others_gave_nothing() -> None:
    full, pressed = vm(1, 1024, 1044, 4096, 900, None), vm(2, 1024, 2048, 4096, 10, None)
    assert plan([full, pressed], -500 * MIB) == {1: 1024 * MIB}
    assert plan([dataclasses.replace(full, balloon=1024 * MIB), pressed], -500 * MIB) == {2: 1948 * MIB}


def test_a_part_is_cut_as_the_original_computes_it() -> None:
    """16 MiB for one VM of 49 shares: the share first, then times 49, is a byte less than 16 MiB."""
    assert plan([vm(1, 1024, 1024, 4096, 10, 49)], 16 * MIB) == {1: 1040 * MIB - 1}


@pytest.mark.parametrize(
    "alone", [vm(1, 0, 8192, 8192, 8000, None), vm(1, 1024, 0, 8192, 8000, None), vm(1, 1024, 8192, 8192, 8000, 0)]
)
def test_a_vm_without_a_minimum_or_a_balloon_or_shares_is_left_alone_and_has_no_part(alone: BalloonedVm) -> None:
    other = vm(2, 1024, 4096, 8192, 3000, None)
    for goal in (-3000, 3000):
        assert plan([alone], goal * MIB) == {}
        assert plan([alone, other], goal * MIB) == plan([other], goal * MIB) != {}


def test_a_vm_that_reports_no_free_memory_is_served_first_and_shrunk_last() -> None:
    silent, roomy = vm(1, 1024, 2048, 4096, None, None), vm(2, 1024, 2048, 4096, 900, None)
    assert plan([silent, roomy], 80 * MIB) == {1: 2128 * MIB}
    assert plan([silent, roomy], -80 * MIB) == {2: 1968 * MIB}


def reading(running: list[float], low: float = 1024.0, size: float = 8192.0, available: float = 500.0) -> Telemetry:
    """A host of 16 GiB with VMs of 8 GiB."""
    shape = (1, len(running))
    row, host = np.zeros(shape, VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    row["limit_mib"] = row["startup_mib"] = np.nan
    row["min_mib"], row["memory_mib"], row["shares"], row["running"] = low, 8192.0, 1000.0, running
    row["size_mib"], row["guest_free_mib"] = size, 6000.0
    host["total_mib"], host["available_mib"] = 16384.0, available
    return Telemetry(np.zeros(1), row, host)


@pytest.mark.parametrize("low", [0.0, np.nan])
def test_without_a_configured_minimum_a_vm_keeps_its_size_on_a_full_host(low: float) -> None:
    policy = Proxmox()
    policy.reset(reading([1.0]), 0)
    assert np.isnan(policy.decide(reading([1.0], low)).memory_mib).all()
    assert policy.decide(reading([1.0])).memory_mib == [[8092.0]]


def test_a_vm_that_starts_is_told_its_minimum_once() -> None:
    """In plenty (80 % of 16 GiB less 4 GiB used) the first cycle would only grow it."""
    policy, plenty = Proxmox(), 12288.0
    policy.reset(reading([1.0, 0.0], size=4096.0, available=plenty), 0)
    np.testing.assert_array_equal(
        policy.decide(reading([1.0, 0.0], size=4096.0, available=plenty)).memory_mib, [[4196.0, np.nan]]
    )
    np.testing.assert_array_equal(
        policy.decide(reading([1.0, 1.0], size=4096.0, available=plenty)).memory_mib, [[4196.0, 1024.0]]
    )
    np.testing.assert_array_equal(
        policy.decide(reading([1.0, 1.0], size=4096.0, available=plenty)).memory_mib, [[4196.0, 4196.0]]
    )


def test_a_vm_that_is_told_how_to_start_starts_with_the_episode() -> None:
    policy, plenty = Proxmox(), {"size": 4096.0, "available": 12288.0}
    seen = reading([1.0, 1.0], **plenty)
    seen.vm["startup_mib"][0, 1] = 2048.0
    policy.reset(seen, 0)
    np.testing.assert_array_equal(policy.decide(seen).memory_mib, [[4196.0, 1024.0]])
    np.testing.assert_array_equal(policy.decide(seen).memory_mib, [[4196.0, 4196.0]])


def test_a_vm_that_starts_without_a_minimum_keeps_its_size() -> None:
    policy = Proxmox()
    policy.reset(reading([0.0], low=0.0), 0)
    assert np.isnan(policy.decide(reading([1.0], low=0.0)).memory_mib).all()


def test_it_runs_every_10_s() -> None:
    assert Proxmox().period_s == 10.0
