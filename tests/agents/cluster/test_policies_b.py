"""CloudSim, DRS, node fairness, the descheduler and XenServer's planner as policies, on readings made by hand."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.cluster import drs
from hvgym.agents.cluster.by_lane import LaneByLane
from hvgym.agents.cluster.cloudsim_policy import CloudSim, as_cluster
from hvgym.agents.cluster.descheduler_policy import RelieveAndMigrate, use_of_hosts
from hvgym.agents.cluster.drs_policy import Drs2, DrsClassic
from hvgym.agents.cluster.node_fairness import NodeFairness
from hvgym.agents.cluster.reading import ABSENT, LOST, MOVING, RESTARTING, RUNNING, WAITING, Reader
from hvgym.agents.cluster.xapi import XapiHa
from hvgym.agents.policy import make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_PLACES, HOST_TELEMETRY, VM_PLACES, VM_TELEMETRY, Places, Telemetry

AGENTS = (
    "cloudsim_thr_mmt", "cloudsim_mad_mmt", "cloudsim_iqr_mc", "cloudsim_lr_mmt", "drs_classic", "drs2", "node_fairness",
    "descheduler", "xapi_ha",
)  # fmt: skip


@dataclasses.dataclass
class Vm:
    host: float = 0.0
    cores: float = 0.0
    ready: float = 0.0
    used_mib: float = 1000.0
    memory_mib: float = 1000.0
    min_mib: float = 500.0
    state: int = RUNNING
    moving_to: float = np.nan
    wanted: float = np.nan
    cpu_s: float = 0.0
    ready_s: float = 0.0


@dataclasses.dataclass
class World:
    """One cluster. hosts: (pCPUs, MiB); VMs use what they are told, by the second."""

    hosts: list
    vms: list
    down: tuple = ()
    maintenance: tuple = ()
    forbidden: tuple = ()  # pairs of VM and host
    link_mib_per_s: float = 1192.0
    time_s: float = 0.0

    def run(self, seconds):
        self.time_s += seconds
        for vm in self.vms:
            vm.cpu_s += vm.cores * seconds
            vm.ready_s += vm.ready * seconds
        return self

    def reading(self):
        vm, host = np.zeros(len(self.vms), VM_TELEMETRY), np.zeros(len(self.hosts), HOST_TELEMETRY)
        of_vm, of_host = np.zeros(len(self.vms), VM_PLACES), np.zeros(len(self.hosts), HOST_PLACES)
        for name in ("guest_free_mib", "active_share", "guest_committed_mib"):
            vm[name] = np.nan
        for row, place, one in zip(vm, of_vm, self.vms, strict=True):
            row["memory_mib"], row["size_mib"], row["min_mib"] = one.memory_mib, one.memory_mib, one.min_mib
            row["resident_mib"], row["vcpus"] = one.used_mib if one.host >= 0 else 0.0, 4.0
            row["cpu_s"], row["cpu_ready_s"], row["weight"] = one.cpu_s, one.ready_s, 1.0
            place["host"], place["state"], place["moving_to"] = one.host, one.state, one.moving_to
            place["wanted"], place["restart_priority"], place["restarts"] = one.wanted, 1.0, 1.0
        obstacles = np.zeros((len(self.vms), len(self.hosts)), np.int8)
        for h, (pcpus, total_mib) in enumerate(self.hosts):
            used = sum(one.used_mib for one in self.vms if one.host == h)
            host[h]["total_mib"], host[h]["available_mib"] = total_mib, total_mib - used
            of_host[h]["pcpus"], of_host[h]["link_mib_per_s"] = pcpus, self.link_mib_per_s
            of_host[h]["state"], of_host[h]["maintenance"] = h in self.down, h in self.maintenance
            obstacles[:, h] = 7 * (h in self.down) or 8 * (h in self.maintenance)
        for v, h in self.forbidden:
            obstacles[v, h] = 2
        return vm, host, of_vm, of_host, obstacles


def telemetry(*worlds):
    """One reading of these clusters, one a lane."""
    vm, host, of_vm, of_host, obstacles = (
        np.stack(arrays) for arrays in zip(*(w.reading() for w in worlds), strict=True)
    )
    return Telemetry(np.array([w.time_s for w in worlds]), vm, host, Places(of_vm, of_host, obstacles))


def moves(targets, lane=0):
    asked = targets.move_to[lane]
    return {int(v): int(asked[v]) for v in np.flatnonzero(~np.isnan(asked))}


def play(policy, world, seconds, steps=None):
    """The last decision, after so many seconds (each a step of its period)."""
    policy.reset(telemetry(world), seed=0)
    targets = policy.decide(telemetry(world))
    for _ in range(steps or round(seconds / policy.period_s)):
        targets = policy.decide(telemetry(world.run(policy.period_s)))
    return moves(targets)


def agent(name, **changed):
    return make_policy(load_group("agent", name) | changed)


# What policies read


def test_rates_are_rises_of_counters_over_the_time_between_readings():
    world = World([(8, 1000)], [Vm(cores=1.5, ready=0.25)])
    reader = Reader(telemetry(world))
    assert reader.read(telemetry(world))[0].since_s == 0.0
    now = reader.read(telemetry(world.run(20)))[0]
    assert (now.since_s, now.cpu_cores[0], now.ready_cores[0]) == (20.0, 1.5, 0.25)


def test_a_vm_that_is_queued_for_a_move_that_can_begin_is_on_its_way_and_one_that_cannot_is_not():
    vms = [
        Vm(wanted=1.0),
        Vm(wanted=2.0),
        Vm(state=MOVING, moving_to=1.0),
        Vm(),
        Vm(host=np.nan, state=WAITING, wanted=1.0),
    ]
    world = World([(8, 9000)] * 3, vms, down=(2,))
    now = Reader(telemetry(world)).read(telemetry(world))[0]
    assert now.settled.tolist() == [False, True, False, True, False]
    assert now.heading.tolist() == [1, 0, 1, 0, -1]


def test_memory_is_what_is_touched_or_committed_where_that_is_told():
    world = World([(8, 9000)], [Vm(used_mib=800.0), Vm(used_mib=700.0)])
    first = telemetry(world)
    first.vm["active_share"][0, 0], first.vm["guest_committed_mib"][0, 0], first.vm["guest_free_mib"][0, 1] = (
        0.25,
        900,
        400,
    )
    now = Reader(first).read(first)[0]
    assert now.touched_mib.tolist() == [250.0, 600.0]
    assert now.committed_mib.tolist() == [900.0, 700.0]


# Golden vectors of the decision functions, through the policies


HISTORY_1 = (0.5, 0.52, 0.55, 0.6, 0.6, 0.62, 0.65, 0.7, 0.7, 0.72, 0.75, 0.8)


def after_history(policy, history, use, **world):
    """Moves of a host of 10 CPUs whose two VMs used it so, half each, beside one that is nearly idle and has no room for both."""
    there = World([(10, 9000), (10, 9000)], [Vm(), Vm(), Vm(host=1.0)], **world)
    for vm in there.vms:
        vm.memory_mib = 1740.0
    policy.reset(telemetry(there), seed=0)
    policy.decide(telemetry(there))
    for share in (*history, use):
        there.vms[0].cores = there.vms[1].cores = share * 5.0
        there.vms[2].cores = 0.001
        found = moves(policy.decide(telemetry(there.run(300.0))))
    return {vm: host for vm, host in found.items() if vm < 2}


@pytest.mark.parametrize(
    ("name", "relieved"), [("cloudsim_mad_mmt", 0), ("cloudsim_iqr_mc", 1), ("cloudsim_thr_mmt", 0)]
)
def test_vector_cloudsim_1(name, relieved):
    assert len(after_history(agent(name), HISTORY_1, 0.78)) == relieved


def test_vector_cloudsim_2_a_rising_line():
    line = 0.5 + 0.04 * np.arange(1.0, 11.0)
    link = 1e6 / (8 * 1024**2 / 1000)  # 1e6 kbit/s, so that 1740 MiB take 27.84 s
    assert len(after_history(agent("cloudsim_lr_mmt"), line, 0.9, link_mib_per_s=link)) == 1
    assert not after_history(agent("cloudsim_lr_mmt"), line[::-1], 0.5, link_mib_per_s=link)
    assert not after_history(agent("cloudsim_lr_mmt", safety=0.99 / 0.94), line, 0.9, link_mib_per_s=link)


def test_cloudsim_counts_links_in_kbit():
    now = Reader(telemetry(drs_world([0.5, 0.5], 0.1))).read(telemetry(drs_world([0.5, 0.5], 0.1)))[0]
    cluster = as_cluster(now, np.zeros((3, 30)), np.arange(2))
    assert cluster.host_kbit_per_s == pytest.approx([1192 * 8388.608] * 2)
    assert cluster.vm_host.tolist() == [0, 1, 0]


def drs_world(loads, share):
    """Hosts of 10 CPUs, 9.4 of which DRS counts; the first has a VM of `share` that can move, each one with the rest."""
    vms = [Vm(host=float(h), cores=9.4 * (load - share * (h == 0)), used_mib=10.0) for h, load in enumerate(loads)]
    return World([(10, 1e6)] * len(loads), [*vms, Vm(host=0.0, cores=9.4 * share, used_mib=10.0)])


@pytest.mark.parametrize(("slider", "acts"), [(1, False), (2, True), (3, True), (4, True), (5, True)])
def test_vector_drs_1(slider, acts):
    """Four hosts, deviation 0.20: priority 2, applied from slider 2 on."""
    high = 1.1
    loads = [high] + [high - 0.2 * 4 / np.sqrt(3)] * 3
    assert np.std(loads) == pytest.approx(0.20)
    found = play(DrsClassic(slider=slider), drs_world(loads, 0.3), 300)
    assert (found == {4: 1}) == acts
    assert found == {} or acts


@pytest.mark.parametrize("slider", [3, 4, 5])
def test_vector_drs_2(slider):
    """Deviation 0.05: priority 5, only at slider 5."""
    high = 1.05
    loads = [high] + [high - 0.05 * 4 / np.sqrt(3)] * 3
    assert play(DrsClassic(slider=slider), drs_world(loads, 0.05), 300) == ({4: 1} if slider == 5 else {})


def test_drs_classic_acts_every_five_minutes_and_drs_2_every_minute():
    for policy, period_s in ((DrsClassic(), 300), (Drs2(), 60)):
        world = drs_world([1.1, 0.3], 0.4)
        policy.reset(telemetry(world), 0)
        acted = [policy.decide(telemetry(world.run(10))) for _ in range(90)]
        assert [10 * (i + 1) for i, targets in enumerate(acted) if moves(targets)] == list(
            range(period_s, 901, period_s)
        )


def test_drs_counts_time_that_vms_waited_as_demand():
    """Used is 0.9 of both hosts, 0.5 more of the first is waited for."""
    world = drs_world([0.9, 0.1], 0.4)
    assert play(DrsClassic(), world, 300) == {}
    world.vms[0].ready = 4.7
    assert play(DrsClassic(), world, 300) == {2: 1}


def test_drs_memory_is_active_and_a_quarter_of_the_idle():
    """Of 10,000 MiB 9,400 count. 12,000 MiB are consumed; all active there is too much, all idle only 3,000."""
    vms = [Vm(used_mib=6000.0, memory_mib=6000.0), Vm(used_mib=6000.0, memory_mib=6000.0), Vm(host=1.0, used_mib=10.0)]
    for idle, found in ((0.0, {0: 1}), (1.0, {})):
        world, policy = World([(10, 10000.0)] * 2, vms), DrsClassic()

        def seen(world=world, idle=idle):
            now = telemetry(world)
            now.vm["active_share"] = 1.0 - idle
            return now

        policy.reset(seen(), 0)
        policy.decide(seen())
        for _ in range(30):
            world.run(10)
            targets = policy.decide(seen())
        assert moves(targets) == found


def test_moves_of_drs_fit_into_a_period():
    """20 VMs of 40 GiB take 34 s each: 8 at once are the link's limit, and on a slow link, where each takes 400 s, none."""
    vms = [Vm(cores=1.0, used_mib=40960.0) for _ in range(20)]
    world = World([(10, 1e6), (10, 1e6)], [*vms, Vm(host=1.0)])
    assert len(play(DrsClassic(slider=5), world, 300)) <= drs.LINK_CAP
    world.link_mib_per_s = 100.0
    assert play(DrsClassic(slider=5), world, 300) == {}


