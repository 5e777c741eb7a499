"""Stories: a workload written second by second. New memory appears as it is written; every mistake is one line."""

import copy
import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from hvgym.envs.conservation import fault
from hvgym.envs.errors import InputError
from hvgym.envs.model.params import DEMAND, PAGES_PER_MIB
from hvgym.envs.scenario import Host, Scenario, Workload, load, load_group, resolve
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.story import Story
from hvgym.envs.telemetry import Targets

GIANT, STEADY, BURST = range(3)
HOT, IDLE = {"name": "hot", "retouch_s": 16, "write_share": 0.5}, {"name": "idle", "retouch_s": 1e7}


def told(seconds, tiers, *steps):
    """The demand of a story, ``[second]``."""
    demand = np.zeros(seconds, DEMAND)
    build(Story, {"tiers": tiers, "steps": list(steps)}, "story").fill(demand)
    return demand


def held(seconds, tiers, *steps):
    """What the workload of such a story has allocated after each second, alone on an ample host, ``[second, tier]``."""
    group = {"name": "vm", "memory_mib": 1024, "slack": 0.9, "story": {"tiers": tiers, "steps": list(steps)}}
    scenario = {
        "name": "told",
        "description": "",
        "workload": "story",
        "episode_s": 100,
        "host": {"ram_mib": 8192},
        "vms": [group],
    }
    sim = Simulator(resolve(scenario, load_group("hypervisor", "kvm")))
    sim.reset([0])
    rows = []
    for _ in range(seconds):
        sim.advance(1)
        rows.append(sim.vms["allocated_mib"][0, 0].copy())
    return np.array(rows)


@pytest.mark.parametrize(
    ("write_share", "page_cache", "used"), [(0.5, False, 0.5), (0.25, False, 0.25), (0.0, True, 1.0)]
)
def test_new_memory_appears_as_it_is_first_written_and_page_cache_as_it_is_read(write_share, page_cache, used):
    """160 MiB more, each page touched every 16 s, half of it writes: a second later 160 (1 - exp(-1/32)) are there."""
    tier = HOT | {"write_share": write_share, "page_cache": page_cache}
    hot = held(100, [tier], {"at_s": 0, "mib": {"hot": 60}}, {"at_s": 40, "mib": {"hot": 220}})[:, 0]
    assert (hot[:40] == 60.0).all()
    assert hot[40] == pytest.approx(60.0 + 160.0 * (1.0 - math.exp(-used / 16)), rel=1e-3)
    assert hot[55] == pytest.approx(60.0 + 160.0 * (1.0 - math.exp(-used)), rel=5e-3)


def test_anonymous_memory_that_nobody_writes_does_not_appear():
    """The kernel shows one page of zeros in all its places."""
    tier = HOT | {"write_share": 0.0}
    assert held(100, [tier], {"at_s": 0, "mib": {"hot": 60}}, {"at_s": 40, "mib": {"hot": 220}})[-1, 0] == 60.0


def test_a_workload_that_is_slowed_down_writes_new_memory_later():
    """At half the progress half as fast: allocated is what x of a second of writes meets first."""
    data = load_group("scenario", "real-guests")
    sim = Simulator(resolve(data, load_group("hypervisor", "kvm")))
    sim.reset([0])
    sim.advance(70)
    before, wanted = sim.vms["allocated_mib"][0, BURST, 0], 220.0
    sim.advance(1)
    grown, progress = sim.vms["allocated_mib"][0, BURST, 0] - before, sim.vms["progress"][0, BURST]
    assert progress < 0.9
    assert grown == pytest.approx(progress * (wanted - before) * (1.0 - math.exp(-0.5 / 16)), rel=0.02)


def test_a_step_that_comes_first_goes_on_from_what_is_there():
    hot = held(
        30, [HOT], {"at_s": 0, "mib": {"hot": 0}}, {"at_s": 10, "mib": {"hot": 100}}, {"at_s": 12, "mib": {"hot": 60}}
    )[:, 0]
    begun = 100.0 * (1.0 - math.exp(-1 / 16))
    assert hot[11] == pytest.approx(begun, rel=5e-3)
    assert hot[12] == pytest.approx(60.0 - (60.0 - begun) * math.exp(-0.5 / 16), rel=5e-3)


