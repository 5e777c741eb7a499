"""Small trees: a step found where it is, rules that read as they answer, files that are refused by name, and how they play."""

import json

import numpy as np
import pytest

from hvgym.agents.learned import tree
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.tree import SizeTree, answers, grow, rules
from hvgym.agents.learned.view import FEATURES
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load
from hvgym.envs.telemetry import Visibility

AVAILABLE, SWAPS = FEATURES.index("guest_available"), FEATURES.index("guest_swap_in_rate")


def data(rows=4000):
    """Shrink by 5 % where much is available, unless the guest swaps in: then grow by 10 %."""
    features = np.zeros((rows, len(FEATURES)))
    draws = np.random.default_rng(1)
    features[:, AVAILABLE], features[:, SWAPS] = draws.uniform(size=rows), draws.uniform(size=rows)
    return features, np.where(features[:, SWAPS] > 0.7, 0.1, np.where(features[:, AVAILABLE] > 0.4, -0.05, 0.0))


def test_it_finds_what_made_the_data():
    features, changes = data()
    found = grow(features, changes, 3)
    assert found["feature"] == "guest_swap_in_rate"
    assert found["at"] == pytest.approx(0.7, abs=0.02)
    assert found["below"]["feature"] == "guest_available"
    assert found["below"]["at"] == pytest.approx(0.4, abs=0.02)
    assert np.abs(answers(found, features) - changes).mean() < 0.003
    told = list(rules(found))
    assert [round(change, 2) for _, change, _ in told] == [0.0, -0.05, 0.1]
    assert sum(share for *_, share in told) == pytest.approx(1.0)
    assert told[2][0].startswith("guest_swap_in_rate > 0.")


def test_it_stops_where_nothing_is_left_to_tell():
    features, changes = data()
    assert grow(features, np.full(len(changes), 0.2), 8) == {"change": pytest.approx(0.2), "share": 1.0}
    assert len(list(rules(grow(features, changes, 2)))) == 2
    assert len(list(rules(grow(features, changes, 8)))) <= 8


def test_no_leaf_is_an_odd_minute():
    features, changes = np.zeros((1000, len(FEATURES))), np.zeros(1000)
    features[0, AVAILABLE], changes[0] = 1.0, 1.0  # one of a thousand
    assert list(grow(features, changes, 4)) == ["change", "share"]


def test_the_same_data_give_the_same_tree():
    features, changes = data()
    features[:, SWAPS + 1] = features[:, SWAPS]  # a twin: the first is taken
    assert json.dumps(grow(features, changes, 5)) == json.dumps(grow(features, changes, 5))
    assert grow(features, changes, 3)["feature"] == "guest_swap_in_rate"


def test_a_tree_plays_as_the_linear_policy_that_it_is():
    """A weight on the constant alone: each period the same share, which a leaf says too."""
    weights = np.where(np.array(FEATURES) == "constant", -1.0, 0.0)
    linear = SharedLinear.of(weights, 0.04, 10.0)
    leaf = SizeTree.of({"change": -0.02, "share": 1.0}, 10.0, Visibility.P1)
    ours, theirs = (rollout(load("no-guest-swap-short"), policy, [1, 2]).goodput for policy in (linear, leaf))
    assert ours.tolist() == theirs.tolist()


def test_a_file_is_read_as_it_was_written(tmp_path):
    grown = grow(*data(), 4)
    written = SizeTree.of(grown, 15.0, Visibility.P0)
    written.keep_floor(SharedLinear.of(np.zeros(len(FEATURES)), 0.1, 10.0))
    path = tmp_path / "tree.json"
    path.write_text(tree.text(written, {"of": "somebody"}))
    policy = SizeTree(path)
    assert (policy.tree, policy.period_s, policy.visibility) == (grown, 15.0, Visibility.P0)
    assert (policy.least_share, policy.least_mib) == (0.1, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content | {"kind": "other"}, "its kind is not"),
        (lambda content: content | {"period_s": 0}, "period_s is 0.0"),
        (lambda content: content | {"tree": {"change": float("inf")}}, "not finite"),
        (
            lambda content: content | {"tree": {"feature": "luck", "at": 1, "below": {}, "above": {}}},
            "'luck' is no feature",
        ),
        (lambda content: content | {"tree": {"feature": "cpu", "at": 1, "below": {"change": 0}}}, "above"),
        (lambda content: content | {"visibility": "P9"}, "P9"),
    ],
)
def test_a_file_that_is_none_of_a_tree_is_refused_by_name(tmp_path, change, said):
    path = tmp_path / "tree.json"
    content = json.loads(tree.text(SizeTree.of({"change": 0.1, "share": 1.0}, 10.0, Visibility.P1), {}))
    path.write_text(json.dumps(change(content)))
    with pytest.raises(InputError, match=rf"tree.json.*{said}"):
        SizeTree(path)


def test_without_a_file_it_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="hvgym explain"):
        SizeTree()
    with pytest.raises(InputError, match="no such file"):
        SizeTree(tmp_path / "none.json")


def test_a_question_for_all_comes_before_one_for_a_few():
    """Half of 1000 decisions differ by 0.1: 2.5 of squares explained; ten of them by 0.45: 2.0."""
    features, changes = np.zeros((1000, len(FEATURES))), np.zeros(1000)
    features[::2, AVAILABLE], features[10:, SWAPS] = 1.0, 1.0
    changes += 0.1 * features[:, AVAILABLE] + 0.45 * (1.0 - features[:, SWAPS])
    assert grow(features, changes, 2)["feature"] == "guest_available"
