"""Clean histories of ordinary fleets that look like a fault in some respect: each is read as it is."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.table import FLAGS

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_fleet import COLUMNS, GIB, KIB, MIB, START, UNITS, fleet, imported, without
from monitored import STEP_S, WRITERS, made_up
from monitored import imported as monitored

sys.path.pop(0)


def samples(table):
    return pd.concat([rows for _, rows in table.vms()], ignore_index=True)


@pytest.mark.parametrize(("unit", "size"), [("KiB", KIB), ("MiB", MIB), ("GiB", GIB)])
@pytest.mark.parametrize("caps_mib", [(3000, 5000, 1500, 7000), (16384,), (32768, 65536)])
def test_sizes_that_are_no_multiples_of_128_mib_or_round_in_both_units_are_binary(tmp_path, unit, size, caps_mib):
    """Of 16 GiB in KiB 16,777,216 are 16,000 MiB as KB, which is a multiple of 128 MiB too."""
    frame = resized(fleet(), caps_mib)
    frame[["size", "used", "rss"]] /= size
    result, table = imported(tmp_path, frame, without(COLUMNS, "backed"), units=UNITS | {"guest_used": unit})
    assert (result.readings["cap"].unit, result.readings["cap"].by) == (unit, "data")
    assert set(samples(table)["cap_bytes"]) == {mib * MIB for mib in caps_mib}


def resized(frame, caps_mib):
    """The fleet with these sizes in turn, used in the same shares."""
    frame = frame.copy()
    caps = np.array(caps_mib)[frame["name"].str.slice(3).astype(int) % len(caps_mib)] * MIB
    frame["used"], frame["rss"] = (np.round(frame[name] * caps / frame["size"]) for name in ("used", "rss"))
    return frame.assign(size=caps)


def test_guests_of_a_few_dozen_mib_are_no_per_cent(tmp_path):
    frame = resized(fleet(), (512, 1024))
    frame["used"] = np.round((70 + frame["used"] / frame["size"]) * 1024) * KIB
    _, table = imported(tmp_path, frame)
    assert samples(table)["guest_used_bytes"].median() == pytest.approx(70 * MIB, rel=0.02)
    frame[["size", "used"]] /= MIB
    with pytest.raises(InputError, match=r"'used' \(guest_used\): .*as percent"):  # 70 of 512: MiB or per cent
        imported(tmp_path, frame, without(COLUMNS, "backed"))


def test_memory_that_was_given_and_stays_is_not_taken_for_sampled(tmp_path):
    """Nearly all rows at 77 % of a VM's size, or at whole twentieths of it."""
    frame = fleet()
    rng = np.random.default_rng(0)
    frame["rss"] = np.round(0.77 * frame["size"] * np.where(rng.random(len(frame)) < 0.1, rng.uniform(0.98, 1), 1))
    result, _ = imported(tmp_path, frame)
    assert result.readings["backed"].unit == "B"
    frame["rss"] = np.round(np.ceil(20 * frame["used"] / frame["size"]) / 20 * frame["size"])
    _, table = imported(tmp_path, frame)
    assert set(samples(table)["backed_bytes"]) == set(frame["rss"])


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_gib_that_are_rounded_are_not_taken_for_sampled(tmp_path, decimals):
    """4 GiB in steps of 0.01 GiB: every fourth value is a whole per cent of the VM."""
    frame = fleet()
    frame[["size", "used", "rss"]] = (frame[["size", "used", "rss"]] / GIB).round(decimals)
    _, table = imported(tmp_path, frame)
    assert not (samples(table)["flags"] & FLAGS["stale"]).any()


@pytest.mark.parametrize("unit", [1, KIB])
def test_sampled_memory_is_still_told_and_the_user_may_say_that_it_is_none(tmp_path, unit):
    frame = fleet()
    frame["used"] = np.round(np.round(1500 * frame["used"] / frame["size"]) / 1500 * frame["size"])
    frame[["size", "used", "rss"]] /= unit
    name = {1: "B", KIB: "KiB"}[unit]
    with pytest.raises(InputError, match=rf"grid of 1/100 or 1/1500 .*units=\{{guest_used: {name}\}}"):
        imported(tmp_path, frame)
    result, _ = imported(tmp_path, frame, units=UNITS | {"guest_used": name})
    assert result.readings["guest_used"].by == "user"