def test_node_fairness_takes_the_smallest_that_is_enough_at_its_pass_and_when_a_host_joins():
    """90 % of memory: 500 is not enough for the level of 80 %, 1500 is; 3000 is more than is needed."""
    sizes = (4000, 3000, 500, 1500)
    world = World([(10, 10000)] * 2, [*(Vm(used_mib=s, memory_mib=s) for s in sizes), Vm(host=1.0)])
    assert play(NodeFairness(first_pass_s=60.0), world, 50) == {}
    policy = NodeFairness(first_pass_s=60.0)
    assert play(policy, world, 60) == {3: 1}
    passes = [world.time_s for _ in range(360) if moves(policy.decide(telemetry(world.run(10))))]
    assert np.diff(passes).tolist() == [1800.0]
    policy = NodeFairness()
    world.down, world.vms[4].host = (1,), 0.0
    world.vms[4].used_mib = 10
    assert play(policy, world, 20) == {}
    world.down = ()
    assert moves(policy.decide(telemetry(world.run(10)))) == {3: 1}
    assert moves(policy.decide(telemetry(world.run(10)))) == {}


def kv_world(cpu, memory_mib, waits=0.0):
    """Hosts of 10 CPUs and 1000 MiB with three VMs each."""
    vms = [
        Vm(host=float(h), cores=10 * use / 3, used_mib=mib / 3, memory_mib=10.0 * (h + 1))
        for h, (use, mib) in enumerate(zip(cpu, memory_mib, strict=True))
        for _ in range(3)
    ]
    vms[0].ready = waits
    return World([(10, 1000.0)] * len(cpu), vms)


