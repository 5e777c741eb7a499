"""The linear map's sizes: who gets what where all want more than the host has, and who is given memory whatever weights say."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned.linear import SharedLinear, fitted
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import declared_by, make_policy
from hvgym.bench.rollout import playing, rollout
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.simulator import Simulator

VM = np.dtype([(name, "f8") for name in ("memory_mib", "size_mib", "target_mib", "running")])


def readings(sizes, targets=None, running=None):
    """One host's VMs of 1,000 MiB."""
    vm = np.zeros((1, len(sizes)), VM)
    vm["memory_mib"], vm["size_mib"] = 1000.0, sizes
    vm["target_mib"] = sizes if targets is None else targets
    vm["running"] = 1.0 if running is None else running
    return vm


def sizes_of(pulls, vm, available_mib, least_mib=0.0, weights=1.0):
    least, weight = np.full(vm.shape, least_mib), np.broadcast_to(np.array(weights), vm.shape)
    return fitted(np.array([pulls], float), weight, 0.1, vm, least, np.array([available_mib]))[0]


@pytest.mark.parametrize(
    ("pulls", "available_mib", "expected"),
    [
        ([1.0, -1.0], 0.0, [550.0, 450.0]),  # fits: s(1) = 1/2 of a tenth of 1,000 MiB
        ([1.0, 1.0], 100.0, [550.0, 550.0]),  # so does this, just so
        ([1.0, 1.0], 0.0, [500.0, 500.0]),  # at the price 1
        ([3.0, 1.0], 0.0, [550.0, 450.0]),  # at the price 2
        ([1.0, 1.0], 50.0, [525.0, 525.0]),  # each s(1/3) = 1/4: at the price 2/3
        ([1.0, 1.0], np.nan, [550.0, 550.0]),  # nobody knows what the host has
    ],
)
def test_where_all_want_more_than_there_is_it_is_shared_at_one_price(pulls, available_mib, expected):
    assert sizes_of(pulls, readings([500.0, 500.0]), available_mib) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("pulls", "available_mib", "weights", "expected"),
    [
        (
            [3.0, 3.0],
            0.0,
            [1.5, 0.75],
            [550.0, 450.0],
        ),  # at the price 3: pulls of 1, which pays 2, and of -1, which pays 4
        ([4.5, 4.5], 0.0, [1.5, 0.75], [560.0, 440.0]),  # wanting half as much again, at 4.5: 1.5 and -1.5
        ([1.0, 3.0], 0.0, [1.5, 0.5], [500.0, 500.0]),  # at the price 1.5: the light pays three times as much
        ([1.0, -1.0], 0.0, [1.5, 0.5], [550.0, 450.0]),  # fits: nobody pays
        ([1.0, 1.0], np.nan, [1.5, 0.5], [550.0, 550.0]),
    ],
)
def test_a_price_is_paid_over_weights(pulls, available_mib, weights, expected):
    assert sizes_of(pulls, readings([500.0, 500.0]), available_mib, weights=weights) == pytest.approx(
        expected, abs=1e-4
    )


def test_what_a_vm_could_not_have_is_not_counted_as_had():
    """Who was asked to have all of its memory and got a half goes on from the half; who is to shrink goes on from there."""
    vm = readings([500.0, 500.0], targets=[1000.0, 300.0])
    assert sizes_of([1.0, -1.0], vm, 1000.0) == pytest.approx([550.0, 250.0])


def test_minimums_and_vms_that_are_down():
    """Who has its minimum pays nothing, so the others do; who is down neither has nor takes room."""
    sizes = sizes_of([9.0, 9.0, -9.0], readings([500.0, 500.0, 200.0]), 0.0, least_mib=200.0)
    assert sizes == pytest.approx([500.0, 500.0, 200.0], abs=1e-4)
    for down in (100.0, np.nan):
        vm = readings([500.0, 500.0, down], targets=[500.0, 500.0, 700.0], running=[1.0, 1.0, 0.0])
        assert sizes_of([1.0, 1.0, -9.0], vm, 0.0)[:2] == pytest.approx([500.0, 500.0], abs=1e-4)


