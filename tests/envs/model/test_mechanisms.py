"""Each mechanism of the host by itself, on hosts small enough to reckon by hand."""

import math

import numpy as np
import pytest

from hvgym.envs import conservation
from hvgym.envs.model.devices import io
from hvgym.envs.model.host import cpu, states
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

NEVER = (1e9,) * 4
"""Tiers that nobody touches."""

INSTANT = {"disk_iops": 1e9, "disk_latency_us": 1e-3, "disk_mib_per_s": 1e9}
"""A disk that no one waits for."""


def hypervisor(**changes):
    """One that costs nothing and keeps 1 % of the host free, unless told otherwise."""
    costless = {"exit_us": 0.0, "nested_walks": False, "min_free_share": 0.01}
    return Hypervisor("plain", 1, 0.0, 0.0, **(costless | changes))


def vm(name="vm", memory_mib=4096.0, kernel_cache_mib=0.0, **changes):
    demand = Demand(**({"hot_mib": 0.0, "cpu_share": 0.0} | changes.pop("demand", {})))
    return VmGroup(name, demand, memory_mib=memory_mib, kernel_cache_mib=kernel_cache_mib, **changes)


def start(*groups, touched_share=0.0, lanes=1, hv=None, **host):
    scenario = Scenario(
        "s", "", Host(**host), hv or hypervisor(), groups, episode_s=10_000, touched_share=touched_share
    )
    sim = Simulator(scenario, lanes)
    sim.reset([0] * lanes)
    return sim


def progress(sim, seconds=1):
    """Mean progress of each VM over the next seconds."""
    before = sim.vms["progress_s"][0].copy()
    sim.advance(seconds)
    return ((sim.vms["progress_s"][0] - before) / seconds).tolist()


def rise(sim, name, seconds=1):
    """By how much a counter of each VM rises in the next seconds."""
    before = sim.vms[name][0].copy()
    sim.advance(seconds)
    return sim.vms[name][0] - before


def ask(sim, *memory_mib):
    sim.apply(Targets(np.array([memory_mib])))


# CPU


def busy(name, **changes):
    """A VM that wants 8 pCPUs."""
    return vm(name, vcpus=8.0, demand={"cpu_share": 1.0}, **changes)


def test_pcpus_are_filled_up_by_shares_between_reservation_and_limit():
    """A level of 2 per 1,000 shares: the first would get 2 and is limited to 1, the second 2 and has 5, the third gets 4."""
    sim = start(busy("limited", cpu_shares=1000, cpu_limit=1.0), busy("reserved", cpu_shares=1000, cpu_reservation=5.0),
                busy("twice", cpu_shares=2000), ram_mib=65536.0, pcpus=10.0)  # fmt: skip
    assert progress(sim) == pytest.approx([1 / 8, 5 / 8, 4 / 8])
    assert sim.vms["cpu_s"][0] == pytest.approx([1.0, 5.0, 4.0])


def test_a_reservation_that_is_not_wanted_goes_to_the_others():
    quiet = vm("quiet", vcpus=8.0, cpu_reservation=5.0, demand={"cpu_share": 1 / 8})
    sim = start(quiet, busy("busy"), busy("busier", cpu_shares=16000), ram_mib=65536.0, pcpus=10.0)
    assert progress(sim) == pytest.approx([1.0, 3 / 8, 6 / 8])


def test_a_limit_binds_on_an_idle_host():
    sim = start(busy("limited", cpu_limit=2.0), ram_mib=65536.0, pcpus=64.0)
    assert progress(sim) == pytest.approx([2 / 8])
    assert sim.telemetry().vm["cpu_ready_s"][0, 0] == pytest.approx(6.0)


def test_the_hypervisors_own_pcpus_are_not_shared_out():
    sim = start(busy("vm"), ram_mib=65536.0, pcpus=8.0, hv=hypervisor(own_cpu_share=0.25))
    assert progress(sim) == pytest.approx([6 / 8])


def erlang_c(servers, load):
    """Erlang's second formula as the sum that defines it."""
    offered = servers * load
    terms = [offered**k / math.factorial(k) for k in range(servers + 1)]
    return terms[-1] / (1 - load) / (sum(terms[:-1]) + terms[-1] / (1 - load))


@pytest.mark.parametrize("servers", [1, 4, 16, 64])
@pytest.mark.parametrize("load", [0.55, 0.8, 0.95])
def test_the_wait_for_a_pcpu_is_erlangs(servers, load):
    expected = erlang_c(servers, load) / (servers * (1 - load))
    assert cpu.ready_per_cpu_s(float(servers), load) == pytest.approx(expected, rel=1e-9)


def test_a_single_pcpu_at_0_8_makes_each_slice_wait_for_four():
    assert cpu.ready_per_cpu_s(1.0, 0.8) == pytest.approx(4.0)
    assert cpu.ready_per_cpu_s(16.0, 0.5) == 0.0


def test_ready_time_is_counted_on_a_busy_host_and_slows_nothing():
    sim = start(vm(vcpus=4.0, count=8, demand={"cpu_share": 0.35}), ram_mib=65536.0, pcpus=16.0)
    ready = rise(sim, "ready_s", 10)
    assert ready == pytest.approx([10 * 1.4 * erlang_c(16, 0.7) / (16 * 0.3)] * 8)
    assert sim.telemetry().vm["cpu_ready_s"][0] == pytest.approx(ready)
    assert sim.vms["progress_s"][0].tolist() == [10.0] * 8


def a_worker(name):
    """A VM with 1,000 MiB that it touches every 8 s, and a CPU that it keeps busy."""
    return vm(name, vcpus=2.0, demand={"hot_mib": 1000.0, "cpu_share": 1.0, "net_mib_per_s": 10.0})


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_vm_that_is_held_back_does_so_much_less_and_its_neighbour_as_much_as_before(share):
    sim = start(a_worker("held back"), a_worker("neighbour"), ram_mib=65536.0)
    counters = ("progress_s", "touches", "cpu_s", "net_mib")
    free = {name: rise(sim, name, 10) for name in counters}
    sim.vms["held_back"][0, 0] = share
    held = {name: rise(sim, name, 10) for name in counters}
    for name in counters:
        assert held[name] == pytest.approx(free[name] * [1.0 - share, 1.0], rel=1e-12), name
    assert conservation.fault(sim) is None


