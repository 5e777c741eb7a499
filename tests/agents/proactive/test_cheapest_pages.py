"""Pages by price, by hand."""

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.proactive.cheapest_pages import (
    CheapestPages,
    by_age,
    cheapest,
    nowhere_to_go,
    prices,
    reclaimed,
    request,
    sizes_mib,
)
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.telemetry import AGES_S, HOST_TELEMETRY, VM_TELEMETRY, Telemetry

COLUMNS = len(AGES_S) + 1


def vms(weights=(1.0, 1.0), resident_mib=2000.0, idle=None, woken=None):
    """idle, woken: by age, a figure of each VM, as much at younger ages."""
    vm = np.zeros((1, len(weights)), VM_TELEMETRY)
    vm["running"], vm["weight"], vm["resident_mib"], vm["memory_mib"] = 1.0, weights, resident_mib, 4096.0
    for age in AGES_S:
        for name, given in ((f"idle_{age}s_mib", idle), (f"woken_{age}s_mib_per_s", woken)):
            known = [value for at, value in (given or {}).items() if at >= age]
            vm[name] = np.max(known, axis=0) if known else 0.0
    return vm


def reading(vm, available_mib, swapped_in_mib=0.0, total_mib=10000.0):
    host = np.zeros((1, 1), HOST_TELEMETRY)
    host["total_mib"], host["available_mib"], host["swap_in_mib"] = total_mib, available_mib, swapped_in_mib
    return Telemetry(np.zeros(1), vm, host)


def decided(vm, available_mib, swapped_in_mib=0.0, **constants):
    policy = CheapestPages(**constants)
    policy.reset(reading(vm, available_mib), 0)
    return policy.decide(reading(vm, available_mib, swapped_in_mib))


def test_pages_lie_in_the_column_of_their_age_and_the_rest_in_the_last():
    mib, hazard = by_age(vms(idle={480: [100.0, 0.0], 60: [400.0, 300.0]}, woken={480: [1.0, 0.0], 60: [7.0, 3.0]}))
    of_first = mib[0, 0]
    assert of_first[AGES_S[::-1].index(480)] == 100.0
    assert of_first[AGES_S[::-1].index(60)] == 300.0
    assert of_first[-1] == 2000.0 - 400.0
    assert mib.sum(axis=2).tolist() == [[2000.0, 2000.0]]
    assert hazard[0, 0, AGES_S[::-1].index(480)] == pytest.approx(0.01)
    assert hazard[0, 0, AGES_S[::-1].index(60)] == pytest.approx(6.0 / 300.0)
    assert np.isinf(hazard[..., -1]).all()


def test_a_price_is_weight_times_hazard_and_no_more_than_the_vm_can_lose():
    hazard = np.array([[[0.001, np.inf], [0.001, np.inf]]])
    found = prices(vms(weights=(1.0, 4.0)), hazard, 0.01)
    assert found[0, :, 0].tolist() == pytest.approx([1e-5, 4e-5])
    assert found[0, :, 1].tolist() == pytest.approx([1.0 / 2000.0, 4.0 / 2000.0])


def test_the_cheapest_goes_first_and_no_more_than_is_short():
    mib, price = np.array([[[100.0, 50.0], [80.0, 70.0]]]), np.array([[[1.0, 4.0], [2.0, 3.0]]])
    assert cheapest(mib, price, np.array([200.0]))[0].tolist() == [[100.0, 0.0], [80.0, 20.0]]
    assert cheapest(mib, price, np.array([1e9]))[0].tolist() == mib[0].tolist()
    assert not cheapest(mib, price, np.zeros(1)).any()


def test_an_important_vm_keeps_what_an_unimportant_one_gives():
    """The same ages; 200 short of 10,000 and all of it comes from the VM that matters less."""
    vm = vms(weights=(6.0, 1.0), idle={60: [400.0, 400.0]}, woken={60: [4.0, 4.0]})
    targets = decided(vm, available_mib=0.0)
    assert targets.reclaim_mib[0].tolist() == [0.0, 200.0]
    assert targets.reclaim_age_s[0, 1] == 60.0


