"""Stacks that balance by themselves, driven by telemetry made by hand: the golden vectors through the classes, and the manners that
all of them share."""

import numpy as np
import pytest

from hvgym.agents.cluster.reading import ABSENT, LOST, MOVING, RESTARTING, RUNNING, WAITING
from hvgym.agents.policy import make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.model.placement import MEMORY
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_PLACES, HOST_TELEMETRY, VM_PLACES, VM_TELEMETRY, Places, Telemetry

NAN = np.nan
GIB = 1024.0


def cluster(hosts, vms, time_s=0.0, cpu_s=0.0, **of_all):
    """A reading of one cluster. hosts: dictionaries of host signals and of what the stack says of hosts; vms likewise; obstacles of
    a VM are 0 unless given. cpu_s: for how long VMs have used their `cores`."""
    host, vm = np.zeros((1, len(hosts)), HOST_TELEMETRY), np.zeros((1, len(vms)), VM_TELEMETRY)
    machines, placed = np.zeros((1, len(hosts)), HOST_PLACES), np.zeros((1, len(vms)), VM_PLACES)
    obstacles = np.zeros((1, len(vms), len(hosts)), np.int8)
    machines["deadline_s"] = NAN
    for name in ("host", "moving_to", "wanted", "since_lost_s"):
        placed[name] = NAN
    placed["state"], placed["restarts"], vm["running"], vm["weight"] = RUNNING, 1.0, 1.0, 1.0
    for index, one in enumerate(vms):
        one = dict(one)
        vm["cpu_s"][0, index] = one.pop("cores", 0.0) * cpu_s
        obstacles[0, index] = one.pop("obstacles", 0)
        fill((vm, placed), index, one)
    for index, one in enumerate(hosts):
        fill((host, machines), index, one)
    return Telemetry(np.array([time_s]), vm, host, Places(placed, machines, obstacles))


def fill(arrays, index, given):
    for name, value in given.items():
        array = next(array for array in arrays if name in array.dtype.names)
        array[name][0, index] = value


def host(cpus=16, gib=64, used_cores=0.0, used_gib=0.0, **more):
    total = gib * GIB
    return {"pcpus": cpus, "total_mib": total, "available_mib": total - used_gib * GIB,
            "cpu_utilisation": used_cores / cpus} | more  # fmt: skip


def guest(at=NAN, cpus=4, gib=4, cores=0.0, used_gib=0.0, **more):
    return {"host": at, "vcpus": cpus, "memory_mib": gib * GIB, "resident_mib": used_gib * GIB, "cores": cores} | more


def waiting(cpus=4, gib=4, **more):
    return guest(NAN, cpus, gib, state=WAITING) | more


def played(name, hosts, vms, seconds=0, period_s=None, **changed):
    """What an agent asks for in each of its rounds while nothing changes but the time."""
    policy = make_policy(load_group("agent", name) | changed)
    step = period_s or policy.period_s
    policy.reset(cluster(hosts, vms), seed=0)
    times = np.arange(0.0, seconds + 0.5, step)
    return [moves(policy.decide(cluster(hosts, vms, now, now))) for now in times]


def moves(targets):
    row = targets.move_to[0]
    return [(int(vm), int(row[vm])) for vm in np.flatnonzero(~np.isnan(row))]


def asked(name, hosts, vms, **changed):
    return played(name, hosts, vms, **changed)[0]


def test_pve_starts_a_vm_where_topsis_says():
    """PVE-1 and PVE-2, static: the guests that are there make up the use."""
    two = [host(), host()]
    there = [guest(0, 4, 32), guest(1, 8, 16)]
    assert asked("pve_static", two, [*there, waiting(4, 16)]) == [(2, 1)]
    three = [host(16, 64), host(16, 64), host(8, 32)]
    there = [guest(0, 8, 16), guest(1, 2, 48), guest(2, 0.001, 24)]
    assert asked("pve_static", three, [*there, waiting(4, 8)]) == [(3, 0)]