def test_no_price_is_above_what_it_must_be():
    """Drawn hosts: sizes fit to a hundredth of a MiB where they can, and leave no more than that."""
    draws = np.random.default_rng(4)
    for _ in range(200):
        vm = readings(draws.uniform(200.0, 900.0, 7))
        pulls, available_mib = draws.normal(0.5, 2.0, 7), draws.uniform(0.0, 200.0)
        room_mib = vm["size_mib"].sum() + available_mib
        free = sizes_of(pulls, vm, np.nan).sum()
        assert sizes_of(pulls, vm, available_mib).sum() == pytest.approx(min(free, room_mib), abs=0.01)


def test_lanes_are_shared_out_each_by_itself():
    vm = np.concatenate([readings([500.0, 500.0]), readings([300.0, 800.0]), readings([400.0, 400.0])])
    pulls, available = np.array([[3.0, 1.0], [2.0, 0.5], [-1.0, -1.0]]), np.array([0.0, 20.0, 0.0])
    weights = np.array([[1.5, 0.5], [0.5, 1.5], [1.0, 1.0]])
    together = fitted(pulls, weights, 0.1, vm, np.zeros(vm.shape), available)
    for lane in range(3):
        alone = sizes_of(pulls[lane], vm[lane : lane + 1], available[lane], weights=weights[lane])
        assert alone.tolist() == together[lane].tolist()


