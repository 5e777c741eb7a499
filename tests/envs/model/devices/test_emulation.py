"""Devices: what a request costs, how much one queue serves, and how long it takes, against hand-computed numbers."""

import math

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.lab import device as lab_device
from hvgym.envs.lab.device import Bench, Device, DeviceModel
from hvgym.envs.model.devices import emulation

BENCH = Bench.packaged()


def test_traps_are_exits_world_switches_and_system_calls():
    assert emulation.trap_cycles(4.5, 25_000.0, 0.0, 0.0) == 112_500.0
    assert emulation.trap_cycles(6.0, 3240.0, 2.0, 1.0) == 19_440.0 + 21_600.0 + 300.0


@pytest.mark.parametrize(
    ("kind", "cycles"),
    [(emulation.SOFTWARE, 300.0), (emulation.PINNED, 0.0), (emulation.DEFERRED, 1000.0), (emulation.STRICT, 4200.0)],
)
def test_translation_costs_a_walk_or_a_mapping_a_segment(kind, cycles):
    assert emulation.translation_cycles(kind, 2.0) == cycles


def test_unmapping_and_flushing_cost_what_is_published():
    strict, mapped = emulation.translation_cycles(emulation.STRICT, 1.0), emulation.MAP_CYCLES
    assert 200.0 <= mapped <= 400.0
    assert 1500.0 <= strict - mapped <= 2100.0


def test_copies_cost_by_the_byte():
    assert emulation.copy_cycles(2.0, 1500.0) == 2700.0
    assert emulation.copy_cycles(0.0, 1500.0) == 0.0


def test_an_iotlb_misses_once_a_page():
    assert emulation.iotlb_per_s(4096.0, 4096.0) == pytest.approx(1.0 / 215e-9)
    assert emulation.iotlb_per_s(1024.0, 4096.0) == pytest.approx(4.0 / 215e-9)


@pytest.mark.parametrize(
    ("per_s", "window_s", "most", "shared"),
    [
        (0.0, 1e-5, 64.0, 1.0),
        (1e5, 1e-5, 64.0, 2.0),
        (1e6, 1e-5, 64.0, 11.0),
        (1e8, 1e-5, 64.0, 64.0),
        (1e6, 0.0, 64.0, 1.0),
        (1e6, 1e-5, 1.0, 1.0),
    ],
)
def test_a_window_holds_what_arrives_in_it_up_to_a_full_batch(per_s, window_s, most, shared):
    assert emulation.batch(per_s, window_s, most) == pytest.approx(shared)


def test_the_batch_is_that_of_random_arrivals():
    """Independent: a window opens with a request and takes in those that follow within it."""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(1e-5, 200_000))
    windows, waits, i = 0, 0.0, 0
    while i < len(times):
        end = times[i] + 3e-5
        j = int(np.searchsorted(times, end, side="right"))
        windows, waits, i = windows + 1, waits + float(np.sum(end - times[i:j])), j
    assert emulation.batch(1e5, 3e-5, 1e9) == pytest.approx(len(times) / windows, rel=0.01)
    assert emulation.gather_wait_s(1e5, 3e-5, 1e9) == pytest.approx(waits / len(times), rel=0.01)


def test_a_lone_request_waits_for_all_of_its_window_and_a_crowd_for_half():
    assert emulation.gather_wait_s(0.0, 2e-5, 64.0) == 2e-5
    assert emulation.gather_wait_s(1e9, 2e-5, 1e9) == pytest.approx(1e-5, rel=1e-3)


def test_a_full_batch_ends_its_window_early():
    assert emulation.gathering_s(1e6, 1e-3, 11.0) == pytest.approx(1e-5)


def test_notifications_stay_below_one_a_window():
    for per_s in (1e4, 1e5, 1e6, 1e7):
        assert per_s / emulation.batch(per_s, 2e-5, 1e9) < 1.0 / 2e-5