def test_pve_dynamic_counts_measured_use_and_static_does_not():
    hosts = [host(used_gib=50, used_cores=8), host(used_gib=4)]
    assert asked("pve_dynamic", hosts, [waiting()]) == [(0, 1)]
    assert asked("pve_static", hosts, [waiting()]) == [(0, 0)]


UNEVEN = [host(100, 100, 75, 75), host(100, 100, 25, 25), host(100, 100, 20, 20)]
TWO_GUESTS = [guest(0, 20, 20, 20.0, 20), guest(0, 10, 10, 10.0, 10)]


def test_pve_dynamic_moves_one_guest_in_the_third_uneven_round():
    """PVE-R1."""
    assert played("pve_dynamic", UNEVEN, TWO_GUESTS, 60) == [[], [], [(0, 2)], [], [], [(0, 2)], []]


def test_pve_dynamic_does_not_swap_high_and_low():
    """PVE-R2."""
    hosts = [host(100, 100, 90, 90), host(100, 100, 30, 30)]
    assert not any(played("pve_dynamic", hosts, [guest(0, 62, 62, 62.0, 62)], 60))


def test_pve_counts_no_round_in_which_a_move_is_queued_or_under_way():
    policy = make_policy(load_group("agent", "pve_dynamic"))
    policy.reset(cluster(UNEVEN, TWO_GUESTS), seed=0)
    on_its_way = [TWO_GUESTS[0] | {"state": MOVING, "moving_to": 1}, TWO_GUESTS[1]]
    queued = [TWO_GUESTS[0] | {"wanted": 1}, TWO_GUESTS[1]]
    rounds = [TWO_GUESTS, on_its_way, TWO_GUESTS, queued, TWO_GUESTS]
    answers = [moves(policy.decide(cluster(UNEVEN, vms, 10.0 * k, 10.0 * k))) for k, vms in enumerate(rounds)]
    assert answers == [[], [], [], [], [(0, 2)]]


def test_pve_basic_spreads_by_the_number_of_guests_counting_one_that_moves_twice():
    vms = [guest(0), guest(0, state=MOVING, moving_to=2), guest(1), guest(1), waiting(), waiting()]
    assert asked("pve_basic", [host(), host(), host()], vms) == [(4, 2), (5, 0)]  # 2, 2, 1 guests; then 2, 2, 2


def test_pve_basic_never_rebalances():
    assert not any(played("pve_basic", UNEVEN, TWO_GUESTS, 60))


def test_pve_empties_a_node_in_maintenance_at_once_and_brings_its_guests_back():
    policy = make_policy(load_group("agent", "pve_basic"))
    hosts, out = [host(), host(), host()], [host(maintenance=1.0), host(), host()]
    before = [guest(0), guest(0), guest(0), guest(1)]
    policy.reset(cluster(hosts, before), seed=0)
    assert moves(policy.decide(cluster(hosts, before))) == []
    assert moves(policy.decide(cluster(out, before, 10.0))) == [(0, 2), (1, 1), (2, 2)]  # 1, 0; 1, 1 goes to the first
    after = [guest(2), guest(1), guest(2), guest(1)]
    assert moves(policy.decide(cluster(out, after, 20.0))) == []
    assert moves(policy.decide(cluster(hosts, after, 30.0))) == [(0, 0), (1, 0), (2, 0)]
    assert moves(policy.decide(cluster(hosts, before, 40.0))) == []
    assert moves(policy.decide(cluster(hosts, after, 50.0))) == []  # who is moved later by somebody else stays there


def test_pve_moves_no_guest_that_high_availability_does_not_look_after():
    vms = [guest(0, restarts=0.0), guest(0)]
    assert asked("pve_basic", [host(maintenance=1.0), host()], vms) == [(1, 1)]


def test_a_queued_move_whose_target_no_longer_takes_the_vm_is_called_off():
    vms = [guest(0, wanted=1, obstacles=[0, MEMORY])]
    assert asked("pve_basic", [host(), host()], vms) == [(0, 0)]


