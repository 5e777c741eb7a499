"""Counters, meanings and lives that monitoring gets wrong: each is caught or mended, and said."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from monitored import (
    GIB,
    MIB,
    STEP_S,
    STEPS,
    WRITERS,
    as_ovirt,
    as_prometheus,
    as_proxmox,
    as_sysstat,
    as_virsh,
    between,
    from_step,
    imported,
    machine,
    made_up,
    refused,
    times,
    whole,
    with_one,
)

sys.path.pop(0)


@pytest.fixture
def fleet():
    return made_up()


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


def test_swap_and_faults_of_a_guest_that_is_silent_are_unknown_and_not_0(tmp_path, fleet):
    """They come in the same answer. What was counted meanwhile comes at once, and is no rate of that minute."""
    frozen = between(100, 200, lambda values: values[100])
    stuck = with_one(fleet, "web", usable=frozen, unused=frozen, cache=frozen, swap_in=frozen)
    swapped = imported("virsh", as_virsh(tmp_path / "x", stuck)).vms["web"]["guest_swap_in_bytes_per_s"].to_numpy()
    assert np.isnan(swapped[101:201]).all()
    truth = np.diff(fleet[0].swap_in, prepend=np.nan) / STEP_S
    np.testing.assert_allclose(np.r_[swapped[1:100], swapped[202:]], np.r_[truth[1:100], truth[202:]], atol=20)


@pytest.mark.parametrize("gib", [4, 16])
def test_two_vms_of_one_name_on_two_hosts_are_two(tmp_path, fleet, gib):
    """libvirt's names are unique on a host only. Of one size or two, they do not use the same."""
    other = replace(machine("web", gib, 2, seed=9), name="web")
    as_virsh(tmp_path / "x", fleet, log="kvm1.log")
    outcome = imported("virsh", as_virsh(tmp_path / "x", [other], log="kvm2.log"))
    assert sorted(outcome.vms) == ["cache", "db", "job", "web@kvm1", "web@kvm2"]
    np.testing.assert_array_equal(outcome.used("web@kvm1"), fleet[0].used)
    np.testing.assert_array_equal(outcome.used("web@kvm2"), other.used)
    assert "are not alike, taken for several, as NAME@HOST: 1 of 4 (first: web)" in outcome.said


def test_what_is_said_of_vms_of_one_name_holds_for_each_or_for_all(tmp_path, fleet):
    """Of NAME@HOST first; sizes are each one's own, also where the guest alone tells them."""
    other = replace(machine("web", 16, 2, seed=9), name="web")
    as_virsh(tmp_path / "x", fleet, log="kvm1.log")
    as_virsh(tmp_path / "x", [other], log="kvm2.log")
    for file in (tmp_path / "x").glob("*.log"):
        file.write_text(
            "".join(
                line for line in file.read_text().splitlines(True) if not re.search("balloon.(maximum|current)", line)
            )
        )
    size = {name: rows["cap_bytes"].iloc[0] for name, rows in imported("virsh", tmp_path / "x").vms.items()}
    assert (size["web@kvm1"], size["web@kvm2"]) == (fleet[0].total[0], other.total[0])
    said = imported("virsh", tmp_path / "x", out="said", caps_mib={"web": 20_000, "web@kvm1": 8192})
    assert said.vms["web@kvm1"]["cap_bytes"].iloc[0] == 8192 * MIB
    assert said.vms["web@kvm2"]["cap_bytes"].iloc[0] == 20_000 * MIB
    assert "that no file has" not in said.said


def test_a_second_vm_of_that_name_which_lives_for_a_tenth_of_the_time_is_another(tmp_path, fleet):
    late = np.arange(STEPS) >= 0.9 * STEPS
    other = replace(machine("web", 4, 2, seed=9), name="web", on=late)
    as_virsh(tmp_path / "x", fleet, log="kvm1.log")
    outcome = imported("virsh", as_virsh(tmp_path / "x", [other], log="kvm2.log"))
    np.testing.assert_array_equal(outcome.used("web@kvm1"), fleet[0].used)
    np.testing.assert_array_equal(outcome.used("web@kvm2")[late], other.used[late])


def test_who_is_watched_twice_by_unlike_clocks_or_left_a_stale_definition_is_one(tmp_path, fleet):
    """4 % of noise between the readings; and of a definition of another size that was left behind no use is known."""
    noisy = 1 + np.random.default_rng(3).normal(0, 0.04, STEPS)
    again = replace(fleet[0], rss=whole(fleet[0].rss * noisy), usable=whole(fleet[0].usable * noisy))
    as_virsh(tmp_path / "x", fleet, log="kvm1.log")
    assert "web" in imported("virsh", as_virsh(tmp_path / "x", [again], log="kvm1-by-address.log")).vms
    stale = replace(fleet[0], cap=2 * fleet[0].cap, on=np.zeros(STEPS, bool))
    as_virsh(tmp_path / "y", fleet, log="kvm1.log")
    assert "web" in imported("virsh", as_virsh(tmp_path / "y", [stale], log="kvm2.log"), out="stale").vms


def test_a_vm_that_is_watched_twice_or_migrates_is_one(tmp_path, fleet):
    """Twice: the same numbers under two names of one host. It migrates: ten minutes on both."""
    as_virsh(tmp_path / "x", fleet, log="kvm1.log")
    twice = imported("virsh", as_virsh(tmp_path / "x", fleet[:1], log="kvm1-by-address.log"))
    assert sorted(twice.vms) == ["cache", "db", "job", "web"]
    np.testing.assert_array_equal(twice.used("web"), fleet[0].used)
    there = np.arange(STEPS) < 110
    arrived = replace(
        fleet[0], on=~there | (np.arange(STEPS) > 105), usable=np.where(there, fleet[0].total - GIB, fleet[0].usable)
    )
    as_virsh(tmp_path / "y", [replace(fleet[0], on=there), *fleet[1:]], log="kvm1.log")
    moved = imported("virsh", as_virsh(tmp_path / "y", [arrived], log="kvm2.log"), out="moved")
    assert sorted(moved.vms) == ["cache", "db", "job", "web"]


def test_a_log_that_is_cut_off_within_its_last_number_loses_that_line(tmp_path, fleet):
    folder = as_sysstat(tmp_path / "x", fleet)
    caps = {one.name: one.cap[0] / MIB for one in fleet}
    whole_one = imported("sysstat", folder, caps_mib=caps, out="whole").vms["web"]["guest_swap_in_bytes_per_s"]
    for file in folder.glob("*.csv"):
        file.write_text(file.read_text().removesuffix("0\n"))
    cut = imported("sysstat", folder, caps_mib=caps).vms["web"]["guest_swap_in_bytes_per_s"]
    assert not np.isnan(whole_one.iloc[-1])
    assert np.isnan(cut.iloc[-1])
    np.testing.assert_array_equal(cut.iloc[:-1], whole_one.iloc[:-1])


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
    anew = from_step(300, lambda of: of - of[0])
    larger = {"cap": from_step(300, 4.0 * GIB), "total": from_step(300, 4.0 * GIB - 200 * MIB)}
    later = with_one(fleet, "job", **larger, cpu_s=anew, received=anew, swap_in=anew)
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
