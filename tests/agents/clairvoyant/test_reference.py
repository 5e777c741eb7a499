"""The reference within the channels of its seat."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.clairvoyant import search
from hvgym.agents.clairvoyant.planning import HOLD, OWN, RECLAIM, SQUEEZE, YIELD
from hvgym.agents.clairvoyant.reference import Reference
from hvgym.agents.clairvoyant.search import Course, Search, Trials
from hvgym.agents.policy import ClairvoyantPolicy, make_policy
from hvgym.agents.stock import beneath
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import group_files, load_group, resolve
from hvgym.envs.seats import CHANNELS, OF_A_CLUSTER
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets


def on(hypervisor, rules="default"):
    return resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor), rules=rules)


def hidden(scenario):
    sim = Simulator(scenario)
    sim.reset([1])
    return sim.hidden()


class Told(Reference):
    """Keeps what it was told, and answers nothing."""

    def begin(self, scenario, channels):
        self.told = (scenario.name, tuple(channels))

    def decide(self, hidden):
        assert self.told
        return Targets()


OPEN = tuple(name for name in CHANNELS if name not in OF_A_CLUSTER)


@pytest.mark.parametrize(
    ("seat", "hypervisor", "rules", "channels"),
    [
        ("inside", "esxi", "default", ("memory_mib", "scan_pages_per_s")),
        ("outside", "esxi", "default", ("admit", "disk_shares", "net_shares", "limit_mib")),
        ("outside", "xen", "default", ("memory_mib", "admit")),
        ("inside", "baremetal", "default", ("reclaim_mib", "reclaim_age_s")),
        ("inside", "esxi", "open", OPEN),
        ("outside", "esxi", "open", OPEN),
    ],
)
def test_a_rollout_tells_it_the_channels_of_its_seat_before_the_first_decision(seat, hypervisor, rules, channels):
    policy = Told(seat)
    rollout(on(hypervisor, rules), policy, [1])
    assert policy.told == ("idle-giants-short", channels)


def test_the_packaged_two_sit_where_they_say():
    found = {name: make_policy(load_group("agent", name)) for name in ("reference", "reference_outside")}
    assert {name: one.declaration.seat for name, one in found.items()} == {
        "reference": "inside", "reference_outside": "outside",
    }  # fmt: skip


def test_plans_and_answers_that_need_other_channels_are_dropped():
    scenario = on("esxi")
    reference = Reference(episodes=20)
    reference.begin(scenario, ("memory_mib", "scan_pages_per_s"))
    answer = reference.decide(hidden(scenario))
    assert answer.memory_mib is not None
    assert answer.scan_pages_per_s is not None
    others = set(OPEN) - {"memory_mib", "scan_pages_per_s"}
    assert len(others) == 7
    for name in others:
        assert getattr(answer, name) is None


@pytest.mark.parametrize(
    ("channels", "kinds", "reports", "scans"),
    [
        (("memory_mib", "scan_pages_per_s"), {HOLD, SQUEEZE, YIELD}, {OWN}, {OWN, 0.0}),
        (("reclaim_mib", "reclaim_age_s"), {HOLD, RECLAIM}, {OWN}, {OWN}),
        (("memory_mib", "report_free_pages"), {HOLD, SQUEEZE, YIELD}, {OWN, 1.0}, {OWN}),
        (("admit",), {HOLD}, {OWN}, {OWN}),
        (OPEN, {HOLD, SQUEEZE, RECLAIM, YIELD}, {OWN, 1.0}, {OWN, 0.0}),
    ],
)
def test_plans_keep_to_the_channels_and_the_first_is_to_leave_all_to_the_hypervisor(channels, kinds, reports, scans):
    plans = search.basic(channels)
    assert set(plans["kind"]) == kinds
    assert set(plans["reports"]) == reports
    assert set(plans["scan_pages_per_s"]) == scans
    assert (plans["kind"][0], plans["reports"][0], plans["scan_pages_per_s"][0]) == (HOLD, OWN, OWN)
    assert (plans["sizes"] == float("memory_mib" in channels)).all()


def test_switches_are_turned_only_where_they_can_matter():
    def turned(hypervisor, name="idle-giants-short", channels=OPEN):
        scenario = resolve(load_group("scenario", name), load_group("hypervisor", hypervisor))
        sim = Simulator(scenario)
        sim.reset([1])
        start = Trials(sim.hidden(), 0, 5, scenario).start
        plans, tilts = search.turned(search.plan(HOLD, channels), np.zeros((len(scenario.groups), 3)), channels, start)
        assert len(plans) == len(tilts)
        return plans

    assert not turned("kvm")["fills"].any()
    assert turned("kvm", "late-arrivals")["fills"].any()
    assert not turned("kvm", "late-arrivals", ("memory_mib",))["fills"].any()
    assert turned("esxi")["whole"].any()
    assert not turned("kvm")["whole"].any()
    assert turned("kvm")["shares"].any()
    assert not len(turned("xen", channels=("memory_mib",)))


# ---- the search


def trials_of(scenario, seed=11, made=Trials, counts="goodput"):
    sim = Simulator(scenario)
    sim.reset([seed])
    return sim, made(sim.hidden(), 0, 5, scenario, counts=counts)


def test_trials_leave_the_true_host_as_it_was():
    sim = Simulator(on("kvm"))
    sim.reset([11])
    before = [array.tobytes() for array in (sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.clock_s, sim.demand)]
    reference = Reference(episodes=40)
    reference.begin(sim.scenario, CHANNELS)
    reference.decide(sim.hidden())
    after = [array.tobytes() for array in (sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.clock_s, sim.demand)]
    assert before == after


@pytest.mark.parametrize(
    ("hypervisor", "seat", "name"),
    [("esxi", "inside", "idle-giants-short"), ("kvm", "outside", "noisy-disk"), ("xen", "inside", "late-arrivals")],
)
def test_what_it_finds_is_what_happens(hypervisor, seat, name):
    """It plays the very model, so the course of an episode brings to the bit what the search has seen."""
    scenario = resolve(load_group("scenario", name), load_group("hypervisor", hypervisor), rules="default")
    _, trials = trials_of(scenario)
    reference = Reference(seat, episodes=60)
    got = rollout(scenario, reference, [11])
    course = reference._courses[0][2]
    state = trials.start
    for part, since in enumerate(course.since_s):
        until = course.since_s[part + 1] if part + 1 < len(course.since_s) else scenario.duration_s
        assert since == int(state.clock_s[0])
        state = trials.play(state, course.plans[part][None], course.tilts[part][None], until)
    weight = state.vm_specs["weight"]
    earned = (weight * (state.vms["progress_s"] - state.vms["charged_s"])).sum() / (weight * state.vms["asked_s"]).sum()
    assert got.goodput[0] == earned


def test_what_it_finds_above_the_hypervisors_own_policy_is_what_happens():
    scenario = resolve(load_group("scenario", "noisy-disk"), load_group("hypervisor", "esxi"), rules="default")
    reference = Reference("outside", episodes=60)
    got = rollout(scenario, reference, [11])
    course = reference._courses[0][2]
    _, trials = trials_of(scenario)
    trials.beneath = beneath(scenario, reference.declaration)
    assert trials.beneath is not None
    state = trials.play(trials.start, course.plans[:1], course.tilts[:1], scenario.duration_s)
    weight = state.vm_specs["weight"]
    assert got.goodput[0] == (weight * state.vms["progress_s"]).sum() / (weight * state.vms["asked_s"]).sum()
    assert got.goodput[0] > rollout(scenario, make_policy(load_group("agent", "stock")), [11]).goodput[0] + 0.001


def test_it_keeps_to_its_budget_and_to_search_finds_more_than_first_plans():
    found = []
    for episodes in (1, 60, 150):
        _, trials = trials_of(on("esxi"))
        course = Search(trials, ("memory_mib", "scan_pages_per_s"), episodes).course()
        least = len(search.basic(("memory_mib", "scan_pages_per_s"))) + len(SWITCHES_OF_SCANNING)
        assert trials.played <= max(episodes, least + search.CHILDREN) + 1e-9
        found.append(rollout(on("esxi"), Follows(course), [11]).goodput[0])
    assert min(found[1:]) > found[0]


SWITCHES_OF_SCANNING = (OWN, 0.0, 100e3)


class Follows(Reference):
    """A course that is given."""

    def __init__(self, course):
        super().__init__()
        self.given = course

    def _course(self, hidden, lane):
        return self.given


def test_a_kill_outweighs_all_work():
    scenario = on("kvm")
    _, trials = trials_of(scenario)
    state = trials.start.copies(3)
    state.vms["progress_s"][0], state.vms["oom_kills"][0, 0] = scenario.duration_s, 1.0
    state.vms["progress_s"][1], state.vms["progress_s"][2] = 1.0, 2.0
    assert np.argsort(trials.ranks(state)).tolist() == [0, 1, 2]


def test_where_misses_count_no_work_makes_up_for_a_missed_second_and_no_seconds_for_a_kill():
    scenario = on("kvm")
    _, trials = trials_of(scenario)
    trials.counts = "misses"
    state = trials.start.copies(5)
    critical = int(np.argmax(state.vm_specs["critical"][0]))
    other = int(np.argmin(state.vm_specs["critical"][0]))
    state.vms["progress_s"] = scenario.duration_s
    state.vms["oom_kills"][0, 0] = 1.0
    state.vms["slo_violation_s"][1, critical] = scenario.duration_s
    state.vms["slo_violation_s"][2, critical] = 1.0
    state.vms["progress_s"][3:] = 1.0
    state.vms["progress_s"][3] = 0.0
    state.vms["slo_violation_s"][3, other] = scenario.duration_s  # not critical, so nothing misses
    assert np.argsort(trials.ranks(state)).tolist() == [0, 1, 2, 3, 4]


def test_a_small_budget_plays_plans_of_every_kind_first():
    plans = search.basic(OPEN)
    assert search.few(plans, 4)["kind"].tolist() == [HOLD, SQUEEZE, YIELD, RECLAIM]
    assert search.few(plans, 4)["reports"][0] == OWN  # the first is to leave all to the hypervisor
    assert search.few(plans, 6)["kind"].tolist() == [HOLD, HOLD, SQUEEZE, SQUEEZE, YIELD, RECLAIM]
    assert (search.few(plans, 99) == plans).all()


@pytest.mark.parametrize("episodes", [1, 4, 14])
def test_a_budget_below_the_plans_is_kept_to_the_episode(episodes):
    _, trials = trials_of(on("kvm"))
    course = Search(trials, OPEN, episodes).course()
    assert trials.played == episodes
    assert len(course.plans) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"episodes": 0}, "agent.episodes=0: expected a whole number, at least 1"),
        ({"episodes": 1.5}, "agent.episodes=1.5: expected a whole number, at least 1"),
        ({"counts": "kills"}, "agent.counts='kills': choose one of goodput, misses"),
    ],
)
def test_what_it_is_told_is_checked(given, message):
    with pytest.raises(InputError, match=message):
        Reference(**given)


def test_one_of_a_batch_is_one_alone():
    scenario = on("kvm")
    together = rollout(scenario, Reference(episodes=50), [5, 6]).rows()
    assert together == [rollout(scenario, Reference(episodes=50), [seed]).rows()[0] for seed in (5, 6)]


def test_it_searches_once_an_episode_and_anew_for_another():
    searched = []

    class Counts(Reference):
        def _course(self, hidden, lane):
            before = self._courses.get(lane)
            found = super()._course(hidden, lane)
            if before is None or before[2] is not found:
                searched.append((lane, int(hidden.clock_s[lane])))
            return found

    scenario = on("kvm")
    rollout(scenario, Counts(episodes=1), [0, 1])
    assert searched == [(0, 0), (1, 0)]
    searched.clear()
    sim, reference = Simulator(scenario, 2), Counts(episodes=1)
    reference.begin(scenario, CHANNELS)
    sim.reset([5, 6])
    sim.advance(35)
    reference.decide(sim.hidden())
    sim.advance(5)
    reference.decide(sim.hidden())
    assert searched == [(0, 35), (1, 35)]
    sim.reset([5, 6])
    reference.decide(sim.hidden())
    assert searched[2:] == [(0, 0), (1, 0)]


@pytest.mark.parametrize("hypervisor", sorted(group_files("hypervisor")))
@pytest.mark.parametrize("name", ["idle-giants-short", "no-guest-swap-short", "busy-io"])
def test_it_falls_behind_static_nowhere(hypervisor, name):
    scenario = resolve(load_group("scenario", name), load_group("hypervisor", hypervisor), rules="default")
    static, found = (
        rollout(scenario, policy, [0, 1]).goodput
        for policy in (make_policy(load_group("agent", "static")), Reference(episodes=30))
    )
    assert (found >= static - 1e-9).all()


def test_to_leave_all_to_the_hypervisor_is_to_do_as_static_does_to_the_bit():
    scenario = on("esxi")
    holds = Course((0,), search.basic(CHANNELS)[:1], np.zeros((1, len(scenario.groups), 3)))
    static = make_policy(load_group("agent", "static"))
    assert rollout(on("esxi"), Follows(holds), [1]).rows() == rollout(scenario, static, [1]).rows()


def test_a_clairvoyant_that_answers_on_a_channel_that_its_seat_lacks_ends_the_rollout():
    class Reclaims(ClairvoyantPolicy):
        def decide(self, hidden):
            return Targets(reclaim_mib=np.zeros(hidden.vms.shape))

    with pytest.raises(InputError, match=r"second 0: targets.reclaim_mib: esxi has no such channel inside"):
        rollout(on("esxi"), Reclaims(), [1])
    rollout(on("esxi", "open"), Reclaims(), [1])


class Patient(Trials):
    """Plays every plan to its end."""

    def play(self, state, plans, tilts, until_s, floor=-np.inf):
        return super().play(state, plans, tilts, until_s)


class Hasty(Trials):
    """Counts seconds that were played."""

    seconds = 0

    def play(self, state, plans, tilts, until_s, floor=-np.inf):
        found = super().play(state, plans, tilts, until_s, floor)
        self.seconds += int((found.clock_s - state.clock_s[0]).sum())
        return found


@pytest.mark.parametrize("episodes", [3, 70])
def test_to_leave_plans_that_have_lost_changes_no_course(episodes):
    channels = ("memory_mib", "reclaim_mib", "reclaim_age_s", "report_free_pages")
    crowded = replace(on("kvm"), host=replace(on("kvm").host, ram_mib=None, overcommit=2.5))
    for seed in (11, 12):
        patient, hasty = (trials_of(crowded, seed, made, "misses")[1] for made in (Patient, Hasty))
        there, here = (Search(trials, channels, episodes).course() for trials in (patient, hasty))
        assert there.since_s == here.since_s
        assert there.plans.tobytes() == here.plans.tobytes()
        assert there.tilts.tobytes() == here.tilts.tobytes()
        assert hasty.seconds < 0.95 * hasty.played * (hasty.end_s - hasty.start_s)
        assert hasty.played == patient.played
