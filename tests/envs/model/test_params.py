"""Records lie in memory so that no vector of tiers is spread over two cache lines."""

import numpy as np
import pytest

from hvgym.envs.model import params
from hvgym.envs.scenario import load
from hvgym.envs.simulator import Simulator

RECORDS = {name: getattr(params, name) for name in ("VM", "VM_SPEC", "HOST", "HOST_SPEC", "DEMAND")}
TIER = np.dtype(("f8", (params.TIERS,)))


@pytest.mark.parametrize("name", RECORDS)
def test_no_tiers_of_a_record_lie_across_two_cache_lines(name):
    record = RECORDS[name]
    assert record.itemsize % params.LINE_BYTES == 0
    assert record.itemsize == sum(record.fields[field][0].itemsize for field in record.names)  # a copy has every byte
    starts = [offset for kind, offset in (record.fields[field][:2] for field in record.names) if kind == TIER]
    assert all(start % params.LINE_BYTES + TIER.itemsize <= params.LINE_BYTES for start in starts)
    assert starts or name == "HOST"


def test_a_simulators_arrays_begin_at_a_cache_line_and_hold_nothing():
    sim = Simulator(load("idle-giants"), lanes=3)
    for array in (sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand):
        assert array.ctypes.data % params.LINE_BYTES == 0
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not array.view(np.uint8).any()


@pytest.mark.parametrize("name", ["VM", "VM_SPEC"])
def test_fields_that_are_seldom_looked_at_lie_last(name):
    seldom = [field in params.SELDOM for field in RECORDS[name].names if field != "spare"]
    assert seldom == sorted(seldom)
    assert any(seldom)


def test_every_field_that_has_a_place_of_its_own_exists():
    assert {*params.VM.names, *params.VM_SPEC.names} >= params.SELDOM
    assert set(params.VM.names) >= set(params.ZEROED)


def test_what_every_tick_sets_to_zero_lies_side_by_side():
    starts = [params.VM.fields[field][1] for field in params.ZEROED]
    assert np.diff(starts).tolist() == [8] * (len(starts) - 1)
