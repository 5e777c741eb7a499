"""ESXi: states of minFree, and which of them move balloons in versions 5 and 6."""

import numpy as np
import pytest

from hvgym.agents.hypervisors.esx import SampledVm, next_state
from hvgym.agents.hypervisors.esxi import Esxi
from hvgym.agents.policy import make_policy
from hvgym.envs.model.host.states import CLEAR, HARD, HIGH, LOW, SOFT
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

HOST_MIB = 65536.0
MIN_FREE_MIB = 899.0 + 0.01 * 36 * 1024
"""Of 64 GiB: 899 MiB for the first 28, one per cent of the other 36."""


def test_thresholds_of_64_gib():
    begins, ends, goal = Esxi().levels_mib(HOST_MIB)
    assert begins == pytest.approx([1267.64, 811.2896, 405.6448, 202.8224])
    assert ends == pytest.approx([1394.404, 892.41856, 446.20928, 223.10464])
    assert goal == pytest.approx(1394.404)


def test_a_quarter_more_is_another_guess():
    assert Esxi(rise_share=0.25).levels_mib(HOST_MIB)[2] == pytest.approx(1584.55)


@pytest.mark.parametrize(
    ("before", "share", "after"),
    [
        (HIGH, 1.01, HIGH), (HIGH, 0.99, CLEAR), (HIGH, 0.63, SOFT), (HIGH, 0.31, HARD), (HIGH, 0.15, LOW),
        (CLEAR, 1.09, CLEAR), (CLEAR, 1.11, HIGH), (SOFT, 0.70, SOFT), (SOFT, 0.71, CLEAR), (HARD, 0.35, HARD),
        (HARD, 0.36, SOFT), (LOW, 0.17, LOW), (LOW, 0.18, HARD), (LOW, 4.0, HIGH),
    ],
)  # fmt: skip
def test_states_by_share_of_min_free(before, share, after):
    begins, ends, _ = Esxi().levels_mib(HOST_MIB)
    assert next_state(before, share * MIN_FREE_MIB, begins, ends) == after


SHRUNK = SampledVm(1000.0, 4000.0, 0.0, 3000.0, 3000.0, 0.0, 1.0)
FULL = SampledVm(1000.0, 4000.0, 0.0, 4000.0, 4000.0, 0.0, 0.0)
"""Of 7,000 MiB less 1,000, at 0.25 x for the idle one and x for the busy one, capped at 4,000 and 65 %: 2,000 and 4,000."""


@pytest.mark.parametrize(
    ("state", "hard_balloon", "expected"),
    [
        (HIGH, False, [4000.0, 4000.0]),
        (CLEAR, False, [4000.0, 4000.0]),
        (CLEAR, True, [4000.0, 4000.0]),
        (SOFT, False, [4000.0, 2000.0]),
        (SOFT, True, [4000.0, 2000.0]),
        (HARD, False, [3000.0, 4000.0]),
        (HARD, True, [4000.0, 2000.0]),
        (LOW, False, [3000.0, 4000.0]),
        (LOW, True, [3000.0, 4000.0]),
    ],
)
def test_balloons_take_in_soft_and_in_hard_rest_in_6_but_not_in_5(state, hard_balloon, expected):
    policy = Esxi(hard_balloon=hard_balloon)
    assert policy.sizes_mib(state, [SHRUNK, FULL], -1000.0) == pytest.approx(expected)


def reading(share, seconds=0.0):
    """Two VMs of 30,000 MiB, all of it held, on a host with this share of minFree free."""
    rows, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    rows["limit_mib"] = rows["startup_mib"] = np.nan
    rows["memory_mib"] = rows["size_mib"] = rows["resident_mib"] = 30_000.0
    rows["shares"], rows["running"], rows["active_share"] = 1000.0, 1.0, np.nan
    host["total_mib"], host["available_mib"] = HOST_MIB, share * MIN_FREE_MIB
    return Telemetry(np.array([seconds]), rows, host)


def sizes(policy, telemetry):
    return policy.decide(telemetry.seen_with(policy.visibility)).memory_mib[0].tolist()


@pytest.mark.parametrize(("agent", "change"), [("esxi6", 0.0), ("esxi5", 0.5 * (1.1 - 0.3) * MIN_FREE_MIB)])
def test_in_hard_5_takes_what_is_missing_of_the_goal_and_6_nothing(agent, change):
    policy = make_policy(load_group("agent", agent))
    policy.reset(reading(1.0), seed=0)
    assert sizes(policy, reading(0.5)) == pytest.approx([30_000.0 - 0.5 * (1.1 - 0.5) * MIN_FREE_MIB] * 2)
    assert sizes(policy, reading(0.3, 1.0)) == pytest.approx([30_000.0 - change] * 2)
    assert np.isnan(sizes(policy, reading(0.3, 2.0))).all()


def test_hysteresis_keeps_6_at_rest_until_hard_has_ended():
    policy = make_policy(load_group("agent", "esxi6"))
    policy.reset(reading(1.0), seed=0)
    sizes(policy, reading(0.3))
    assert np.isnan(sizes(policy, reading(0.34, 1.0))).all()
    assert sizes(policy, reading(0.36, 2.0))[0] < 30_000.0


@pytest.mark.parametrize(("agent", "hard_balloon"), [("esxi6", False), ("esxi5", True)])
def test_configurations_differ_in_the_hard_state_only(agent, hard_balloon):
    policy = make_policy(load_group("agent", agent))
    assert vars(policy) | UNDECLARED == vars(Esxi()) | {"hard_balloon": hard_balloon} | UNDECLARED
    assert not Esxi().hard_balloon
    assert (policy.period_s, policy.visibility) == (1.0, Visibility.P3)


def test_arguments_reach_the_division():
    policy = Esxi(
        idle_tax=0.5, slow_gain=0.2, fast_gain=0.6, cap_share=0.9, balance_s=5.0, rise_share=0.3, shares_by_size=False
    )
    assert (policy.idle_tax, policy.slow_gain, policy.fast_gain) == (0.5, 0.2, 0.6)
    assert (policy.cap_share, policy.balance_s, policy.rise_share) == (0.9, 5.0, 0.3)
    assert not policy.shares_by_size