def test_vector_kv_1_two_leave_the_first_host_for_where_least_is_requested():
    """Requests: 30, 60 and 90 of 1000 MiB, so the second host has 93 points with one more VM and the third 90."""
    world = kv_world([0.9, 0.5, 0.4], [620, 620, 260], waits=0.2)
    assert play(RelieveAndMigrate(), world, 60) == {0: 1, 1: 1}
    assert play(RelieveAndMigrate(), world, 50) == {}
    world.forbidden = tuple((v, 1) for v in range(3))
    assert play(RelieveAndMigrate(), world, 60) == {0: 2, 1: 2}
    assert play(RelieveAndMigrate(per_host=9, total=1), world, 60) == {0: 2}


def test_cpu_pressure_is_made_of_ready_time():
    """Two VMs that wait half and a fifth of the time: one of them does for 1 - 0.5 * 0.8."""
    world = World([(10, 1000.0)], [Vm(cores=2.0, ready=0.5, used_mib=250.0), Vm(cores=1.0, ready=0.2, used_mib=250.0)])
    reader = Reader(telemetry(world))
    use = use_of_hosts(reader.read(telemetry(world.run(10)))[0])
    assert use[:, 0] == pytest.approx([0.3, 0.6, 0.5, 0.0])


def test_vector_kv_2_fifteen_is_not_above_fifteen():
    assert play(RelieveAndMigrate(), kv_world([0.55, 0.5, 0.45], [500] * 3), 60) == {}


