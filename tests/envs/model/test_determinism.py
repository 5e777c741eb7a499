"""Counter-based randomness: the same seed is the same demand, in any lane, batch or thread, under any policy."""

import dataclasses
import itertools

import numpy as np
import pytest

from hvgym.envs import telemetry
from hvgym.envs.device import DeviceModel
from hvgym.envs.host_env import HostEnv
from hvgym.envs.java import JvmGuest, Workload
from hvgym.envs.model import rng, start, tick
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load, load_group
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets
from hvgym.envs.vector_env import HostVectorEnv

SCENARIO = "idle-giants-short"
OF_IO_AND_HEAPS = ["emulated-nic", "noisy-disk", "java-heaps"]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def actions(steps: int, vms: int = 8) -> np.ndarray:
    return np.random.default_rng(5).uniform(-1, 1, (steps, vms)).astype(np.float32)


def test_random_bits_are_those_of_splitmix64_chained_over_the_key():
    """Computed independently with Python's integers."""
    mask = 2**64 - 1

    def mix(word: int) -> int:
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        return word ^ (word >> 31)

    golden = 0x9E3779B97F4A7C15
    for key in ((0, 0, 0, 0), (1, 2, 3, 4), (2**62, 7, 1 << 20, 10**6)):
        word = mix((key[0] + golden) & mask)
        for part in key[1:]:
            word = mix(word ^ ((part + golden) & mask))
        assert int(rng.random_bits(*key)) == word


def test_uniform_draws_are_uniform_and_streams_are_apart():
    draws = np.array([[rng.uniform(3, stream, 0, i) for i in range(4000)] for stream in range(3)])
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(draws.var() - 1 / 12) < 0.003
    correlation = np.corrcoef(draws)
    assert np.abs(correlation - np.eye(3)).max() < 0.06


def test_demand_of_a_seed_is_frozen():
    """Studies of different days must meet the same demand: a change here breaks every published number."""
    sim = Simulator(load("idle-giants"))
    sim.reset([2_000_000_000])
    hot = sim.demand[0]["tier_mib"][:, :, 0]
    assert hot[0].round(3).tolist() == [HOT_AT_START[v] for v in range(8)]
    assert float(hot.sum()) == pytest.approx(HOT_SUM, rel=1e-12)


HOT_AT_START = [469.231, 499.339, 1759.354, 1956.083, 1442.22, 1820.712, 1683.123, 2137.53]
HOT_SUM = 2219309.2831532517


def test_demand_of_groups_and_its_io_is_frozen_too():
    """Siblings that burst together: each stream of the generator has its part in these sums."""
    sim = Simulator(load("sibling-bursts"))
    sim.reset([2_000_000_000])
    demand = sim.demand[0]
    assert float(demand["tier_mib"][:, :, 0].sum()) == pytest.approx(SIBLING_HOT_SUM, rel=1e-12)
    assert float(demand["disk_mib_per_s"].sum()) == pytest.approx(SIBLING_DISK_SUM, rel=1e-12)


SIBLING_HOT_SUM, SIBLING_DISK_SUM = 2892372.1889546565, 13059.0


def test_a_later_episode_plays_the_seed_drawn_from_the_stream_of_episodes():
    env, expected = HostEnv(SCENARIO), Simulator(load(SCENARIO))
    env.reset(seed=3)
    env.reset()
    env.reset()
    expected.reset([int(rng.random_bits(3, 7, 0, 2)) >> 1])
    assert same_bits(env.simulator.demand, expected.demand)


LANES = [(SCENARIO, lanes, threads) for lanes, threads in ((1, 1), (3, 1), (5, 2), (16, 3))]