def test_a_vm_that_is_held_back_for_no_time_is_as_if_nobody_had():
    """To the bit, on a host that pages."""
    sims = [start(a_worker("one"), a_worker("other"), ram_mib=2000.0) for _ in range(2)]
    sims[0].vms["held_back"] = 0.5
    sims[0].vms["held_back"] = 0.0
    for sim in sims:
        sim.advance(60)
    assert sims[0].hosts["swap_in_mib"][0, 0] > 0.0
    assert sims[0].vms.tobytes() == sims[1].vms.tobytes()
    assert sims[0].hosts.tobytes() == sims[1].hosts.tobytes()


def test_exits_and_page_walks_multiply():
    """2,000 exits of 5 us are 1 %; 10 misses in 1,000 instructions at IPC 0.4 and 25 cycles are 10 %."""
    sim = start(vm(tlb_misses_per_kilo_instruction=10.0, instructions_per_cycle=0.4, huge_pages=True), ram_mib=8192.0,
                hv=hypervisor(exit_us=5.0, nested_walks=True))  # fmt: skip
    assert progress(sim) == pytest.approx([1 / 1.01 / 1.10])
    sim.vms["large_share"] = 0.0  # 90 cycles: 36 %
    assert progress(sim) == pytest.approx([1 / 1.01 / 1.36])


# States of a hypervisor


@pytest.mark.parametrize(
    ("ram_gib", "high", "low"),
    [(4, 99.0, 82.5), (12, 99.0, 82.5), (28, 123.344, 94.672), (64, 197.072, 131.536), (128, 328.144, 197.072)],
)
def test_linux_watermarks_by_hand(ram_gib, high, low):
    """Huge pages want a min of 66 MiB. The distance is a quarter of it, 16.5 MiB, or 0.1 % of RAM."""
    assert states.linux_watermarks_mib(1024.0 * ram_gib) == pytest.approx((high, low, 66.0))


def test_a_small_machine_keeps_four_times_the_root_of_its_kib():
    assert states.linux_watermarks_mib(1024.0) == pytest.approx((6.048, 5.024, 4.0))  # 4 x 1024 KiB; 0.1 % apart


@pytest.mark.parametrize(
    ("ram_gib", "slices"),
    [(4, 245.76), (12, 573.44), (28, 901.12), (64, 901.12 + 369.54), (128, 901.12 + 1026.15)],
)
def test_esxi_min_free_by_hand(ram_gib, slices):
    """6 % of 4 GiB, 4 % of the next 8, 2 % of the next 16, 1 % of the rest, to within the 0.25 % that readings differ by."""
    assert states.esxi_min_free_mib(1024.0 * ram_gib) == pytest.approx(slices, rel=0.0025)


def test_esxi_min_free_is_899_mb_at_28_gb_and_1_percent_above():
    assert states.esxi_min_free_mib(28 * 1024.0) == pytest.approx(899.0)
    assert states.esxi_min_free_mib(128 * 1024.0) == pytest.approx(1923.0)


def test_a_state_falls_at_once_and_rises_a_tenth_above_its_threshold():
    sim = start(vm(), ram_mib=8192.0)
    host, spec = sim.hosts[0, 0], sim.host_specs[0, 0]
    spec["state_mib"] = (100.0, 64.0, 32.0, 16.0)
    seen = []
    for free in (100.0, 99.0, 10.0, 17.0, 17.7, 35.1, 35.3, 70.3, 70.5, 109.9, 110.1):
        host["free_mib"] = free
        states.advance(host, spec)
        seen.append(int(host["state"]))
    assert seen == [0, 1, 4, 4, 3, 3, 2, 2, 1, 1, 0]


def test_esxis_low_state_halts_only_vms_above_their_share():
    """Three equal shares of 30,000 MiB: whoever has more than 10,000 stands still, unless it was guaranteed more."""
    esxi = hypervisor(last_resort="esxi", min_free_share=None)
    size = {"memory_mib": 20480.0, "tier_tau_s": NEVER}
    groups = (
        vm("above", demand={"hot_mib": 12000.0}, **size),
        vm("below", demand={"hot_mib": 5000.0}, **size),
        vm("guaranteed", demand={"hot_mib": 11900.0}, min_mib=12000.0, **size),
    )
    sim = start(*groups, ram_mib=30000.0, hv=esxi)
    sim.host_specs["swaps"] = 0.0
    assert progress(sim) == pytest.approx([1.0, 1.0, 1.0])
    sim.demand["tier_mib"][0, :, 1, 0] += 930.0
    sim.vm_specs["growth_mib_per_s"] = 1e4
    sim.advance(1)
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(30000.0 - 28900.0 - 3 * 18.0 - 930.0)  # 116; low begins at 147
    assert progress(sim) == pytest.approx([0.0, 1.0, 1.0])
    sim.vm_specs["shares"][0, 0] = 2000.0  # half of the host is its now, and a quarter the others'
    assert progress(sim) == pytest.approx([1.0, 1.0, 1.0])


# Compression


def out_mib(sim):
    return sim.vms["host_swapped_mib"][0].sum(axis=1) + sim.vms["free_swapped_mib"][0]


def pressed(hv, grown_mib=500.0, **changes):
    """A host that a VM of 3,000 MiB has filled, and on which it has just grown in one second."""
    size = {"demand": {"hot_mib": 3000.0}, "tier_tau_s": NEVER, "growth_mib_per_s": 1e4} | changes
    sim = start(vm(**size), ram_mib=3020.0 / 0.99, swap="nvme", hv=hv)
    sim.demand["tier_mib"][..., 0] += grown_mib
    sim.advance(1)
    return sim


