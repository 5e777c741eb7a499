"""The view of learners: what each feature says, by numpy from the same readings, and what stands where a signal is missing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hvgym.envs import view
from hvgym.envs.scenario import load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Telemetry, Visibility
from hvgym.envs.view import AVERAGED_S, HALF_MIB_PER_S, HOST_FEATURES, VM_FEATURES, View

SCENARIO = replace(load("idle-giants-short"), episode_s=300)
LARGER = replace(load("web-siblings"), episode_s=300)
STEP_S = 10


def readings(scenario, steps=3, lanes=2):
    """Successive readings while balloons are on their way."""
    sim = Simulator(scenario, lanes)
    found = [sim.reset(list(range(1, lanes + 1)))]
    sim.apply(Targets((0.7 * found[0].vm["memory_mib"]).clip(found[0].vm["min_mib"])))
    return found + [sim.advance(STEP_S) for _ in range(steps)]


def named(names, seen):
    return dict(zip(names, np.moveaxis(seen, -1, 0), strict=True))


def looked(given, page_ages=False):
    """Of the last of these readings: features by name, of VMs and of the host."""
    eyes = View(page_ages)
    for telemetry in given:
        vms, hosts = eyes.look(telemetry)
    return named(VM_FEATURES, vms), named(HOST_FEATURES, hosts)


@pytest.mark.parametrize("scenario", [SCENARIO, LARGER, replace(load("late-arrivals"), episode_s=300)])
def test_every_feature_lies_between_0_and_1(scenario):
    vms, hosts = looked(readings(scenario), page_ages=True)
    for features in (vms, hosts):
        values = np.array(list(features.values()))
        assert np.isfinite(values).all()
        assert values.min() >= 0.0
        assert values.max() <= 1.0


def share(part, whole):
    return np.clip(np.nan_to_num(part / whole), 0.0, 1.0)


def test_every_feature_of_a_vm_is_the_signal_that_it_is_named_after():
    *_, before, now = given = readings(SCENARIO)
    vms, _ = looked(given, page_ages=True)
    vm, ram_mib = now.vm, now.host["total_mib"]
    memory, size = vm["memory_mib"], vm["size_mib"]

    def rate(name):
        per_s = (vm[f"{name}_mib"] - before.vm[f"{name}_mib"]) / STEP_S
        return per_s / (per_s + HALF_MIB_PER_S)

    woken = {age: vm[f"woken_{age}s_mib_per_s"] for age in (60, 480)}
    risen = {name: vm[name] - before.vm[name] for name in ("cpu_s", "cpu_ready_s")}
    ones = np.ones(vm.shape)
    expected = {name: vm[f"{name}_mib"] / size for name in ("guest_free", "guest_available", "guest_caches")}
    expected |= {name: vm[f"{name}_mib"] / memory for name in ("host_swap", "resident", "size", "target", "compressed")}
    expected |= {f"{name}_rate": rate(name) for name in RATES}
    expected |= {
        "cpu": risen["cpu_s"] / (vm["vcpus"] * STEP_S),
        "cpu_ready": risen["cpu_ready_s"] / (vm["vcpus"] * STEP_S),
        "host_psi": vm["host_psi_some10"],
        "host_io_psi": vm["host_io_psi_some10"],
        "guest_psi": vm["guest_psi_some10"],
        "minimum": vm["min_mib"] / memory,
        "share_of_ram": memory / ram_mib,
        "critical": vm["critical"],
        "weight": share(vm["weight"], 4.0 * vm["weight"].mean(axis=1, keepdims=True)),
        "shares": share(vm["shares"], 4.0 * vm["shares"].mean(axis=1, keepdims=True)),
        "limit": share(vm["limit_mib"], memory),
        "running": vm["running"],
        "waiting": vm["waiting"],
        "shared": vm["shared_mib"] / memory,
        "committed": share(vm["guest_committed_mib"], memory),
        "active": vm["active_share"],
        "present": ones,
    }
    expected |= {f"idle_for_{age}s": vm[f"idle_{age}s_mib"] / memory for age in woken}
    expected |= {f"woken_after_{age}s": woken[age] / (woken[age] + HALF_MIB_PER_S) for age in woken}
    expected |= dict.fromkeys(view.MASKS, ones)
    averages = {f"{name}_{seconds:.0f}s" for seconds in AVERAGED_S for name in view.NOW}
    assert set(expected) | averages == set(VM_FEATURES)
    for name, wanted in expected.items():
        np.testing.assert_allclose(vms[name], wanted, rtol=1e-12, err_msg=name)
    assert not np.allclose(size, vm["target_mib"])  # balloons are still on their way


RATES = ("guest_swap_in", "guest_swap_out", "host_swap_in", "host_swap_out", "disk", "net")


def test_every_feature_of_a_host_is_the_signal_that_it_is_named_after():
    *_, before, now = given = readings(SCENARIO)
    _, hosts = looked(given)
    host, ram_mib, swapped = now.host, now.host["total_mib"], {}
    for way in ("in", "out"):
        per_s = (host[f"swap_{way}_mib"] - before.host[f"swap_{way}_mib"]) / STEP_S
        swapped[f"swap_{way}_rate"] = per_s / (per_s + HALF_MIB_PER_S)
    sizes_mib = (now.vm["size_mib"] * now.vm["running"]).sum(axis=1, keepdims=True)
    expected = swapped | {
        "available": host["available_mib"] / ram_mib,
        "swap_used": host["swap_used_mib"] / host["swap_total_mib"],
        "disk_utilisation": host["disk_utilisation"],
        "cpu_utilisation": host["cpu_utilisation"],
        "state": host["memory_state"] / 4.0,
        "overcommit": now.vm["memory_mib"].sum(axis=1, keepdims=True) / (2.0 * ram_mib),
        "free": host["free_mib"] / ram_mib,
        "psi": host["psi_some10"],
        "shared_share": host["shared_mib"] / ram_mib,
        "scan_rate": host["scan_pages_per_s"] / 125_000.0,
        "sizes": sizes_mib / (2.0 * ram_mib),
        "has_psi": np.ones(host.shape),
    }
    averages = {f"{name}_{seconds:.0f}s" for seconds in AVERAGED_S for name in view.HOST_NOW}
    assert set(expected) | averages == set(HOST_FEATURES)
    for name, wanted in expected.items():
        np.testing.assert_allclose(hosts[name], wanted, rtol=1e-12, err_msg=name)


def test_averages_begin_at_the_first_reading_and_follow_by_their_length():
    given = readings(SCENARIO, steps=4)
    eyes, averages = View(), {}
    for telemetry in given:
        vms, hosts = eyes.look(telemetry)
        for names, now, seen in ((view.NOW, VM_FEATURES, vms), (view.HOST_NOW, HOST_FEATURES, hosts)):
            features = named(now, seen)
            for name in names:
                for seconds in AVERAGED_S:
                    key = f"{name}_{seconds:.0f}s"
                    old = averages.get(key, features[name])
                    averages[key] = old + STEP_S / (STEP_S + seconds) * (features[name] - old)
                    np.testing.assert_allclose(features[key], averages[key], rtol=1e-12, err_msg=key)


def test_of_the_first_reading_rates_are_0_however_much_has_been_counted():
    vms, hosts = looked(readings(SCENARIO)[-1:])
    assert not any(vms[f"{name}_rate"].any() for name in RATES)
    assert not vms["cpu"].any()
    assert not hosts["swap_in_rate"].any()


def test_a_rate_of_half_mib_per_s_reads_one_half():
    first, second = readings(SCENARIO, steps=1)
    second.vm["disk_mib"][0, 0] = first.vm["disk_mib"][0, 0] + STEP_S * HALF_MIB_PER_S
    assert looked([first, second])[0]["disk_rate"][0, 0] == pytest.approx(0.5, rel=1e-12)


def test_what_a_profile_does_not_see_reads_0_with_its_mask():
    given = readings(SCENARIO)
    masks = {Visibility.P0: {"has_balloon", "has_pressure"}}
    masks[Visibility.P1] = masks[Visibility.P0] | {"reports"}
    masks[Visibility.P2] = masks[Visibility.P1] | {"has_committed"}
    masks[Visibility.P3] = masks[Visibility.P0] | {"has_activity"}
    masks[Visibility.P4] = masks[Visibility.P2] | {"has_agent"}
    for profile, there in masks.items():
        vms, _ = looked([telemetry.seen_with(profile) for telemetry in given])
        assert {mask for mask in view.MASKS if vms[mask].all()} == there
        assert not any(vms[mask].any() for mask in set(view.MASKS) - there)
        assert profile in (Visibility.P2, Visibility.P4) or not vms["committed"].any()
        assert profile == Visibility.P3 or not vms["active"].any()
        assert not vms["idle_for_60s"].any()


def test_a_reading_without_any_signal_reads_0_but_for_who_is_there():
    blind = [telemetry.restricted_to(()) for telemetry in readings(SCENARIO)]
    vms, hosts = looked(blind, page_ages=True)
    assert vms.pop("present").all()
    assert not np.array(list(vms.values())).any()
    assert not np.array(list(hosts.values())).any()


def test_a_vm_that_reports_nothing_reads_0_and_says_so():
    silent = load("silent-guests")
    vms, _ = looked(readings(replace(silent, episode_s=300)))
    names = [group.name for group in silent.groups]
    mute, heard = names.index("silent"), names.index("heard")
    assert not vms["reports"][:, mute].any()
    assert not vms["guest_free"][:, mute].any()
    assert vms["reports"][:, heard].all()


def test_a_signal_that_comes_back_counts_no_rate_for_the_gap():
    given = readings(SCENARIO)
    given[-2].vm["disk_mib"] = np.nan
    vms, _ = looked(given)
    assert not vms["disk_rate"].any()


def test_flat_observations_are_the_host_then_vm_by_vm_with_empty_places_at_the_end():
    given = readings(SCENARIO)
    flat, rows = View(), View()
    for telemetry in given:
        observed, (vms, hosts) = flat.observe(telemetry, most_vms=12), rows.look(telemetry)
    count, width = vms.shape[1], len(VM_FEATURES)
    assert observed.shape == (2, view.observation_size(12))
    assert observed.dtype == np.float32
    here = observed[:, len(HOST_FEATURES) :].reshape(2, 12, width)
    assert observed[:, : len(HOST_FEATURES)].tobytes() == hosts[:, 0].astype(np.float32).tobytes()
    assert here[:, :count].tobytes() == vms.astype(np.float32).tobytes()
    assert not here[:, count:].any()


def test_lanes_are_seen_each_on_its_own_clock():
    sim = Simulator(SCENARIO, 2)
    first = sim.reset([1, 1])
    later = sim.advance(STEP_S)
    mixed = Telemetry(np.array([first.time_s[0], later.time_s[1]]), later.vm.copy(), later.host.copy())
    eyes = View()
    eyes.look(first)
    vms, _ = eyes.look(mixed)
    disk = VM_FEATURES.index("disk_rate")
    risen = later.vm["disk_mib"] - first.vm["disk_mib"]
    of_one_second = risen / (risen + HALF_MIB_PER_S)
    assert vms[0, :, disk] == pytest.approx(of_one_second[0])
    assert vms[1, :, disk] == pytest.approx(risen[1] / STEP_S / (risen[1] / STEP_S + HALF_MIB_PER_S))


def test_features_names_are_unique_and_signals_are_those_that_are_read():
    names = (*VM_FEATURES, *HOST_FEATURES)
    assert len(set(names)) == len(names)
    now = readings(SCENARIO)[-1]
    whole = looked([now], page_ages=True)
    kept = looked([now.restricted_to(view.OBSERVED)], page_ages=True)
    for all_seen, seen in zip(whole, kept, strict=True):
        for name in all_seen:
            np.testing.assert_array_equal(all_seen[name], seen[name], err_msg=name)


def test_the_page_names_all_features_in_order():
    page = (Path(__file__).resolve().parents[2] / "docs" / "observation.md").read_text()
    tables = [part for part in page.split("## ") if part.startswith(("Host", "VM"))]
    found = [
        [
            name
            for line in table.splitlines()
            if line.startswith("| `")
            for name in re.findall("`(.*?)`", line.split("|")[1])
        ]
        for table in tables
    ]
    assert found == [list(HOST_FEATURES), list(VM_FEATURES)]
