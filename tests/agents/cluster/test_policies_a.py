"""Stacks that balance by themselves, driven by telemetry made by hand: the golden vectors through the classes, and the manners that
all of them share."""


import numpy as np

from hvgym.agents.cluster.reading import MOVING, RUNNING, WAITING
from hvgym.agents.policy import make_policy
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


def test_nova_keeps_within_its_ratio_of_ram_and_moves_nothing_off_a_host_in_maintenance():
    full = [guest(0, 4, 60), guest(1, 4, 30)]
    assert asked("nova", [host(), host()], [*full, waiting(4, 33.6)]) == []
    assert asked("nova", [host(), host()], [*full, waiting(4, 33.5)]) == [(2, 1)]
    assert asked("nova", [host(maintenance=1.0), host()], [guest(0)]) == []
