"""One made-up fleet written as each monitoring system writes it: imported it is the fleet again; mistakes are named, or mended and said."""

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


@pytest.fixture
def fleet():
    return [
        machine(name, cap, vcpus, i)
        for i, (name, cap, vcpus) in enumerate([("web", 4, 2), ("db", 16, 8), ("cache", 8, 4), ("job", 2, 1)])
    ]


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
        memory = [
            f"{stamps[i]}{free[i]:.0f};" + ("" if old else f"{avail[i]:.0f};") + f"{used[i]:.0f};{100 * used[i] / total[i]:.2f};0;{cache[i]:.0f}" + ("" if old else ";0")
            for i in range(STEPS)
        ]  # fmt: skip
        head = "# hostname;interval;timestamp;"
        content = [
            f"{one.name};-1;{date(START_S - 60)};LINUX-RESTART\t({one.vcpus} CPU)",
            head + "CPU;%user;%nice;%system;%iowait;%steal;%idle",
            *(f"{stamps[i]}-1;{rate['cpu'][i]:.2f};0.00;0.00;0.00;0.00;{100 - rate['cpu'][i]:.2f}" for i in range(STEPS)),
            head + ("kbmemfree;kbmemused;%memused;kbbuffers;kbcached" if old else "kbmemfree;kbavail;kbmemused;%memused;kbbuffers;kbcached;kbslab"),
            *memory,
            head + "pswpin/s;pswpout/s",
            *(f"{stamps[i]}{rate['in'][i]:.2f};0.00" for i in range(STEPS)),
        ]  # fmt: skip
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


@pytest.mark.parametrize("source", ["prometheus", "virsh", "sysstat"])
def test_what_guests_use_comes_back_to_the_byte(tmp_path, fleet, source):
    outcome = imported(source, WRITERS[source](tmp_path / "x", fleet))
    assert sorted(outcome.vms) == ["cache", "db", "job", "web"]
    for one in fleet:
        rows = outcome.vms[one.name]
        np.testing.assert_array_equal(outcome.used(one.name), one.used)
        np.testing.assert_array_equal(rows["guest_notfree_bytes"].reindex(times()), one.total - one.unused)
        assert (rows["interval_s"] == STEP_S).all()
        assert rows["cap_bytes"].unique().tolist() == [one.total[0] if source == "sysstat" else one.cap[0]]
        cores = np.diff(one.cpu_s) / STEP_S
        np.testing.assert_allclose(rows["cpu_used_cores"].reindex(times())[1:], cores, atol=1e-4 * one.vcpus)
        swapped = np.diff(one.swap_in) / STEP_S
        np.testing.assert_allclose(
            rows["guest_swap_in_bytes_per_s"].reindex(times())[1:], swapped, atol=0.005 * 4096 + 1e-6
        )


def test_proxmox_gives_what_is_not_free_and_what_is_backed(tmp_path, fleet):
    outcome = imported("proxmox", as_proxmox(tmp_path / "x", fleet))
    for one in fleet:
        rows = outcome.vms[one.name].reindex(times() + STEP_S)  # labelled by the start of the step
        np.testing.assert_array_equal(rows["guest_notfree_bytes"], one.total - one.unused)
        np.testing.assert_array_equal(rows["backed_bytes"], one.rss)
        np.testing.assert_allclose(rows["cpu_used_cores"].to_numpy()[:-1], np.diff(one.cpu_s) / STEP_S)
        assert "guest_used_bytes" not in rows or rows["guest_used_bytes"].isna().all()


def test_ovirt_knows_memory_to_a_hundredth_of_the_vm(tmp_path, fleet):
    outcome = imported("ovirt", as_ovirt(tmp_path / "x", fleet))
    for one in fleet:
        used = outcome.vms[one.name]["guest_used_bytes"].reindex(times() + STEP_S).to_numpy()
        np.testing.assert_allclose(used, one.used, atol=0.00501 * one.cap[0])