def pool(second_free):
    """Free with all VMs at what they can be squeezed to: 8, 6 or 5, and 15, 10 with the VM that waits."""
    sizes, at = (6.0, 4.0 if second_free == 6.0 else 6.0, 4.0, 5.0), (0.0, 0.0, 1.0, np.nan)
    vms = [Vm(host=h, used_mib=s, memory_mib=9 * s, min_mib=s) for s, h in zip(sizes, at, strict=True)]
    vms[3].state = WAITING
    return World([(8, 8 + sizes[0] + sizes[1]), (8, second_free + 4), (8, 15.0)], vms)


def test_vectors_xapi_1_and_2():
    for second_free, starts in ((6.0, 1.0), (5.0, 0.0)):
        policy, world = agent("xapi_ha"), pool(second_free)
        policy.reset(telemetry(world), 0)
        targets = policy.decide(telemetry(world))
        assert targets.admit.tolist() == [[1.0, 1.0, 1.0, starts]]
        assert moves(targets) == ({3: 2} if starts else {})
    tolerant = XapiHa(failures=0)
    tolerant.reset(telemetry(pool(5.0)), 0)
    assert tolerant.decide(telemetry(pool(5.0))).admit.all()


def test_xapi_restarts_the_largest_on_the_widest_host_and_evacuates_all_or_none():
    vms = [Vm(host=np.nan, state=RESTARTING, min_mib=size, used_mib=0.0) for size in (3.0, 5.0)]
    policy, world = XapiHa(), World([(8, 10.0), (8, 9.0), (8, 1.0)], [*vms, Vm(host=2.0, min_mib=1.0, used_mib=1.0)])
    policy.reset(telemetry(world), 0)
    assert moves(policy.decide(telemetry(world))) == {1: 0, 0: 1}
    for v, h in ((0, 0.0), (1, 0.0)):
        world.vms[v] = Vm(host=h, min_mib=(3.0, 5.0)[v], used_mib=0.0)
    world.maintenance = (0,)
    assert moves(policy.decide(telemetry(world))) == {0: 1, 1: 1}
    world.vms[1].min_mib = 8.0
    assert moves(policy.decide(telemetry(world))) == {}


# What all of them keep to


