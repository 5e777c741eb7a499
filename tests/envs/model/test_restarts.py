"""The queue of restarts: whose turn it is, how many start at once, when a try that failed is made again."""

import math

import numpy as np
import pytest

from hvgym.envs import ha_rules
from hvgym.envs.ha_rules import HaRules
from hvgym.envs.model import failure, params, placement, restarts, rng
from hvgym.envs.model.placement import ABSENT, DEAD, LOST, NOWHERE, REFUSED, RESTARTING, RUNNING, UP


def lost_vms(count, **fields):
    residents = params.zeros((count,), placement.RESIDENT)
    residents["state"], residents["restarts_it"] = LOST, 1.0
    for name, value in fields.items():
        residents[name] = value
    return residents


def machines_of(count, **fields):
    machines = params.zeros((count,), placement.MACHINE)
    machines["noticed_s"] = machines["fenced_s"] = machines["off_s"] = -1.0
    for name, value in fields.items():
        machines[name] = value
    return machines


def in_queue(residents, ha, clock_s):
    out = np.zeros(len(residents), np.int64)
    return out[: restarts.queue(residents, ha, clock_s, out)].tolist()


def released(residents, ha, clock_s=0.0):
    for resident in residents:
        restarts.release(resident, ha, clock_s)
    return residents


def serve(residents, machines, ha, room, until_s, clock_s=0):
    """Start what may be started, as a caller does, on the first host with room; yields (second, VM, host) of each start."""
    while clock_s <= until_s:
        starting = restarts.count_starts(machines, residents, float(clock_s))
        for v in in_queue(residents, ha, float(clock_s)):
            if starting >= ha["starts_per_cluster"]:
                break
            hosts = [h for h in range(len(machines)) if restarts.may_start(machines[h], ha)]
            if not hosts:
                break
            host = next((h for h in hosts if room[h] > 0), None)
            if host is not None:
                room[host] -= 1
                machines["starting"][host] += 1
                residents["host"][v] = host
                starting += 1
                yield clock_s, v, host
            restarts.tried(residents[v], ha, float(clock_s), host is not None)
        clock_s += 1


# Which VMs


def test_vms_may_be_restarted_once_their_host_is_fenced():
    ha, vm = ha_rules.named("vsphere").row(), lost_vms(1)[0]
    assert not restarts.restartable(vm, machines_of(1, state=DEAD, noticed_s=15.0)[0], ha)
    assert restarts.restartable(vm, machines_of(1, state=DEAD, noticed_s=15.0, fenced_s=18.0)[0], ha)


def test_vms_that_nobody_protects_wait_for_their_own_host_and_start_with_it_where_they_do():
    vm = lost_vms(1, restarts_it=0.0)[0]
    fenced, back = machines_of(1, state=DEAD, fenced_s=18.0)[0], machines_of(1, state=UP, fenced_s=18.0)[0]
    for stack, comes_back in (("vsphere", False), ("proxmox", True), ("none", True)):
        ha = ha_rules.named(stack).row()
        assert not restarts.is_protected(vm, ha)
        assert not restarts.restartable(vm, fenced, ha)
        assert restarts.restartable(vm, back, ha) == comes_back
    masakari = ha_rules.named("nova_masakari").row()
    assert restarts.is_protected(vm, masakari)
    assert restarts.restartable(vm, fenced, masakari)


def test_without_a_stack_no_vm_is_protected():
    ha = ha_rules.named("none").row()
    assert not restarts.is_protected(lost_vms(1)[0], ha)
    assert not restarts.restartable(lost_vms(1)[0], machines_of(1, state=DEAD, fenced_s=18.0)[0], ha)


def test_the_first_try_comes_when_the_stack_is_ready_for_it():
    ha, vms = ha_rules.named("proxmox").row(), lost_vms(2)
    vms["tries"] = 7.0  # of an earlier loss
    vms["state"][1] = ABSENT
    released(vms, ha, 120.0)
    assert vms["state"].tolist() == [RESTARTING, ABSENT]
    assert (vms["tries"][0], vms["next_try_s"][0]) == (0.0, 130.0)
    assert in_queue(vms, ha, 129.0) == []
    assert in_queue(vms, ha, 130.0) == [0]