def test_metrics_in_files_of_their_own_meet_in_one_row(tmp_path, fleet):
    whole = imported("prometheus", as_prometheus(tmp_path / "whole", fleet), "of_one_file")
    document = json.loads((tmp_path / "whole" / "week.json").read_text())
    (tmp_path / "apart").mkdir()
    for number, series in enumerate(document["data"]["result"]):
        (tmp_path / "apart" / f"{number}.json").write_text(json.dumps([series]))
    apart = imported("prometheus", tmp_path / "apart")
    for name, rows in whole.vms.items():
        np.testing.assert_array_equal(apart.vms[name].select_dtypes(float), rows.select_dtypes(float))


def test_guests_and_their_hypervisor_meet_by_the_vms_name(tmp_path, fleet):
    guests = [
        {
            "metric": {"__name__": metric, "instance": f"{one.name}:9100"},
            "values": [[int(t), f"{v:.0f}"] for t, v in zip(times(), values, strict=True)],
        }
        for one in fleet
        for metric, values in (
            ("node_memory_MemTotal_bytes", one.total),
            ("node_memory_MemAvailable_bytes", one.usable),
        )
    ]
    hosts = json.loads((as_prometheus(tmp_path / "x", fleet) / "week.json").read_text())["data"]["result"]
    hosts = [
        series
        for series in hosts
        if "_info_" in series["metric"]["__name__"] or "_rss_" in series["metric"]["__name__"]
    ]
    (tmp_path / "x" / "week.json").write_text(json.dumps(hosts))
    (tmp_path / "x" / "guests.json").write_text(json.dumps(guests))
    outcome = imported("prometheus", tmp_path / "x")
    for one in fleet:
        np.testing.assert_array_equal(outcome.used(one.name), one.used)
        np.testing.assert_array_equal(outcome.vms[one.name]["backed_bytes"], one.rss)


def test_exporters_of_one_quantity_in_two_units_agree(tmp_path, fleet):
    folder = as_prometheus(tmp_path / "x", fleet[1:])
    pages = [[int(t), f"{v / 4096:.17g}"] for t, v in zip(times(), fleet[0].swap_in, strict=True)]
    sizes = [[int(t), f"{v:.0f}"] for t, v in zip(times(), fleet[0].total, strict=True)]
    free = [[int(t), f"{v:.0f}"] for t, v in zip(times(), fleet[0].usable, strict=True)]
    guest = {"node_vmstat_pswpin": pages, "node_memory_MemTotal_bytes": sizes, "node_memory_MemAvailable_bytes": free}
    series = [
        {"metric": {"__name__": name, "instance": "web:9100"}, "values": values} for name, values in guest.items()
    ]
    (folder / "x.json").write_text(json.dumps(series))
    rows = imported("prometheus", folder, caps_mib={"web": 4096}).vms["web"]
    np.testing.assert_allclose(
        rows["guest_swap_in_bytes_per_s"].to_numpy()[1:], np.diff(fleet[0].swap_in) / STEP_S, atol=1e-6
    )


# --- units of size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "quantity", "unit"),
    [
        ("prometheus", {"size": 1 / 1024}, "cap", "KiB"),
        ("prometheus", {"size": 1 / MIB}, "cap", "MiB"),
        ("proxmox", {"size": 1 / 1024}, "cap", "KiB"),
        ("virsh", {"unit": 1}, "cap", "B"),
        ("virsh", {"unit": 1000}, "cap", "KB"),
        ("sysstat", {"unit": 1}, "guest_total", "B"),
        ("ovirt", {"configured": 1024}, "cap", "KiB"),
        ("ovirt", {"share": 0.01}, "guest_used", "share"),
        ("proxmox", {"cpu": 100}, "cpu_used", "percent"),
        ("virsh", {"cpu": 1}, "cpu_used", "s"),
        ("virsh", {"cpu": 1e3}, "cpu_used", "ms"),
    ],
)
def test_a_unit_that_is_not_the_documented_one_stops_the_import_and_is_named(
    tmp_path, fleet, source, options, quantity, unit
):
    message = refused(source, WRITERS[source](tmp_path / "x", fleet, **options))
    assert "which the data contradict" in message
    assert f"({quantity})" in message
    assert f"as {unit} " in message


def test_with_the_unit_said_the_same_files_pass(tmp_path, fleet):
    sizes = dict.fromkeys(("cap", "granted", "guest_total", "guest_usable", "guest_unused", "backed"), "KiB")
    outcome = imported("prometheus", as_prometheus(tmp_path / "x", fleet, size=1 / 1024), units=sizes)
    np.testing.assert_allclose(outcome.used("web"), fleet[0].used, rtol=1e-12)