def test_of_500_mib_that_must_go_compression_writes_237():
    """Pages that compress, 69 %, leave half of themselves: 500 / (1 - 0.69 / 2) = 763 MiB go, and 31 % of them to swap."""
    assert pressed(hypervisor()).vms["host_swap_out_mib"][0, 0] == pytest.approx(498.0, abs=1.0)
    sim = pressed(hypervisor(zip_cap_share=1.0))
    assert out_mib(sim)[0] == pytest.approx(498.0 / 0.655, abs=1.0)
    assert sim.vms["host_swap_out_mib"][0, 0] == pytest.approx(0.31 * 498.0 / 0.655, abs=1.0)
    assert sim.vms["zipped_mib"][0, 0] == pytest.approx(0.69 * 498.0 / 0.655, abs=1.0)


def test_storing_takes_8_us_of_cpu_per_page():
    sim = pressed(hypervisor(zip_cap_share=1.0), demand={"hot_mib": 3000.0, "cpu_share": 1.0}, vcpus=16.0)
    assert sim.hosts["tax_cpu"][0, 0] == pytest.approx(0.69 * 498.0 / 0.655 * 256 * 8e-6, abs=0.003)  # 1.07
    tax = float(sim.hosts["tax_cpu"][0, 0])
    assert progress(sim) == pytest.approx([(16.0 - tax) / 16.0])


@pytest.mark.parametrize("compressible", [0.2, 0.69, 1.0])
def test_the_pool_stays_within_its_cap_and_holds_only_what_compresses(compressible):
    hv = hypervisor(zip_cap_share=0.1)
    sim = start(vm(demand={"hot_mib": 2000.0, "burst_mib": 1500.0, "burst_every_s": 60.0}, count=2, vcpus=1.0,
                   tier_tau_s=(50.0,) * 4, compressible_share=compressible), ram_mib=4000.0, hv=hv, **INSTANT)  # fmt: skip
    fullest = 0.0
    for _ in range(200):
        sim.advance(1)
        zipped = sim.vms["zipped_mib"][0]
        assert (0.5 * zipped <= 409.6 + 1e-6).all()
        assert (zipped <= compressible * out_mib(sim) + 1e-6).all()
        fullest = max(fullest, float(zipped.max()))
    assert fullest > 100.0
    assert fullest == pytest.approx(819.2) or compressible < 0.5


def test_the_pool_shrinks_with_the_pages_that_a_balloon_drops():
    sim = start(vm(demand={"hot_mib": 500.0}, tier_tau_s=NEVER, init_on_alloc=False), ram_mib=2000.0, touched_share=1.0,
                hv=hypervisor(zip_cap_share=0.1, inflate_mib_per_s=1e4))  # fmt: skip
    assert sim.vms["zipped_mib"][0, 0] == pytest.approx(819.2)
    ask(sim, 1000.0)
    sim.advance(2)
    assert out_mib(sim)[0] < 800.0
    assert sim.vms["zipped_mib"][0, 0] <= 0.69 * out_mib(sim)[0] + 1e-6
    assert sim.vms["host_swap_in_mib"][0, 0] == pytest.approx(0.0, abs=1e-3)


def test_a_fault_on_the_pool_waits_for_decompression_and_reads_nothing():
    """1,000 MiB of which 1 % is touched in a second: 2,547 faults of 1 ms, two at a time."""
    sim = start(vm(demand={"hot_mib": 2000.0}, tier_tau_s=(100.0,) * 4, compressible_share=1.0), ram_mib=8192.0,
                swap="hdd", hv=hypervisor(zip_cap_share=1.0, zip_load_us=1000.0))  # fmt: skip
    sim.vms["host_swapped_mib"][0, 0, 0] = sim.vms["zipped_mib"][0, 0] = 1000.0
    stall = 1000.0 * (1.0 - math.exp(-0.01)) * 256 * 1e-3 / 2
    assert progress(sim) == pytest.approx([1.0 / (1.0 + stall)], rel=1e-6)
    assert sim.vms["host_swap_in_mib"][0, 0] == 0.0
    assert sim.vms["zipped_mib"][0, 0] == pytest.approx(1000.0 * math.exp(-0.01 / (1.0 + stall)))


# Page sharing


def twins(mergeable=0.5, hot_mib=256.0, scan=100_000.0, memory_mib=512.0, **changes):
    """Two VMs that never write, on a host whose scanner is switched on now."""
    hv = changes.pop("hv", hypervisor())
    ram_mib = changes.pop("ram_mib", 8192.0)
    demand = {"hot_mib": hot_mib} | changes.pop("demand", {})
    group = {"tier_write_share": (0.0,) * 4, "count": 2, "mergeable_share": mergeable} | changes
    sim = start(vm(memory_mib=memory_mib, demand=demand, **group), ram_mib=ram_mib, hv=hv)
    sim.hosts["scan_pages_per_s"] = scan
    return sim


def test_sharing_saves_what_ksm_saved_on_two_real_guests():
    """Measured: 128 MiB of equal content in each of two guests at 100,000 pages/s, 212 MiB after 12 s, 247 after 28 s."""
    sim = twins()
    for seconds, saved in ((12, 212.0), (16, 247.0)):
        sim.advance(seconds)
        assert sim.telemetry().vm["shared_mib"][0].sum() == pytest.approx(saved, rel=0.05)


def test_sharing_saves_the_mergeable_share_and_no_more():
    sim = twins(mergeable=0.25)
    for _ in range(200):
        sim.advance(1)
        assert sim.vms["shared_mib"].max() <= 64.0 + 1e-9
    assert sim.vms["shared_mib"][0] == pytest.approx([64.0, 64.0], rel=1e-3)
    assert sim.telemetry().vm["resident_mib"][0] == pytest.approx([256.0 + 18.0 - 64.0] * 2, rel=1e-3)