def crowded(rng=None):
    """Something for everybody to do, and VMs that nobody may touch."""
    rng = rng or np.random.default_rng(1)
    vms = [Vm(host=0.0, cores=float(rng.uniform(0.5, 2)), used_mib=float(rng.uniform(500, 1500))) for _ in range(8)]
    vms += [Vm(host=1.0, cores=0.2, used_mib=300.0), Vm(host=2.0, cores=0.4, used_mib=300.0)]
    vms += [Vm(host=3.0, cores=0.3, used_mib=200.0), Vm(host=3.0, cores=0.1, used_mib=400.0)]
    vms += [
        Vm(host=0.0, cores=1.0, state=MOVING, moving_to=1.0),
        Vm(host=0.0, cores=1.0, wanted=1.0),
        Vm(host=4.0, state=LOST),
        Vm(host=np.nan, state=ABSENT),
        Vm(host=np.nan, state=WAITING),
        Vm(host=np.nan, state=RESTARTING),
    ]
    return World(
        [(8, 9000)] * 6, vms, down=(4,), maintenance=(3,), forbidden=((0, 1), (1, 1), (8, 2), (11, 1)), time_s=0.0
    )


def course(policy, worlds, seconds=1200):
    """All decisions of a run; moves are not carried out."""
    policy.reset(telemetry(*worlds), seed=0)
    steps_s = [0.0] + [policy.period_s] * round(seconds / policy.period_s)
    return [policy.decide(telemetry(*(world.run(step_s) for world in worlds))) for step_s in steps_s]


@pytest.mark.parametrize("name", AGENTS)
def test_only_vms_that_run_and_rest_are_moved_and_only_to_where_they_may_be(name):
    policy, world = agent(name), crowded()
    reader, asked = Reader(telemetry(world)), 0
    now = reader.read(telemetry(world))[0]
    for targets in course(policy, [world]):
        for vm, host in moves(targets).items():
            asked += vm < 12
            assert now.allowed[vm, host]
            assert now.targets[host]
            if name != "xapi_ha" or now.host[vm] >= 0:  # its restarts
                assert now.settled[vm]
    assert asked > 0


class Everywhere(LaneByLane[None]):
    """Wants every VM on every host."""

    def remember(self, first):
        return None

    def moves(self, now, memory):
        return [(vm, host) for host in reversed(range(len(now.up))) for vm in range(len(now.host))]


def test_nothing_is_asked_for_that_a_stack_would_refuse():
    world = crowded()
    found = course(Everywhere(), [world], 10)[-1]
    now = Reader(telemetry(world)).read(telemetry(world))[0]
    asked = ~np.isnan(found.move_to[0])
    assert (asked == now.settled).all()
    assert now.allowed[asked, found.move_to[0][asked].astype(int)].all()


@pytest.mark.parametrize("name", [name for name in AGENTS if not name.startswith("cloudsim")])
def test_hosts_in_maintenance_are_emptied_at_once(name):
    for targets in course(agent(name), [crowded()], 20)[1:]:
        assert {10, 11} <= set(moves(targets))


def test_cloudsim_knows_no_maintenance_and_a_drain_without_live_migration_moves_nothing():
    for policy in (CloudSim(), RelieveAndMigrate(evictions="None")):
        for targets in course(policy, [crowded()]):
            assert not {10, 11} & set(moves(targets))


@pytest.mark.parametrize("name", AGENTS)
def test_lanes_do_not_touch_each_other_and_reset_forgets(name):
    def make(seed):
        return crowded(np.random.default_rng(seed))

    together = course(agent(name), [make(1), make(2)])
    used = agent(name)
    course(used, [make(7)], 600)
    for lane, seed in enumerate((1, 2)):
        for policy in (agent(name), used):
            alone = course(policy, [make(seed)])
            for one, both in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one.move_to[0], both.move_to[lane])
                if one.admit is not None:
                    np.testing.assert_array_equal(one.admit[0], both.admit[lane])


@pytest.mark.parametrize("name", AGENTS)
def test_agents_say_what_they_are(name):
    config = load_group("agent", name)
    assert config["seat"] == "outside"
    assert make_policy(config).of_cluster
    assert ("surrogate" in config["description"]) == (name in ("drs_classic", "drs2", "node_fairness"))


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("drs2", "slider", 6, "1 to 5"),
        ("cloudsim_lr_mmt", "detector", "ls", "thr, mad, iqr, lr"),
        ("cloudsim_lr_mmt", "selector", "rs", "mmt, mu, mc"),
        ("node_fairness", "level", 4, "1, 2, 3"),
        ("node_fairness", "mode", 3, "0, 1, 2"),
        ("descheduler", "evictions", "Cold", "LiveMigrate"),
        ("descheduler", "interval_s", 0, "above 0"),
        ("xapi_ha", "failures", -1, "at least 0"),
    ],
)
def test_wrong_values_are_refused_on_one_line(name, key, value, said):
    with pytest.raises(InputError, match=said) as caught:
        agent(name, **{key: value})
    assert f"agent.{key}=" in str(caught.value)
    assert "\n" not in str(caught.value)
