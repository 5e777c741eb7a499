"""Public traces' forms through the whole importer, on made-up VMs: sound ones pass, and planted traps are named."""

import sys
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

from made_fleet import GIB, KIB, MIB, START, STEP, VMS, fleet

sys.path.pop(0)

FLEET = fleet(days=1.0)
FLEET["active"] = np.round(FLEET["used"] * 0.4)
FLEET["cores"] = FLEET["vcpu"] * 0.25 + 0.125 * np.sin(np.arange(len(FLEET)))


def imported(source: str, paths: list[Path], out: Path, **options: object) -> tuple[Imported, Table]:
    result = import_files(Request(source_of(source), paths, out, Options(**options)))
    return result, read_table(out)


def refused(source: str, paths: list[Path], out: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        imported(source, paths, out, **options)
    assert "\n" not in str(error.value)
    assert not out.exists()
    return str(error.value)


def gwa(folder: Path, scale: float = 1 / KIB, per_second: int = 1, german: bool = False) -> Path:
    """A file a VM, as Bitbrains or Materna write them."""
    folder = folder / "trace"
    folder.mkdir(exist_ok=True)
    for name, rows in FLEET.groupby("name"):
        local = (
            pd.to_datetime(rows["ts"], unit="s", utc=True)
            .dt.tz_convert("Europe/Berlin")
            .dt.strftime("%d.%m.%Y %H:%M:%S")
        )
        table = pd.DataFrame(
            {"Timestamp" if german else "Timestamp [ms]": local if german else rows["ts"] * per_second}
        )
        table["CPU cores"] = rows["vcpu"]
        table["CPU usage [%]"] = (100 * rows["cores"] / rows["vcpu"]).round(2)
        table["Memory capacity provisioned [KB]"] = (rows["rss"] * scale).round(3)
        table["Memory usage [KB]"] = (rows["active"] * scale).round(3)
        for quantity in ("Disk read throughput [KB/s]", "Network received throughput [KB/s]"):
            table[quantity] = np.round(10 + 5 * np.sin(rows["ts"] / 1e4), 1)
        table.to_csv(folder / f"{name}.csv", sep=";", index=False, decimal="," if german else ".")
    return folder


def check_gwa(table: Table) -> None:
    assert len(table.meta) == VMS
    for vm, rows in table.vms():
        said = FLEET[FLEET["name"] == vm]
        np.testing.assert_array_equal(rows["t_end_utc_s"], said["ts"])
        np.testing.assert_allclose(rows["active_bytes"], said["active"], rtol=1e-4)
        np.testing.assert_allclose(rows["backed_bytes"], said["rss"], rtol=1e-4)
        np.testing.assert_allclose(rows["cpu_used_cores"], said["cores"], atol=0.01)
        assert said["rss"].max() <= rows["cap_bytes"].iloc[0] * 1.005 <= 2.1 * said["rss"].max() * 1.005


@pytest.mark.parametrize("per_second", [1, 1000, 10**6])
def test_bitbrains_clock_is_told_by_its_values_whatever_the_header_says(tmp_path: Path, per_second: int) -> None:
    result, table = imported("bitbrains", [gwa(tmp_path, per_second=per_second)], tmp_path / "out")
    check_gwa(table)
    assert result.tally.lines() == []
    assert result.readings["cap"].title.startswith("guess: next standard size")


def test_materna_with_dates_and_commas_is_the_same(tmp_path: Path) -> None:
    check_gwa(imported("materna", [gwa(tmp_path, german=True)], tmp_path / "out", zone="Europe/Berlin")[1])


def test_bitbrains_in_bytes_is_named(tmp_path: Path) -> None:
    said = refused("bitbrains", [gwa(tmp_path, scale=1.0)], tmp_path / "out")
    assert "which the data contradict" in said or "no reading passes" in said


def test_what_the_user_says_of_sizes_overrules_the_guess(tmp_path: Path) -> None:
    sizes = FLEET.drop_duplicates("name")
    caps_mib = dict(zip(sizes["name"], sizes["size"] / MIB, strict=True))
    _, table = imported("bitbrains", [gwa(tmp_path)], tmp_path / "out", caps_mib=caps_mib)
    assert {vm: rows["cap_bytes"].iloc[0] / MIB for vm, rows in table.vms()} == caps_mib


def ufcg(folder: Path, scale: float = 100.0) -> Path:
    folder = folder / "cloud"
    folder.mkdir(exist_ok=True)
    use = pd.DataFrame({"timestamp": FLEET["ts"], "server_id": FLEET["name"], "vcpu_utilization": 100 * FLEET["cores"]})
    use["ram_utilization"] = (scale * FLEET["used"] / FLEET["size"]).round(5)
    use.loc[use.index[100], "ram_utilization"] = 0
    use.to_csv(folder / "servers_utilization.csv", index=False)
    sizes = FLEET.drop_duplicates("name")
    flavors = pd.DataFrame({"flavor_id": sizes["name"], "ram": sizes["size"] / MIB, "vcpu": sizes["vcpu"]})
    flavors.to_csv(folder / "flavors.csv", index=False)
    flavors.assign(server_id=sizes["name"]).drop(columns=["ram", "vcpu"]).to_csv(
        folder / "servers_specs.csv", index=False
    )
    return folder


def test_ufcg_percent_of_the_flavour_and_0_is_unknown(tmp_path: Path) -> None:
    _, table = imported("ufcg", [ufcg(tmp_path)], tmp_path / "out")
    rows = pd.concat([rows for _, rows in table.vms()]).sort_values(["t_end_utc_s", "vm_id"], ignore_index=True)
    said = FLEET.sort_values(["ts", "name"], ignore_index=True)
    known = rows["guest_used_bytes"].notna()
    assert (~known).sum() == 1
    np.testing.assert_allclose(rows["guest_used_bytes"][known], said["used"][known], rtol=1e-4)
    np.testing.assert_allclose(rows["cpu_used_cores"], said["cores"], rtol=1e-4)


def test_ufcg_shares_sold_as_percent_are_named(tmp_path: Path) -> None:
    assert "'ram_utilization' (guest_used): documentation says percent, which the data contradict" in refused(
        "ufcg", [ufcg(tmp_path, scale=1.0)], tmp_path / "out"
    )


def test_a_vm_of_ufcg_that_is_a_share_among_per_cent_is_named(tmp_path: Path) -> None:
    folder = ufcg(tmp_path)
    file = folder / "servers_utilization.csv"
    use = pd.read_csv(file)
    of = use["server_id"] == "vm-7"
    use.loc[of, "ram_utilization"] /= 100
    use.to_csv(file, index=False)
    most = use["ram_utilization"][of].max()
    said = refused("ufcg", [folder], tmp_path / "out")
    assert f"'ram_utilization' (guest_used): vm-7 has at most {most:.4g}, as a share" in said
    assert "11 of 11 other VMs pass 5 per cent" in said
    imported("ufcg", [folder], tmp_path / "out", units={"guest_used": "percent"})
    use.loc[of, "ram_utilization"] = 1
    use.to_csv(file, index=False)
    imported("ufcg", [folder], tmp_path / "out")  # whole numbers: a large VM that uses 1 %


def test_a_job_of_google_2011_that_is_a_share_among_per_cent_is_named(tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    rows = [
        f"{job},1,{slot},20.5,{level / (100 if job == 4 else 1):.5f}"
        for job in range(8)
        for slot in range(288)
        for level in [30 + 5 * np.sin(slot / 40 + job) + 0.1 * (slot % 7)]
    ]
    path.write_text("job_id,day,slot,cpu_pct,mem_pct\n" + "\n".join(rows) + "\n")
    assert "'mem_pct' (backed): 4 has at most" in refused(
        "google2011", [path], tmp_path / "out", caps_mib={"all": 16384}
    )


def test_borg_relative_microseconds_and_maxima_beside_means(tmp_path: Path) -> None:
    path, machine = tmp_path / "usage.csv", 512 * GIB
    table = pd.DataFrame(
        {"time": (FLEET["ts"] - START) * 10**6, "collection_id": "11", "instance_index": FLEET["name"].str[3:]}
    )
    table["avg_memory_usage"], table["max_memory_usage"] = FLEET["rss"] * 0.9 / machine, FLEET["rss"] / machine
    table["memory_limit"] = FLEET["size"] / machine
    table.to_csv(path, index=False)
    result, read = imported("borg2019", [path], tmp_path / "out", caps_mib={"machine": machine / MIB})
    assert result.clock.relative
    assert result.clock.step_s == STEP
    for vm, rows in read.vms():
        said = FLEET[FLEET["name"] == f"vm-{vm[3:]}"]["rss"]
        np.testing.assert_allclose(rows.query("agg == 'max'")["backed_bytes"], said)
        np.testing.assert_allclose(rows.query("agg == 'mean'")["backed_bytes"], 0.9 * said)
    assert set(read.meta["group"]) == {"11"}


def test_azure_sizes_and_lives_are_a_table_without_use_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "vmtable.csv"
    lives = [(i, 300 * i, 300 * i + 3600 if i < 90 else 259_200, 2 ** (i % 3), 3.5 * 2 ** (i % 3)) for i in range(100)]
    path.write_text("".join(f"vm{i}==,s{i % 7},d,{a},{d},90,5,50,Unknown,{c},{gb}\n" for i, a, d, c, gb in lives))
    result, table = imported("azure_v1", [path], tmp_path / "out")
    assert len(table.meta) == 100
    for vm, rows in table.vms():
        _, arrive, depart, cores, gb = lives[int(vm[2:-2])]
        assert (len(rows), rows["cap_bytes"][0], rows["vcpus"][0]) == (1, gb * GIB, cores)
        assert (rows["t_end_utc_s"][0], rows["interval_s"][0]) == (depart, depart - arrive)
        assert rows[["guest_used_bytes", "backed_bytes", "active_bytes"]].isna().all(axis=None)
    kinds = table.meta.set_index("vm_id")
    assert kinds.loc["vm50==", "arrive_kind"] == kinds.loc["vm50==", "depart_kind"] == "observed"
    assert kinds.loc["vm0==", "arrive_kind"] == "left_censored"
    assert kinds.loc["vm95==", "depart_kind"] == "right_censored"
    assert "synthetic: 100 of 100" in "; ".join(result.tally.lines())
    assert any("synthetic" in str(check) for check in table.manifest["checks"])


def test_azure_vms_that_leave_before_they_come_end_the_import(tmp_path: Path) -> None:
    path = tmp_path / "vmtable.csv"
    path.write_text("".join(f"vm{i}==,s,d,{300 * i + 600},{300 * i},90,5,50,Unknown,1,3.5\n" for i in range(20)))
    said = refused("azure_v1", [path], tmp_path / "out")
    assert "VMs that leave before they come" in said
    assert "first vm0==, from 600 to 0 s" in said


def vmtable(folder: Path, *rows: str) -> list[Path]:
    """Fifty sound VMs, and these rows."""
    path = folder / "vmtable.csv"
    sound = [f"vm{i}==,s,d,{300 * i},{300 * i + 3600},90,5,50,Unknown,2,{3.5 * 2 ** (i % 3)}" for i in range(50)]
    path.write_text("\n".join([*sound, *rows]) + "\n")
    return [path]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("late==,s,d,600,900000000,90,5,50,Unknown,2,3.5", "time: late== leaves at 900000000, expected seconds"),
        ("early==,s,d,-300,900,90,5,50,Unknown,2,3.5", "time: early== arrives at -300, expected seconds"),
        ("vm7==,s,d,900,1800,90,5,50,Unknown,2,3.5", "vm: vm7== stands in 2 rows, expected one of its life"),
    ],
)
def test_lives_that_none_can_have_are_named(tmp_path: Path, row: str, said: str) -> None:
    assert said in refused("azure_v1", vmtable(tmp_path, row), tmp_path / "out")


def test_azure_vms_without_a_size_are_left_out_and_named(tmp_path: Path) -> None:
    row = "none==,s,d,600,900,90,5,50,Unknown,2,N/A"
    result, table = imported("azure_v1", vmtable(tmp_path, row), tmp_path / "out")
    assert (len(table.meta), list(result.left_out)) == (50, ["none=="])
    assert not pd.concat([rows for _, rows in table.vms()])["cap_bytes"].isna().any()
    several = [row.replace("none", f"none{i}") for i in range(5)]
    assert "cap: nothing says what 5 of 55 VMs" in refused("azure_v1", vmtable(tmp_path, *several), tmp_path / "again")
