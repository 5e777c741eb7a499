"""A scenario with another number of VMs."""

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.scaled import with_vms
from hvgym.envs.scenario import Scenario, load


def counts(scenario):
    return {group.name: group.count for group in scenario.vms}


def test_groups_keep_their_parts_and_the_host_grows_with_them():
    tenants = load("tenants-kvm")
    assert counts(tenants) == {"shop": 4, "database": 2, "batch": 4, "cache": 2}
    twice = with_vms(tenants, 24)
    assert counts(twice) == {"shop": 8, "database": 4, "batch": 8, "cache": 4}
    assert (twice.machine.pcpus, twice.machine.disk_iops) == (48.0, 160000.0)
    assert twice.machine.disk_latency_us == tenants.machine.disk_latency_us
    assert twice.machine.overcommit == tenants.machine.overcommit
    assert twice.name == "tenants-kvm-24vms"


def test_largest_remainders_decide_and_a_group_that_is_left_with_none_is_gone():
    """Of 8: 2.67, 1.33, 2.67, 1.33, so both of .67 get one more; of 1: .33 each of the large ones, the first wins."""
    tenants = load("tenants-kvm")
    assert counts(with_vms(tenants, 8)) == {"shop": 3, "database": 1, "batch": 3, "cache": 1}
    assert counts(with_vms(tenants, 1)) == {"shop": 1}
    assert with_vms(tenants, 12).vms == tenants.vms


@pytest.mark.parametrize("vms", [1, 5, 64])
def test_it_is_a_scenario_that_can_be_written_down(vms):
    for name in ("tenants-kvm", "idle-giants", "real-guests"):
        found = with_vms(load(name), vms)
        assert len(found.groups) == vms
        assert Scenario.from_dict(found.to_dict()) == found


def test_ram_that_is_given_grows_too():
    given = load("fair-surplus")
    assert with_vms(given, 3 * len(given.groups)).machine.ram_mib == pytest.approx(3 * given.machine.ram_mib)


def test_what_is_no_number_of_vms_of_one_host_is_refused():
    with pytest.raises(InputError, match="vms=0: must be at least 1"):
        with_vms(load("tenants-kvm"), 0)
    with pytest.raises(InputError, match="vms=4: scenario rack has several hosts"):
        with_vms(load("rack"), 4)
