"""A made-up fleet, written as each monitoring system writes it, and what an import makes of the files."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.importing import Request, import_files
from hvgym.envs.imports.registry import source_of
from hvgym.envs.imports.sanity import warnings
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.table import read_table

START_S = 1_767_571_200  # Monday, 2026-01-05 00:00 UTC
STEP_S = 300
STEPS = 576
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """What is true of a VM, by step: bytes, cores, and counters since its start."""

    name: str
    vcpus: int
    cap: np.ndarray
    total: np.ndarray
    usable: np.ndarray
    unused: np.ndarray
    cache: np.ndarray
    rss: np.ndarray
    cpu_s: np.ndarray
    swap_in: np.ndarray
    received: np.ndarray
    on: np.ndarray

    @property
    def used(self):
        return self.total - self.usable


def machine(name, cap_gib, vcpus, seed):
    rng = np.random.default_rng(seed)
    day = np.sin(2 * np.pi * np.arange(STEPS) * STEP_S / 86_400 + seed)
    total = np.full(STEPS, 1.0 * cap_gib * GIB - 200 * MIB)
    used = total * np.clip(
        0.4 + 0.15 * day + np.cumsum(rng.normal(0, 0.004, STEPS)) * 0.2 + rng.normal(0, 0.01, STEPS), 0.05, 0.75
    )
    cache = total * (0.15 + 0.05 * rng.random(STEPS))
    unused = total - used - cache
    return Machine(
        name, vcpus, np.full(STEPS, 1.0 * cap_gib * GIB), total, whole(unused + 0.9 * cache), whole(unused), whole(cache),
        whole(np.maximum.accumulate(used + cache) + 100 * MIB), np.cumsum(STEP_S * vcpus * (0.1 + 0.5 * rng.random(STEPS))),
        whole(np.cumsum((rng.random(STEPS) < 0.1) * rng.random(STEPS) * 50 * MIB)),
        whole(np.cumsum(STEP_S * 1e5 * rng.random(STEPS))), np.ones(STEPS, bool),
    )  # fmt: skip


def whole(values):
    """Whole KiB, so that no format loses anything."""
    return np.round(values / 1024) * 1024


def times():
    return START_S + STEP_S * np.arange(STEPS)


def as_prometheus(folder, fleet, *, time=1, size=1, swap=None, more=()):
    folder.mkdir(exist_ok=True)

    def series(metric, one, values, **labels):
        pairs = [[float(t) * time, f"{v:.17g}"] for t, v in zip(times(), values, strict=True) if not np.isnan(v)]
        return {"metric": {"__name__": metric, "domain": one.name, "instance": "kvm1:9177", **labels}, "values": pairs}

    stats, info = "libvirt_domain_memory_stats", "libvirt_domain_info"
    result = [
        found
        for one in fleet
        for found in (
            series(f"{info}_maximum_memory_bytes", one, one.cap * size),
            series(f"{info}_virtual_cpus", one, one.vcpus + 0 * one.cap),
            series(f"{info}_cpu_time_seconds_total", one, one.cpu_s),
            series(f"{info}_memory_usage_bytes", one, one.cap * size),
            series(f"{stats}_available_bytes", one, one.total * size),
            series(f"{stats}_usable_bytes", one, one.usable * size),
            series(f"{stats}_unused_bytes", one, one.unused * size),
            series(f"{stats}_rss_bytes", one, one.rss * size),
            series(f"{stats}_swap_in_bytes", one, one.swap_in if swap is None else swap),
            series("libvirt_domain_interface_stats_receive_bytes_total", one, one.received, target_device="tap0"),
        )
    ]
    (folder / "week.json").write_text(
        json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [*result, *more]}})
    )
    return folder


def as_proxmox(folder, fleet, *, time=1, size=1, cpu=1, memhost=True):
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(fleet, 100):
        cores = np.diff(one.cpu_s, append=np.nan) / STEP_S / one.vcpus
        received = np.diff(one.received, append=np.nan) / STEP_S
        rows = [
            {"time": int(t) * time}
            | {"maxmem": float(one.cap[i] * size), "maxcpu": one.vcpus}
            | ({
                "mem": (one.total - one.unused)[i] * size, **({"memhost": one.rss[i] * size} if memhost else {}),
                **({} if np.isnan(cores[i]) else {"cpu": cores[i] * cpu, "netin": received[i]}),
            } if one.on[i] else {})
            for i, t in enumerate(times())
        ]  # fmt: skip
        (folder / f"qemu-{number}-{one.name}.AVERAGE.json").write_text(json.dumps(rows))
    return folder


def as_virsh(folder, fleet, *, unit=1024, cpu=1e9, date=str, log="kvm1.log", reported=None):
    folder.mkdir(exist_ok=True)
    lines = []
    for i, t in enumerate(times()):
        lines.append(date(int(t)))
        for one in fleet:
            lines.append(f"Domain: '{one.name}'")
            lines.append(f"  state.state={1 if one.on[i] else 5}")
            lines.append(f"  balloon.maximum={one.cap[i] / unit:.0f}")
            if not one.on[i]:
                continue
            said = {
                "cpu.time": one.cpu_s[i] * cpu, "vcpu.current": one.vcpus, "balloon.current": one.cap[i] / unit,
                "balloon.available": one.total[i] / unit, "balloon.usable": one.usable[i] / unit,
                "balloon.unused": one.unused[i] / unit, "balloon.rss": one.rss[i] / unit, "balloon.swap_in": one.swap_in[i] / unit,
                "balloon.last-update": (reported or times())[i] - 3, "net.0.rx.bytes": one.received[i],
            }  # fmt: skip
            lines += [f"  {key}={value:.0f}" for key, value in said.items()]
        lines.append("")
    (folder / log).write_text("\n".join(lines) + "\n")
    return folder


def as_sysstat(folder, fleet, *, decimal=".", date=str, old=False, unit=1024):
    folder.mkdir(exist_ok=True)
    for one in fleet:
        rate = {
            "cpu": np.diff(one.cpu_s, prepend=0) / STEP_S / one.vcpus * 100,
            "in": np.diff(one.swap_in, prepend=0) / STEP_S / 4096,
        }
        stamps = [f"{one.name};{STEP_S};{date(int(t))};" for t in times()]
        free, avail, cache, total = (values / unit for values in (one.unused, one.usable, one.cache, one.total))
        used = total - free if old else total - free - cache
        share = 100 * used / total
        memory = [
            f"{stamps[i]}{free[i]:.0f};{used[i]:.0f};{share[i]:.2f};0;{cache[i]:.0f}"
            if old
            else f"{stamps[i]}{free[i]:.0f};{avail[i]:.0f};{used[i]:.0f};{share[i]:.2f};0;{cache[i]:.0f};0"
            for i in range(STEPS)
        ]
        busy = [
            f"{stamps[i]}-1;{rate['cpu'][i]:.2f};0.00;0.00;0.00;0.00;{100 - rate['cpu'][i]:.2f}" for i in range(STEPS)
        ]
        swapped = [f"{stamps[i]}{rate['in'][i]:.2f};0.00" for i in range(STEPS)]
        head = "# hostname;interval;timestamp;"
        columns = "kbmemfree;kbmemused;" if old else "kbmemfree;kbavail;kbmemused;"
        content = [
            f"{one.name};-1;{date(START_S - 60)};LINUX-RESTART\t({one.vcpus} CPU)",
            *(head + "CPU;%user;%nice;%system;%iowait;%steal;%idle", *busy),
            *(head + columns + "%memused;kbbuffers;kbcached" + ("" if old else ";kbslab"), *memory),
            *(head + "pswpin/s;pswpout/s", *swapped),
        ]
        (folder / f"{one.name}.csv").write_text("\n".join(content).replace(".", decimal) + "\n")
    return folder


def utc(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S+00")


def as_ovirt(folder, fleet, *, share=1.0, date=utc, configured=1.0):
    folder.mkdir(exist_ok=True)
    config = [f"{i},u-{i},{one.name},{one.cap[0] / MIB * configured:.0f},1,{one.vcpus}" for i, one in enumerate(fleet)]
    (folder / "config.csv").write_text(
        "history_id,vm_id,vm_name,memory_size_mb,cpu_per_socket,number_of_sockets\n" + "\n".join(config) + "\n"
    )
    rows = []
    for k, t in enumerate(times()):
        for i, one in enumerate(fleet):
            cores = (one.cpu_s[k] - (one.cpu_s[k - 1] if k else 0)) / STEP_S / one.vcpus
            memory = 100 * one.used[k] / one.cap[k] * share
            said = f"{100 * cores:.0f},{memory:.{0 if share == 1 else 4}f}" if one.on[k] else "0,0"
            rows.append(f"{date(int(t))},u-{i},{1 if one.on[k] else 0},{STEP_S},{said},{i}")
    header = "history_datetime,vm_id,vm_status,seconds_in_status,cpu_usage_percent,memory_usage_percent,vm_configuration_version\n"
    (folder / "vms.csv").write_text(header + "\n".join(rows) + "\n")
    return folder


WRITERS = {
    "prometheus": as_prometheus,
    "proxmox": as_proxmox,
    "virsh": as_virsh,
    "sysstat": as_sysstat,
    "ovirt": as_ovirt,
}


def made_up():
    sizes = (("web", 4, 2), ("db", 16, 8), ("cache", 8, 4), ("job", 2, 1))
    return [machine(name, cap_gib, vcpus, i) for i, (name, cap_gib, vcpus) in enumerate(sizes)]


@dataclass(frozen=True)
class Outcome:
    """What an import made of files: rows by VM with t_end_utc_s as index, and what it said."""

    vms: dict
    said: str
    clock: object
    read: dict

    def used(self, name):
        return self.vms[name]["guest_used_bytes"].reindex(times()).to_numpy(float)


def imported(source, folder, out="table", **options):
    done = import_files(Request(source_of(source), [folder], folder.parent / out, Options(**options)))
    table = read_table(folder.parent / out)
    read = {name: reading.evidence for name, reading in done.readings.items()}
    said = "\n".join([*done.tally.lines(), *warnings(done.clock)])
    return Outcome({name: rows.set_index("t_end_utc_s") for name, rows in table.vms()}, said, done.clock, read)


def refused(source, folder, **options):
    with pytest.raises(InputError) as error:
        imported(source, folder, **options)
    assert "\n" not in str(error.value)
    assert not (folder.parent / "table").exists()
    return str(error.value)


def with_one(fleet, name, **changed):
    """The fleet, with some of one VM's columns changed."""
    return [
        replace(one, **{key: change(getattr(one, key)) for key, change in changed.items()}) if one.name == name else one
        for one in fleet
    ]


def from_step(step, value):
    def change(values):
        values = values.copy()
        values[step:] = value(values[step:]) if callable(value) else value
        return values

    return change


def between(first, last, value):
    def change(values):
        values = values.copy()
        values[first:last] = value(values) if callable(value) else value
        return values

    return change