def test_memory_that_changes_its_use_does_so_at_once_within_its_kind():
    """Of 30 idle MiB 30 become hot; page cache that goes is no anonymous memory."""
    cache = {"name": "cache", "retouch_s": 60, "page_cache": True}
    first = {"at_s": 0, "mib": {"hot": 60, "idle": 30, "cache": 50}}
    hot, idle, kept, _ = held(2, [HOT, IDLE, cache], first, {"at_s": 1, "mib": {"hot": 220, "idle": 0, "cache": 10}})[1]
    assert (hot, idle, kept) == pytest.approx((90.0 + 130.0 * (1.0 - math.exp(-0.5 / 16)), 0.0, 10.0), rel=1e-3)


def test_what_shrinks_goes_at_once_and_feeds_in_proportion():
    warm = {"name": "warm", "retouch_s": 1e6}
    after = held(
        2, [HOT, IDLE, warm], {"at_s": 0, "mib": {"hot": 100}}, {"at_s": 1, "mib": {"hot": 40, "idle": 60, "warm": 30}}
    )
    assert after[1, 0] == pytest.approx(40.0)
    assert after[1, 1:3] == pytest.approx([40.0, 20.0], abs=1e-3)  # 60 MiB for the 90 wanted


def test_a_tier_may_be_written_through_at_a_rate_of_its_own():
    filled = told(
        8, [IDLE | {"fill_mib_per_s": 25}], {"at_s": 0, "mib": {"idle": 10}}, {"at_s": 2, "mib": {"idle": 100}}
    )
    assert filled["tier_mib"][:, 0].tolist() == [10.0, 10.0, 35.0, 60.0, 85.0, 100.0, 100.0, 100.0]


def test_what_a_step_does_not_say_stays_as_it_is():
    demand = told(
        6, [HOT, IDLE],
        {"at_s": 0, "mib": {"hot": 1, "idle": 5}, "cpu_share": 0.7},
        {"at_s": 2, "disk_mib_per_s": 3},
        {"at_s": 4, "mib": {"hot": 0}, "net_mib_per_s": 2, "cpu_share": 0},
    )  # fmt: skip
    assert demand["tier_mib"][:, 1].tolist() == [5.0] * 6
    assert demand["cpu_share"].tolist() == [0.7] * 4 + [0.0] * 2
    assert demand["disk_mib_per_s"].tolist() == [0.0] * 2 + [3.0] * 4
    assert demand["net_mib_per_s"].tolist() == [0.0] * 4 + [2.0] * 2


def test_an_episode_may_end_before_its_story():
    demand = told(
        5, [HOT], {"at_s": 0, "mib": {"hot": 8}}, {"at_s": 3, "mib": {"hot": 2}}, {"at_s": 10**9, "mib": {"hot": 9}}
    )
    assert demand["tier_mib"][:, 0].tolist() == [8.0, 8.0, 8.0, 2.0, 2.0]


def story_of(*changes):
    """The packaged scenario's data with values at paths."""
    data = copy.deepcopy(load("real-guests").to_dict())
    for *path, value in changes:
        node = data
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    return data