# --- clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "scale", "unit"), [("prometheus", 1000, "ms"), ("proxmox", 10**9, "ns"), ("proxmox", 10**6, "us")]
)
def test_times_in_finer_units_are_told_by_their_size(tmp_path, fleet, source, scale, unit):
    outcome = imported(source, WRITERS[source](tmp_path / "x", fleet, time=scale))
    assert outcome.clock.unit == unit
    assert outcome.vms["web"].index[0] in (START_S, START_S + STEP_S)


def local(seconds, hours=1):
    return datetime.fromtimestamp(seconds + 3600 * hours, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("source", "date"), [("sysstat", local), ("virsh", lambda t: local(t).replace(" ", "T")), ("ovirt", local)]
)
def test_local_time_needs_its_zone(tmp_path, fleet, source, date):
    folder = WRITERS[source](tmp_path / "x", fleet, date=date)
    assert "zone=" in refused(source, folder)
    outcome = imported(source, folder, zone="Europe/Berlin")
    assert outcome.vms["web"].index[0] in (START_S, START_S + STEP_S)


def test_local_time_that_is_sold_as_utc_is_told_by_the_hour_that_clocks_skip(tmp_path, fleet):
    saturday = int(datetime(2026, 3, 28, tzinfo=UTC).timestamp())

    def sold(seconds, skips):
        at = saturday + seconds - START_S
        return datetime.fromtimestamp(at + 3600 * (skips and at >= saturday + 26 * 3600), UTC).strftime(
            "%Y-%m-%d %H:%M:%S UTC"
        )

    more = [*fleet, *(replace(one, name=f"{one.name}-2") for one in fleet)]
    message = refused("sysstat", as_sysstat(tmp_path / "x", more, date=lambda t: sold(t, True)))
    assert "local time" in message
    assert "zone=" in message
    assert len(imported("sysstat", as_sysstat(tmp_path / "y", more, date=lambda t: sold(t, False))).vms) == 8