def test_memory_that_is_freed_is_merged_no_longer():
    sim = twins()
    sim.advance(200)
    sim.demand["tier_mib"][..., 0] = 100.0
    sim.advance(4)
    assert sim.vms["shared_mib"].max() <= 50.0 + 1e-9


ESXI = {"last_resort": "esxi", "min_free_share": None}


def esxi_twins(free_mib):
    """minFree of 8 GiB is 408.6 MiB: clear lies between 261.5 and it."""
    hot_mib = (8192.0 - free_mib) / 2 - 18.0
    return twins(mergeable=0.01, hot_mib=hot_mib, memory_mib=8192.0, hv=hypervisor(**ESXI))


def test_nothing_is_merged_while_pages_are_large():
    sim = esxi_twins(free_mib=500.0)
    sim.advance(600)
    assert sim.hosts["state"][0, 0] == states.HIGH
    assert sim.vms["shared_mib"].max() == 0.0
    assert sim.vms["large_share"].min() == 1.0


def test_esxi_splits_large_pages_below_min_free_and_puts_them_together_when_memory_is_ample():
    sim = esxi_twins(free_mib=300.0)
    sim.vms["large_share"] = 1.0
    sim.vms["shared_mib"] = 0.0
    sim.advance(60)
    assert sim.hosts["state"][0, 0] == states.CLEAR
    assert sim.vms["large_share"].max() < 0.01
    assert sim.vms["shared_mib"][0] == pytest.approx([0.01 * 3928.0] * 2, rel=0.05)
    sim.demand["tier_mib"][..., 0] -= 500.0
    ask(sim, 4500.0, 4500.0)
    sim.advance(20)
    assert sim.hosts["state"][0, 0] == states.HIGH
    split = 1.0 - sim.vms["large_share"][0]
    sim.advance(60)
    assert 1.0 - sim.vms["large_share"][0] == pytest.approx(split * (1.0 - 1.0 / 600.0) ** 60)


def test_written_pages_do_not_stay_merged():
    """Three quarters of the pages start to be written once a second; what is mergeable gathers in the rest, as it fits."""
    sim = twins(demand={"hot_mib": 192.0, "cold_mib": 64.0}, hot_mib=192.0, tier_tau_s=(1.0, *NEVER[1:]))
    sim.advance(200)
    assert sim.vms["shared_mib"][0] == pytest.approx([128.0, 128.0], rel=1e-3)
    sim.vm_specs["tier_write_share"][..., 0] = 1.0
    sim.advance(60)
    kept = 0.1907 / 1.1907  # merged again between two writes: 100,000 pages/s pass 262,144 twice in 5.24 s
    hot = 192.0 / 601.0 * 128.0 / (64.0 + 192.0 / 601.0)  # mergeable there: unwritten for ten minutes on average
    assert sim.vms["shared_mib"][0] == pytest.approx([64.0 + hot * kept] * 2, rel=1e-3)


def test_a_copy_on_write_stalls_for_3_us():
    """Every page is written once in 10 s: a tenth of what is merged is copied in a second, 256 pages a MiB."""
    sim = twins(scan=1.0, tier_tau_s=(10.0,) * 4, tier_write_share=(1.0,) * 4)
    sim.vms["merged_mib"][..., 0], sim.vms["shared_mib"], sim.vms["large_share"] = 100.0, 100.0, 0.0
    assert progress(sim) == pytest.approx(
        [1.0 / (1.0 + 0.1 * s * 256 * 3e-6) for s in sim.vms["shared_mib"][0]], rel=1e-5
    )
    assert sim.vms["shared_mib"][0] == pytest.approx([91.0, 91.0], abs=1.0)


def test_the_scanner_takes_its_cpu_time_from_the_vms():
    """250,000 pages/s of 2 us are half a pCPU."""
    sim = twins(scan=250_000.0, demand={"hot_mib": 0.0, "cpu_share": 1.0}, vcpus=8.0)
    assert progress(sim) == pytest.approx([15.5 / 16.0] * 2)


# A host's page cache (Type 2)


TYPE_2 = {"host_cache_swappiness": 60.0}


@pytest.mark.parametrize(("hv", "cached"), [(TYPE_2, 100.0), ({}, 0.0)])
def test_vm_io_stays_in_the_page_cache_of_a_hosted_hypervisor(hv, cached):
    sim = start(vm(demand={"disk_mib_per_s": 5.0}, count=2), ram_mib=16384.0, hv=hypervisor(**hv))
    sim.advance(10)
    assert sim.hosts["cache_mib"][0, 0] == pytest.approx(cached)
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(16384.0 - 2 * 18.0 - cached)


def pinched(reread):
    """A hosted hypervisor with 1,000 MiB of page cache and a VM of 3,000, another VM that reads back what it had evicted
    (or, if not `reread`, as much for the first time), and not enough RAM for what the first has just taken."""
    still = vm("still", demand={"hot_mib": 3000.0}, tier_tau_s=NEVER, growth_mib_per_s=1e4)
    reader = vm("reader", demand={"hot_mib": 500.0, "disk_mib_per_s": 0.0 if reread else 20.0}, guest_swap_mib=4096.0,
                tier_tau_s=(10.0,) * 4, tier_write_share=(0.0,) * 4)  # fmt: skip
    sim = start(still, reader, ram_mib=4700.0, swap="nvme", hv=hypervisor(**TYPE_2), **INSTANT)
    if reread:
        sim.vms["resident_mib"][0, 1, 0] -= 200.0
        sim.vms["free_backed_mib"][0, 1] += 200.0
    sim.hosts["cache_mib"] = 1000.0
    sim.demand["tier_mib"][0, :, 0, 0] += 300.0
    read = rise(sim, "disk_mib").sum()
    here = sim.vms["resident_mib"] - sim.vms["host_swapped_mib"]
    written = float(sim.vms["host_swap_out_mib"].sum())
    pool = float(here.sum() + (sim.vms["free_backed_mib"] - sim.vms["free_swapped_mib"]).sum()) + written
    return read, 1000.0 + read - float(sim.hosts["cache_mib"][0, 0]), written, pool


