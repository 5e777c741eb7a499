"""Explanations: sensitivities that can be told by hand, a tree's score, a burst, and what cannot be explained."""

import json

import numpy as np
import pytest

from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import Policy, make_policy
from hvgym.bench.drawing import png
from hvgym.bench.explained_page import draw_burst, draw_sensitivities, figures, page, words
from hvgym.bench.explaining import Recorded, explain
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.making import scenario_of
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.telemetry import Targets, Visibility

SCENARIO = load("no-guest-swap-short")


class Follows(Policy):
    """Asks for what the guest uses and a quarter more."""

    period_s = 10.0
    visibility = Visibility.P1

    def reset(self, first, seed):
        self.asked = first.vm["memory_mib"].copy()

    def decide(self, telemetry):
        vm = telemetry.vm
        used = vm["size_mib"] - vm["guest_available_mib"]
        self.asked = np.where(np.isnan(used), self.asked, 1.25 * used)
        return Targets(self.asked)


@pytest.fixture(scope="module")
def told():
    return explain(SCENARIO, {"name": "follows"}, Follows(), 6, 2)[0]


def test_it_names_the_signals_that_a_policy_reads_and_no_other(told):
    assert {one.name for one in told.signals} == {"vm.size_mib", "vm.guest_available_mib"}
    by_name = {one.name: one for one in told.signals}
    assert by_name["vm.guest_available_mib"].moves < 0.0 < by_name["vm.size_mib"].moves
    assert told.features == ()


def test_the_tree_has_a_score_beside_policy_and_stock(told):
    assert set(told.goodput) == {"follows", "tree", "stock"}
    assert 0.3 < told.fidelity["r2"] <= 1.0
    assert told.fidelity["mean_difference"] < told.fidelity["mean_change"]


def test_the_burst_is_followed(told):
    """The first VM's hot memory grows after ten minutes: so does what it is asked to have."""
    minutes, asked = told.course["minutes"], told.course["asked_mib"]
    assert asked.shape == (180, 4)
    before, within = asked[(minutes > 5) & (minutes < 10)], asked[(minutes > 15) & (minutes < 20)]
    assert within[:, 0].mean() > before[:, 0].mean() + 1000.0
    assert abs(within[:, 1:] - before[:, 1:]).mean() < 200.0


def test_the_pull_of_a_linear_policys_features_is_exact():
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("guest_available")], weights[FEATURES.index("guest_swap_in_rate_60s")] = -0.5, 2.0
    policy = SharedLinear.of(weights, 0.1, 10.0)
    told, _ = explain(SCENARIO, {"name": "es"}, policy, 3, 1)
    moving = [one.name for one in told.features if one.most > 0.0]
    assert set(moving) <= {"guest_available", "guest_swap_in_rate_60s"}
    available = next(one for one in told.features if one.name == "guest_available")
    assert available.moves < 0.0
    assert 0.5 * 0.1 * available.spread / 4 < available.most < 0.5 * 0.1 * available.spread  # slopes of s from 1/4 to 1


def test_channels_beside_sizes_are_named_as_not_explained(told):
    """learned_full reclaims on KVM too."""
    full = load_group("agent", "learned_full")
    found, _ = explain(
        scenario_of("no-guest-swap-short", hypervisor="kvm", rules="default"), full, make_policy(full), 3, 1
    )
    assert "reclaim_mib" in found.others
    assert f"not explained: {', '.join(found.others)}, which it sets too" in "\n".join(words(found))
    assert "not explained" not in "\n".join(words(told))


def test_it_is_shown_as_page_pictures_text_and_data(told):
    text = "\n".join(words(told))
    assert "follows on no-guest-swap-short" in text
    assert "vm.guest_available_mib" in text
    assert text.count("  if ") == 6
    assert all(png(draw(told)).startswith(b"\x89PNG") for draw in (draw_burst, draw_sensitivities))
    whole = page(told, {"burst": "burst.png", "sensitivities": "sensitivities.png"})
    assert "R² 0." in whole
    assert "guest_available" in whole
    assert json.loads(json.dumps(figures(told)))["goodput"] == told.goodput


def test_a_policy_without_sizes_is_refused():
    with pytest.raises(InputError, match="agent senpai: sets no memory sizes; what is explained are sizes"):
        explain(SCENARIO, load_group("agent", "senpai"), make_policy(load_group("agent", "senpai")), 4, 1)


def test_who_is_explained_is_told_its_channels():
    """Else `learned_full` would set nothing: it answers on what it has there."""
    policy = Recorded(make_policy(load_group("agent", "learned_full")), "learned_full")
    assert set(rollout(on_xen(), policy, [1]).goodput) == set(rollout(on_xen(), policy.policy, [1]).goodput)
    assert len(policy.changes) == 6


def on_xen():
    data = load_group("scenario", "idle-giants-short") | {"episode_s": 60}
    return resolve(data, hypervisor=load_group("hypervisor", "xen"), rules="default")