@pytest.mark.parametrize(("name", "lanes", "threads"), LANES + [(name, 5, 2) for name in OF_IO_AND_HEAPS])
def test_lane_i_of_a_batch_equals_the_scalar_environment_with_seed_plus_i(name, lanes, threads):
    scenario = load(name)
    if name in OF_IO_AND_HEAPS:
        scenario = dataclasses.replace(scenario, episode_s=600)
    batch = HostVectorEnv(lanes, scenario, threads=threads, autoreset_mode="SameStep")
    first, _ = batch.reset(seed=100)
    steps = 250  # two episodes and a bit: 120 steps each
    played = actions(steps, len(scenario.groups))
    record = [batch.step(np.tile(action, (lanes, 1))) for action in played]
    for lane in {0, lanes - 1}:
        scalar = HostEnv(scenario)
        observation, _ = scalar.reset(seed=100 + lane)
        assert same_bits(observation, first[lane])
        for action, (observations, rewards, _, truncated, infos) in zip(played, record, strict=True):
            observation, reward, _, ended, info = scalar.step(action)
            assert reward == rewards[lane]
            of_step = infos["final_info"] if ended else infos
            assert info["cost"] == of_step["cost"][lane]
            assert ended == truncated[lane]
            if ended:
                assert same_bits(observation, infos["final_obs"][lane])
                observation, _ = scalar.reset()
            assert same_bits(observation, observations[lane])


def everything() -> Scenario:
    """VMs of one host that have between them every kind of device, collector and division, and what goes with them."""
    groups = [
        VmGroup(
            "vm", Demand(hot_mib=0.0 if turn % 2 else 900.0, cold_mib=100.0, cache_mib=200.0, phase_s=30.0,
                         phase_swing=0.3, cpu_share=cpu_share, disk_mib_per_s=20.0, net_mib_per_s=60.0),
            memory_mib=2048.0, guest_swap_mib=2048.0, packet_bytes=1500.0, disk_waits_per_s=50.0, net_waits_per_s=50.0,
            critical=True,
            disk=build(DeviceModel, load_group("disk", disk), "disk"), nic=build(DeviceModel, load_group("nic", nic), "nic"),
            disk_shares=100.0 + turn, disk_reservation_iops=100.0 * turn, net_limit_mib_per_s=40.0 + turn,
            disk_limit_iops=700.0, disk_burst_iops=900.0 if turn % 2 else None, disk_burst_s=30.0 if turn % 2 else None,
            slo_disk_latency_ms=1.0, slo_net_latency_ms=1.0, slo_disk_mib_per_s=15.0, slo_net_mib_per_s=30.0,
            jvm=JvmGuest(build(Workload, load_group("jvm", "h2"), "jvm"), 1024.0, 700.0, 400.0, heap_aware=turn % 4 == 1,
                         uncommit=uncommit, idle_s=15.0) if turn % 2 else None,
        )
        for turn, (disk, nic, uncommit, cpu_share) in enumerate(
            zip(("ide", "virtio-blk", "pvscsi", "ahci", "nvme-passthrough", "xen-blkfront"),
                ("e1000", "vhost-net", "sriov", "vmxnet3", "netvsc", "virtio-net"),
                ("never", "zgc", "never", "g1_periodic", "never", "zgc"), (0.3, 0.01, 0.6, 0.01, 0.3, 0.5), strict=True)
        )
    ]  # fmt: skip
    host = Host(ram_mib=10_500.0, disk_iops=20_000.0, nic_mib_per_s=300.0, pcpus=8.0)
    hypervisor = build(
        Hypervisor,
        load_group("hypervisor", "esxi") | {"own_mib": 512, "disk": None, "nic": None, "disk_limits": "iops_bursts"},
        "hypervisor",
    )
    return Scenario("everything", "", host, hypervisor, tuple(groups), episode_s=600)


