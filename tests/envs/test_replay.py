"""Replayed traces: sizes and demand are the trace's, splits share no VM, and hosts are scenarios'."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.envs.demand import ReplayedDemand, _like_trace, read_traces
from hvgym.envs.errors import InputError
from hvgym.envs.fleet.replay import COLD_SHARE, TAU_S, WARM_SHARE
from hvgym.envs.model import params
from hvgym.envs.scenario import Workload, load
from hvgym.envs.simulator import Simulator
from hvgym.envs.traces.bitbrains import TraceVm

HEADER = (
    "Timestamp [ms];\tCPU cores;\tCPU capacity provisioned [MHZ];\tCPU usage [MHZ];\tCPU usage [%];\t"
    "Memory capacity provisioned [KB];\tMemory usage [KB];\t"
    "Disk read throughput [KB/s];\tDisk write throughput [KB/s];\tNetwork received throughput [KB/s];\t"
    "Network transmitted throughput [KB/s]"
)


@pytest.fixture
def traces(tmp_path):
    """Thirty VMs, 50 rows of 300 s; VM i has i + 1 GiB backed, a tenth of it hot."""
    rng = np.random.default_rng(0)
    for vm in range(30):
        backed = (vm + 1) * 1024 * 1024
        hot = (backed * 0.1 * rng.uniform(0.5, 1.5, 50)).astype(int)
        rows = [
            f"{1375308000 + 300 * slot};\t2;\t5000;\t500;\t10;\t{backed};\t{hot[slot]};\t512;\t512;\t1024;\t0"
            for slot in range(50)
        ]
        (tmp_path / f"{vm}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    index = [f"{vm},{vm // 2}" for vm in range(30)]  # pairs of siblings
    (tmp_path / "INDEX.csv").write_text("\n".join(["vm,corr_cluster", *index]) + "\n")
    return tmp_path


def replayed(path, split="all", **changes):
    workload = Workload("bitbrains", str(path), split, episode_s=1800, **changes)
    return replace(load("idle-giants"), workload=workload)


def test_sizes_and_tiers_are_those_of_the_trace(traces):
    sim = Simulator(replayed(traces))
    sim.reset([1])
    read = read_traces(str(traces))
    drawn = ReplayedDemand(sim.scenario, read)._draw(1)
    for v, index in enumerate(drawn):
        trace = read.vms[index]
        assert sim.vm_specs["memory_mib"][0, v] == trace.configured_mib
        tiers = sim.demand["tier_mib"][0, :, v]
        backed = tiers.sum(axis=1)
        assert backed.max() <= trace.backed_mib.max() + 1e-9
        hot = tiers[:, params.HOT]
        fits = backed.sum() >= 0.999 * trace.backed_mib[: len(backed)].sum()
        if fits:  # not cut to what the guest can hold
            windows = np.lib.stride_tricks.sliding_window_view(trace.hot_mib, len(hot))
            assert np.isclose(windows, hot, rtol=1e-9).all(axis=1).any()
        assert tiers[0, params.WARM] == pytest.approx(WARM_SHARE * backed[0], rel=0.25)
        assert tiers[0, params.COLD] == pytest.approx(COLD_SHARE * backed[0], rel=0.25)
        assert sim.demand["disk_mib_per_s"][0, 0, v] == pytest.approx(1.0)
        assert sim.demand["net_mib_per_s"][0, 0, v] == pytest.approx(1.0)


def test_a_seed_is_a_draw_and_other_seeds_are_others(traces):
    sims = [Simulator(replayed(traces)) for _ in range(3)]
    for sim, seed in zip(sims, (4, 4, 5), strict=True):
        sim.reset([seed])
    assert sims[0].demand.tobytes() == sims[1].demand.tobytes()
    assert sims[0].vm_specs["memory_mib"].tolist() != sims[2].vm_specs["memory_mib"].tolist()


def test_no_vm_is_drawn_twice_and_splits_share_no_vm_and_no_siblings(traces):
    small = replace(load("no-guest-swap-short"), workload=Workload("bitbrains", str(traces), episode_s=1800))
    read = read_traces(str(traces))
    seen = {}
    for split in ("train", "validation", "test"):
        source = ReplayedDemand(replace(small, workload=replace(small.workload, split=split)), read)
        draws = [source._draw(seed) for seed in range(60)]
        assert all(len(set(draw)) == 4 for draw in draws)
        seen[split] = {read.vms[index].cluster for draw in draws for index in draw}
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]
    assert len(seen["train"] | seen["validation"] | seen["test"]) == 15


def test_siblings_come_together_as_often_as_asked(traces):
    counts = []
    for probability in (0.0, 1.0):
        source = ReplayedDemand(replayed(traces, sibling_probability=probability), read_traces(str(traces)))
        draws = [[source._traces.vms[index].cluster for index in source._draw(seed)] for seed in range(50)]
        counts.append(np.mean([len(draw) - len(set(draw)) for draw in draws]))
    assert counts[1] == 4.0
    assert counts[0] < 2.0


def test_the_host_is_as_full_as_scenario_and_workload_say(traces):
    sim = Simulator(replayed(traces, overcommit_scale=2.0))
    sim.reset([3])
    ratio = sim.vm_specs["memory_mib"].sum() / sim.host_specs["ram_mib"][0, 0]
    assert ratio == pytest.approx(1.7 * 2.0)


def test_a_size_that_was_given_stays_whatever_the_workload_scales(traces):
    scenario = replayed(traces, overcommit_scale=2.5)
    sims = [Simulator(replace(scenario, host=replace(scenario.host, ram_mib=131072.0, overcommit=None)))]
    sims.append(Simulator(scenario))
    for sim in sims:
        sim.reset([3])
    given, ratio = (sim.vm_specs[0] for sim in sims)
    assert sims[0].host_specs["ram_mib"][0, 0] == 131072.0
    least_mib = 1.25 * (given["kernel_mib"] + given["kernel_cache_mib"] + given["watermark_mib"])
    assert (
        ratio["min_mib"].tolist() == np.maximum(given["min_mib"] / 2.5, least_mib).tolist()
    )  # and guarantees do not shrink


def test_nobody_guarantees_a_small_vm_less_than_its_kernel_runs_with():
    """A twentieth of 1 GiB was guaranteed, 53 MiB where the kernel keeps 55 free; whoever shrank it so far let it die for ever."""
    (group, *_) = load("tenants-kvm").groups
    replayed_as = [TraceVm("7", 7, 2, mib, *[np.zeros(3)] * 5) for mib in (1024.0, 8192.0)]
    small, large = (_like_trace(replace(group, min_mib=384.0), vm, 1.8) for vm in replayed_as)
    assert small.min_mib == small.boot_mib > 1024 / 4096 * 384 / 1.8
    assert large.min_mib == pytest.approx(8192 / 4096 * 384 / 1.8)
    assert _like_trace(replace(group, min_mib=0.0), replayed_as[0], 1.8).min_mib == 0.0


def test_too_few_rows_or_vms_are_refused_in_one_line(traces, tmp_path):
    with pytest.raises(InputError, match=r"50 rows of 300 s; an episode needs 288"):
        Simulator(replace(load("idle-giants"), workload=Workload("bitbrains", str(traces), episode_s=86400)))
    many = replayed(traces)
    many = replace(many, vms=(replace(many.vms[0], count=31),))
    with pytest.raises(InputError, match=r"30 VMs; scenario idle-giants needs 31. hvgym import bitbrains"):
        Simulator(many)


def test_splits_of_vms_share_no_time_either(tmp_path):
    """A month of twelve VMs that have nothing in common: others train than are tested, and before the last week."""
    for vm in range(12):
        backed = 1024 * 1024
        rows = [
            f"{1375308000 + 3600 * slot};\t2;\t5000;\t500;\t10;\t{backed};\t{backed // 8};\t0;\t0;\t0;\t0"
            for slot in range(720)
        ]
        (tmp_path / f"{vm}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (tmp_path / "INDEX.csv").write_text("\n".join(["vm,corr_cluster", *(f"{vm},{vm}" for vm in range(12))]) + "\n")
    small = replace(load("no-guest-swap-short"), vms=load("no-guest-swap-short").vms[:1])
    seen, hours = {}, {}
    for split in ("train", "test"):
        scenario = replace(small, workload=Workload("bitbrains", str(tmp_path), split, episode_s=3600))
        source = ReplayedDemand(scenario, read_traces(str(tmp_path)))
        seen[split] = {vm for seed in range(60) for vm in source._draw(seed)}
        hours[split] = (source._first, source._first + source._starts - 1 + source.slots)
    assert not seen["train"] & seen["test"]
    assert hours == {"train": (0, 720 - 8 * 24), "test": (720 - 7 * 24, 720)}


def test_few_vms_are_split_by_time(traces):
    """Of 30 VMs 20 % are 6: less than the scenario's 8, so every split has all of them."""
    read = read_traces(str(traces))
    for split in ("train", "validation", "test"):
        source = ReplayedDemand(replayed(traces, split=split), read)
        assert {vm for seed in range(60) for vm in source._draw(seed)} == set(range(30))