@pytest.mark.parametrize("window_s", [0.0, 1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("most", [1.0, 8.0, 64.0])
@pytest.mark.parametrize("costs", [(1e-6, 5e-6), (1e-5, 0.0), (0.0, 1e-5), (1e-7, 1e-4)])
@pytest.mark.parametrize("cpu", [0.3, 1.0])
def test_at_the_most_that_it_serves_a_cpu_is_full(window_s, most, costs, cpu):
    arguments = (*costs, window_s, most)
    rate = emulation.most_per_s(cpu, *arguments)
    assert emulation.used_cpu(rate, *arguments) == pytest.approx(cpu, rel=1e-9)
    assert emulation.used_cpu(0.9 * rate, *arguments) < cpu


def test_work_that_costs_nothing_has_no_limit():
    assert math.isinf(emulation.most_per_s(1.0, 0.0, 0.0, 1e-5, 8.0))


def test_a_queue_waits_as_m_d_1_until_its_depth_is_reached():
    assert emulation.queue_wait_s(5e4, 1e-5, 1.0, 1e9) == pytest.approx(5e-6)  # load 0.5: half a service
    assert emulation.queue_wait_s(2.5e4, 1e-5, 0.5, 1e9) == pytest.approx(1e-5)  # half a CPU: twice the service
    assert emulation.queue_wait_s(2e5, 1e-5, 1.0, 33.0) == pytest.approx(32e-5)
    assert emulation.queue_wait_s(9.9e4, 1e-5, 1.0, 2.0) == pytest.approx(1e-5)
    assert emulation.queue_wait_s(9e4, 1e-5, 1.0, 1.0) == 0.0


def test_latency_adds_service_queues_gathering_and_hardware():
    got = emulation.latency_s(0.0, 2e-6, 4e-6, 3e-6, 1e-5, 8.0, 1.0, 0.5, 1e-4, 64.0)
    assert got == pytest.approx(2e-6 + 4e-6 + 6e-6 + 1e-5 + 1e-4)
    busy = emulation.latency_s(1e5, 2e-6, 4e-6, 3e-6, 1e-5, 8.0, 1.0, 0.5, 1e-4, 64.0)
    vcpu, backend = 4e-6, 6e-6  # two share a notification; half a CPU
    queues = 0.5 * 0.4 * vcpu / 0.6 + 0.5 * 0.6 * backend / 0.4
    assert busy == pytest.approx(vcpu + backend + queues + 0.75e-5 + 1e-4)


# Devices on the bench

CYCLES = {
    "e1000": (3000 + 4.5 * 25000 + 5000 + 1350 + 300, 0),
    "e1000-hosted": (3000 + 4.5 * 1600 + 9 * 10800 + 4.5 * 300 + 5000 + 2700 + 300, 0),
    "virtio-net": (3000 + 13000, 10000 + 1350 + 300),
    "vhost-net": (3000 + 2 * 1500, 2000 + 1350 + 300),
    "vmxnet3": (3000 + 2 * 1500, 1500 + 1350 + 300),
    "xen-netfront": (3000 + 11262, 4000 + 1350 + 300),
    "netvsc": (3000 + 2 * 3500, 4000 + 1350 + 300),
    "vmxnet3-hosted": (3000 + 3240 + 2 * 10800 + 300 + 5000 + 1350 + 300, 0),
    "sriov": (3000 + 2 * 10200, 0),
    "sriov-posted": (3000 + 0.02 * 10200, 0),
    "ide": (8000 + 6 * 25000 + 13000 + 3686.4 + 150, 0),
    "ahci": (8000 + 6 * 25000 + 13000 + 3686.4 + 150, 0),
    "ahci-hosted": (8000 + 6 * 3240 + 2 * 10800 + 300 + 13000 + 2 * 3686.4 + 150, 0),
    "lsilogic": (8000 + 4 * 2400, 12000 + 3686.4 + 150),
    "pvscsi": (8000 + 2 * 2400, 12000 + 3686.4 + 150),
    "virtio-blk": (8000 + 13000, 13000 + 3686.4 + 150),
    "virtio-iothread": (8000 + 2 * 1500, 9000 + 3686.4 + 150),
    "xen-blkfront": (8000 + 11262, 13000 + 3686.4 + 150),
    "storvsc": (8000 + 2 * 3500, 13000 + 3686.4 + 150),
    "pvscsi-hosted": (8000 + 3240 + 2 * 10800 + 300 + 13000 + 3686.4 + 150, 0),
    "nvme-passthrough": (8000 + 0.02 * 10200, 0),
}
"""Cycles of a lone request, of vCPU and backend, added by hand from each YAML."""


def test_every_packaged_device_is_counted_here():
    names = [device.model.name for group in lab_device.GROUPS for device in lab_device.chosen([group])]
    assert sorted(names) == sorted(CYCLES)


@pytest.mark.parametrize("name", CYCLES)
def test_a_lone_request_costs_the_sum_of_its_parts(name):
    row = lab_device.play(Device.load(name), BENCH, 1e-3)
    assert row.vcpu_cpus / 1e-3 * 2.7e9 == pytest.approx(CYCLES[name][0])
    assert row.backend_cpus / 1e-3 * 2.7e9 == pytest.approx(CYCLES[name][1])
    assert row.cycles_per_request == pytest.approx(sum(CYCLES[name]))
    assert row.batch == pytest.approx(1.0)
    assert row.limit == ""


RANGES = {
    "e1000": (16.8e3, 60e3),
    "virtio-net": (100e3, 300e3),
    "vhost-net": (0.5e6, 1.2e6),
    "ide": (5e3, 15e3),
}
"""Requests per second as published."""


@pytest.mark.parametrize("name", RANGES)
def test_a_device_serves_what_is_published(name):
    low, high = RANGES[name]
    assert low <= lab_device.most_per_s(Device.load(name), BENCH) <= high


ADDED_US = {"virtio-blk": (15.0, 40.0), "virtio-iothread": (5.0, 15.0), "nvme-passthrough": (1.0, 3.0)}
"""Latency that a path adds, as published; here without the guest's own work and the copy's."""


@pytest.mark.parametrize("name", ADDED_US)
def test_an_idle_device_adds_the_published_latency(name):
    device = Device.load(name)
    low, high = ADDED_US[name]
    added = lab_device.play(device, BENCH, 1.0).latency_us - 100.0 - CYCLES[name][0] / 2700 - CYCLES[name][1] / 2700
    assert low <= added <= high


def test_a_passed_through_drive_keeps_95_percent_of_native_iops():
    assert lab_device.most_per_s(Device.load("nvme-passthrough"), BENCH) >= 0.95 * 2.7e9 / 8000.0


@pytest.mark.parametrize("name", CYCLES)
def test_what_is_served_is_bounded_and_rises_with_the_load(name):
    device = Device.load(name)
    most = lab_device.most_per_s(device, BENCH)
    before = 0.0
    for share in np.geomspace(0.001, 10.0, 60):
        row = lab_device.play(device, BENCH, float(share * most))
        assert before <= row.served_per_s <= min(most, row.offered_per_s)
        assert row.vcpu_cpus <= 1.0 + 1e-9
        assert row.backend_cpus <= 1.0 + 1e-9
        assert row.mib_per_s <= 25e9 / 8.0 / 2**20 if device.group == "nic" else row.served_per_s <= 500e3
        assert (row.limit == "") == (row.served_per_s == row.offered_per_s)
        assert math.isfinite(row.latency_us)
        before = row.served_per_s


def test_each_part_can_be_the_limit():
    load = 1e9
    assert lab_device.play(Device.load("sriov-posted"), Bench.packaged(link_gbps=1), load).limit == "link"
    assert lab_device.play(Device.load("nvme-passthrough"), Bench.packaged(disk_iops=120), load).limit == "disk"
    assert lab_device.play(Device.load("e1000"), BENCH, load).limit == "vcpu"
    assert lab_device.play(Device.load("virtio-net"), BENCH, load).limit == "backend"
    assert lab_device.play(Device.load("ide"), BENCH, load).limit == "depth"
    tiny = Bench.packaged(iommu_page_kib=0.01)
    assert lab_device.play(Device.load("sriov-posted"), tiny, load).limit == "iotlb"
    assert lab_device.play(Device.load("vhost-net"), tiny, load).limit == "backend"


def test_a_full_ring_takes_its_depth_over_the_rate():
    row = lab_device.play(Device.load("e1000"), BENCH, 1e6)
    assert row.latency_us == pytest.approx(256.0 / row.served_per_s * 1e6)


def test_moderation_bounds_exits_by_two_a_window():
    row = lab_device.play(Device.load("sriov"), BENCH, 1e9)
    assert row.exits_per_s == pytest.approx(2.0 * row.served_per_s / (1.0 + 20e-6 * row.served_per_s))
    assert 90e3 < row.exits_per_s < 100e3


def test_so_does_one_in_front_of_a_link_that_is_full():
    row = lab_device.play(Device.load("sriov-posted"), Bench.packaged(link_gbps=1), 1e6)
    assert row.limit == "link"
    assert row.latency_us == pytest.approx(1024.0 / (1e9 / 12_000.0) * 1e6)


def test_hardware_serves_its_bits_and_operations():
    nic, disk = (lab_device.limits(Device.load(name), BENCH) for name in ("sriov-posted", "nvme-passthrough"))
    assert nic["link"] == pytest.approx(25e9 / 12_000.0)
    assert disk["disk"] == 500e3
    assert nic["iotlb"] == pytest.approx(4096.0 / 1500.0 / 215e-9)
    assert disk["iotlb"] == pytest.approx(1.0 / 215e-9)


def test_one_request_at_a_time_never_queues():
    device = Device.load("ide")
    lone = lab_device.play(device, BENCH, 1.0).latency_us
    assert lab_device.most_per_s(device, BENCH) == pytest.approx(1e6 / lone, rel=1e-3)


def test_the_bench_slows_whom_it_concerns():
    virtio, e1000 = Device.load("virtio-net"), Device.load("e1000")
    for device, key in ((virtio, "backend_share"), (e1000, "vcpu_share"), (e1000, "clock_ghz")):
        full = lab_device.most_per_s(device, BENCH)
        halved = Bench.packaged(**{key: 0.5 * getattr(BENCH, key)})
        assert lab_device.most_per_s(device, halved) == pytest.approx(0.5 * full)
    late = lab_device.play(e1000, Bench.packaged(scheduling_us=500), 1.0).latency_us
    assert late - lab_device.play(e1000, BENCH, 1.0).latency_us == pytest.approx(500.0)


def test_mapping_each_dma_is_the_guests_work_and_nobody_elses():
    strict = Bench.packaged(iommu="strict")
    passed, paravirtual = Device.load("sriov-posted"), Device.load("vhost-net")
    more = lab_device.costs(passed, strict).vcpu_s - lab_device.costs(passed, BENCH).vcpu_s
    assert more == pytest.approx(4200.0 / 2.7e9)
    assert lab_device.costs(paravirtual, strict) == lab_device.costs(paravirtual, BENCH)


# Mistakes

PLAIN = {
    "name": "ours",
    "description": "",
    "kind": "paravirtual",
    "guest_cycles": 1,
    "exits": 1,
    "exit_cycles": 1,
    "depth": 8,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exits": -1}, "nic.ours.exits=-1: must be at least 0"),
        ({"kind": "virtual"}, "nic.ours.kind='virtual': choose one of emulated, paravirtual, passthrough"),
        ({"depth": 0}, "nic.ours.depth=0: must be at least 1"),
        ({"exit": 3}, "nic.ours.exit: unknown key (did you mean 'exits'?)"),
        ({"kind": "passthrough", "copies": 1}, "copies=1, host_cycles=0: a passed-through device has no backend"),
        ({"kind": "passthrough", "host_cycles": 9}, "copies=0, host_cycles=9: a passed-through device has no backend"),
        ({"batch_most": 4, "world_switches": 2}, "batch_most=4: world_switches and system_calls are not batched"),
        ({"batch_most": 4, "system_calls": 2}, "batch_most=4: world_switches and system_calls are not batched"),
    ],
)
def test_a_wrong_device_is_named_with_its_key(changes, message):
    with pytest.raises(InputError) as error:
        lab_device.build(DeviceModel, PLAIN | changes, "nic.ours")
    assert message in str(error.value)