# In which order


def test_restarts_go_by_priority_and_among_equals_by_name():
    vms = released(lost_vms(5, priority=[1.0, 3.0, 2.0, 3.0, 1.0]), ha := ha_rules.named("vsphere").row())
    assert in_queue(vms, ha, 0.0) == [1, 3, 2, 0, 4]


def test_proxmox_goes_by_name_whatever_the_priority():
    vms = released(lost_vms(3, priority=[1.0, 3.0, 2.0]), ha := ha_rules.named("proxmox").row())
    assert in_queue(vms, ha, 10.0) == [0, 1, 2]


def test_masakari_evacuates_those_that_ask_for_it_first():
    vms = released(lost_vms(4, restarts_it=[0.0, 1.0, 0.0, 1.0]), ha := ha_rules.named("nova_masakari").row())
    assert in_queue(vms, ha, 0.0) == [1, 3, 0, 2]


def test_the_queue_holds_those_that_wait_and_no_others():
    vms = lost_vms(7, state=range(7), next_try_s=5.0)
    ha = ha_rules.named("vsphere").row()
    assert in_queue(vms, ha, 4.0) == []
    assert in_queue(vms, ha, 5.0) == [RESTARTING]


def test_a_long_queue_is_sorted_as_python_sorts():
    priorities = np.random.default_rng(3).integers(0, 5, 300)
    vms = released(lost_vms(300, priority=priorities), ha := ha_rules.named("vsphere").row())
    assert in_queue(vms, ha, 0.0) == sorted(range(300), key=lambda v: -priorities[v])


def test_ovirt_holds_vms_of_lower_priority_while_a_higher_one_is_down_or_starting_but_not_for_ever():
    ha = ha_rules.named("ovirt").row()
    vms = released(lost_vms(3, priority=[1.0, 50.0, 100.0]), ha)
    assert in_queue(vms, ha, 0.0) == [2]
    restarts.tried(vms[2], ha, 0.0, True)
    assert in_queue(vms, ha, 4.0) == []  # it takes 5 s to start
    assert in_queue(vms, ha, 5.0) == [1]
    restarts.tried(vms[1], ha, 5.0, False)
    assert in_queue(vms, ha, 599.0) == [1]
    assert in_queue(vms, ha, 600.0) == [1, 0]


def test_only_the_first_try_is_held_back_for_vms_of_higher_priority():
    ha = ha_rules.named("ovirt").row()
    vms = released(lost_vms(2, priority=[1.0, 100.0], state=[LOST, RUNNING]), ha)
    restarts.tried(vms[0], ha, 0.0, False)
    vms["state"][1], vms["next_try_s"][1] = RESTARTING, 1000.0
    assert in_queue(vms, ha, 30.0) == [0]


# How often


def tries(stack, until_s):
    """Seconds in which a VM that fits nowhere is tried, and its state after them."""
    ha = ha_rules.named(stack).row() if isinstance(stack, str) else stack.row()
    vms = released(lost_vms(1), ha)
    seen = []
    for clock_s in range(until_s):
        if in_queue(vms, ha, float(clock_s)):
            seen.append(clock_s)
            restarts.tried(vms[0], ha, float(clock_s), False)
    return seen, vms["state"][0], vms["restarts"][0]


def test_vsphere_tries_after_2_4_8_and_8_minutes_more_and_gives_up():
    assert tries("vsphere", 7200) == ([0, 120, 360, 840, 1320], REFUSED, 0.0)


def test_ovirt_tries_every_30_s_ten_times_and_then_every_half_hour():
    seen, state, _ = tries("ovirt", 8000)
    assert seen == [30 * i for i in range(11)] + [300 + 1800 * i for i in range(1, 5)]
    assert state == RESTARTING


@pytest.mark.parametrize(("stack", "every_s"), [("proxmox", 10), ("xenserver", 20), ("hyperv", 3600)])
def test_other_stacks_try_again_for_ever(stack, every_s):
    seen, state, _ = tries(stack, 20 * every_s)
    assert set(np.diff(seen)) == {every_s}
    assert (len(seen) >= 19, state) == (True, RESTARTING)