def test_page_cache_that_is_read_again_gives_way_in_the_ratio_of_swappiness():
    """60 to 140: a MiB of VMs is taken 0.43 times as readily as one of cache."""
    read, given, written, pool = pinched(reread=True)
    assert given / written == pytest.approx((1000.0 + read) / (60.0 / 140.0 * pool), rel=1e-3)
    assert given + written > 100.0


def test_page_cache_that_is_used_once_gives_way_alone():
    _, given, written, _ = pinched(reread=False)
    assert written == pytest.approx(0.0, abs=1e-6)
    assert given > 100.0


def test_the_page_cache_serves_its_part_of_what_guests_have_evicted():
    """Of 400 MiB that the guest has evicted the host holds 1,200 / 1,600."""
    sim = start(vm(demand={"hot_mib": 1000.0}, tier_tau_s=(10.0,) * 4, guest_swap_mib=4096.0), ram_mib=16384.0,
                hv=hypervisor(**TYPE_2), disk_iops=1e9, disk_latency_us=1000.0)  # fmt: skip
    sim.vms["resident_mib"][0, 0, 0] = 600.0
    sim.vms["free_untouched_mib"] += 400.0
    sim.hosts["cache_mib"] = 1200.0
    stall = 400.0 * (1.0 - math.exp(-0.1)) * 256 * 0.25 * 1e-3 / 2
    assert progress(sim) == pytest.approx([1.0 / (1.0 + stall)], rel=1e-3)


def test_a_mapped_file_is_written_back_every_30_s():
    """Of 300 MiB written once in 10 s, 95 % are dirty after 30 s: 9.5 MiB/s, a tenth of this disk."""
    writer = vm(demand={"hot_mib": 300.0}, tier_tau_s=(10.0,) * 4, tier_write_share=(1.0,) * 4)
    load = 300.0 * (1.0 - math.exp(-3.0)) / 30.0
    for hv, utilisation in ((hypervisor(writes_behind=True), 0.1), (hypervisor(), 0.0)):
        sim = start(writer, ram_mib=8192.0, hv=hv, disk_mib_per_s=10.0 * load)
        sim.advance(3)
        assert sim.hosts["disk_utilisation"][0, 0] == pytest.approx(utilisation, abs=1e-4)


# Victims


def overcommitted(hv, **changes):
    """Two VMs of 2,500 MiB touched at two rates, on 4,000 MiB."""
    group = {"demand": {"hot_mib": 1500.0, "warm_mib": 1000.0}, "tier_tau_s": (10.0, 1000.0, 1e9, 1e9), "count": 2}
    return start(vm(**(group | changes)), ram_mib=4000.0, hv=hv, **INSTANT)


def shares_out(sim):
    return sim.vms["host_swapped_mib"][0, 0, :2] / sim.vms["resident_mib"][0, 0, :2]


def test_a_blind_host_keeps_randoms_fixed_point():
    """In the long run a tier touched at rate lambda has d / (lambda + d) out, with one d for both."""
    sim = overcommitted(hypervisor(victims="random"))
    sim.advance(20_000)
    hot, warm = shares_out(sim)
    assert hot / (1.0 - hot) / 10.0 == pytest.approx(warm / (1.0 - warm) / 1000.0, rel=0.1)


def test_a_host_that_remembers_ages_keeps_the_two_stage_fixed_point():
    """1 / (1 + lambda T / 2)^2 out, with one T for both."""
    sim = overcommitted(hypervisor(victims="two_lists"))
    sim.advance(20_000)
    hot, warm = shares_out(sim)
    assert (hot**-0.5 - 1.0) * 2.0 * 10.0 == pytest.approx((warm**-0.5 - 1.0) * 2.0 * 1000.0, rel=0.1)


def test_the_more_a_host_knows_of_ages_the_fewer_faults_it_causes():
    faults = []
    for kind in ("random", "mglru_before_6_12", "two_lists", "mglru"):
        sim = overcommitted(hypervisor(victims=kind))
        sim.advance(5000)
        faults.append(float(rise(sim, "host_swap_in_mib", 500).sum()))
    assert faults[0] > 1.5 * faults[1] > 1.5 * faults[2]


# Swap devices


def thrashing(swap, sequential_share=0.0, **host):
    group = vm(demand={"hot_mib": 2500.0}, count=2, tier_tau_s=(50.0,) * 4, sequential_share=sequential_share)
    return start(group, ram_mib=4000.0, swap=swap, **host)


@pytest.mark.parametrize("swap", ["nvme", "sata_ssd", "hdd", "remote"])
def test_a_swap_device_of_its_own_has_its_own_queue(swap):
    sim = thrashing(swap)
    sim.advance(20)
    assert sim.hosts["disk_utilisation"][0, 0] == 0.0
    assert sim.hosts["swap_utilisation"][0, 0] > 0.0


def test_swap_on_the_disk_shares_the_disks_queue():
    sim = thrashing("disk")
    sim.advance(20)
    assert sim.hosts["disk_utilisation"][0, 0] > 0.0
    assert sim.hosts["swap_utilisation"][0, 0] == 0.0
    assert sim.hosts["swap_wait_s"][0, 0] == sim.hosts["disk_wait_s"][0, 0]


def test_swap_on_a_slower_device_costs_more():
    done = []
    for swap in ("zram", "remote", "nvme", "sata_ssd", "hdd"):
        sim = thrashing(swap)
        sim.advance(50)
        done.append(float(np.mean(progress(sim, 50))))
    assert done == sorted(done, reverse=True)
    assert done[0] > 0.9 > 0.1 > done[-1]