def test_vms_of_a_host_without_swap_give_to_each_other():
    """Xen: all would grow for ever, and nothing moved; now those move that swap."""
    scenario = replace(load("services-xen"), episode_s=1200, rules="default")
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("constant")], weights[FEATURES.index("guest_swap_in_rate_60s")] = 0.3, 3.0
    policy = SharedLinear.of(weights, 0.1, 10.0)
    policy.declaration = declared_by(load_group("agent", "es"))
    sizes = [s.vm_specs["memory_mib"][0] - s.vms["balloon_mib"][0] for _, s in playing(scenario, policy, [1], "es")]
    last = np.array(sizes[len(sizes) // 3 :])
    assert (np.ptp(last, axis=0) > 20.0).sum() >= 2


def wanting(weights, waiting_mib=(), least_share=0.1):
    """What a host's VMs, all of which want to grow by as much, are asked to have beside what they have, MiB. waiting_mib: memory of
    VMs at the end that wait to be started."""
    scenario = replace(resolve(load_group("scenario", "idle-giants-short") | {"hypervisor": "xen"}), rules="default")
    telemetry = Simulator(scenario, 1).reset([1])
    pulled = np.zeros(len(FEATURES))
    pulled[FEATURES.index("constant")] = 2.0
    policy, vm = SharedLinear.of(pulled, 0.1, 10.0), telemetry.vm
    policy.declaration = declared_by(load_group("agent", "es"))
    vm["memory_mib"], vm["min_mib"] = 4096.0, 0.0
    vm["target_mib"] = vm["size_mib"] = 2048.0
    vm["weight"][0] = weights
    policy.least_share, telemetry.host["available_mib"] = least_share, 0.0
    for back, mib in enumerate(waiting_mib, 1):
        vm["waiting"][0, -back], vm["running"][0, -back], vm["memory_mib"][0, -back] = 1.0, 0.0, mib
        vm["size_mib"][0, -back] = vm["target_mib"][0, -back] = vm["overhead_mib"][0, -back] = np.nan
    policy.reset(telemetry, 0)
    return policy.decide(telemetry).memory_mib[0] - 2048.0


def test_room_is_made_for_vms_that_wait():
    """Six VMs that want as much give as much each, in all what two others wait for."""
    moved = wanting(np.ones(8), waiting_mib=(200.0, 400.0))
    assert np.isnan(moved[6:]).all()
    assert moved[:6] == pytest.approx(np.full(6, -100.0), abs=0.01)


def test_no_room_is_made_that_would_not_do():
    """Five VMs could give 50 MiB each; of three that wait the second fits no more, and the third does."""
    least_share = (2048.0 - 50.0) / 4096.0
    moved = wanting(np.ones(8), waiting_mib=(60.0, 400.0, 180.0), least_share=least_share)
    assert moved[:5] == pytest.approx(np.full(5, -48.0), abs=0.01)


def test_where_vms_wait_on_a_host_without_swap_they_start():
    """late-arrivals on Xen: four of eight VMs could not, for nobody gave anything back."""
    scenario = replace(resolve(load_group("scenario", "late-arrivals") | {"hypervisor": "xen"}), rules="default")
    policy = make_policy(load_group("agent", "learned_sizes"))
    assert rollout(scenario, policy, [1], apart=False).failed_starts[0] == 2.0


def test_weights_are_read_as_the_operator_gave_them():
    """Who has three times the weight of the others grows at their cost; only relations count, and what cannot be read is as much
    as others have."""
    vms = sum(group.count for group in load("idle-giants-short").vms)
    heavy = np.ones(vms)
    heavy[1] = 3.0
    moved = wanting(heavy)
    assert moved[1] > 50.0
    assert (np.delete(moved, 1) < -1.0).all()
    assert moved.sum() == pytest.approx(0.0, abs=0.01)
    assert wanting(7.0 * heavy) == pytest.approx(moved, abs=1e-6)
    for same in (np.ones(vms), np.full(vms, np.nan)):
        assert wanting(same) == pytest.approx(np.zeros(vms), abs=1e-4)


def rescuing(rescues=True):
    """Would shrink all that it sees."""
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("constant")] = -9.0
    policy = SharedLinear.of(weights, 0.1, 10.0)
    policy.rescues, policy.declaration = rescues, declared_by(load_group("agent", "learned_sizes"))
    return policy


@pytest.mark.parametrize(
    ("changes", "rescued"),
    [
        ({}, True),
        ({"rescues": False}, False),
        ({"read": 0.0}, False),
        ({"available_share": 0.011}, False),
        ({"host_share": 0.019}, False),
        ({"read": np.nan}, False),
    ],
)
def test_a_guest_that_has_nothing_left_is_given_what_it_reads_from_its_swap(changes, rescued):
    set_up = {"rescues": True, "read": 30.0, "available_share": 0.009, "host_share": 0.021} | changes
    scenario = replace(resolve(load_group("scenario", "idle-giants-short") | {"hypervisor": "kvm"}), rules="default")
    telemetry = Simulator(scenario, 1).reset([1])
    policy, vm, host = rescuing(set_up["rescues"]), telemetry.vm, telemetry.host
    vm["target_mib"][0] = vm["size_mib"][0] = 0.5 * vm["memory_mib"][0]
    vm["guest_available_mib"][0] = 0.5 * vm["memory_mib"][0]
    policy.reset(telemetry, 0)
    vm["guest_swap_in_mib"][0, 0] += set_up["read"]
    vm["guest_available_mib"][0, 0] = set_up["available_share"] * vm["memory_mib"][0, 0]
    host["available_mib"][0, 0] = set_up["host_share"] * host["total_mib"][0, 0]
    asked, size = policy.decide(telemetry).memory_mib[0], vm["size_mib"][0]
    assert (asked[1:] < size[1:]).all()
    if rescued:
        assert asked[0] == pytest.approx(size[0] + 30.0)
    else:
        assert asked[0] < size[0]


def test_nobody_is_asked_below_the_least():
    """Of 512 MiB, a tenth of its memory and what is guaranteed to it the most; all of it where it has less."""
    scenario = replace(resolve(load_group("scenario", "idle-giants-short") | {"hypervisor": "xen"}), rules="default")
    telemetry, policy = Simulator(scenario, 1).reset([1]), rescuing()
    policy.least_mib, vm = 512.0, telemetry.vm
    memory, least = [256.0, 1024.0, 8192.0, 1024.0], [256.0, 512.0, 819.2, 700.0]
    vm["memory_mib"], vm["min_mib"] = 4096.0, 0.0
    vm["memory_mib"][0, :4], vm["min_mib"][0, 3] = memory, 700.0
    vm["size_mib"] = vm["target_mib"] = vm["memory_mib"]
    policy.reset(telemetry, 0)
    for _ in range(12):
        vm["size_mib"] = vm["target_mib"] = policy.decide(telemetry).memory_mib
    assert vm["size_mib"][0, :4] == pytest.approx(least)
    policy.least_mib = 0.0
    assert policy.decide(telemetry).memory_mib[0, 1] < 512.0


def test_nobody_is_given_more_than_its_memory():
    scenario = replace(resolve(load_group("scenario", "idle-giants-short") | {"hypervisor": "kvm"}), rules="default")
    telemetry, policy = Simulator(scenario, 1).reset([1]), rescuing()
    vm = telemetry.vm
    policy.reset(telemetry, 0)
    vm["guest_swap_in_mib"][0, 0] += 1e6
    vm["guest_available_mib"][0, 0] = 0.0
    telemetry.host["available_mib"][0, 0] = telemetry.host["total_mib"][0, 0]
    assert policy.decide(telemetry).memory_mib[0, 0] == vm["memory_mib"][0, 0]
