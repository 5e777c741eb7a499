"""Fidelity: episodes are kept and played again, order is compared, a busy machine is refused; nothing here boots a guest."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.policy import Policy
from hvgym.bench import fidelity, fidelity_figures, fidelity_moves
from hvgym.bench.real_episode import Episode, UnfitError, as_measured, backed_free_share, misses, process_mib, simulated
from hvgym.bench.statistics import kendall
from hvgym.envs.errors import InputError
from hvgym.envs.real.guests.crowding import MOST_WAITED, Crowding
from hvgym.envs.real.guests.machines import lines_of
from hvgym.envs.real.guests.moving import Moved
from hvgym.envs.scenario import load
from hvgym.envs.telemetry import Targets

CALM = Crowding(seconds=120.0, waited=0.01, stolen=0.0, others=0.1, guests=0.4)
BUSY = replace(CALM, waited=0.197)
NAMES = ("first", "second", "third")
JOBS = fidelity.jobs(["guests-taking-turns"], ["stock", "greedy"], 2)


def episode(progress=0.9, crowding=CALM):
    rows = [
        {"time_s": t, "vm": vm, "size_mib": 200.0, "host_swap_in_mib": 0.0} for t in (0.0, 5.0, 10.0) for vm in NAMES
    ]
    return Episode(NAMES, np.full((120, 3), progress), np.zeros(3), (), rows, crowding, "by hand", ("size_mib",))


class Player:
    """Counts what it plays; stops or fails where it is told to."""

    def __init__(self, *answers):
        self.played, self.answers = [], list(answers)

    def __call__(self, job):
        self.played.append(job)
        answer = self.answers.pop(0) if self.answers else episode()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def play(folder, player, todo=JOBS, tries=3):
    said = []
    return fidelity.play_all(todo, folder, player, said.append, tries), said


def test_seeds_come_last_so_that_everything_is_played_once_before_anything_is_played_twice():
    assert [(job.policy, job.seed) for job in JOBS] == [("stock", 0), ("greedy", 0), ("stock", 1), ("greedy", 1)]


def test_an_episode_of_other_weights_is_out_of_date(tmp_path, monkeypatch):
    learned, greedy = fidelity.Job("real-guests", "learned_sizes", 0), fidelity.Job("real-guests", "greedy", 0)
    before = learned.identity(), greedy.identity()
    other = tmp_path / "other.json"
    other.write_text(fidelity.shipped("learned_sizes").read_text().replace('constant": ', 'constant": 1'))
    monkeypatch.setattr(fidelity, "shipped", lambda name: other)
    assert learned.identity() != before[0]
    assert greedy.identity() == before[1]


def test_who_is_stopped_goes_on_where_it_stopped(tmp_path):
    first = Player(episode(), episode(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, first)
    second = Player()
    missing, said = play(tmp_path, second)
    assert missing == []
    assert second.played == JOBS[2:]
    assert said[0] == "4 episodes, 2 of them are there"
    assert said[-1].endswith("0 min left")
    assert not Player().played


def test_an_episode_of_other_parameters_is_played_again(tmp_path, monkeypatch):
    play(tmp_path, Player())
    monkeypatch.setattr(fidelity, "POLICIES", fidelity.POLICIES | {"greedy": {"chunk_mib": 32.0}})
    player = Player()
    play(tmp_path, player)
    assert {job.policy for job in player.played} == {"greedy"}


def test_a_half_written_episode_is_none(tmp_path):
    JOBS[0].file(tmp_path).parent.mkdir(parents=True)
    JOBS[0].file(tmp_path).write_text('{"identity": ')
    assert fidelity.read(JOBS[0], tmp_path) is None


def test_an_episode_on_a_busy_machine_does_not_count_and_is_played_again(tmp_path):
    player = Player(*[episode(0.197, BUSY)] * 3)
    missing, said = play(tmp_path, player, JOBS[:1])
    assert missing == JOBS[:1]
    assert len(player.played) == 3
    kept = json.loads(JOBS[0].file(tmp_path).read_text())
    assert kept["busy"] == "a guest waited 19.7% of the time for a processor (at most 10%)"
    assert not fidelity.counts(kept)
    assert any("busy" in line for line in said)
    again = Player(episode(0.67))
    assert play(tmp_path, again, JOBS[:1])[0] == []
    assert fidelity.read(JOBS[0], tmp_path)["progress"] == 0.67


def test_busy_begins_at_the_bound():
    assert replace(CALM, waited=MOST_WAITED).busy is None
    assert replace(CALM, waited=MOST_WAITED + 1e-6).busy
    assert "stolen" in replace(CALM, stolen=0.1).busy


def test_a_policy_that_cannot_run_is_booted_once_and_says_why(tmp_path):
    player = Player(UnfitError("agent stock on real guests: needs an ear"))
    missing, _ = play(tmp_path, player)
    assert missing == []
    assert [job.policy for job in player.played] == ["stock", "greedy", "greedy"]
    assert fidelity.read(JOBS[2], tmp_path)["refused"] == "agent stock on real guests: needs an ear"


def test_guests_that_do_not_come_up_are_tried_again_and_end_nothing(tmp_path):
    player = Player(*[InputError("not up within 180 s")] * 3)
    missing, said = play(tmp_path, player)
    assert missing == JOBS[:1]
    assert len(player.played) == 6
    assert "not up within 180 s" in said[1]


def test_misses_are_seconds_below_the_objective_of_critical_vms():
    """The first VM alone is critical, and may take 1.1 times as long: below .909 for three seconds."""
    progress = np.ones((120, 3))
    progress[:3, 0], progress[3, 0], progress[:50, 1] = 0.9, 0.91, 0.1
    assert misses(load("guests-taking-turns"), progress) == 3.0


@pytest.mark.parametrize("name", fidelity.SCENARIOS)
def test_scenarios_can_be_played_by_real_guests_and_tell_policies_apart(name):
    scenario = load(name)
    for group in scenario.groups:
        assert group.story is not None
        lines_of(group.story)
    assert scenario.duration_s <= 150
    policies = ("stock", "proportional", "proxmox", "mom_vdsm", "greedy", "learned_sizes")
    found = [fidelity.model_of(scenario, policy, {"victims": "two_lists"})["progress"] for policy in policies]
    assert max(found) - min(found) >= 0.1


def row(vm, **known):
    return {"vm": vm, "resident_mib": 340.0, "host_swap_mib": 130.0, "size_mib": 512.0, "guest_free_mib": 120.0} | known


def test_how_much_free_memory_a_host_backs_by_hand():
    """The giant: 340 + 130 - 58 of QEMU - (512 - 120) in use = 20 of 120; steady 250 + 0 - 58 - (256 - 80) = 16 of 80; the burst
    has used all of its memory once (at most 40 of 40)."""
    rows = [
        row("giant"),
        row("steady", resident_mib=250.0, host_swap_mib=0.0, size_mib=256.0, guest_free_mib=80.0),
        row("burst", resident_mib=460.0, guest_free_mib=40.0),
        row("giant", resident_mib=9999.0),  # of a later second
    ]
    assert backed_free_share(load("real-guests"), rows) == pytest.approx((20 + 16 + 40) / 240)
    assert backed_free_share(load("real-guests"), [row("giant", host_swap_mib=None)]) is None
    assert backed_free_share(load("real-guests"), []) is None


def test_what_a_guests_process_takes_by_hand():
    """Where nothing is free all of the guest is backed: 130 + 95 - 160 = 65, 140 + 90 - 160 = 70, 66; the giant has free memory."""
    squeezed = {"size_mib": 160.0, "guest_free_mib": 4.0}
    rows = [
        row("giant"),
        row("steady", resident_mib=130.0, host_swap_mib=95.0, **squeezed),
        row("burst", resident_mib=140.0, host_swap_mib=90.0, **squeezed),
        row("steady", resident_mib=226.0, host_swap_mib=0.0, **squeezed),
        row("burst", resident_mib=999.0, host_swap_mib=None, **squeezed),
    ]
    assert process_mib(rows) == 66.0
    assert process_mib(rows[:1]) is None
    found = as_measured(load("real-guests"), rows)
    assert [(group.overhead_mib, group.boot_only_mib) for group in found.groups] == [(66.0, 100.0)] * 3
    unsaid = as_measured(load("real-guests"), [])
    assert [(group.overhead_mib, group.handed_out_last_mib) for group in unsaid.groups] == [(58.0, 24.0)] * 3
    assert unsaid.touched_share == load("real-guests").touched_share


def test_what_the_host_backs_is_what_the_model_begins_with():
    def resident(backed):
        scenario = replace(load("guests-idle-giant"), touched_share=backed)
        found = simulated(scenario, fidelity.policy_of("stock"), "stock")
        return sum(row["resident_mib"] + row["host_swap_mib"] for row in found["rows"][:3])

    free = resident(1.0) - resident(0.0)
    assert free > 200.0
    assert resident(0.3) - resident(0.0) == pytest.approx(0.3 * free, rel=0.01)


def test_a_policy_reads_in_the_model_what_the_real_host_gives():
    seen = []

    class Reader(Policy):
        period_s = 30.0

        def decide(self, telemetry):
            names = telemetry.vm.dtype.names
            seen.append({name for name in names if not np.isnan(telemetry.vm[name]).all()})
            return Targets(telemetry.vm["size_mib"])

    for signals in (None, ("size_mib", "guest_free_mib", "host.total_mib")):
        simulated(load("real-guests"), Reader(), "reader", signals)
    assert {"host_psi_some10", "resident_mib"} < seen[0]
    assert seen[-1] == {"size_mib", "guest_free_mib"}


def test_tau_of_one_scenario_is_kendalls_and_pairs_of_two_scenarios_are_none():
    one, other = [0.9, 0.7, 0.5], [0.8, 0.9, 0.1]
    assert fidelity_figures.tau([(one, other)]) == pytest.approx(kendall(one, other)) == pytest.approx(1 / 3)
    assert fidelity_figures.tau([([1, 2], [1, 2]), ([8, 9], [9, 8])]) == 0.0


def test_agreement_by_hand():
    """Of three pairs, a and b differ by less than a repeat; of the two that are decided the model has b and c the wrong way."""
    real = {"a": [0.91, 0.89], "b": [0.895, 0.895], "c": [0.5, 0.5]}
    found = fidelity_figures.agreement([(real, {"a": 0.92, "b": 0.4, "c": 0.45})])
    assert (found.pairs, found.decided, found.alike) == (3, 2, 1)
    assert (found.near, found.policies) == (2, 3)
    assert found.tau == pytest.approx(1 / 3)
    assert found.low <= found.tau <= found.high


def test_a_model_that_is_right_has_an_interval_at_one():
    real = {name: [value] for name, value in zip("abcdef", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True)}
    found = fidelity_figures.agreement([(real, {name: value[0] for name, value in real.items()})] * 2)
    assert (found.tau, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.decided == found.alike == found.pairs == 30


def test_noise_between_seeds_makes_pairs_undecided():
    """Spread .1 between two seeds: variance .005, so two means may differ by 2 sqrt(2 x .005 / 2) = .141."""
    assert fidelity_figures.repeat_of({"a": [0.5, 0.6], "b": [0.7, 0.8]}) == pytest.approx(2 * np.sqrt(0.005))
    assert fidelity_figures.repeat_of({"a": [0.5]}) == fidelity_figures.REPEAT


def move(**changed):
    crowding = replace(CALM, seconds=3.5)
    whole = {"result": "done", "total_s": 3.5, "downtime_ms": 16.0, "sent_mb": 238.5, "pages_mib": 226.0, "rounds": 4}
    return Moved(**(whole | {"pace": 1.0, "crowding": crowding} | changed))


def test_moves_are_kept_and_those_that_were_not_paced_are_made_again(tmp_path):
    slow = [move(pace=0.9)] * fidelity_moves.TRIES
    answers = [move(pages_mib=200.0), *slow, move(), move(result="never", downtime_ms=None, total_s=60.0)]
    missing = fidelity_moves.move_all(tmp_path, lambda _: answers.pop(0), lambda _: None)
    assert missing == ["2,000 writes/s"]
    assert fidelity_moves.idle_mib(tmp_path) == 72.0
    made = []
    assert fidelity_moves.move_all(tmp_path, lambda one: made.append(one) or move(), lambda _: None) == []
    assert made == [fidelity_moves.MOVES["2,000 writes/s"]]


def test_victims_are_what_the_kernel_says(tmp_path):
    switch = tmp_path / "enabled"
    assert fidelity.victims_here(switch) == "two_lists"
    for text, victims in (("0x0007\n", "mglru"), ("0x0000\n", "two_lists"), ("0x0006\n", "two_lists")):
        switch.write_text(text)
        assert fidelity.victims_here(switch) == victims
