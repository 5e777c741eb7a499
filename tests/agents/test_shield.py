"""The shield: floor, step and handing back by hand, on every kind of policy, its limits, and its place in a result's identity."""

import numpy as np
import pytest

from hvgym.agents.policy import Policy, make_policy
from hvgym.agents.shield import Limits, Shield, shielded
from hvgym.bench.jobs import Job
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Targets, Telemetry, Visibility

SCENARIO = load("no-guest-swap-short")


class Asks(Policy):
    """Asks for the same share of memory always, and to reclaim as much."""

    period_s = 10.0
    visibility = Visibility.P1

    def __init__(self, share, reclaims=None):
        self.share, self.reclaims = share, reclaims

    def decide(self, telemetry):
        memory = telemetry.vm["memory_mib"]
        reclaim = None if self.reclaims is None else self.reclaims * memory
        return Targets(None if self.share is None else self.share * memory, reclaim_mib=reclaim)


def reading(second, available_mib=1e6, **signals):
    """One VM of 1000 MiB, 100 guaranteed, of which nothing is known but what is given."""
    vm = np.full((1, 1), np.nan, VM_TELEMETRY)
    for name, value in {
        "memory_mib": 1000.0,
        "min_mib": 100.0,
        "size_mib": 1000.0,
        "target_mib": 1000.0,
        **signals,
    }.items():
        vm[name] = value
    host = np.zeros((1, 1), HOST_TELEMETRY)
    host["available_mib"] = available_mib
    return Telemetry(np.array([float(second)]), vm, host)


def asked(shield, *readings):
    shield.reset(readings[0], 0)
    return [float(shield.decide(one).memory_mib[0, 0]) for one in readings]


def test_never_below_what_a_guest_uses_and_a_tenth():
    shield = Shield(Asks(0.0), Limits(step=1.0, floor=1.1))
    assert asked(shield, reading(0, guest_available_mib=600.0)) == [pytest.approx(440.0)]
    assert asked(shield, reading(0, guest_free_mib=500.0)) == [pytest.approx(550.0)]
    assert asked(shield, reading(0, active_share=0.3, active_periods=2.0)) == [pytest.approx(330.0)]
    assert asked(shield, reading(0, active_share=0.3, active_periods=0.0)) == [pytest.approx(500.0)]
    assert asked(shield, reading(0)) == [pytest.approx(500.0)]
    assert asked(shield, reading(0, guest_available_mib=990.0)) == [100.0]


def test_what_it_used_before_is_let_go_slowly():
    shield = Shield(Asks(0.0), Limits(step=1.0, floor=1.0, hold_s=60.0))
    sizes = asked(
        shield,
        *(reading(second, guest_available_mib=available) for second, available in ((0, 200), (60, 800), (120, 800))),
    )
    assert sizes == [800.0, pytest.approx(200.0 + 600.0 / 2), pytest.approx(200.0 + 300.0 / 2)]


def test_it_shrinks_by_a_step_and_grows_at_once():
    shield = Shield(Asks(0.2), Limits(step=0.05, floor=1.0))
    calm = [reading(10 * at, guest_available_mib=950.0) for at in range(4)]
    assert asked(shield, *calm) == pytest.approx([950.0, 900.0, 850.0, 800.0])
    shield.policy.share = 0.9
    assert float(shield.decide(calm[3]).memory_mib[0, 0]) == 900.0
    assert shield.held == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    "stalls",
    [{"guest_swap_in_mib": 50.0}, {"guest_psi_some10": 0.2}],
)
def test_who_stalls_gets_it_back_for_a_while(stalls):
    calm = {"guest_available_mib": 900.0, "guest_swap_in_mib": 0.0, "host_swap_in_mib": 0.0, "guest_psi_some10": 0.0}
    shield = Shield(Asks(0.5), Limits(step=1.0, hand_back_s=25.0))
    after = {
        name: value for name, value in stalls.items() if name != "guest_psi_some10"
    }  # counters stay where they are
    sizes = asked(
        shield, reading(0, **calm), reading(10, **calm | stalls), reading(20, **calm | after), reading(30, **calm | after),
        reading(40, **calm | after),
    )  # fmt: skip
    assert sizes == [500.0, 1000.0, 1000.0, 1000.0, 500.0]