def memory_keys() -> Scenario:
    """VMs of a KVM host that have between them every kind of start, of statistics and of limit."""
    demand = Demand(hot_mib=900.0, cold_mib=300.0, cache_mib=400.0, phase_s=30.0, phase_swing=0.4, cpu_share=0.3)
    plain = {"memory_mib": 2048.0, "guest_swap_mib": 2048.0}
    groups = [
        VmGroup("small", demand, startup_mib=700.0, **plain),
        VmGroup("late", demand, startup_mib=700.0, arrive_s=20.0, stats_frozen_s=60.0, **plain),
        VmGroup("silent", demand, stats="none", limit_mib=1200.0, **plain),
        VmGroup("windows", demand, stats="windows", limit_mib=1200.0, limit_kind="high", **plain),
        VmGroup("frozen", demand, stats_frozen_s=30.0, **plain),
    ]
    hypervisor = build(Hypervisor, load_group("hypervisor", "kvm") | {"disk": None, "nic": None}, "hypervisor")
    host = Host(ram_mib=9000.0, disk_iops=20_000.0, disk_mib_per_s=60.0)
    return Scenario("memory-keys", "", host, hypervisor, tuple(groups), episode_s=600)


def limits_of(sim: Simulator, share: float | np.ndarray) -> np.ndarray | None:
    """Limits at a share of each VM's memory; none where the hypervisor has none."""
    return None if sim.scenario.hypervisor.limits == "none" else share * sim.vm_specs["memory_mib"]


def named(name: str) -> Scenario:
    own = {"everything": everything, "memory-keys": memory_keys}
    return own[name]() if name in own else load(name)


@pytest.mark.parametrize("name", [SCENARIO, *OF_IO_AND_HEAPS, "everything", "memory-keys"])
@pytest.mark.parametrize("k", [2, 5, 30])
def test_k_one_second_steps_equal_one_k_second_step_with_a_held_target(name, k):
    one, many = (Simulator(named(name), 2) for _ in range(2))
    rng = np.random.default_rng(k)
    for sim in (one, many):
        sim.reset([7, 8])
    for turn in range(6):
        target = Targets(one.vm_specs["memory_mib"] * (0.4 + 0.1 * turn))
        if turn in (2, 4):
            target = Targets(
                disk_shares=rng.uniform(0, 2000, one.vms.shape), net_shares=rng.uniform(0, 90, one.vms.shape),
                limit_mib=limits_of(one, rng.uniform(0.3, 1.3, one.vms.shape)),
            )  # fmt: skip
        one.apply(target)
        many.apply(target)
        one.advance(k)
        for _ in range(k):
            many.advance(1)
        assert same_bits(one.vms, many.vms)
        assert same_bits(one.hosts, many.hosts)
        assert same_bits(one.vm_signals, many.vm_signals)


class SideBySide:
    """Hosts whose VMs lie side by side in one row, each handed its slice, as copies of hosts that are there alone."""

    def __init__(self, alone: list[Simulator]) -> None:
        self.alone = alone
        self.vms, self.vm_specs, self.signals, self.hosts, self.host_specs, self.host_signals = (
            np.concatenate([getattr(sim, rows)[0] for sim in alone])
            for rows in ("vms", "vm_specs", "vm_signals", "hosts", "host_specs", "host_signals")
        )
        ends = np.cumsum([sim.vms.shape[1] for sim in alone]).tolist()
        self.slices = [slice(first, last) for first, last in itertools.pairwise([0, *ends])]

    def start(self) -> None:
        """From nothing."""
        seeds = self.hosts["seed"].copy()
        for rows in (self.vms, self.hosts, self.signals, self.host_signals):
            rows[:] = np.zeros((), rows.dtype)
        self.hosts["seed"] = seeds
        for h, here in enumerate(self.slices):
            vms, specs, demand = self.vms[here], self.vm_specs[here], self.alone[h].demand[0, 0]
            for v in range(len(vms)):
                start.boot(vms[v], specs[v], demand[v], self.alone[h].scenario.touched_share)
            start.start_host(vms, self.hosts[h], specs, self.host_specs[h])
            for v in range(len(vms)):
                start.finish(vms[v], specs[v], demand[v])

    def tick(self, second: int) -> None:
        for h, here in enumerate(self.slices):
            sim = self.alone[h]
            demand = sim.demand[0, tick.slot_at(second, sim.slot_s, sim.demand.shape[1])]
            tick.tick(self.vms[here], self.hosts[h], self.vm_specs[here], self.host_specs[h], demand)

    def read(self) -> None:
        for h, here in enumerate(self.slices):
            vms, specs, signals = self.vms[here], self.vm_specs[here], self.signals[here]
            telemetry.read_host(vms, self.hosts[h], specs, self.host_specs[h], signals, self.host_signals[h])
            for v in range(len(vms)):
                telemetry.read_ages(vms[v], self.hosts[h], specs[v], v, signals[v])