def test_a_queued_start_is_left_alone_until_its_host_no_longer_takes_the_vm():
    hosts = [host(), host()]
    assert asked("pve_basic", hosts, [waiting(wanted=1)]) == []
    assert asked("pve_basic", hosts, [waiting(wanted=1, obstacles=[0, MEMORY])]) == [(0, 0)]


def test_nova_weighs_free_memory_vcpus_and_tasks():
    """Nova-1: hosts whose RAM, less what is reserved, and vCPUs, at the ratio of 4, leave what the vector says."""
    sizes = [(64000, 4, 2), (32000, 10, 0), (16000, 12, 1)]
    hosts = [host(cpus, (mib + 512) / GIB) for mib, cpus, _ in sizes]
    building = [waiting(0, 0, wanted=h) for h, (_, _, tasks) in enumerate(sizes) for _ in range(tasks)]
    assert asked("nova", hosts, [*building, waiting(1, 1)]) == [(3, 1)]


def test_nova_puts_each_request_on_the_books_before_the_next():
    assert asked("nova", [host(16, 64), host(16, 64)], [waiting(), waiting(), waiting()]) == [(0, 0), (1, 1), (2, 0)]


def test_nova_prefers_a_host_that_builds_nothing():
    assert asked("nova", [host(), host()], [waiting(0, 0, wanted=0), waiting(0, 0)]) == [(1, 1)]
    assert asked("nova", [host(), host()], [waiting(0, 0), waiting(0, 0)]) == [(0, 0), (1, 1)]


def test_nova_keeps_within_its_ratio_of_ram_and_moves_nothing_off_a_host_in_maintenance():
    full = [guest(0, 4, 60), guest(1, 4, 30)]
    assert asked("nova", [host(), host()], [*full, waiting(4, 33.6)]) == []
    assert asked("nova", [host(), host()], [*full, waiting(4, 33.5)]) == [(2, 1)]
    assert asked("nova", [host(maintenance=1.0), host()], [guest(0)]) == []


HUNDRED = {"balanciness": 10, "memory_threshold": 0, "reserve_mib": 0}
"""Settings of ProxLB's vectors; the order of guests is by CPU, so their `cores` follow their memory."""


def test_proxlb_moves_the_smallest_guests_of_the_fullest_node_one_at_a_time():
    """ProxLB-1."""
    hosts = [host(100, 100, 0, used) for used in (80, 60, 40)]
    sizes = [(0, 4), (0, 16), (0, 20), (2, 10), (1, 30)]
    vms = [guest(at, 1, gib, gib / 100, gib) for at, gib in sizes]
    rounds = played("proxlb", hosts, vms, 400, **HUNDRED)
    assert rounds[30:33] == [[(0, 2)], [(1, 2)], []]
    assert sum(map(len, rounds)) == 2


def test_proxlb_keeps_its_target_though_it_has_become_the_fuller_one():
    """ProxLB-2."""
    hosts = [host(100, 100, 0, used) for used in (90, 40, 38)]
    vms = [guest(0, 1, gib, gib / 100, gib) for gib in (8, 12, 14)]
    rounds = played("proxlb", hosts, vms, 400, **HUNDRED)
    assert [move for asked_for in rounds for move in asked_for] == [(0, 2), (1, 2), (2, 2)]