def test_host_zram_keeps_in_ram_what_compression_leaves():
    """1,076 MiB too much: 1,076 / (1 - 1 / 2.6) go, and 1 / 2.6 of them stays."""
    hosts = []
    for swap in ("nvme", "zram"):
        sim = thrashing(swap)
        sim.vm_specs["tier_rate_per_s"] = sim.vm_specs["tier_touched_share"] = 0.0
        sim.advance(50)
        hosts.append(sim.hosts[0, 0])
        used = sim.telemetry().vm["resident_mib"].sum() + hosts[-1]["free_mib"]
        kept = hosts[-1]["swap_used_mib"] / 2.6 if swap == "zram" else 0.0
        assert used + kept == pytest.approx(4000.0)
    short = 2 * 2518.0 - 0.99 * 4000.0
    assert [host["swap_used_mib"] for host in hosts] == pytest.approx([short, short / (1.0 - 1.0 / 2.6)], rel=0.01)


def test_swapped_pages_lose_their_order_as_they_are_read_back():
    sim = thrashing("nvme")
    assert sim.hosts["swap_order"][0, 0] == 1.0
    order = []
    for _ in range(30):
        sim.advance(20)
        order.append(float(sim.hosts["swap_order"][0, 0]))
    assert order == sorted(order, reverse=True)
    assert order[0] > 0.75 > 0.65 > order[-1] >= 0.2


@pytest.mark.parametrize(("order", "ahead"), [(1.0, 8.0), (0.5, 4.0), (0.2, 1.6), (0.1, 1.0)])
def test_read_ahead_saves_a_sequential_reader_as_many_waits_as_order_is_left(order, ahead):
    """500 MiB of which 2 % are touched in a second, 8 ms each, two at a time."""
    stalls = []
    for sequential in (0.0, 0.5, 1.0):
        group = vm(demand={"hot_mib": 1000.0}, tier_tau_s=(50.0,) * 4, sequential_share=sequential)
        sim = start(group, ram_mib=8192.0, disk_iops=1e9, disk_latency_us=8000.0, disk_mib_per_s=1e6)
        sim.vms["host_swapped_mib"][0, 0, 0], sim.hosts["swap_order"] = 500.0, order
        stalls.append(1.0 / progress(sim)[0] - 1.0)
    assert stalls[0] == pytest.approx(500.0 * (1.0 - math.exp(-0.02)) * 256 * 0.008 / 2, rel=1e-3)
    assert stalls[0] / stalls[1] == pytest.approx(0.5 + 0.5 * ahead, rel=1e-3)
    assert stalls[0] / stalls[2] == pytest.approx(ahead, rel=1e-3)


# Committed memory (Xen, Hyper-V)


COMMIT = {"last_resort": "commit", "admission": "commit", "deflate_mib_per_s": 1e4}


def committed(ram_mib, hv=None, **changes):
    group = {"demand": {"hot_mib": 200.0}, "count": 2, "min_mib": 1000.0, "guest_swap_mib": 4096.0}
    hv = hypervisor(**COMMIT | {"min_free_share": 0.01} | (hv or {}))
    return start(vm(**(group | changes)), ram_mib=ram_mib, hv=hv)


def test_a_committed_vm_uses_its_size_and_its_overhead_whatever_it_has_touched():
    sim = committed(10_000.0)
    sim.vm_specs["overhead_mib"] = 30.0
    ask(sim, 4096.0, 3000.0)
    sim.advance(5)
    assert sim.telemetry().vm["resident_mib"][0].tolist() == pytest.approx([4126.0, 3030.0])
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(10_000.0 - 4126.0 - 3030.0)


def test_vms_of_a_committing_host_start_between_minimum_and_size_and_leave_its_free_minimum():
    """5,000 MiB less 1.01 % free: each gets as much of the way from 1,000 to 4,096."""
    sim = committed(5000.0)
    size = 4096.0 - sim.vms["balloon_mib"][0]
    assert size == pytest.approx([(5000.0 - 50.5) / 2] * 2)


def test_balloons_of_a_committing_host_deflate_only_into_free_memory_and_by_the_same_share():
    """600 MiB become free; of the 1,000 and 500 that are wanted, each gets two fifths."""
    sim = committed(9000.0, count=3)
    size = 4096.0 - sim.vms["balloon_mib"][0].copy()
    ask(sim, size[0], size[1], size[2] - 600.0)
    sim.advance(3)
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(90.0 + 600.0, abs=1.0)
    ask(sim, size[0] + 1000.0, size[1] + 500.0, np.nan)
    sim.advance(1)
    assert 4096.0 - sim.vms["balloon_mib"][0] - size == pytest.approx([400.0, 200.0, -600.0], abs=1.0)
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(90.0)


def test_a_committing_host_never_swaps_a_running_vm():
    sim = committed(4000.0, demand={"hot_mib": 1000.0, "burst_mib": 2500.0, "burst_every_s": 60.0})
    sim.advance(300)
    assert sim.vms["swap_out_mib"].max() > 100.0  # the guests have to
    assert sim.hosts["swap_out_mib"][0, 0] == sim.hosts["swap_used_mib"][0, 0] == 0.0
    assert sim.hosts["free_mib"][0, 0] >= 40.0 - 1e-6


# Admission


def arriving(rule, ram_mib, **newcomer):
    """A VM of 4,096 MiB of which 4,000 are guaranteed runs; another is to be started after 3 s."""
    hv = {"admission": rule} | newcomer.pop("hv", {})
    host = {"swap_share": newcomer.pop("swap_share", 4.0)}
    first = vm("first", demand={"hot_mib": 3000.0}, min_mib=4000.0, tier_tau_s=NEVER)
    later = {"demand": {"hot_mib": 100.0}, "arrive_s": 3.0, "restart_s": 0.0} | newcomer
    sim = start(first, vm("later", **later), ram_mib=ram_mib, hv=hypervisor(**hv), **host)
    sim.advance(10)
    return sim


def admitted(sim):
    return bool(sim.vms["admitted"][0, 1])


@pytest.mark.parametrize(("min_mib", "starts"), [(5990.0, True), (6010.0, False)])
def test_esxi_starts_a_vm_whose_reservation_is_unreserved(min_mib, starts):
    assert admitted(arriving("reservation", 10_000.0, memory_mib=6100.0, min_mib=min_mib)) is starts