def test_young_pages_go_only_for_what_comes_back_between_decisions():
    """No page is idle: 100 are kept free, and three times what was swapped in since, at most 200."""
    vm = vms(weights=(6.0, 1.0))
    assert decided(vm, available_mib=0.0).reclaim_mib[0].tolist() == [0.0, 100.0]
    assert decided(vm, available_mib=0.0, swapped_in_mib=20.0).reclaim_mib[0].tolist() == [0.0, 160.0]
    assert decided(vm, available_mib=0.0, swapped_in_mib=900.0).reclaim_mib[0].tolist() == [0.0, 200.0]
    assert decided(vm, available_mib=0.0).reclaim_age_s[0, 1] == 0.0
    assert decided(vm, available_mib=100.0).reclaim_mib[0].tolist() == [0.0, 0.0]


def test_who_is_short_of_everything_takes_from_one_vm_first():
    vm = vms(weights=(1.0, 1.0), resident_mib=[2000.0, 3000.0])
    targets = decided(vm, 0.0, swapped_in_mib=9000.0, keep_free_share=0.35)
    assert targets.reclaim_mib[0].tolist() == [500.0, 3000.0]


def test_hot_pages_are_not_asked_for_where_those_with_an_age_suffice():
    mib = np.zeros((1, 1, COLUMNS))
    mib[..., 0], mib[..., -1] = 300.0, 1000.0
    price = np.ones(mib.shape)
    assert reclaimed(mib, price, np.array([200.0]), np.array([100.0])).sum() == 200.0
    assert reclaimed(mib, price, np.array([900.0]), np.array([100.0]))[0, 0].tolist() == mib[0, 0, :1].tolist() + [
        0.0
    ] * (COLUMNS - 1)


def test_a_vm_that_does_not_run_is_left_alone_and_one_without_ages_gives_young_pages():
    vm = vms(weights=(1.0, 1.0))
    vm["running"][0, 0] = 0.0
    targets = decided(vm, 0.0)
    assert np.isnan(targets.reclaim_mib[0, 0])
    assert np.isnan(targets.report_free_pages[0, 0])
    assert np.isnan(targets.memory_mib[0, 0])
    taken = np.zeros((1, 2, COLUMNS))
    assert request(taken, np.ones((1, 2), bool))["reclaim_mib"].tolist() == [[0.0, 0.0]]


NO, YES, NONE = np.array([False]), np.array([True]), np.zeros((1, 2))


def test_the_balloon_takes_half_of_what_is_above_the_spare_memory_and_gives_all_that_is_below():
    vm = vms()
    vm["size_mib"], vm["min_mib"], vm["stats_age_s"] = 3000.0, 512.0, [[0.0, 60.0]]
    vm["guest_free_mib"], vm["guest_available_mib"] = 0.025 * 4096.0 + 200.0, 2000.0
    assert sizes_mib(vm, 0.025, NO, NONE)[0, 0] == pytest.approx(2900.0)
    assert np.isnan(sizes_mib(vm, 0.025, NO, NONE)[0, 1])  # its statistics are old
    vm["guest_free_mib"] = 0.025 * 4096.0 - 40.0
    assert sizes_mib(vm, 0.025, NO, NONE)[0, 0] == pytest.approx(3040.0)
    vm["guest_free_mib"] = np.nan
    assert np.isnan(sizes_mib(vm, 0.025, NO, NONE)).all()


def test_a_guest_at_its_watermark_has_nothing_free():
    """2 GiB: its kernel keeps 55 MiB, more than the 51 that are to be spare."""
    vm = vms()
    vm["memory_mib"], vm["size_mib"] = 2048.0, 102.0
    vm["guest_free_mib"], vm["guest_available_mib"] = 55.0, 1.0
    assert sizes_mib(vm, 0.025, NO, NONE)[0, 0] == pytest.approx(102.0 - 1.0 + 51.2)
    vm["guest_available_mib"] = np.nan  # a kernel that does not tell
    assert sizes_mib(vm, 0.025, NO, NONE)[0, 0] == pytest.approx(102.0 - 0.5 * 3.8)