def idle(step):
    """Guests that hardly use anything: in such steps nothing moves for hours."""
    frame = fleet()
    hour = (frame["ts"] - frame["ts"].min()) // 3600
    return frame.assign(used=np.round(0.3 * frame["size"] / step + 4 * (hour // 12)) * step)


@pytest.mark.parametrize("step", [MIB, GIB / 100])
def test_rounded_numbers_of_idle_guests_may_stand_still(tmp_path, step):
    _, table = imported(tmp_path, idle(step), without(COLUMNS, "backed"))
    assert samples(table)["guest_used_bytes"].notna().all()


def test_an_import_of_frozen_statistics_alone_says_that_they_are(tmp_path):
    frame = idle(4 * KIB)
    frame["used"] += 4 * KIB
    with pytest.raises(InputError, match="the guest's numbers stand still while it works, now unknown: 5,184 of 5,184"):
        imported(tmp_path, frame, without(COLUMNS, "backed"))


@pytest.mark.parametrize("written", ["%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S"])
def test_dates_as_people_write_them_are_read(tmp_path, written):
    frame = fleet()
    dates = pd.to_datetime(frame["ts"], unit="s", utc=True).dt.tz_convert("Europe/Berlin")
    _, table = imported(tmp_path, frame.assign(ts=dates.dt.strftime(written)), zone="Europe/Berlin")
    assert set(samples(table)["t_end_utc_s"]) == set(frame["ts"])


def test_a_date_that_may_be_of_two_days_is_asked_for(tmp_path):
    frame = fleet(days=0.5)
    dates = pd.to_datetime(frame["ts"], unit="s", utc=True).dt.strftime("%m/%d/%Y %H:%M:%S")
    with pytest.raises(
        InputError, match=r"column 'ts': '03/10/2024 .* may be month/day or day/month.*write 2024-03-10T"
    ):
        imported(tmp_path, frame.assign(ts=dates), zone="UTC")


@pytest.mark.parametrize(("scale", "unit"), [(1, "cores"), (100, "percent_of_core")])
def test_cpu_in_use_is_not_taken_for_time(tmp_path, scale, unit):
    """Hundreds of per cent are of cores; of cores it is asked for what else the numbers may be, and time is not among it."""
    frame = fleet()
    busy = frame["vcpu"] * (0.2 + 0.7 * np.random.default_rng(0).random(len(frame)))
    frame["cpu"] = (scale * busy).round(3)
    if unit == "cores":
        with pytest.raises(InputError, match=r"as cores .*as percent .*units=\{cpu_used: cores\}") as error:
            imported(tmp_path, frame)
        assert "as s " not in str(error.value)
    else:
        result, table = imported(tmp_path, frame)
        assert result.readings["cpu_used"].unit == unit
        assert samples(table)["cpu_used_cores"].max() == pytest.approx(busy.max(), abs=0.001)


def test_vms_of_a_tib_are_read_in_bytes(tmp_path):
    frame = resized(fleet(), (2**18, 2**19, 2**20))
    result, table = imported(tmp_path, frame)
    assert (result.readings["cap"].unit, result.readings["cap"].by) == ("B", "data")
    assert set(samples(table)["cap_bytes"]) == {2.0**38, 2.0**39, 2.0**40}


@pytest.mark.parametrize("source", ["proxmox", "sysstat"])
def test_a_fleet_that_idles_is_read_as_its_tool_documents(tmp_path, source):
    """All CPUs below 1 % of theirs: a share read as per cent would look so too, but the tool writes no shares."""
    idle = [
        replace(one, cpu_s=np.cumsum(STEP_S * one.vcpus * (0.004 + 0.001 * np.sin(one.cpu_s)))) for one in made_up()
    ]
    folder = WRITERS[source](tmp_path / "files", idle)
    done = monitored(
        source, folder, caps_mib={one.name: one.cap[0] / MIB for one in idle} if source == "sysstat" else {}
    )
    assert done.vms["db"]["cpu_used_cores"].median() == pytest.approx(8 * 0.004, rel=0.1)
    assert "documentation decides" in done.read["cpu_used"]


def test_a_vm_that_never_ran_is_no_fault_of_the_others(tmp_path):
    folder = WRITERS["proxmox"](tmp_path / "files", made_up())
    (folder / "qemu-104-new.AVERAGE.json").write_text("[]")
    assert sorted(monitored("proxmox", folder).vms) == ["cache", "db", "job", "web"]
    for file in folder.glob("*.json"):
        file.write_text('{"data": []}')
    with pytest.raises(InputError, match="no list of rows that say anything in any file"):
        monitored("proxmox", folder, "none")


def test_whole_mib_that_stand_still_for_more_than_a_day_are_frozen(tmp_path):
    frame = idle(MIB)
    day = frame["ts"] > frame["ts"].max() - 30 * 3600
    frame.loc[day, "used"] = 300 * MIB
    _, table = imported(tmp_path, frame, without(COLUMNS, "backed"))
    last = samples(table).groupby("vm_id").tail(30 * 12)
    assert last["guest_used_bytes"].isna().all()
    assert samples(table)["guest_used_bytes"].notna().mean() == pytest.approx(6 / 36, abs=0.01)


def test_without_cpu_and_network_what_stands_still_for_more_than_a_day_is_frozen(tmp_path):
    """Half of the VMs, so that the column as a whole is not what they were allotted. In MiB an idle guest may, for half a day."""
    columns = without(COLUMNS, "cpu_used", "net_rx", "backed")
    frame = fleet(days=3)
    half = frame["name"].isin(sorted(frame["name"].unique())[::2])
    late = half & (frame["ts"] > START + 1.5 * 86_400)
    frame.loc[late, "used"] = frame.loc[late].groupby("name")["used"].transform("first")
    result, table = imported(tmp_path, frame, columns, units={})
    stale = samples(table)["flags"] & FLAGS["stale"] > 0
    assert stale.sum() == late.sum()
    assert any("stand still for more than a day" in line for line in result.tally.lines())
    _, table = imported(tmp_path, idle(MIB), columns, units={})
    assert samples(table)["guest_used_bytes"].notna().all()