BURSTING = ("vms", BURST, "story")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((*BURSTING, "steps", 1, "mib", {"hot": -1}), r"scenario.vms\[2\].story.steps\[1\].mib.hot=-1: must be at least 0"),
        ((*BURSTING, "steps", 1, "mib", {"hot": "big"}), r"steps\[1\].mib.hot='big': expected a number"),
        ((*BURSTING, "steps", 1, "mib", 220), r"steps\[1\].mib=220: expected a group of keys, each with a value"),
        ((*BURSTING, "steps", 1, "mib", {"hto": 220}), r"steps\[1\].mib.hto: unknown tier \(did you mean 'hot'"),
        (
            (*BURSTING, "steps", 1, "mib", {"hot": 400, "idle": 0}),
            r"vms\[2\]: story.steps\[1\].mib: tiers add up to 400; memory_mib=384 leaves 312 beside kernel, its caches",
        ),
        ((*BURSTING, "steps", 2, "at_s", 40), r"story: steps\[2\].at_s=40: must come after steps\[1\].at_s=40"),
        ((*BURSTING, "steps", 0, "at_s", 5), r"story: steps\[0\].at_s=5: a story begins at 0"),
        ((*BURSTING, "steps", 1, "at_s", -5), r"steps\[1\].at_s=-5: must be at least 0"),
        ((*BURSTING, "steps", 1, "at_s", 40.5), r"steps\[1\].at_s=40.5: expected a whole number"),
        ((*BURSTING, "steps", 1, {"mib": {}}), r"steps\[1\].at_s: missing; it has no default"),
        ((*BURSTING, "steps", []), r"story: steps is empty; a story needs at least one"),
        ((*BURSTING, "steps", 1, "cpu_share", 2), r"steps\[1\].cpu_share=2: must be at least 0 and at most 1"),
        ((*BURSTING, "tiers", 0, {"name": "hot"}), r"tiers\[0\].retouch_s: missing; it has no default"),
        ((*BURSTING, "tiers", 0, "retouch_s", 0), r"tiers\[0\].retouch_s=0: must be above 0"),
        ((*BURSTING, "tiers", 0, "write_share", 1.5), r"tiers\[0\].write_share=1.5: must be at least 0 and at most 1"),
        ((*BURSTING, "tiers", 0, "page_cache", 1), r"tiers\[0\].page_cache=1: expected true or false"),
        ((*BURSTING, "tiers", 1, "name", "hot"), r"tiers\[1\].name='hot': tiers\[0\] has it; give each tier its own"),
        ((*BURSTING, "tiers", []), r"story: tiers: 0 of them; a story has 1 to 4"),
        ((*BURSTING, "tiers", [HOT | {"name": str(i)} for i in range(5)]), r"story: tiers: 5 of them; a story has 1 to 4"),
        ((*BURSTING, "tires", []), r"story.tires: unknown key .did you mean .tiers."),
        ((*BURSTING, None), r"scenario: vms\[2\].story: missing; workload story plays tiers and steps of every VM"),
        (("workload", "kind", "phases"), r"vms\[0\].demand: missing; workload phases .*its story needs workload: {kind: story}"),
        (("vms", GIANT, "settled_mib", 600), r"settled_mib=600: must lie between min_mib=120 and memory_mib=512"),
        (("vms", GIANT, "startup_mib", 200), r"settled_mib=235.2: startup_mib=200 starts the VM anew; leave one of them out"),
        (("vms", GIANT, "arrive_s", 10), r"settled_mib=235.2: arrive_s=10 starts the VM later; leave one of them out"),
        (("vms", GIANT, "settled_mib", None), r"settled_cold=True: needs settled_mib, the size at which its workload filled"),
        (("vms", GIANT, "balloon", False), r"vms\[0\].settled_mib=235.2: balloon=False has no driver; leave one of them out"),
        (("vms", GIANT, "overhead_mib", -1), r"overhead_mib=-1: must be at least 0"),
        (("host", "swap_iops", 0), r"host.swap_iops=0: must be above 0"),
        (("host", "own_mib", -1), r"host.own_mib=-1: must be at least 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as error:
        Scenario.from_dict(story_of(change))
    assert "\n" not in str(error.value)


def test_a_jvm_and_a_story_do_not_go_together():
    java = {"workload": load_group("jvm", "fop"), "xmx_mib": 100}
    with pytest.raises(InputError, match=r"vms\[0\].jvm: a JVM sizes its own heap; .* leave jvm out"):
        Scenario.from_dict(story_of(("vms", GIANT, "jvm", java)))


def played(scenario, seeds, targets=None):
    sim = Simulator(scenario, len(seeds))
    sim.reset(seeds)
    if targets is not None:
        sim.apply(Targets(np.tile(targets, (len(seeds), 1))))
    sim.advance(scenario.duration_s)
    assert fault(sim) is None
    return sim


def test_no_seed_changes_a_story_and_a_batch_is_its_lanes_bit_for_bit():
    scenario = load("real-guests")
    sizes = np.array([150.0, 220.0, 230.0])
    batch = played(scenario, [0, 7, 2**40], sizes)
    alone = played(scenario, [7], sizes)
    for lane in range(3):
        assert batch.vms[lane].tobytes() == alone.vms[0].tobytes()
        assert batch.demand[lane].tobytes() == alone.demand[0].tobytes()


def test_tiers_are_touched_and_written_as_told():
    """24 MiB touched every 12.3 s and 376 every 10 million: 500 touches a second, half of them writes."""
    sim = played(load("real-guests"), [0], np.array([512.0, 176.4, 176.4]))
    spec, touches_per_s = sim.vm_specs[0, GIANT], sim.vms[0, GIANT]["touches"] / 120
    assert touches_per_s == pytest.approx(24 * PAGES_PER_MIB / 12.3, rel=1e-4)
    assert spec["tier_write_share"][:2].tolist() == [0.5, 0.5]
    assert spec["tier_is_file"].tolist() == [0.0] * 4


def test_page_cache_is_dropped_without_a_write_and_read_back():
    data = story_of(
        ("vms", STEADY, "story", "tiers", 0, "page_cache", True),
        ("vms", STEADY, "story", "tiers", 0, "write_share", 0.0),
    )
    vm = played(Scenario.from_dict(data), [0], np.array([120.0, 176.4, 176.4])).vms[0, STEADY]
    assert vm["file_in_mib"] > 50.0
    assert vm["file_out_mib"] == pytest.approx(0.0, abs=1e-6)


def settled(**changes):
    """The real guests, ballooned for long, or as the changes say."""
    scenario, changes = load("real-guests"), {"settled_cold": False, "boot_only_mib": 0.0} | changes
    return dataclasses.replace(scenario, vms=tuple(dataclasses.replace(vm, **changes) for vm in scenario.vms))


def test_a_settled_vm_begins_where_a_long_squeeze_leads():
    """Its misses are steady from the first second, and those of a VM that somebody squeezed a quarter of an hour ago."""
    scenario = settled()
    begun = Simulator(scenario)
    begun.reset([0])
    squeezed = Simulator(dataclasses.replace(settled(settled_mib=None), episode_s=1800))
    squeezed.reset([0])
    sizes = np.array([[235.2, 176.4, 384.0]])
    squeezed.apply(Targets(sizes))
    squeezed.demand["tier_mib"][:] = squeezed.demand["tier_mib"][:, :1]  # nothing bursts
    squeezed.advance(900)
    for v in (GIANT, STEADY):
        assert begun.vms["balloon_mib"][0, v] == pytest.approx(scenario.vms[v].memory_mib - sizes[0, v])
        assert begun.vms["asked_mib"][0, v] == sizes[0, v]
        assert begun.vms["resident_mib"][0, v] == pytest.approx(squeezed.vms["resident_mib"][0, v], abs=0.5)
    faults = []
    for sim in (begun, squeezed):
        before = float(sim.vms["major_faults"][0, STEADY])
        sim.advance(20)
        faults.append(sim.vms["major_faults"][0, STEADY] - before)
    assert faults[0] > 1000.0
    assert faults[0] == pytest.approx(faults[1], rel=0.02)


def test_of_a_settled_vm_that_has_only_filled_its_memory_what_was_filled_first_is_out():
    """As much as where it has run for long, without a page that came back; burst's 90 MiB fit. Static gives all VMs their memory:
    the giant reads its hot 24 MiB back (measured: 97 %), the steady VM what was out of its 150 (measured: 89 % of them)."""
    long, cold = Simulator(settled()), Simulator(settled(settled_cold=True))
    for sim in (long, cold):
        sim.reset([0])
        assert fault(sim) is None
    resident = cold.vms["resident_mib"][0]
    assert resident.sum(axis=1) == pytest.approx(long.vms["resident_mib"][0].sum(axis=1), abs=0.5)
    assert resident[GIANT] == pytest.approx([0.0, 158.4, 0.0, 0.0], abs=0.5)
    assert resident[STEADY] == pytest.approx(
        [24.1, 80.0, 0.0, 0.0], abs=0.5
    )  # 176.4 MiB less kernel, caches and watermark
    assert resident[BURST] == pytest.approx([60.0, 30.0, 0.0, 0.0])
    assert (cold.vms["clean_mib"] == 0.0).all()
    assert (cold.vms["slot_mib"] == 0.0).all()
    cold.apply(Targets(cold.vm_specs["memory_mib"]))
    cold.advance(120)
    pages = cold.vms["major_faults"][0]
    assert pages[GIANT] == pytest.approx(24 * 256, rel=0.001)
    assert pages[STEADY] == pytest.approx(0.89 * 150 * 256, rel=0.1)
    assert pages[BURST] == 0.0


def test_a_cold_start_leaves_page_cache_and_what_it_frees_as_they_were():
    """Of two kinds of memory each loses as much as before; only of the anonymous tiers does what was filled first go first."""
    story = dataclasses.replace(load("real-guests").vms[STEADY].story)
    tiers = (*story.tiers, dataclasses.replace(story.tiers[0], name="files", page_cache=True, write_share=0.0))
    steps = (dataclasses.replace(story.steps[0], mib={"hot": 60, "idle": 80, "files": 90}),)
    sims = [
        Simulator(settled(settled_cold=cold, story=dataclasses.replace(story, tiers=tiers, steps=steps)))
        for cold in (False, True)
    ]
    for sim in sims:
        sim.reset([0])
        assert fault(sim) is None
        sim.advance(20)
        assert fault(sim) is None


def unlimited():
    """The real guests without limits of their disks, which not every hypervisor has."""
    data = load_group("scenario", "real-guests")
    for group in data["vms"]:
        del group["disk_limit_iops"]
    return data


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation"])
def test_a_settled_vm_keeps_its_size_on_every_hypervisor(hypervisor):
    sim = Simulator(resolve(unlimited(), load_group("hypervisor", hypervisor)))
    sim.reset([0])
    sizes = sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"]
    assert sizes == pytest.approx(np.array([[235.2, 176.4, 176.4]]))
    assert fault(sim) is None
    assert sim.hosts["free_mib"][0, 0] >= 0.0
    sim.advance(30)
    assert fault(sim) is None
    assert sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"] == pytest.approx(sizes)


@pytest.mark.parametrize("hypervisor", ["xen", "hyperv"])
def test_where_memory_is_committed_the_others_divide_what_a_settled_vm_leaves(hypervisor):
    data = unlimited()
    for group in data["vms"][1:]:
        group["settled_mib"], group["settled_cold"] = None, False
    sim = Simulator(resolve(data, load_group("hypervisor", hypervisor)))
    sim.reset([0])
    sizes = (sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"])[0]
    assert sizes[GIANT] == pytest.approx(235.2)
    assert sizes[STEADY] == pytest.approx(sizes[BURST])  # alike in size and minimum
    least_free = sim.host_specs["min_free_mib"][0, 0]
    assert sizes.sum() + 3 * 58.0 == pytest.approx(802.0 - 1.01 * least_free, abs=0.5)
    assert fault(sim) is None


def test_a_host_is_confined_as_told():
    """802 MiB for three processes of 58 and their guests, nothing of the host's own; host swap has a cap of its own."""
    sim = Simulator(load("real-guests"))
    first = sim.reset([0])
    host, vms = sim.host_specs[0, 0], first.vm[0]
    assert (host["ram_mib"], host["own_mib"]) == (802.0, 0.0)
    assert sim.vm_specs["overhead_mib"][0].tolist() == [58.0] * 3
    assert (host["swap_iops"], host["swap_is_disk"]) == (600.0, 0.0)
    assert first.host["available_mib"][0, 0] == pytest.approx(802.0 - vms["resident_mib"].sum())


def test_a_trace_takes_the_place_of_a_story(tmp_path):
    header = "Timestamp [ms];CPU cores;CPU capacity provisioned [MHZ];CPU usage [MHZ];CPU usage [%];" \
        "Memory capacity provisioned [KB];Memory usage [KB];Disk read throughput [KB/s];Disk write throughput [KB/s];" \
        "Network received throughput [KB/s];Network transmitted throughput [KB/s]"  # fmt: skip
    for vm in range(3):
        rows = [f"{1375308000 + 300 * i};2;5000;500;10;1048576;104857;0;0;0;0" for i in range(20)]
        (tmp_path / f"{vm}.csv").write_text("\n".join([header, *rows]) + "\n")
    replay = Workload("bitbrains", str(tmp_path), episode_s=600)
    replayed = dataclasses.replace(load("real-guests"), workload=replay, host=Host(ram_mib=4096.0))
    sim = Simulator(replayed)
    sim.reset([0])
    assert (sim.vm_specs["memory_mib"] == 1024.0).all()
    assert sim.demand["tier_mib"][0, 0, :, 0] == pytest.approx(102.4, rel=1e-5)
    settled = sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"]
    assert settled[0] == pytest.approx([1024 * 235.2 / 512, 1024 * 176.4 / 384, 1024 * 176.4 / 384])


def test_the_example_of_the_readme_plays():
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    example = yaml.safe_load(re.search(r"```yaml\n(name: nightly.*?)```", text, re.DOTALL).group(1))
    sim = Simulator(resolve(example))
    sim.reset([0])
    sim.advance(600)
    assert sim.vms["allocated_mib"][0, 1, 0] == 200.0
    sim.advance(30)
    assert sim.vms["allocated_mib"][0, 1, 0] > 500.0  # it swaps, and gets on slowly
    sim = played(resolve(example), [0])
    assert sim.demand["tier_mib"][0, [599, 600, 615, 616], 1, 1] == pytest.approx([0.0, 50.0, 800.0, 800.0])
    assert (sim.vms["progress_s"] > 0.5 * 1800).all()