def test_it_hands_back_no_more_than_the_host_has_and_nothing_for_the_hosts_own_stalls():
    calm = {"guest_available_mib": 900.0, "guest_swap_in_mib": 0.0, "host_swap_in_mib": 0.0}
    shield = Shield(Asks(0.5), Limits(step=1.0))
    stalls = calm | {"guest_swap_in_mib": 50.0}
    assert asked(shield, reading(0, **calm), reading(10, available_mib=200.0, **stalls)) == [500.0, 700.0]
    assert asked(shield, reading(0, **calm), reading(10, available_mib=np.nan, **stalls)) == [500.0, 1000.0]
    assert asked(shield, reading(0, **calm), reading(10, **calm | {"host_swap_in_mib": 900.0})) == [500.0, 500.0]


def test_what_is_reclaimed_is_held_too():
    shield = Shield(Asks(None, reclaims=0.3), Limits(step=0.2, floor=1.0))
    first = reading(0, guest_available_mib=400.0, resident_mib=700.0)
    shield.reset(first, 0)
    answer = shield.decide(first)
    assert answer.memory_mib is None
    assert answer.reclaim_mib.tolist() == [[100.0]]  # down to the 600 in use
    roomy = reading(10, guest_available_mib=900.0, resident_mib=990.0)
    shield.reset(roomy, 0)
    assert shield.decide(roomy).reclaim_mib.tolist() == [[200.0]]  # a step
    assert shield.decide(reading(20, guest_psi_some10=0.5)).reclaim_mib.tolist() == [[0.0]]


def test_a_policy_that_leaves_a_size_is_left_alone_unless_it_is_too_small():
    shield = Shield(Asks(np.nan), Limits(floor=1.0))
    roomy, tight = reading(0, guest_available_mib=900.0, target_mib=500.0), reading(10, guest_available_mib=200.0)
    shield.reset(roomy, 0)
    assert np.isnan(shield.decide(roomy).memory_mib[0, 0])
    assert shield.decide(tight).memory_mib[0, 0] == 800.0


@pytest.mark.parametrize("name", ["static", "proxmox", "proxmox_ksmtuned", "greedy_tuned", "senpai", "random", "esx"])
def test_any_policy_of_a_host_plays_behind_it_in_lanes_that_do_not_mix(name):
    agent = load_group("agent", name) | {"shield": True}
    both = rollout(SCENARIO, make_policy(agent), [1, 2])
    alone = rollout(SCENARIO, make_policy(agent), [2])
    assert both.goodput[1] == alone.goodput[0] or name == "random"
    assert make_policy(agent).declaration == make_policy(load_group("agent", name)).declaration


def test_it_saves_vms_from_a_reckless_policy():
    bare, safe = (rollout(SCENARIO, policy, [1, 2]) for policy in (Asks(0.0), shielded(Asks(0.0), True)))
    assert bare.oom_kills.sum() > 10
    assert safe.oom_kills.sum() < bare.oom_kills.sum() / 2
    assert safe.goodput.mean() > bare.goodput.mean() + 0.05


@pytest.mark.parametrize(
    ("name", "shield", "said"),
    [
        ("proxmox", 3, "agent.shield=3: expected true, false or limits"),
        ("proxmox", {"stepp": 1}, r"agent.shield.stepp: unknown key \(did you mean 'step'\?\)"),
        ("proxmox", {"step": 0}, "agent.shield.step=0: must be above 0"),
        ("reference", True, "a clairvoyant reads no telemetry"),
        ("drs2", True, "a policy of clusters cannot be shielded"),
    ],
)
def test_what_cannot_be_shielded_is_refused(name, shield, said):
    with pytest.raises(InputError, match=said):
        make_policy(load_group("agent", name) | {"shield": shield})


def test_it_is_part_of_what_a_result_is_of():
    agent, scenario = load_group("agent", "proxmox"), SCENARIO.to_dict()
    bare, safe = Job(agent, scenario, 0, 1, 1, ""), Job(agent | {"shield": True}, scenario, 0, 1, 1, "")
    assert bare.key != safe.key
    assert isinstance(make_policy(agent | {"shield": False}), Policy)
    assert not isinstance(make_policy(agent | {"shield": False}), Shield)


def test_a_reading_of_the_simulator_suffices():
    sim = Simulator(SCENARIO, 2)
    first = sim.reset([1, 2])
    shield = shielded(Asks(0.1), {"step": 0.5})
    shield.reset(first, 0)
    assert np.isfinite(shield.decide(first).memory_mib).all()


def test_who_is_shielded_is_told_its_channels():
    """`learned_full` decides each 2 s where it can reclaim pages by age, and as the map of sizes does elsewhere."""
    shield = make_policy(load_group("agent", "learned_full") | {"shield": True})
    for channels, period_s in ((["memory_mib"], 10.0), (["memory_mib", "reclaim_mib", "reclaim_age_s"], 2.0)):
        shield.granted(channels)
        assert shield.period_s == period_s
