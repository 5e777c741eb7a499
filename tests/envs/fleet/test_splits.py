"""Parts of a history are disjoint, a day apart, and as long as they must be; origins roll back from the end."""

import itertools

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.fleet.splits import DAY_S, PURGE_S, SPLIT_SHARE, WEEK_S, claim, fill_splits, origins, spans


@pytest.mark.parametrize("days", [35, 36, 63, 70, 100, 365])
def test_from_five_weeks_on_three_parts_lie_a_day_apart(days):
    parts = spans(days * DAY_S)
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    assert train[0] == 0
    assert test[1] == days * DAY_S
    assert train[1] + PURGE_S == validation[0]
    assert validation[1] + PURGE_S == test[0]
    assert test[1] - test[0] == days // 7 // 5 * WEEK_S  # a fifth of the weeks, rounded down


@pytest.mark.parametrize("days", [14, 20, 34])
def test_between_two_and_five_weeks_the_last_week_is_the_test(days):
    parts = spans(days * DAY_S)
    assert parts["test"] == ((days - 7) * DAY_S, days * DAY_S)
    assert parts["train"] == parts["validation"] == (0, (days - 8) * DAY_S)


def test_less_than_two_weeks_are_not_split_and_claim_nothing():
    assert set(spans(13 * DAY_S).values()) == {(0, 13 * DAY_S)}
    assert "replay and sensitivity only, no claim about new weeks" in claim(13 * DAY_S)
    assert "no claim" not in claim(14 * DAY_S)


def test_five_weeks_have_three_origins_of_a_week_each():
    assert origins(5 * WEEK_S) == 3
    week = [
        (spans(5 * WEEK_S, one)["test"][0] / WEEK_S, spans(5 * WEEK_S, one)["test"][1] / WEEK_S) for one in range(3)
    ]
    assert week == [(4, 5), (3, 4), (2, 3)]
    assert spans(5 * WEEK_S, 2) == {
        "train": (0, 6 * DAY_S), "validation": (7 * DAY_S, 13 * DAY_S), "test": (14 * DAY_S, 21 * DAY_S),
    }  # fmt: skip


@pytest.mark.parametrize("days", [35, 41, 60, 75, 200, 365])
def test_no_origin_trains_on_its_own_test_or_on_what_comes_after_it_and_tests_are_disjoint(days):
    found = [spans(days * DAY_S, origin) for origin in range(origins(days * DAY_S))]
    assert 3 <= len(found) <= 5
    for parts in found:
        assert 0 <= parts["train"][0] < parts["train"][1] == parts["validation"][0] - PURGE_S
        assert parts["validation"][0] < parts["validation"][1] == parts["test"][0] - PURGE_S
    for later, earlier in itertools.pairwise(found):
        assert earlier["test"][1] == later["test"][0]


def test_an_origin_that_there_is_not_is_refused():
    with pytest.raises(InputError, match=r"workload.origin=3: must be at least 0 and at most 2$"):
        spans(5 * WEEK_S, 3)
    with pytest.raises(InputError, match=r"workload.origin=1: .* at most 0; 4 weeks of history have one, 5 have 3"):
        spans(4 * WEEK_S, 1)


def test_what_an_origin_claims_says_which_weeks_it_tests():
    assert claim(5 * WEEK_S).startswith("5.0 weeks of history: origin 0, the last week is the test; training")
    assert "origin 1, the last 2 weeks are the test but for 2 that come after it" in claim(10 * WEEK_S, 1)


def test_applications_stay_together():
    names, groups = [f"vm{i}" for i in range(90)], [i // 3 for i in range(90)]
    parts = fill_splits(names, groups)
    assert sorted(itertools.chain(*parts.values())) == list(range(90))
    for one, other in itertools.combinations(parts.values(), 2):
        assert not {groups[i] for i in one} & {groups[i] for i in other}
    for name, share in SPLIT_SHARE.items():
        assert abs(len(parts[name]) / 90 - share) < 0.05