@pytest.mark.parametrize(("memory_mib", "starts"), [(6990.0, True), (7010.0, False)])
def test_esxi_starts_a_vm_for_whose_rest_there_is_swap(memory_mib, starts):
    """4,000 MiB are reserved of it; 3,000 of swap remain for the rest."""
    assert admitted(arriving("reservation", 10_000.0, memory_mib=memory_mib, min_mib=4000.0, swap_share=0.3)) is starts


@pytest.mark.parametrize(("startup_mib", "starts"), [(5790.0, True), (5810.0, False)])
def test_xen_starts_a_vm_that_is_given_its_memory_at_once(startup_mib, starts):
    """10,000 MiB less the first VM's 4,096 and 1 % that stays free are 5,804; RAM that the first has not touched is not free."""
    hv = COMMIT | {"min_free_share": 0.01}
    assert admitted(arriving("commit", 10_000.0, memory_mib=6000.0, startup_mib=startup_mib, hv=hv)) is starts


@pytest.mark.parametrize(("startup_mib", "starts"), [(5970.0, True), (5990.0, False)])
def test_a_desktop_starts_a_vm_that_fits_into_free_memory_and_swap(startup_mib, starts):
    """5,000 MiB less the 3,018 that the first VM uses, and 4,000 of swap: 5,982."""
    sim = arriving("fits", 5000.0, memory_mib=7000.0, startup_mib=startup_mib, swap_share=0.8)
    assert admitted(sim) is starts


def test_a_desktops_page_cache_counts_as_room():
    for cache_mib, starts in ((0.0, False), (1000.0, True)):
        later = vm("later", memory_mib=4096.0, startup_mib=2000.0, arrive_s=3.0, demand={"hot_mib": 100.0})
        first = vm("first", demand={"hot_mib": 3000.0}, tier_tau_s=NEVER)
        ram_mib = 3018.0 + 1500.0 + cache_mib
        sim = start(first, later, ram_mib=ram_mib, swap_share=0.0, hv=hypervisor(admission="fits", **TYPE_2))
        sim.hosts["cache_mib"] = cache_mib
        sim.advance(10)
        assert admitted(sim) is starts


def test_linux_starts_any_vm():
    assert admitted(arriving("always", 5000.0, memory_mib=100_000.0, min_mib=50_000.0, swap_share=0.0))


def test_a_vm_starts_as_soon_as_the_rule_allows():
    sim = arriving("commit", 9000.0, memory_mib=6000.0, startup_mib=5000.0, hv=COMMIT)
    assert not admitted(sim)
    sim.vm_specs["min_mib"] = 0.0
    ask(sim, 3500.0, np.nan)
    sim.advance(5)
    assert admitted(sim)


def test_the_demand_of_a_vm_that_waits_counts_as_lost_and_before_it_arrives_does_not():
    sim = arriving("reservation", 10_000.0, memory_mib=6100.0, min_mib=6010.0)
    assert sim.vms["asked_s"][0].tolist() == [10.0, 8.0]  # from the third second on
    assert sim.vms["progress_s"][0] == pytest.approx([10.0, 0.0])
    assert sim.telemetry().vm["running"][0].tolist() == [1.0, 0.0]
    assert sim.telemetry().vm["resident_mib"][0, 1] == 0.0


def test_smart_paging_pages_only_the_vm_that_starts_and_a_balloon_ends_it():
    """Of 4,000 MiB that the newcomer boots with 2,804 are free: 1,196 lie in swap. It holds its minimum of 1,000."""
    newcomer = {"memory_mib": 4096.0, "min_mib": 1000.0, "startup_mib": 4000.0}
    assert not admitted(arriving("commit", 7000.0, **newcomer, hv=COMMIT))
    sim = arriving("commit", 7000.0, **newcomer, hv=COMMIT | {"smart_paging": True})
    assert admitted(sim)
    short = 4000.0 - (7000.0 - 4096.0 - 70.0)
    left = sim.vms["free_swapped_mib"][0, 1] + sim.vms["host_swap_in_mib"][0, 1]
    assert left == pytest.approx(short, abs=1.0)
    assert sim.vms["free_swapped_mib"][0, 0] == sim.vms["host_swapped_mib"][0, 0].sum() == 0.0
    ask(sim, np.nan, 2000.0)
    sim.advance(30)  # its kernel zeroes what it gives to the balloon, page by page
    assert sim.vms["free_swapped_mib"][0, 1] == pytest.approx(0.0, abs=1e-6)
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(7000.0 - 4096.0 - 2000.0)


# Guests


def test_free_page_reporting_returns_304_of_320_mib_within_4_s():
    sim = start(vm(memory_mib=512.0, demand={"hot_mib": 370.0}, tier_tau_s=NEVER), ram_mib=8192.0, touched_share=1.0,
                hv=hypervisor(free_page_reporting=True))  # fmt: skip
    sim.advance(60)
    before = sim.telemetry().vm["resident_mib"][0, 0]
    sim.demand["tier_mib"][..., 0] -= 320.0
    sim.vm_specs["growth_mib_per_s"] = 1e4
    sim.advance(4)
    assert before - sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(304.0, abs=5.0)


def test_free_page_reporting_keeps_what_lies_below_the_watermark():
    sim = start(vm(memory_mib=512.0, demand={"hot_mib": 100.0}), ram_mib=8192.0, touched_share=1.0,
                hv=hypervisor(free_page_reporting=True))  # fmt: skip
    sim.advance(120)
    assert sim.vms["free_backed_mib"][0, 0] == pytest.approx(0.0112 * 512.0)
    assert sim.vms["free_deflated_mib"][0, 0] == pytest.approx(512.0 - 18.0 - 100.0 - 0.0112 * 512.0)


