"""Workload ``generated``: what a scenario says, what an episode gets, whoever plays it."""

import numpy as np
import pytest

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError
from hvgym.envs.generators.classes import CLASSES, MIX
from hvgym.envs.generators.demand import GeneratedDemand, idle_s
from hvgym.envs.model import params
from hvgym.envs.model.params import CACHE, HOT, WARM
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

MEMORY_MIB = 8192.0


def group(kind="web", family="hot_set", count=1, **keys):
    jvm = keys.pop("jvm", None)
    of_vm = {key: keys.pop(key) for key in ("arrive_s", "lifetime_s") if key in keys}
    return {
        "name": f"{kind}-{family}", "count": count, "memory_mib": MEMORY_MIB, "min_mib": 1024, "guest_swap_mib": 4096,
        **of_vm,
        "generated": {"kind": kind, "family": family, **keys}, **({} if jvm is None else {"jvm": jvm}),
    }  # fmt: skip


def scenario(*vms, **changes):
    host = {"overcommit": 2.0, "pcpus": 16, "disk_iops": 80000, "disk_latency_us": 150, "disk_mib_per_s": 500}
    plain = {"name": "drawn", "description": "", "hypervisor": "kvm", "workload": "generated", "host": host}
    return resolve({**plain, "vms": list(vms), **changes})


def all_classes(count=1):
    return scenario(*(group(kind, family, count) for kind in CLASSES for family in ("hot_set", "resident")))


def drawn(given, seed=1):
    """Demand ``[slot, vm]`` and specifications ``[vm]`` of one seed."""
    source = GeneratedDemand(given)
    vms = len(given.groups)
    demand, specs = np.zeros((source.slots, vms), params.DEMAND), np.zeros(vms, params.VM_SPEC)
    source.fill(seed, specs, np.zeros(1, params.HOST_SPEC), demand)
    return demand, specs


def test_a_seed_has_its_demand_in_every_lane_and_under_every_policy():
    given = all_classes()
    batch, alone = Simulator(given, 3), Simulator(given)
    batch.reset([4, 5, 6])
    for lane, seed in enumerate((4, 5, 6)):
        alone.reset([seed])
        assert batch.demand[lane].tobytes() == alone.demand[0].tobytes()
    squeezed = Simulator(given)
    squeezed.reset([6])
    squeezed.apply(Targets(memory_mib=np.full((1, len(given.groups)), 4096.0)))
    squeezed.advance(60)
    assert squeezed.demand[0].tobytes() == batch.demand[2].tobytes()
    assert batch.demand[0].tobytes() != batch.demand[1].tobytes()


def test_a_vm_does_the_same_whoever_is_beside_it():
    alone, _ = drawn(scenario(group("oltp")))
    among, _ = drawn(scenario(group("oltp"), group("web"), group("batch", "resident")))
    assert alone[:, 0].tobytes() == among[:, 0].tobytes()


def test_a_longer_episode_begins_with_the_shorter_one():
    short, long = (drawn(scenario(group("vdi", count=3), episode_s=length_s))[0] for length_s in (3600, 21600))
    for field in ("disk_mib_per_s", "cpu_share"):
        assert short[field] == pytest.approx(long[field][: len(short)], abs=1e-12)
    assert short["tier_mib"] == pytest.approx(long["tier_mib"][: len(short)], abs=1e-9)


@pytest.mark.parametrize("seed", [0, 7, 2**62])
def test_tiers_are_what_a_guest_can_hold(seed):
    demand, specs = drawn(all_classes(3), seed)
    tiers = demand["tier_mib"]
    fixed = specs["kernel_mib"] + specs["kernel_cache_mib"] + specs["watermark_mib"]
    assert (tiers >= 0.0).all()
    assert (tiers.sum(axis=2) <= specs["memory_mib"] - fixed + 1e-6).all()
    assert (demand["cpu_share"] <= 1.0).all()
    assert (demand["disk_mib_per_s"] >= 0.0).all()


def test_in_view_hot_set_nearly_all_memory_was_touched_once_and_the_classes_differ_in_page_cache():
    demand, _ = drawn(scenario(group("cache"), group("batch"), group("idle")))
    tiers = demand["tier_mib"]
    held = tiers.sum(axis=2)
    assert (held.min(axis=0) >= 0.93 * MEMORY_MIB).all()
    assert np.ptp(held, axis=0).max() < 0.1 * MEMORY_MIB
    cache, batch, _ = (tiers[..., CACHE] / held).mean(axis=0)
    assert cache < 0.32
    assert batch > 0.45


def test_in_view_resident_60_to_91_percent_of_what_is_held_are_hot():
    demand, _ = drawn(scenario(group("web", "resident", 8, level=0.5)))
    share = demand["tier_mib"][..., HOT] / demand["tier_mib"].sum(axis=2)
    assert share.min() >= 0.599
    assert share.max() <= 0.911
    assert demand["tier_mib"].sum(axis=2).mean() == pytest.approx(0.5 * MEMORY_MIB, rel=0.2)


