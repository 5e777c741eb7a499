"""vSphere and Hyper-V files of one made-up fleet through the whole importer: sound ones pass, and planted traps are named."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.importing import Imported, Request, import_files
from hvgym.envs.imports.registry import source_of
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.table import Table, read_table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_fleet import KIB, MIB, VMS, fleet

sys.path.pop(0)

FLEET = fleet(days=1.0)
FLEET["active"] = np.round(FLEET["used"] * 0.4)
FLEET["cores"] = FLEET["vcpu"] * 0.25 + 0.125 * np.sin(np.arange(len(FLEET)))
NAMES = list(FLEET["name"].unique())


def imported(source: str, files: list[Path], out: Path, **options: object) -> tuple[Imported, Table]:
    result = import_files(Request(source_of(source), files, out, Options(**options)))
    return result, read_table(out)


def refused(source: str, files: list[Path], out: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        imported(source, files, out, **options)
    assert "\n" not in str(error.value)
    assert not out.exists()
    return str(error.value)


def same_memory(table: Table, column: str, quantity: str) -> None:
    """The table says what the fleet has, to the rounding of the file."""
    assert len(table.meta) == VMS
    for vm, rows in table.vms():
        said = FLEET[FLEET["name"] == vm]
        np.testing.assert_array_equal(rows["t_end_utc_s"], said["ts"])
        np.testing.assert_allclose(rows[column], said[quantity], rtol=1e-3)


def wide(path: Path, clock: str, stamp: str, series: dict[str, pd.DataFrame], hours: float = 0.0) -> Path:
    """PDH-CSV of counters by title (with VM for the VM), each a frame [time, vm]."""
    table = pd.concat(dict(series), axis=1)
    table.columns = [title.replace("VM", vm) for title, vm in table.columns]
    table.index = [datetime.fromtimestamp(s + 3600 * hours, UTC).strftime(stamp) for s in table.index]
    table.round(3).to_csv(path, index_label=clock, quoting=1)
    return path


def by_vm(column: str, scale: float = 1.0) -> pd.DataFrame:
    return FLEET.pivot(index="ts", columns="name", values=column)[NAMES] * scale


def esxtop(folder: Path, scale: float = 1 / MIB) -> list[Path]:
    counters = {"Memory Size": "size", "Memory Consumed Size": "rss", "Touched": "active"}
    series = {f"\\\\esx1\\Group Memory(7:VM)\\{title} MBytes": by_vm(name, scale) for title, name in counters.items()}
    series["\\\\esx1\\Group Cpu(7:VM)\\% Used"] = by_vm("cores", 100)
    path = wide(folder / "top.csv", "(PDH-CSV 4.0) (UTC)(0)", "%m/%d/%Y %H:%M:%S", series)
    text = path.read_text()
    for number, vm in enumerate(NAMES):
        text = text.replace(f"(7:{vm})", f"({1000 + number}:{vm})")
    path.write_text(text)
    return [path]


def hyperv(folder: Path, scale: float = 1 / MIB, available: str = "Guest Available Memory") -> list[Path]:
    """Stamps of Paris in winter, as typeperf writes them; a counter for each virtual processor."""
    memory = "\\\\hv1\\Hyper-V Dynamic Memory $(VM)\\"
    series = {
        f"{memory}Physical Memory": by_vm("size", scale),
        f"{memory}Guest Visible Physical Memory": by_vm("size", scale),
        f"{memory}{available}": (by_vm("size") - by_vm("used")) * scale,
    }
    share = by_vm("cores", 100) / by_vm("vcpu")
    for vp in range(4):
        there = [vm for vm, vcpus in zip(NAMES, by_vm("vcpu").iloc[0], strict=True) if vcpus > vp]
        series[f"\\\\hv1\\Hyper-V Hypervisor Virtual Processor(VM:Hv #P {vp})\\% Total Run Time"] = share[there]
    stamp, clock = "%m/%d/%Y %H:%M:%S.000", "(PDH-CSV 4.0) (Romance Standard Time)(-60)"
    path = wide(folder / "hv.csv", clock, stamp, series, hours=1.0)
    path.write_text(path.read_text().replace("Memory $(", "Memory VM(").replace("Hv #P", "Hv VP"))
    return [path]


def powercli(folder: Path, scale: float = 1 / KIB, usage: float | None = None, zone: str | None = None) -> list[Path]:
    """Newest first, one metric behind the other."""
    metrics = {"mem.consumed.average": ("rss", scale, "KB"), "cpu.usage.average": (None, 0, "%")}
    metrics |= {"mem.usage.average": (None, 1, "%")} if usage else {"mem.active.average": ("active", scale, "KB")}
    newest_first, parts = FLEET[::-1], list[pd.DataFrame]()
    for metric, (column, size, unit) in metrics.items():
        if column:
            values = newest_first[column] * size
        elif metric.startswith("cpu"):
            values = 100 * newest_first["cores"] / newest_first["vcpu"]
        else:
            values = (usage or 0) * newest_first["active"] / newest_first["size"]
        times = pd.to_datetime(newest_first["ts"], unit="s", utc=True)
        stamps = (
            times.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            if zone is None
            else times.dt.tz_convert(zone).dt.strftime("%d.%m.%Y %H:%M:%S")
        )
        parts.append(
            pd.DataFrame(
                {
                    "Entity": newest_first["name"],
                    "MetricId": metric,
                    "Timestamp": stamps,
                    "Value": values.round(4),
                    "Unit": unit,
                }
            )
        )
    stats, sizes = folder / "stats.csv", folder / "vms.csv"
    comma = zone is not None
    pd.concat(parts).to_csv(stats, index=False, quoting=1, sep=";" if comma else ",", decimal="," if comma else ".")
    vms = FLEET.drop_duplicates("name")
    pd.DataFrame({"Name": vms["name"], "MemoryMB": vms["size"] / MIB, "NumCpu": vms["vcpu"]}).to_csv(
        sizes, index=False, quoting=1
    )
    return [stats, sizes]


def govc(folder: Path, scale: float = 1 / KIB) -> list[Path]:
    sample, vms = [], []
    for number, name in enumerate(NAMES):
        rows = FLEET[FLEET["name"] == name]
        info = [{"timestamp": datetime.fromtimestamp(s, UTC).isoformat(), "interval": 300} for s in rows["ts"]]
        counters = {
            "mem.active.average": rows["active"] * scale,
            "mem.consumed.average": rows["rss"] * scale,
            "cpu.usage.average": 1e4 * rows["cores"] / rows["vcpu"],
        }
        value = [{"name": c, "instance": "", "value": [round(v) for v in values]} for c, values in counters.items()]
        sample.append(
            {"entity": {"type": "VirtualMachine", "value": f"vm-{900 + number}"}, "sampleInfo": info, "value": value}
        )
        config = {"memorySizeMB": int(rows["size"].iloc[0] / MIB), "numCpu": int(rows["vcpu"].iloc[0])}
        vms.append({"self": {"value": f"vm-{900 + number}"}, "name": name, "summary": {"config": config}})
    (folder / "stats.json").write_text(json.dumps({"sample": sample}))
    (folder / "vms.json").write_text(json.dumps({"virtualMachines": vms}))
    return [folder / "stats.json", folder / "vms.json"]


MADE: dict[str, Callable[..., list[Path]]] = {"esxtop": esxtop, "hyperv": hyperv, "powercli": powercli, "govc": govc}


@pytest.mark.parametrize("source", sorted(MADE))
def test_a_sound_fleet_passes_and_is_what_it_was(tmp_path: Path, source: str) -> None:
    result, table = imported(source, MADE[source](tmp_path), tmp_path / "out")
    if source == "hyperv":
        same_memory(table, "guest_used_bytes", "used")
    else:
        same_memory(table, "active_bytes", "active")
        same_memory(table, "backed_bytes", "rss")
    same_memory(table, "cap_bytes", "size")
    same_memory(table, "cpu_used_cores", "cores")
    assert result.tally.lines() == []


@pytest.mark.parametrize("source", sorted(MADE))
@pytest.mark.parametrize("wrong", [1.0, 1 / KIB**3])
def test_memory_in_another_unit_than_the_product_writes_is_named(tmp_path: Path, source: str, wrong: float) -> None:
    said = refused(source, MADE[source](tmp_path, scale=wrong), tmp_path / "out")
    assert "documentation says" in said
    assert "which the data contradict" in said
    assert "units={" in said


def test_usage_of_powercli_in_hundredths_is_named_and_read_when_said(tmp_path: Path) -> None:
    same_memory(imported("powercli", powercli(tmp_path, usage=100), tmp_path / "percent")[1], "active_bytes", "active")
    files = powercli(tmp_path, usage=10_000)
    assert "'mem.usage.average' (active): documentation says percent, which the data contradict" in refused(
        "powercli", files, tmp_path / "out"
    )
    _, table = imported("powercli", files, tmp_path / "out", units={"active": "hundredths"})
    same_memory(table, "active_bytes", "active")


def test_powercli_in_german_needs_its_zone_and_is_the_same_then(tmp_path: Path) -> None:
    files = powercli(tmp_path, zone="Europe/Berlin")
    assert "names no time zone" in refused("powercli", files, tmp_path / "out")
    same_memory(imported("powercli", files, tmp_path / "out", zone="Europe/Berlin")[1], "active_bytes", "active")


def test_without_sizes_powercli_asks_for_them(tmp_path: Path) -> None:
    said = refused("powercli", powercli(tmp_path)[:1], tmp_path / "out")
    assert "caps" in said
    caps_mib = {
        name: size / MIB for name, size in FLEET.drop_duplicates("name")[["name", "size"]].itertuples(index=False)
    }
    same_memory(
        imported("powercli", powercli(tmp_path)[:1], tmp_path / "out", caps_mib=caps_mib)[1], "cap_bytes", "size"
    )


def test_metrics_that_stand_far_behind_each_other_are_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvgym.envs.imports import long_tables, reading

    monkeypatch.setattr(long_tables, "frames", lambda file, skip: reading.frames(file, rows=1000, skip=skip))
    result, table = imported("powercli", powercli(tmp_path), tmp_path / "out")
    same_memory(table, "active_bytes", "active")
    same_memory(table, "backed_bytes", "rss")
    assert result.tally.lines() == []


def test_what_hyperv_assigned_is_backed_and_no_use_of_the_guest(tmp_path: Path) -> None:
    result, table = imported("hyperv", hyperv(tmp_path, available="Added Memory"), tmp_path / "out")
    same_memory(table, "backed_bytes", "size")
    same_memory(table, "granted_bytes", "size")
    assert not result.known.get("guest_used_bytes")
