"""What is left of a reading for somebody who may not see all of it."""

import numpy as np
import pytest

from hvgym.envs.telemetry import HOST_TELEMETRY, SIGNAL_GROUPS, VM_TELEMETRY, Places, Telemetry, Visibility, visible_to


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


def test_what_a_policy_writes_into_its_readings_reaches_nobody_else():
    places = Places(np.ones((1, 2)), np.ones((1, 3)), np.ones((1, 2, 3), np.int8))
    telemetry = Telemetry(np.zeros(1), np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 3), HOST_TELEMETRY), places)
    for seen in (telemetry.seen_with(Visibility.P1), telemetry.restricted_to(["memory_mib"])):
        assert seen.places is not None
        for given in (seen.places.vm, seen.places.host, seen.places.obstacles, seen.time_s):
            given[...] = 7
        seen.vm["memory_mib"] = 7.0
    assert {int(array.sum()) for array in (places.vm, places.host, places.obstacles)} == {2, 3, 6}
    assert not telemetry.time_s.any()
    assert not telemetry.vm["memory_mib"].any()