def test_proxlb_waits_for_a_job_before_the_next_and_sleeps_after_the_last():
    hosts = [host(100, 100, 0, used) for used in (90, 40, 38)]
    still = [guest(0, 1, gib, gib / 100, gib) for gib in (8, 12, 14)]
    policy = make_policy(load_group("agent", "proxlb") | HUNDRED)
    policy.reset(cluster(hosts, still), seed=0)
    found, runs_s = {}, {0: 0}
    for now in range(0, 1400, 10):  # a copy takes 100 s and fails, so that the VMs are there for the next run
        vms = [
            vm | ({"state": MOVING, "moving_to": 2} if 0 < now - runs_s.get(v, -1000) <= 100 else {})
            for v, vm in enumerate(still)
        ]
        runs_s.pop(0, None) if now == 0 else None
        for vm, _ in moves(policy.decide(cluster(hosts, vms, now, now))):
            found.setdefault(vm, []).append(now)
            runs_s[vm] = now
    assert found[0][0] == 300
    assert found[1][0] == found[0][0] + 110
    assert found[2][0] == found[1][0] + 110
    assert found[0][1] == found[2][0] + 110 + 300


SIXTEEN = [host(16, 64, 8), host(16, 64, 2), host(16, 64, 1)]
LOADS = [guest(0, 4, 1, 1.0), guest(0, 4, 1, 3.0), guest(0, 4, 1, 4.0), guest(1, 4, 1, 2.0), guest(2, 4, 1, 1.0)]


def test_watcher_balance_takes_the_vm_nearest_to_the_excess_if_a_host_takes_it():
    """Watcher-1 and Watcher-2."""
    assert not any(played("watcher_balance", SIXTEEN, LOADS, 300))
    rounds = played("watcher_balance", SIXTEEN, LOADS, 300, threshold=40)
    assert rounds[:30] == [[]] * 30
    assert rounds[30] == [(2, 2)]


def test_watcher_moves_nothing_to_a_host_that_may_not_have_the_vm():
    vms = [*LOADS[:2], LOADS[2] | {"obstacles": [0, 0, MEMORY]}, *LOADS[3:]]
    assert not any(played("watcher_balance", SIXTEEN, vms, 300, threshold=40))


def test_watcher_begins_no_audit_beside_a_plan_that_is_carried_out():
    vms = [*LOADS, guest(1, 1, 1, state=MOVING, moving_to=2)]
    assert not any(played("watcher_balance", SIXTEEN, vms, 300, threshold=40))


def test_watcher_stabilization_evens_out_two_hosts():
    """By hand: from 0.8 and 0.2 a third of the first one's load leads to 0.5 and 0.5; the other VM would lead to 0.3 and 0.7."""
    hosts = [host(16, 64, 12.8), host(16, 64, 3.2)]
    vms = [guest(0, 4, 1, 8.0), guest(0, 4, 1, 4.8), guest(1, 4, 1, 3.2)]
    assert played("watcher_stabilization", hosts, vms, 300)[30] == [(1, 1)]
    assert not any(played("watcher_stabilization", hosts, vms, 300, threshold=0.31))


def test_watcher_averages_over_its_window():
    """The first host is over 40 % (6.4 cores) for 200 s of 300, which is 6.67 in the mean, but for 150 s it is 5."""
    for seconds, acts in ((200, True), (150, False)):
        policy = make_policy(load_group("agent", "watcher_balance") | {"threshold": 40})
        policy.reset(cluster(SIXTEEN, LOADS), seed=0)
        used_s = np.minimum(np.arange(0.0, 301.0, 10.0), seconds) * 10.0 / 8.0  # 10 cores of what are 8 in LOADS
        answers = [
            moves(policy.decide(cluster(SIXTEEN, LOADS, 10.0 * k, cpu_s))) for k, cpu_s in enumerate(used_s.tolist())
        ]
        assert bool(answers[30]) is acts


def test_watcher_has_nova_empty_a_host_that_goes_into_maintenance():
    hosts = [host(maintenance=1.0), host(16, 32), host()]
    vms = [guest(0, 4, 20), guest(0, 4, 20), guest(0, 4, 20)]
    rounds = played("watcher_balance", hosts, vms, 300)
    assert rounds[0] == [(0, 2), (1, 2), (2, 1)]  # 2 has more memory, still after one VM; then 1
    assert rounds[1:30] == [[]] * 29
    assert rounds[30] == rounds[0]  # nothing has moved in this test, so the next audit asks again


