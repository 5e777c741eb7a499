"""What monitoring wrote of a fleet is that fleet again; units and clocks that are off are named, or mended and said."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from monitored import (
    MIB,
    START_S,
    STEP_S,
    STEPS,
    WRITERS,
    as_ovirt,
    as_prometheus,
    as_proxmox,
    as_sysstat,
    imported,
    made_up,
    refused,
    times,
)

sys.path.pop(0)


@pytest.fixture
def fleet():
    return made_up()


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