def test_seeds_start_all_over_the_trace(traces):
    read = read_traces(str(traces))
    begins = set()
    for seed in range(40):
        sim = Simulator(replayed(traces))
        sim.reset([seed])
        smallest = min(range(8), key=lambda v: sim.vm_specs["memory_mib"][0, v])
        trace = read.vms[ReplayedDemand(sim.scenario, read)._draw(seed)[smallest]]
        first = sim.demand["tier_mib"][0, 0, smallest, params.HOT]
        begins |= set(np.flatnonzero(np.isclose(trace.hot_mib, first, rtol=1e-9)).tolist())
    assert len(begins) > 10
    assert max(begins) > 25


def test_pages_of_a_trace_age_in_hours_and_minimums_scale_with_its_size(traces):
    sim = Simulator(replayed(traces))
    sim.reset([1])
    specs = sim.vm_specs[0]
    np.testing.assert_allclose(1.0 / specs["tier_rate_per_s"], np.tile(TAU_S, (8, 1)))
    np.testing.assert_allclose(specs["tier_touched_share"], 1.0 - np.exp(-specs["tier_rate_per_s"]))
    np.testing.assert_allclose(specs["min_mib"] / specs["memory_mib"], [2048 / 16384] * 2 + [1024 / 4096] * 6)
    np.testing.assert_allclose(specs["guest_swap_mib"], specs["memory_mib"])


def test_starting_memory_and_limits_scale_with_the_size_of_a_trace_and_still_boot(traces):
    """A quarter and a half of the VM; on a small one never less than its kernel needs."""
    scenario = replayed(traces)
    kvm = replace(load("arrival-wave").hypervisor, disk=None, nic=None)
    sized = tuple(replace(g, startup_mib=0.25 * g.memory_mib, limit_mib=0.5 * g.memory_mib) for g in scenario.vms)
    sim = Simulator(replace(scenario, vms=sized, hypervisor=kvm))
    for seed in range(10):
        sim.reset([seed])
        specs, needs = sim.vm_specs[0], 18.0 + 5.0
        kernel = 1.25 * (needs + specs["watermark_mib"])
        quarter, half = 0.25 * specs["memory_mib"], 0.5 * specs["memory_mib"] - specs["overhead_mib"]
        np.testing.assert_allclose(specs["startup_mib"], np.maximum(quarter, kernel))
        np.testing.assert_allclose(specs["limit_mib"], np.maximum(half, kernel))
        sim.advance(30)