@pytest.mark.parametrize(
    "names", [("everything", "memory-keys"), (SCENARIO, "small-starts"), ("java-heaps", "tight-hdd")]
)
def test_hosts_whose_vms_lie_side_by_side_go_their_own_ways(names):
    alone = [Simulator(named(name)) for name in names]
    for sim in alone:
        sim.reset([3])
    both = SideBySide(alone)
    both.start()
    for second in range(61):
        both.read()
        for h, sim in enumerate(alone):
            now, here = sim.telemetry(), both.slices[h]
            assert same_bits(both.vms[here], sim.vms[0])
            assert same_bits(both.hosts[h], sim.hosts[0, 0])
            assert same_bits(both.signals[here], now.vm[0])
            assert same_bits(both.host_signals[h], now.host[0, 0])
            if second == 20:
                sim.vms["asked_mib"] = both.vms["asked_mib"][here] = 0.6 * sim.vm_specs["memory_mib"][0]
            sim.advance(1)
        both.tick(second)


@pytest.mark.parametrize("name", [*OF_IO_AND_HEAPS, "everything", "memory-keys"])
def test_the_same_seed_gives_the_same_bits_whatever_was_played_before(name):
    """What devices take is kept from second to second: nothing of it may outlive an episode, or leak into the next lane."""
    scenario = named(name)
    fresh, used, batch = Simulator(scenario), Simulator(scenario), Simulator(scenario, 3, threads=2)
    used.reset([99])
    ones = np.ones(used.vms.shape)
    used.apply(
        Targets(used.vm_specs["memory_mib"] * 0.5, disk_shares=ones, net_shares=ones, limit_mib=limits_of(used, 0.4))
    )
    used.advance(200)
    for sim, seeds in ((fresh, [4]), (used, [4]), (batch, [3, 4, 5])):
        sim.reset(seeds)
        sim.apply(Targets(sim.vm_specs["memory_mib"] * 0.8))
        sim.advance(100)
        sim.apply(Targets(limit_mib=limits_of(sim, 0.6)))
        sim.advance(100)
        lane = len(seeds) // 2
        for rows in ("vms", "hosts", "vm_signals", "host_signals", "demand"):
            assert same_bits(getattr(sim, rows)[lane], getattr(fresh, rows)[0]), rows


@pytest.mark.parametrize("name", [SCENARIO, *OF_IO_AND_HEAPS, "everything", "memory-keys"])
def test_no_action_shifts_the_demand(name):
    meek, wild = (Simulator(named(name)) for _ in range(2))
    for sim in (meek, wild):
        sim.reset([11])
    wild.apply(
        Targets(wild.vm_specs["memory_mib"] * 0.2, disk_shares=np.ones(wild.vms.shape), limit_mib=limits_of(wild, 0.5))
    )
    for sim in (meek, wild):
        sim.advance(300)
    assert same_bits(meek.demand, wild.demand)
    assert not same_bits(meek.vms, wild.vms)


def test_another_seed_is_another_demand():
    sim = Simulator(load(SCENARIO), 2)
    sim.reset([1, 2])
    assert not same_bits(sim.demand[0], sim.demand[1])


def test_a_seedless_reset_goes_on_with_the_sequence_of_the_seed():
    first, second = HostEnv(SCENARIO), HostEnv(SCENARIO)
    for env in (first, second):
        env.reset(seed=3)
    assert same_bits(first.simulator.demand, second.simulator.demand)
    before = first.simulator.demand.copy()
    for env in (first, second):
        env.reset()
    assert same_bits(first.simulator.demand, second.simulator.demand)
    assert not same_bits(first.simulator.demand, before)
    first.reset(seed=3)
    assert same_bits(first.simulator.demand, before)
