"""Parts of a history are disjoint, a day apart, and as long as they must be."""

import itertools

import pytest

from hvgym.envs.fleet.splits import DAY_S, PURGE_S, SPLIT_SHARE, WEEK_S, claim, fill_splits, spans


@pytest.mark.parametrize("days", [35, 36, 63, 70, 100, 365])
def test_from_five_weeks_on_three_parts_lie_a_day_apart(days):
    parts = spans(days * DAY_S)
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    assert train[0] == 0
    assert test[1] == days * DAY_S
    assert train[1] + PURGE_S == validation[0]
    assert validation[1] + PURGE_S == test[0]
    assert (test[1] - test[0]) % WEEK_S == 0
    assert test[1] - test[0] >= WEEK_S
    assert abs((test[1] - test[0]) / (days * DAY_S) - 0.2) < 0.1


@pytest.mark.parametrize("days", [14, 20, 34])
def test_between_two_and_five_weeks_the_last_week_is_the_test(days):
    parts = spans(days * DAY_S)
    assert parts["test"] == ((days - 7) * DAY_S, days * DAY_S)
    assert parts["train"] == parts["validation"] == (0, (days - 8) * DAY_S)


def test_less_than_two_weeks_are_not_split_and_claim_nothing():
    assert set(spans(13 * DAY_S).values()) == {(0, 13 * DAY_S)}
    assert "replay and sensitivity only, no claim about new weeks" in claim(13 * DAY_S)
    assert "no claim" not in claim(14 * DAY_S)


def test_applications_stay_together():
    names, groups = [f"vm{i}" for i in range(90)], [i // 3 for i in range(90)]
    parts = fill_splits(names, groups)
    assert sorted(itertools.chain(*parts.values())) == list(range(90))
    for one, other in itertools.combinations(parts.values(), 2):
        assert not {groups[i] for i in one} & {groups[i] for i in other}
    for name, share in SPLIT_SHARE.items():
        assert abs(len(parts[name]) / 90 - share) < 0.05