def test_ovirt_places_a_vm_by_ranks_of_cpu_and_memory():
    """oVirt-1; the storage pool manager's work, on the first host, changes no rank."""
    hosts = [host(8, mib / GIB, load) for mib, load in ((64000, 4.0), (16000, 2.4), (32000, 0.8))]
    assert asked("ovirt_even", hosts, [waiting(2, 4000 / GIB)], overcommit=1.0) == [(0, 2)]


OVER = [host(16, 64, 13.6), host(16, 64, 9.6), host(16, 64, 10.56)]
TWO = [guest(0, 2, 4, 0.1), guest(0, 4, 4, 2.0)]


def test_ovirt_moves_its_smallest_vm_once_a_host_has_been_over_for_two_minutes():
    """oVirt-2: the timer starts at 0 and the balancer looks at 60, 120 and 180 s."""
    rounds = played("ovirt_even", OVER, TWO, 180)
    assert {10 * k: asked_for for k, asked_for in enumerate(rounds) if asked_for} == {120: [(0, 1)], 180: [(0, 1)]}


def test_ovirt_clears_its_timer_when_the_load_has_been_below_the_limit():
    policy = make_policy(load_group("agent", "ovirt_even"))
    policy.reset(cluster(OVER, TWO), seed=0)
    calm = [host(16, 64, 12.0), *OVER[1:]]
    acts = []
    for now in range(0, 250, 10):
        asked_for = policy.decide(cluster(calm if now == 10 else OVER, TWO, now, now))
        acts += [now] if moves(asked_for) else []
    assert acts == [180, 240]  # at 120 the timer, which started anew at 20, has run for 100 s


def test_ovirt_passes_over_hosts_that_migrate():
    vms = [*TWO, guest(2, 1, 1, state=MOVING, moving_to=1)]
    assert not any(played("ovirt_even", OVER, vms, 120))


def test_ovirt_restarts_by_priority_and_empties_a_host_in_maintenance():
    hosts = [host(maintenance=1.0), host(16, 10), host(16, 6)]
    vms = [guest(0, 1, 1), waiting(1, 8, restart_priority=1.0), waiting(1, 8, restart_priority=2.0)]
    assert asked("ovirt_even", hosts, vms, overcommit=1.0) == [
        (0, 2),
        (2, 1),
    ]  # the second has no room left for the first


def test_ovirt_as_shipped_balances_nothing():
    assert not any(played("ovirt_none", OVER, TWO, 240))


def test_ovirt_saving_empties_a_host_under_its_low_limit():
    hosts = [host(16, 64, 1.6), host(16, 64, 4.8), host(16, 64, 6.4)]
    vms = [guest(0, 2, 4, 0.8), guest(1, 4, 4, 4.0), guest(2, 4, 4, 6.0)]
    rounds = played("ovirt_saving", hosts, vms, 120)
    assert [10 * k for k, asked_for in enumerate(rounds) if asked_for] == [120]  # its timer has run for two minutes
    assert rounds[12] == [(0, 2)]  # to the fullest that stays under 80 %


NAMES = (
    *("pve_basic", "pve_static", "pve_dynamic", "nova", "proxlb", "watcher_balance", "watcher_stabilization"),
    *("ovirt_none", "ovirt_even", "ovirt_saving"),
)


def drawn(seed, rounds=30, hosts=4, vms=12):
    """Readings a minute apart in which everything may be the case."""
    rng = np.random.default_rng(seed)
    capacity, cores = rng.choice([32.0, 64.0], hosts), rng.uniform(0.0, 4.0, vms)
    for k in range(rounds):
        placed = [drawn_vm(rng, hosts, float(cores[v])) for v in range(vms)]
        machines = [
            host(16, capacity[h], 16 * rng.random(), capacity[h] * rng.random(), state=rng.choice([0, 0, 0, 1]),
                 maintenance=float(rng.random() < 0.2)) for h in range(hosts)
        ]  # fmt: skip
        yield cluster(machines, placed, 60.0 * k, 60.0 * k)


