"""Every kind of evidence, by hand: what it says of working set and backed memory at three levels."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.fleet.evidence import QUANTILES, USED_SHARES, censored, check, drawn_shares, evidence, kind_of
from hvgym.envs.fleet.history import VmHistory

CAP = 10000.0


def vm(slots=3, scaled=False, peaks=None, **columns):
    """A VM of 10,000 MiB; columns in MiB, a number or one a slot."""
    found = {name: np.broadcast_to(np.asarray(values, np.float32), slots).copy() for name, values in columns.items()}
    there = np.ones(slots, np.bool_)
    return VmHistory("shop", "", "", CAP, 2.0, found, peaks or {}, there, there, scaled)


def figures(one, level, name, slot=-1):
    return float(getattr(evidence(one, level, 60), name)[slot])


def levels(one, name, slot=-1):
    return [round(figures(one, level, name, slot), 1) for level in ("low", "mid", "high")]


def test_used_and_cache_are_bounds():
    one = vm(guest_used=4000, guest_cache=2000, backed=7000)
    assert kind_of(one) == "bounds"
    assert levels(one, "working") == [1200, 4000, 6000]
    assert levels(one, "backed") == [7000] * 3
    assert levels(one, "filled") == [6000] * 3
    assert levels(one, "anonymous") == [4000, 4000, 6000]  # at high all of it is in use


def test_used_and_not_free_tell_the_cache():
    one = vm(guest_used=4000, guest_notfree=[6000, 9000, 7000])
    assert levels(one, "working") == [1200, 4000, 7000]
    assert levels(one, "backed") == [9000] * 3  # its running maximum: nothing is known of what the host backs
    assert levels(vm(guest_notfree=6000, guest_cache=2000), "working") == [1200, 4000, 6000]


@pytest.mark.parametrize(("column", "rate"), [("major_faults", 5.1), ("swap_in", 1.1), ("swap_out", 1.1)])
def test_a_guest_that_suffers_needs_what_it_uses(column, rate):
    one = vm(guest_used=4000, guest_cache=2000, **{column: [0, 0, rate]})
    assert kind_of(one) == "bounds, harm observed"
    assert levels(one, "working", 1) == [1200, 4000, 6000]
    assert levels(one, "working", 2) == [4000, 4000, 6000]
    calm = vm(guest_used=4000, guest_cache=2000, **{column: [0, 0, rate - 0.2]})
    assert kind_of(calm) == "bounds"
    assert levels(calm, "working", 2) == [1200, 4000, 6000]


def test_used_alone_is_a_band():
    one = vm(guest_used=[6000, 4000, 4000])
    assert kind_of(one) == "scenario band"
    assert levels(one, "working") == [1200, 4000, 7000]  # half of the way from 4,000 to 10,000
    assert levels(one, "backed") == [6000, 8000, 10000]  # the running maximum, all of it, and half-way


def test_what_is_not_free_hides_the_cache():
    one = vm(guest_notfree=5000)
    assert kind_of(one) == "cache unknown"
    assert levels(one, "working") == [1500, 3000, 5000]
    assert levels(one, "backed") == [5000, 7500, 10000]


def test_backed_alone_is_occupancy():
    one = vm(backed=[5000, 6000, 8000], host_swapped=500)
    assert kind_of(one) == "occupancy only"
    assert levels(one, "working") == [0, 4250, 8500]
    assert levels(one, "backed") == [8500] * 3


def test_a_saturated_vm_is_refused_by_name_and_its_twin_is_not():
    with pytest.raises(InputError, match=r"VM 'shop': the host backs 96%.*workload\.without=\[shop\]"):
        check(vm(backed=[9600, 9650, 9700]))
    check(vm(backed=[9400, 9650, 9700]))  # once below 95 %
    check(vm(backed=[9600, 9650, 9900]))  # a range above 2 %
    check(vm(backed=[9600, 9650, 9700], guest_used=3000))  # the guest says more


def test_active_is_a_lower_bound():
    one = vm(slots=90, active=[900] + [100] * 89)
    assert kind_of(one) == "lower bound"
    assert levels(one, "working", 59) == [113.3, 900, 10000]  # an hour at one minute; (900 + 59 x 100) / 60
    assert levels(one, "working", 60) == [100, 100, 10000]
    assert levels(one, "working", 0) == [900, 900, 10000]
    assert levels(one, "working", 1) == [500, 900, 10000]
    assert levels(one, "backed") == [6000, 8000, 10000]
    assert levels(vm(active=100, backed=4000), "working") == [100, 100, 4000]
    assert levels(vm(active=100, backed=4000), "backed") == [4000] * 3


def test_the_lowest_reading_of_sampled_memory_asks_for_no_more_rises_than_the_middle_one():
    """Samples that swing between 200 and 1000 in turn: each rise would be pages that were idle."""
    one = vm(slots=240, active=[200, 1000] * 120)
    low, mid = (evidence(one, level, 300).working[12:].astype(float) for level in ("low", "mid"))
    assert (low <= mid).all()
    assert np.maximum(np.diff(low), 0).sum() <= 1e-6
    assert np.maximum(np.diff(mid), 0).sum() == 0.0


def test_size_and_cpu_alone_are_drawn_from_what_others_use():
    one = vm(cpu=0.5)
    assert kind_of(one) == "synthetic memory"
    assert levels(one, "working") == [420, 1290, 5400]  # medians of three fleets
    shares = evidence(one, "mid", 60).drawn
    for quantile, share in zip(QUANTILES, USED_SHARES["mid"], strict=True):
        assert drawn_shares(shares, quantile)[0] == share
    assert drawn_shares(shares, 0.0) == drawn_shares(shares, 0.05)


def test_nothing_known_is_refused():
    with pytest.raises(InputError, match="VM 'shop': nothing but its size is known"):
        kind_of(vm())


def test_scaled_units_are_said():
    assert evidence(vm(guest_used=4000, scaled=True), "mid", 60).label == "scenario band, scaled"


@pytest.mark.parametrize(
    ("column", "cut", "calm"),
    [("granted", 9000, 9900), ("host_swapped", 1, 0), ("swap_in", 0.1, 0), ("psi", 5, 0.5), ("major_faults", 6, 1)],
)
def test_demand_that_was_cut_is_flagged(column, cut, calm):
    assert censored(vm(guest_used=4000, **{column: [calm, cut, calm]})).tolist() == [False, True, False]


def test_gaps_hold_the_last_value_and_none_is_read_as_zero():
    one = vm(guest_used=[np.nan, 4000, np.nan], guest_cache=1000)
    assert evidence(one, "mid", 60).working.tolist() == [4000, 4000, 4000]


def test_nobody_needs_more_than_there_is():
    for column in ("guest_used", "guest_notfree", "active", "backed"):
        for level in ("low", "mid", "high"):
            found = evidence(vm(**{column: [9000, 12000, 8000]}, host_swapped=3000), level, 60)
            assert (found.working <= found.filled).all()
            assert (found.filled <= found.backed).all()
            assert (found.backed <= CAP).all()