def test_a_day_touches_as_much_of_idle_memory_as_of_a_replayed_vms():
    """15 % touched every 12 h are 13 % of backed memory in a day."""
    for idle in (0.15, 0.3, 0.65):
        assert idle * -np.expm1(-86400.0 / idle_s(idle)) == pytest.approx(0.15 * (1.0 - np.exp(-2.0)))


def test_a_level_that_is_given_is_the_median():
    fleets = [drawn(scenario(group("web", count=20, level=0.2)), seed)[0]["tier_mib"][..., HOT] for seed in range(8)]
    assert np.median(fleets) == pytest.approx(0.2 * MEMORY_MIB, rel=0.1)


def test_siblings_rise_together_and_strangers_do_not():
    given = scenario(group("web", count=4, siblings=1, level=0.1), group("web", count=4, level=0.1), episode_s=21600)
    hot = [drawn(given, seed)[0]["tier_mib"][..., HOT].reshape(-1, 15, 8).mean(axis=1) for seed in range(12)]
    pairs = np.corrcoef(np.concatenate([np.diff(one, axis=0) for one in hot]).T)
    upper = np.triu_indices(4, 1)
    assert pairs[:4, :4][upper].mean() > 0.4
    assert abs(pairs[4:, 4:][upper].mean()) < 0.1


def test_a_jvm_keeps_its_heap_within_hot_and_warm():
    jvm = {"workload": "h2", "xmx_mib": 4096.0}
    given = scenario(group("jvm", jvm=jvm))
    java = given.groups[0].jvm
    tiers = drawn(given)[0]["tier_mib"][:, 0]
    assert tiers[:, HOT] + tiers[:, WARM] == pytest.approx(np.full(len(tiers), java.xmx_mib + java.non_heap_mib))
    assert tiers[:, HOT].min() >= java.least_mib * java.live_share + java.non_heap_mib


def test_vms_arrive_within_what_is_said_at_seconds_of_the_seeds():
    given = scenario(group("batch", count=6, arrive_within_s=600.0), group("web", arrive_s=30.0))
    seconds = [drawn(given, seed)[1]["arrive_s"] for seed in (1, 2)]
    assert not np.array_equal(*seconds)
    for arrive_s in seconds:
        assert ((arrive_s[:6] >= 1.0) & (arrive_s[:6] <= 600.0)).all()
        assert len(set(arrive_s[:6])) > 3
        assert arrive_s[6] == 30.0


@pytest.mark.parametrize(
    ("generated", "told"),
    [
        ({"kind": "webb"}, r"vms\[0\].generated.kind='webb': choose one of web, .*did you mean 'web'"),
        ({}, r"vms\[0\].generated.kind: missing"),
        ({"kind": "web", "levl": 0.1}, r"vms\[0\].generated.levl: unknown key.*did you mean 'level'"),
        ({"kind": "web", "level": 1.2}, r"vms\[0\].generated.level=1.2: must be above 0 and at most 0.95"),
        ({"kind": "web", "family": "bitbrains"}, r"vms\[0\].generated.family='bitbrains': choose one of hot_set, resident"),
        ({"kind": "web", "siblings": 1.5}, r"vms\[0\].generated.siblings=1.5: expected a whole number"),
        ("web", r"vms\[0\].generated: expected a group of keys, got 'web'"),
        (None, r"vms\[0\].generated: missing; workload generated draws a VM by its class: generated: \{kind: web\}"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_key(generated, told):
    with pytest.raises(InputError, match=told) as error:
        scenario({**group(), "generated": generated})
    assert "\n" not in str(error.value)


def test_a_cluster_plays_generated_vms_and_says_by_itself_when_they_come():
    hosts = [{"name": "node", "count": 2, "ram_mib": 32768, "pcpus": 16}]
    given = {"host": None, "hosts": hosts, "stack": load_group("stack", "proxmox")}
    cluster = scenario(group("web", count=4, siblings=0), group("batch", "resident", lifetime_s=600.0), **given)
    assert cluster.is_cluster
    demand, _ = drawn(scenario(group("web", count=4, siblings=0)))
    simulator = ClusterSimulator(cluster)
    simulator.reset([1])
    assert simulator.arrays.demand[0, :, :4].tobytes() == demand.tobytes()
    with pytest.raises(InputError, match=r"vms\[0\].generated.arrive_within_s=60: in a cluster lifetime_s or arrive_s"):
        scenario(group("web", arrive_within_s=60.0), **given)


def test_a_class_without_its_workload_is_told_so():
    with pytest.raises(InputError, match=r"vms\[0\].demand: missing; .*its class needs workload: \{kind: generated\}"):
        scenario(group("web"), workload="phases")


def test_the_workload_is_a_packaged_name_and_mix_covers_the_classes():
    assert load_group("workload", "generated") == {"kind": "generated"}
    assert set(MIX) == set(CLASSES)
    assert sum(MIX.values()) == pytest.approx(1.0)


def test_a_scenario_of_it_survives_being_written_and_read():
    given = all_classes()
    assert type(given).from_dict(given.to_dict()) == given
