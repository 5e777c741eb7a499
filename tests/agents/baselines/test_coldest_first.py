"""The oldest pages of a host that is short, by hand."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.baselines.coldest_first import ColdestFirst, parts_mib
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.telemetry import AGES_S, HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def reading(available_mib, idle, running=(1.0, 1.0)):
    """Two VMs on 10,000 MiB; idle: by age, MiB of each VM, as much at younger ages."""
    vm, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["running"], host["total_mib"], host["available_mib"] = running, 10000.0, available_mib
    for age in AGES_S:
        known = [mib for at, mib in idle.items() if at >= age]
        vm[f"idle_{age}s_mib"] = np.max(known, axis=0) if known else 0.0
    return Telemetry(np.zeros(1), vm, host)


def asked(telemetry):
    targets = ColdestFirst(keep_free_share=0.05).decide(telemetry)
    return targets.reclaim_mib[0].tolist(), targets.reclaim_age_s[0].tolist()


def test_nothing_is_taken_of_a_host_that_is_not_short_and_guests_report_free_pages():
    telemetry = reading(500.0, {3840: [1000.0, 1000.0]})
    assert asked(telemetry)[0] == [0.0, 0.0]
    assert ColdestFirst().decide(telemetry).report_free_pages.tolist() == [[1.0, 1.0]]


def test_the_oldest_pages_go_whole_and_the_rest_in_proportion_to_the_next_age():
    """Short of 400: 100 are idle for an hour, 300 of 600 more come from the next age, half of each VM's."""
    telemetry = reading(100.0, {3840: [100.0, 0.0], 1920: [300.0, 400.0]})
    amounts, ages = asked(telemetry)
    assert amounts == pytest.approx([100.0 + 0.5 * 200.0, 0.5 * 400.0])
    assert ages == [1920.0, 1920.0]


def test_where_all_idle_pages_do_not_suffice_all_go():
    assert asked(reading(0.0, {5: [100.0, 200.0]})) == ([100.0, 200.0], [5.0, 5.0])


def test_a_vm_that_does_not_run_is_left_alone():
    amounts, _ = asked(reading(100.0, {3840: [600.0, 600.0]}, running=(1.0, 0.0)))
    assert amounts[0] == pytest.approx(400.0)
    assert np.isnan(amounts[1])


def test_counts_that_do_not_grow_with_younger_ages_are_taken_as_if_they_did():
    idle = np.array([[100.0], [50.0], *([[200.0]] * (len(AGES_S) - 2))])
    assert parts_mib(idle, 150.0) == ([150.0], float(AGES_S[-3]))


def test_it_is_refused_on_esxi_and_plays_there_under_open_rules():
    agent = load_group("agent", "coldest_first")
    esxi = resolve(load_group("scenario", "idle-giants-short"), rules="default")
    line = (
        "needs memory.reclaim and reclaim by page age and free page reporting, which esxi lacks; rules=open opens every "
        "channel to everybody"
    )
    with pytest.raises(InputError, match=line):
        rollout(esxi, make_policy(agent), [3], agent="coldest_first")
    opened = dataclasses.replace(esxi, rules="open")
    ours, nobody = (rollout(opened, make_policy(a), [3, 4]) for a in (agent, load_group("agent", "static")))
    assert (ours.goodput > nobody.goodput + 0.01).all()


def test_on_kvm_it_does_not_lose_to_the_kernel_which_takes_old_pages_too():
    kvm = resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", "kvm"), rules="default")
    ours, nobody = (rollout(kvm, make_policy(load_group("agent", a)), [3, 4]) for a in ("coldest_first", "static"))
    assert (ours.goodput >= nobody.goodput - 0.005).all()
    assert load("idle-giants-short").hypervisor.name == "esxi"
