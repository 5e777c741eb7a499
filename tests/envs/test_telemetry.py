"""What is left of a reading for somebody who may not see all of it."""

import numpy as np
import pytest

from hvgym.envs.telemetry import HOST_TELEMETRY, SIGNAL_GROUPS, VM_TELEMETRY, Telemetry, Visibility, visible_to


def reading():
    rng = np.random.default_rng(1)
    vm, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    for array in (vm, host):
        for name in array.dtype.names:
            array[name] = rng.random(array.shape)
    return Telemetry(rng.random(3), vm, host)


def test_all_but_the_signals_named_is_nan_and_the_reading_itself_stays():
    whole = reading()
    before = whole.vm.tobytes(), whole.host.tobytes()
    seen = whole.restricted_to({"size_mib", "host.free_mib"})
    for array, old, kept in ((seen.vm, whole.vm, "size_mib"), (seen.host, whole.host, "free_mib")):
        assert (array[kept] == old[kept]).all()
        assert all(np.isnan(array[name]).all() for name in array.dtype.names if name != kept)
        array[kept] = -1.0
    assert (whole.vm.tobytes(), whole.host.tobytes()) == before


@pytest.mark.parametrize("profile", Visibility)
def test_signals_of_a_profile_are_those_that_it_leaves(profile):
    whole, names = reading(), frozenset(SIGNAL_GROUPS["guest_stats"] + SIGNAL_GROUPS["host"] + SIGNAL_GROUPS["usage"])
    at_once, in_turn = whole.restricted_to(names & visible_to(profile)), whole.seen_with(profile).restricted_to(names)
    assert at_once.vm.tobytes() == in_turn.vm.tobytes()
    assert at_once.host.tobytes() == in_turn.host.tobytes()
    assert at_once.vm.dtype == VM_TELEMETRY