def test_each_listed_delay_is_used_as_often_as_it_says():
    rules = HaRules("r", retry_s=(1.0, 5.0, 20.0, 100.0), retry_times=(2, 1, 3, 1))
    assert np.diff(tries(rules, 600)[0]).tolist() == [1, 1, 5, 20, 20, 20] + [100] * 5


def test_a_vm_that_started_is_running_and_counts_among_the_starts_for_a_while():
    ha, vms, machines = ha_rules.named("vsphere").row(), lost_vms(1), machines_of(2)
    released(vms, ha)
    vms["host"] = 1
    restarts.tried(vms[0], ha, 0.0, True)
    assert (vms["state"][0], vms["tries"][0], vms["restarts"][0]) == (RUNNING, 1, 1)
    assert restarts.count_starts(machines, vms, 4.0) == 1
    assert machines["starting"].tolist() == [0, 1]
    assert restarts.count_starts(machines, vms, 5.0) == 0
    assert machines["starting"].tolist() == [0, 0]


# How many at once


def test_no_vm_is_restarted_onto_a_host_that_is_not_at_work_or_in_maintenance():
    ha = ha_rules.named("vsphere").row()
    machines = machines_of(len(placement.MACHINE_STATES), state=range(5))
    assert [restarts.may_start(machine, ha) for machine in machines] == [True, False, False, False, False]
    assert not restarts.may_start(machines_of(1, maintenance=1.0)[0], ha)


def test_a_host_starts_no_more_at_once_than_its_stack_allows():
    ha, vms, machines = ha_rules.named("proxmox").row(), lost_vms(20, host=NOWHERE), machines_of(2)
    starts = list(serve(released(vms, ha), machines, ha, [20, 20], 60))
    assert [clock_s for clock_s, *_ in starts] == [10] * 8 + [15] * 8 + [20] * 4
    assert [sum(h == host and s == 10 for s, _, h in starts) for host in (0, 1)] == [4, 4]
    assert [v for _, v, _ in starts] == list(range(20))


def test_a_cluster_starts_no_more_at_once_than_its_stack_allows():
    ha, vms, machines = ha_rules.named("nova_masakari").row(), lost_vms(7, host=NOWHERE), machines_of(4)
    starts = list(serve(released(vms, ha), machines, ha, [9] * 4, 60))
    assert [clock_s for clock_s, *_ in starts] == [0, 0, 0, 5, 5, 5, 10]


def test_every_vm_is_running_waiting_or_given_up():
    ha, vms, machines = ha_rules.named("vsphere").row(), lost_vms(50, host=NOWHERE), machines_of(3)
    room = [10, 0, 12]
    starts = list(serve(released(vms, ha), machines, ha, room, 3000))
    assert len(starts) == len({v for _, v, _ in starts}) == 22
    assert np.bincount(vms["state"], minlength=7).tolist() == [0, 0, 22, 0, 0, 0, 28]


def test_card_13_1_twenty_vms_of_a_host_without_power_are_back_in_time():
    """The timers' part: detection, queue and guests that boot in 15 to 60 s; vSphere, room for all on the other hosts."""
    ha, vms, machines = ha_rules.named("vsphere").row(), lost_vms(20, host=1), machines_of(4)
    specs = params.zeros((4,), placement.MACHINE_SPEC)
    failure.begin(machines, specs, 0)
    machines["count"] = 20
    power_loss = np.array([(1, failure.POWER_LOSS, 0.0, math.inf)], placement.FAILURE)
    clock_s = 0
    while not restarts.restartable(vms[0], machines[1], ha):
        failure.advance(machines, specs, ha, power_loss, 0, float(clock_s))
        clock_s += 1
    fenced_s = clock_s - 1
    starts = list(serve(released(vms, ha, float(fenced_s)), machines, ha, [7, 0, 7, 7], 300, fenced_s))
    up_s = sorted(s + 15.0 + 45.0 * rng.uniform(5, rng.STREAM_FAILURE, v, 0) for s, v, _ in starts)
    assert len(up_s) == 20
    assert 33 <= up_s[0] <= 80
    assert up_s[-1] <= 180