@pytest.mark.parametrize("stats", ["linux", "windows"])
def test_a_small_guest_that_grows_on_a_host_with_room_gets_its_memory_back(stats):
    """2 GiB: 100 MiB for ten minutes, and 1,200 a minute later; its own swap holds 512."""
    vm = {"name": "small", "memory_mib": 2048, "min_mib": 102, "guest_swap_mib": 512, "stats": stats, "story": {
        "tiers": [{"name": "all", "retouch_s": 10.0}],
        "steps": [{"at_s": 0, "mib": {"all": 100}}, {"at_s": 600, "mib": {"all": 100}}, {"at_s": 660, "mib": {"all": 1200}}],
    }}  # fmt: skip
    base = load_group("scenario", "real-guests") | {"episode_s": 900, "vms": [vm], "host": {"ram_mib": 8192}}
    played = rollout(resolve(base, rules="default"), make_policy(load_group("agent", "cheapest_pages")), [0])
    assert played.oom_kills.tolist() == [0.0]
    assert played.goodput[0] > 0.9


def test_a_guest_that_reads_its_swap_gets_more_whatever_it_calls_free():
    """Windows counts its kernel's reserve as free and as available: 55 MiB, where 26 are to be spare."""
    vm = vms()
    vm["memory_mib"], vm["size_mib"], vm["guest_free_mib"], vm["guest_available_mib"] = 1024.0, 98.0, 55.0, 56.0
    vm["min_mib"] = 64.0
    assert sizes_mib(vm, 0.025, NO, NONE)[0, 0] == pytest.approx(98.0 - 0.5 * 29.4)
    assert sizes_mib(vm, 0.025, NO, np.array([[20.0, 0.0]]))[0].tolist() == pytest.approx([118.0, 98.0 - 0.5 * 29.4])
    first, policy = reading(vm, 5000.0), CheapestPages(intervals=3.0)
    first.vm["guest_swap_in_mib"] = 100.0
    policy.reset(first, 0)
    then = reading(vm.copy(), 5000.0)
    then.vm["guest_swap_in_mib"] = [[107.0, np.nan]]
    assert policy.decide(then).memory_mib[0].tolist() == pytest.approx([98.0 + 3.0 * 7.0, 98.0 - 0.5 * 29.4])
    then.vm["guest_swap_in_mib"] = [[2.0, 50.0]]  # it has started anew; the other tells for the first time
    assert policy.decide(then).memory_mib[0].tolist() == pytest.approx([98.0 - 0.5 * 29.4] * 2)


def test_page_cache_is_spare_where_the_hosts_swap_is_nearly_full_or_there_is_none():
    vm = vms()
    vm["size_mib"], vm["guest_free_mib"], vm["guest_available_mib"] = 3000.0, 50.0, 1102.4
    assert sizes_mib(vm, 0.025, NO, NONE)[0, 0] == pytest.approx(3052.4)
    assert sizes_mib(vm, 0.025, YES, NONE)[0, 0] == pytest.approx(2500.0)
    host = reading(vm, 0.0).host[:, 0]
    assert nowhere_to_go(host, np.array([1.0])).tolist() == [True]  # no swap
    host["swap_total_mib"], host["swap_used_mib"] = 1000.0, 840.0
    assert nowhere_to_go(host, np.array([1.0])).tolist() == [False]
    host["swap_used_mib"] = 850.0
    assert nowhere_to_go(host, np.array([1.0])).tolist() == [True]
    assert nowhere_to_go(host, np.array([0.0])).tolist() == [False]


def test_a_host_whose_swap_is_full_kills_no_guest_that_could_drop_its_cache():
    """sparse-kvm: the kernel killed one guest every 150 s as long as cache was left to guests."""
    scenario = resolve(load_group("scenario", "sparse-kvm") | {"episode_s": 900}, rules="default")
    ours, nobody = (
        rollout(scenario, make_policy(load_group("agent", name)), [500_000_000], agent=name)
        for name in ("cheapest_pages", "stock")
    )
    assert nobody.oom_kills[0] >= 5.0
    assert ours.oom_kills[0] <= 1.0


def test_importance_tells_where_everybody_is_short():
    """The host's kernel, which knows no weights, slows all down alike."""
    scenario = resolve(load_group("scenario", "tenants-kvm") | {"episode_s": 900}, rules="default")
    ours, nobody = (
        rollout(scenario, make_policy(load_group("agent", name)), [0], agent=name)
        for name in ("cheapest_pages", "stock")
    )
    assert ours.goodput[0] > nobody.goodput[0] + 0.1
    assert ours.cost[0] < 0.5 * nobody.cost[0]