def drawn_vm(rng, hosts, cores):
    state = rng.choice([RUNNING] * 6 + [ABSENT, WAITING, MOVING, LOST, RESTARTING])
    at = NAN if state in (ABSENT, WAITING, RESTARTING) else float(rng.integers(hosts))
    obstacles = np.where(rng.random(hosts) < 0.3, MEMORY, 0)
    wanted = float(rng.integers(hosts)) if state != MOVING and rng.random() < 0.05 else NAN
    return guest(at, 4, 4, cores, 3.0, state=state, moving_to=float(rng.integers(hosts)) if state == MOVING else NAN,
                 wanted=wanted, obstacles=obstacles, restarts=float(rng.random() < 0.8))  # fmt: skip


def answers(name, readings, policy=None):
    policy = policy or make_policy(load_group("agent", name))
    policy.reset(readings[0], seed=0)
    return np.stack([policy.decide(reading).move_to for reading in readings])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_asked_for_vms_that_cannot_move_nor_for_hosts_that_may_not_have_them(name):
    count = 0
    for seed in range(6):
        readings = list(drawn(seed))
        for reading, row in zip(readings, answers(name, readings)[:, 0], strict=True):
            placed, machines = reading.places.vm[0], reading.places.host[0]
            for vm, target in [(vm, int(row[vm])) for vm in np.flatnonzero(~np.isnan(row))]:
                assert placed["state"][vm] in (RUNNING, WAITING, RESTARTING)
                if target == placed["host"][vm]:
                    wanted = int(placed["wanted"][vm])  # called off
                    closed = machines["state"][wanted] or machines["maintenance"][wanted]
                    assert closed or wanted == target or reading.places.obstacles[0, vm, wanted] == MEMORY
                    continue
                assert reading.places.obstacles[0, vm, target] == 0
                assert machines["state"][target] == 0.0
                assert machines["maintenance"][target] == 0.0
                count += 1
    assert count > 20


def beside(one, other):
    places = Places(
        *(np.concatenate([getattr(r.places, part) for r in (one, other)]) for part in ("vm", "host", "obstacles"))
    )
    arrays = (np.concatenate([getattr(r, part) for r in (one, other)]) for part in ("time_s", "vm", "host"))
    return Telemetry(*arrays, places)


@pytest.mark.parametrize("name", NAMES)
def test_two_lanes_decide_as_each_does_alone(name):
    one, other = list(drawn(1)), list(drawn(2))
    together = answers(name, [beside(a, b) for a, b in zip(one, other, strict=True)])
    np.testing.assert_array_equal(together[:, :1], answers(name, one))
    np.testing.assert_array_equal(together[:, 1:], answers(name, other))


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_forgets_and_the_same_readings_lead_to_the_same_moves(name):
    policy = make_policy(load_group("agent", name))
    readings = list(drawn(3))
    first = answers(name, readings, policy)
    answers(name, list(drawn(4)), policy)
    np.testing.assert_array_equal(answers(name, readings, policy), first)
    np.testing.assert_array_equal(answers(name, readings), first)


@pytest.mark.parametrize("name", NAMES)
def test_every_vm_that_waits_gets_a_host_where_there_is_room(name):
    hosts = [host(), host(maintenance=1.0), host(state=1)]
    vms = [waiting(), waiting(state=RESTARTING), guest(0)]
    assert asked(name, hosts, vms)[:2] == [(0, 0), (1, 0)]


def test_settings_that_are_none_are_refused():
    for name, wrong in (("pve_basic", {"rebalances": True}), ("pve_static", {"mode": "best"}), ("proxlb", {"mode": "psi"}),
                        ("watcher_balance", {"metric": "disk"}), ("ovirt_even", {"policy": "even"})):  # fmt: skip
        with pytest.raises(InputError):
            make_policy(load_group("agent", name) | wrong)
