"""What `hvgym describe` says of a VM's memory."""

import pytest

from hvgym.envs.scenario import load_group, resolve
from hvgym.scripts import cli, describe


def said(name, hypervisor=None):
    profile = hypervisor and load_group("hypervisor", hypervisor)
    return dict(line.split(": ", 1) for line in describe.details(resolve(load_group("scenario", name), profile)))


def test_how_vms_start_is_said_as_their_hypervisor_does_it():
    assert "starts with 1024 MiB, its startup memory" in said("small-starts")["third"]
    assert "starts with 1024 MiB, the rest in its balloon" in said("small-starts", "kvm")["third"]
    assert "starts with" not in said("idle-giants")["giant"]


def test_what_drivers_tell_is_said_where_it_is_not_linuxs():
    lines = said("silent-guests")
    assert "statistics" not in lines["heard"]
    assert "its balloon works and reports nothing" in lines["silent"]
    assert "its statistics freeze at 600 s" in lines["frozen"]
    assert "free memory includes the standby list" in lines["windows"]


@pytest.mark.parametrize(
    ("hypervisor", "group", "means"),
    [
        ("esxi", "limited", "by balloon, compression and swap, in this order"),
        (
            "esxi",
            "driverless",
            "no balloon driver, so no statistics; at most 3072 MiB of host memory, by compression, then swap",
        ),
        ("kvm", "limited", "at most 3072 MiB of host memory, by memory.max of its cgroup"),
    ],
)
def test_a_limit_is_said_with_its_means(hypervisor, group, means):
    lines = said("memory-limits", hypervisor)
    assert means in lines[group]
    assert "at most" not in lines["free"]


def test_a_limit_of_the_disk_is_said_with_its_bursts():
    data, profile = load_group("scenario", "noisy-disk"), load_group("hypervisor", "kvm")
    data["vms"][0] |= {"disk_limit_iops": 9000, "disk_burst_iops": 12000}
    assert "disk limit 9000 IOPS; disk burst 12000 IOPS for 1 s" in describe.details(resolve(data, profile))[0]


def test_a_story_is_told_tier_by_tier_and_step_by_step():
    lines = said("real-guests")
    assert "has filled its memory ballooned to 176 MiB" in lines["burst"]
    assert "hot touched every 16 s, idle touched every 1e+07 s" in lines["burst"]
    assert "from 0 s 60 + 30; from 40 s 220 + 0; from 90 s 60 + 30 MiB" in lines["burst"]
    assert "story" not in said("idle-giants")["giant"]


@pytest.mark.parametrize(("name", "said"), [("storm-1g", True), ("real-guests", True), ("no-guest-swap-short", False)])
def test_it_is_said_where_every_seed_has_the_same_demand(name, said, capsys):
    assert cli.main(["describe", f"scenario={name}"]) == 0
    assert ("Every seed has the same demand" in capsys.readouterr().out) is said