def test_steps_of_two_archives_in_one_reply_are_kept_apart_and_said(tmp_path, fleet):
    folder = as_proxmox(tmp_path / "x", fleet)
    for file in folder.iterdir():
        rows = json.loads(file.read_text())
        file.write_text(json.dumps([*rows[: STEPS // 2 : 6], *rows[STEPS // 2 :]]))
    outcome = imported("proxmox", folder)
    assert outcome.vms["web"]["interval_s"].value_counts().to_dict() == {300: STEPS // 2, 1800: STEPS // 12}
    assert "steps differ" in outcome.said


def test_a_locale_with_decimal_commas_changes_nothing(tmp_path, fleet):
    outcome = imported("sysstat", as_sysstat(tmp_path / "x", fleet, decimal=","))
    np.testing.assert_array_equal(outcome.used("db"), fleet[1].used)


# --- counters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["prometheus", "virsh"])
def test_a_counter_that_begins_anew_is_no_fall(tmp_path, fleet, source):
    restarted = from_step(300, lambda rest: rest - rest[0] + 1024)
    outcome = imported(
        source, WRITERS[source](tmp_path / "x", with_one(fleet, "web", cpu_s=restarted, received=restarted))
    )
    assert "counters that began anew: 1 of" in outcome.said
    rows = outcome.vms["web"]
    assert (rows["net_rx_bytes_per_s"].dropna() >= 0).all()
    assert rows.loc[times()[300], "net_rx_bytes_per_s"] == pytest.approx(1024 / STEP_S)


def test_a_rate_that_is_sold_as_a_counter_stops_the_import(tmp_path, fleet):
    rate = np.random.default_rng(0).random(STEPS) * 1e6
    message = refused("prometheus", as_prometheus(tmp_path / "x", fleet, swap=rate))
    assert "documentation says that it counts up, but it falls" in message
    assert "units={guest_swap_in: B/s}" in message


# --- meanings ----------------------------------------------------------------------------------------------------


def test_linux_keeps_a_reserve_so_less_may_be_usable_than_unused(tmp_path, fleet):
    lean = [replace(one, usable=whole(one.unused - 0.03 * one.cap), cache=0 * one.cache) for one in fleet]
    outcome = imported("virsh", as_virsh(tmp_path / "x", lean), "first")
    np.testing.assert_array_equal(outcome.used("web"), lean[0].used)
    swapped = [replace(one, usable=one.unused - 0.2 * one.cap) for one in fleet]
    assert "guest_unused larger than guest_usable" in refused("virsh", as_virsh(tmp_path / "y", swapped))


def test_a_counter_that_is_documented_as_a_rate_is_made_one_and_said(tmp_path, fleet):
    folder = as_proxmox(tmp_path / "x", fleet)
    for one in fleet:  # recorded from status/current, which counts since the start
        file = next(folder.glob(f"*-{one.name}.AVERAGE.json"))
        rows = [row | {"netin": float(one.received[i])} for i, row in enumerate(json.loads(file.read_text()))]
        file.write_text(json.dumps(rows))
    outcome = imported("proxmox", folder)
    assert "counts up, though documentation calls it a gauge" in outcome.read["net_rx"]
    rates = outcome.vms["web"]["net_rx_bytes_per_s"].to_numpy()[1:]
    np.testing.assert_allclose(rates, np.diff(fleet[0].received) / STEP_S)


def test_what_vms_are_granted_is_no_history_of_use(tmp_path, fleet):
    folder = as_prometheus(tmp_path / "x", fleet)
    file = folder / "week.json"
    series = json.loads(file.read_text())["data"]["result"]
    file.write_text(json.dumps([one for one in series if "_info_" in one["metric"]["__name__"]]))
    assert "no column says what VMs use" in refused("prometheus", folder)


def test_what_is_allotted_cannot_be_sold_as_used(tmp_path, fleet):
    sold = {"guest_used": "libvirt_domain_info_memory_usage_bytes"}
    assert "what they were allotted" in refused("prometheus", as_prometheus(tmp_path / "x", fleet), columns=sold)


def test_an_old_kbmemused_is_read_with_its_cache(tmp_path, fleet):
    outcome = imported("sysstat", as_sysstat(tmp_path / "x", fleet, old=True))
    for one in fleet:
        np.testing.assert_array_equal(outcome.vms[one.name]["guest_notfree_bytes"], one.total - one.unused)
        assert "guest_used_bytes" not in outcome.vms[one.name] or outcome.vms[one.name]["guest_used_bytes"].isna().all()


def test_proxmox_without_balloon_says_nothing_of_the_guest(tmp_path, fleet):
    folder = as_proxmox(tmp_path / "x", [replace(one, unused=one.total - one.rss) for one in fleet])
    outcome = imported("proxmox", folder)
    for one in fleet:
        assert outcome.vms[one.name]["guest_notfree_bytes"].isna().all()
        np.testing.assert_array_equal(outcome.vms[one.name]["backed_bytes"].reindex(times() + STEP_S), one.rss)


def test_zero_is_unknown_where_an_exporter_writes_it_for_what_is_missing(tmp_path, fleet):
    silent = with_one(fleet, "job", usable=lambda of: 0 * of, unused=lambda of: 0 * of, total=lambda of: 0 * of)
    outcome = imported(
        "prometheus", as_prometheus(tmp_path / "x", with_one(silent, "web", usable=between(10, 13, 0.0)))
    )
    assert outcome.vms["job"]["guest_used_bytes"].isna().all()
    assert np.flatnonzero(np.isnan(outcome.used("web"))).tolist() == [10, 11, 12]
    np.testing.assert_array_equal(outcome.used("db"), fleet[1].used)


def test_no_per_cent_of_memory_is_no_agent_and_not_an_idle_vm(tmp_path, fleet):
    silent = with_one(fleet, "job", usable=lambda of: of + 2 * GIB, total=lambda of: of)
    silent = [replace(one, usable=one.total) if one.name == "job" else one for one in silent]
    outcome = imported("ovirt", as_ovirt(tmp_path / "x", silent))
    assert outcome.vms["job"]["guest_used_bytes"].isna().all()
    assert outcome.vms["web"]["guest_used_bytes"].notna().all()


@pytest.mark.parametrize("source", ["prometheus", "virsh"])
def test_guests_whose_numbers_stand_still_are_unknown_for_that_time(tmp_path, fleet, source):
    frozen = between(100, 200, lambda values: values[100])
    stuck = with_one(fleet, "web", usable=frozen, unused=frozen, cache=frozen)
    outcome = imported(source, WRITERS[source](tmp_path / "x", stuck))
    assert "guest's numbers stand still" in outcome.said
    assert np.isnan(outcome.used("web")[101:199]).all()
    np.testing.assert_array_equal(outcome.used("web")[:99], fleet[0].used[:99])
    np.testing.assert_array_equal(outcome.used("db"), fleet[1].used)


def test_an_answer_that_is_old_is_unknown(tmp_path, fleet):
    reported = np.where(np.arange(STEPS) < 50, times(), times()[49])
    outcome = imported("virsh", as_virsh(tmp_path / "x", fleet, reported=list(reported)))
    assert "guest's last answer was old" in outcome.said
    assert np.isnan(outcome.used("web")[60:]).all()
    np.testing.assert_array_equal(outcome.used("web")[:50], fleet[0].used[:50])


# --- lives -------------------------------------------------------------------------------------------------------


def test_a_vm_on_two_hosts_is_never_added_up(tmp_path, fleet):
    folder = as_virsh(tmp_path / "x", fleet)
    stale = [replace(fleet[0], rss=fleet[0].rss * 0 + 100 * MIB, on=np.arange(STEPS) < 20)]
    as_virsh(folder, stale, log="kvm2.log")
    outcome = imported("virsh", folder)
    assert "another host reports as well" in outcome.said
    np.testing.assert_array_equal(outcome.vms["web"]["backed_bytes"].reindex(times()), fleet[0].rss)
    assert outcome.vms["web"]["host_id"].unique().tolist() == ["kvm1"]


@pytest.mark.parametrize("source", ["proxmox", "virsh", "ovirt"])
def test_a_vm_that_is_off_says_so(tmp_path, fleet, source):
    folder = WRITERS[source](tmp_path / "x", with_one(fleet, "job", on=between(200, 260, False)))
    rows = imported(source, folder).vms["job"]
    off = rows[rows["power"] == "off"]
    assert off["interval_s"].sum() == 60 * STEP_S
    used = [name for name in ("guest_used_bytes", "guest_notfree_bytes", "backed_bytes") if name in rows]
    assert off[used].isna().all().all()


def test_a_name_that_is_used_again_is_another_vm(tmp_path, fleet):
    later = with_one(
        fleet, "job", cap=from_step(300, 4 * GIB), total=from_step(300, 4 * GIB - 200 * MIB), cpu_s=from_step(300, lambda of: of - of[0]),
        received=from_step(300, lambda of: of - of[0]), swap_in=from_step(300, lambda of: of - of[0]),
    )  # fmt: skip
    gone = between(260, 300, np.nan)
    later = with_one(
        later, "job", **dict.fromkeys(("cap", "total", "usable", "unused", "rss", "cpu_s", "received", "swap_in"), gone)
    )
    outcome = imported("prometheus", as_prometheus(tmp_path / "x", later))
    assert sorted(outcome.vms) == ["cache", "db", "job", "job#2", "web"]
    assert outcome.vms["job#2"]["cap_bytes"].unique().tolist() == [4 * GIB]


def test_maxima_stand_beside_means(tmp_path, fleet):
    folder = as_proxmox(tmp_path / "x", fleet)
    for one in (replace(one, unused=one.unused - 50 * MIB) for one in fleet):
        file = next(folder.glob(f"*-{one.name}.AVERAGE.json"))
        rows = [row | ({"mem": row["mem"] + 50 * MIB} if "mem" in row else {}) for row in json.loads(file.read_text())]
        file.with_name(file.name.replace("AVERAGE", "MAX")).write_text(json.dumps(rows))
    rows = imported("proxmox", folder).vms["web"]
    mean, most = (rows[rows["agg"] == agg]["guest_notfree_bytes"] for agg in ("mean", "max"))
    np.testing.assert_allclose(most.to_numpy() - mean.to_numpy(), 50 * MIB)