def test_each_kernel_sees_the_stalls_of_its_own_paging_only():
    guests = vm(demand={"hot_mib": 2000.0}, tier_tau_s=(20.0,) * 4, guest_swap_mib=8192.0, count=2)
    for ram_mib, size, seen in ((16384.0, 1500.0, "guest_psi_some10"), (3000.0, 4096.0, "host_psi_some10")):
        sim = start(guests, ram_mib=ram_mib, swap="sata_ssd", disk_iops=80e3, disk_latency_us=150.0)
        ask(sim, size, size)
        sim.advance(100)
        telemetry = sim.telemetry().vm
        stalled = 1.0 - sim.vms["progress"][0]
        assert telemetry[seen][0] == pytest.approx(stalled, rel=0.05)
        assert stalled.min() > 0.05
        other = {"guest_psi_some10", "host_psi_some10"} - {seen}
        assert telemetry[other.pop()][0].tolist() == [0.0, 0.0]


def test_what_a_zram_guest_evicts_becomes_pool_and_free_memory_to_the_mib():
    guest = vm(memory_mib=1024.0, demand={"hot_mib": 600.0, "cache_mib": 100.0}, swap="zram", guest_swap_mib=2048.0,
               zram_stored_share=0.4, tier_tau_s=(5.0, 5.0, 5.0, 5.0))  # fmt: skip
    sim = start(guest, ram_mib=8192.0)
    for size in (700.0, 450.0, 1024.0, 500.0):
        ask(sim, size)
        for _ in range(20):
            sim.advance(1)
            row = sim.vms[0, 0]
            missing = row["allocated_mib"] - row["resident_mib"]
            parts = row["resident_mib"].sum() + 0.4 * missing[:3].sum() + row["balloon_mib"] + 18.0
            free = row["free_backed_mib"] + row["free_deflated_mib"] + row["free_untouched_mib"]
            assert parts + free == pytest.approx(1024.0, abs=1e-6)
    assert missing[0] > 100.0


# What a review found


def test_ready_time_of_a_full_host_is_what_was_wanted_and_not_given():
    """Seven VMs of two busy vCPUs on 10 pCPUs: each runs 10 / 7 of two."""
    sim = start(vm(vcpus=2.0, count=7, demand={"cpu_share": 1.0}), ram_mib=65536.0, pcpus=10.0)
    assert rise(sim, "ready_s") == pytest.approx([2.0 - 10 / 7] * 7)


def test_nobody_waits_where_each_vcpu_has_a_pcpu():
    sim = start(vm(vcpus=1.0, demand={"cpu_share": 0.8}), ram_mib=8192.0, pcpus=1.0)
    assert rise(sim, "ready_s", 10).tolist() == [0.0]


def test_reads_that_the_last_tick_made_are_charged_to_the_disk_whatever_the_progress():
    """1 MiB read back at progress 0.1 is 10 MiB per second of full progress, and 1 MiB again at that progress."""
    sim = start(vm(demand={"hot_mib": 100.0}), ram_mib=8192.0, disk_iops=1000.0)
    state, host = sim.vms[0, 0], sim.hosts[0, 0]
    state["progress"], state["double_paged_mib"], state["host_fault_mib_per_s"] = 0.1, 1.0, 1e-9
    io.set_demand(state, sim.vm_specs[0, 0], host, sim.host_specs[0, 0], sim.demand[0, 0, 0])
    assert state["disk_demand"] * state["progress"] == pytest.approx(256 / 1000.0)


def test_a_vm_that_starts_takes_its_memory_from_the_growth_of_the_others():
    old, new = vm("old", demand={"hot_mib": 100.0}), vm("new", memory_mib=6000.0, startup_mib=5790.0, arrive_s=3.0)
    sim = start(old, new, ram_mib=10_000.0, hv=hypervisor(**COMMIT | {"min_free_share": 0.01}))
    ask(sim, 4096.0, 6000.0)
    sim.advance(20)
    assert sim.vms["admitted"][0].tolist() == [1.0, 1.0]
    assert sim.hosts["free_mib"][0, 0] >= sim.host_specs["min_free_mib"][0, 0] - 1e-6


def test_new_page_cache_is_read_at_the_speed_of_the_disk():
    sim = start(vm(growth_mib_per_s=1e4), ram_mib=8192.0, disk_mib_per_s=150.0)
    sim.demand["tier_mib"][..., 3] = 1500.0
    assert rise(sim, "file_in_mib") == pytest.approx(
        150.0 * 1500.0 / (1500.0 + 150.0)
    )  # CPU and disk in turn: 10 s + 1 s
    assert sim.hosts["disk_utilisation"][0, 0] == pytest.approx(1500.0 / 1650.0, rel=0.01)


def test_a_guest_reads_128_kib_of_a_file_at_once_in_sequence():
    """10 MiB/s missed: 2,560 reads of a page, or 80 of 32 pages and the transfer of the rest."""
    sim = start(vm(sequential_share=1.0), ram_mib=8192.0, disk_iops=1000.0, disk_mib_per_s=100.0)
    state = sim.vms[0, 0]
    state["paging_mib_per_s"] = state["sequential_file_mib_per_s"] = 10.0
    io.set_demand(state, sim.vm_specs[0, 0], sim.hosts[0, 0], sim.host_specs[0, 0], sim.demand[0, 0, 0])
    assert state["disk_demand"] == pytest.approx(80 / 1000.0 + 10.0 * 31 / 32 / 100.0)


def test_esxi_reports_the_state_in_which_it_reclaimed():
    """Free memory falls to 100 MiB of a minFree of 408.6 MiB at once: below hard (130.8), above low (65.4)."""
    sim = start(vm(memory_mib=9000.0, growth_mib_per_s=1e5, demand={"hot_mib": 7800.0}), ram_mib=8192.0,
                hv=hypervisor(**ESXI), disk_mib_per_s=1.0)  # fmt: skip
    sim.demand["tier_mib"][..., 0] = 8192.0 - 18.0 - 100.0
    sim.advance(2)
    assert sim.hosts["state"][0, 0] == states.HARD
