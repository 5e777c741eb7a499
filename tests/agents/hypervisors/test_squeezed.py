"""squeezed against sums done by hand, against its algorithm written out imperatively, and driving a toy host."""

import dataclasses
import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hvgym.agents.hypervisors.squeezed import Squeezed
from hvgym.agents.hypervisors.squeezing import ADJUST, FAILED, SUCCESS, reached
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

sys.path.insert(0, str(Path(__file__).resolve().parent))

from squeezed_by_hand import Domain, Pass, Progress, freeable, iterate, kept, proportional, watched

sys.path.pop(0)


def at(size: int, minimum: int = 1000, maximum: int = 3000) -> Domain:
    """A domain that is where it was told to be."""
    return Domain(minimum, maximum, size, size)


def test_a_domain_may_be_4_kib_off_its_target() -> None:
    assert [reached(1000, target) for target in (995, 996, 1000, 1004, 1005)] == [False, True, True, True, False]


def test_a_domain_frees_what_is_above_its_minimum_less_twice_the_inaccuracy() -> None:
    assert [freeable(at(size)) for size in (2000, 1009, 1008, 1000, 900)] == [992, 1, 0, 0, 0]


def test_all_domains_get_the_same_share_of_their_ranges() -> None:
    """1492 + 992 and 516 free less 1000 to keep: 2000 to hand out over ranges of 2000 and 6000, so gamma is a quarter."""
    domains = {3: at(2500), 7: at(2000, 1000, 7000)}
    assert proportional(domains, 516, 1000) == {3: 1500, 7: 2500}
    assert proportional(domains, 517, 1000) == {3: 1500, 7: 2500}  # fractions of a KiB are cut
    assert proportional(domains, 520, 1000) == {3: 1501, 7: 2503}


def test_gamma_is_at_least_0_and_at_most_1() -> None:
    domains = {0: at(2500), 1: at(1000)}
    assert proportional(domains, 0, 9000) == {0: 1000, 1: 1000}
    assert proportional(domains, 9000, 0) == {0: 3000, 1: 3000}
    assert proportional({0: at(1000, 1000, 1000), 1: at(2000, 2000, 1500)}, 500, 0) == {0: 1000, 1: 2000}
    assert proportional({}, 500, 0) == {}


def test_a_domain_is_stuck_after_more_than_5_s_without_progress_and_no_longer_when_it_moves() -> None:
    wants_less = Domain(1000, 3000, 1500, 2000)
    seen = watched(None, wants_less, 0.0)
    assert seen == Progress(2000, 0.0)
    assert not watched(seen, wants_less, 5.0).stuck
    stuck = watched(seen, wants_less, 5.1)
    assert stuck == Progress(2000, 0.0, True)
    assert watched(stuck, wants_less, 6.0).stuck
    assert watched(stuck, dataclasses.replace(wants_less, actual=1999), 7.0) == Progress(1999, 7.0)


def test_moving_away_from_the_target_is_no_progress() -> None:
    assert watched(Progress(2000, 0.0), Domain(1000, 3000, 1500, 2100), 6.0) == Progress(2100, 0.0, True)
    assert watched(Progress(2000, 0.0), Domain(1000, 3000, 2500, 1900), 6.0) == Progress(1900, 0.0, True)
    assert watched(Progress(2000, 0.0), Domain(1000, 3000, 2500, 2001), 6.0) == Progress(2001, 6.0)


def test_a_domain_at_its_target_does_not_get_stuck_nor_make_progress() -> None:
    assert watched(Progress(2003, 0.0), at(2000), 60.0) == Progress(2000, 0.0)
    assert watched(Progress(2003, 0.0, True), at(2000), 60.0).stuck
    assert watched(Progress(2000, 0.0), Domain(0, 3000, 2008, 2004), 9.0) == Progress(2004, 0.0)


def test_the_time_to_be_stuck_is_configurable() -> None:
    assert watched(Progress(2000, 0.0), Domain(1000, 3000, 1500, 2000), 3.0, 2.0).stuck
    domains = {0: Domain(1000, 3000, 1500, 2000)}
    assert 0 in iterate(Pass(progress={0: Progress(2000, 0.0)}), domains, 0, 0, True, 3.0, 2.0).inactive


def test_a_stuck_domain_keeps_no_more_than_it_has_within_its_bounds() -> None:
    assert kept(Domain(1000, 3000, 2500, 2000)) == 2000
    assert kept(Domain(1000, 3000, 1500, 2000)) == 1500
    assert kept(Domain(1000, 3000, 2500, 800)) == 1000
    assert kept(Domain(1000, 3000, 4000, 3500)) == 3000


def chosen(domains: Mapping[int, Domain], free: int, keep_free: int) -> dict[int, int]:
    """What a first pass tells."""
    return iterate(Pass(), domains, free, keep_free, True, 0.0).targets


def test_first_those_that_have_to_give_are_told_and_then_all() -> None:
    """Nothing to keep: 1492 to hand out over 4000, so 1746 each."""
    assert chosen({0: at(2500), 1: at(1000)}, 0, 0) == {0: 1746}
    assert chosen({0: at(1746), 1: at(1000)}, 754, 0) == {0: 1746, 1: 1746}


def test_a_domain_within_its_inaccuracy_of_the_share_does_not_have_to_give() -> None:
    """738 + 0 + 500 less 0 over 4000: 1619. 1623 is as good; 1624 has to give."""
    assert chosen({0: at(1623), 1: at(1000)}, 1238 - 615, 0) == {0: 1619, 1: 1619}
    assert chosen({0: at(1624), 1: at(1000)}, 1238 - 616, 0) == {0: 1619}


def test_it_is_settled_when_all_are_where_they_should_be_and_nothing_changes() -> None:
    domains = {0: at(1500), 1: at(1500)}
    free = 1000 - 2 * 492  # gamma a quarter
    assert iterate(Pass(), domains, free, 0, True, 0.0).verdict == SUCCESS
    assert iterate(Pass(), domains, free, 0, False, 0.0).verdict == FAILED
    assert iterate(Pass(), domains, free, 0, True, 0.0).targets == {}
    changes = iterate(Pass(), domains, free + 8, 0, True, 0.0)
    assert (changes.verdict, changes.targets) == (ADJUST, {0: 1504, 1: 1504})
    on_its_way = {0: Domain(1000, 3000, 1500, 1510), 1: at(1500)}
    waits = iterate(Pass(), on_its_way, free - 10, 0, True, 0.0)
    assert (waits.verdict, waits.targets) == (ADJUST, {0: 1500})


def test_others_do_without_a_stuck_domain_and_it_is_told_so_once() -> None:
    """Stuck growing at 2000. Of 992 that the other frees and 8 that are free, all is its own: half of its range."""
    domains = {0: Domain(1000, 3000, 2500, 2000), 1: at(2000)}
    past = Pass(progress={0: Progress(2000, 0.0), 1: Progress(2000, 0.0)})
    first = iterate(past, domains, 8, 0, True, 6.0)
    assert first.inactive == {0}
    assert first.targets == {0: 2000}
    assert first.verdict == SUCCESS
    again = iterate(first, domains, 8, 0, True, 7.0)
    assert (again.inactive, again.targets) == ({0}, {})


def test_a_domain_without_a_driver_is_neither_counted_nor_told_anything() -> None:
    domains = {0: Domain(4000, 4000, 4000, 4000, balloons=False), 1: at(2000)}
    done = iterate(Pass(), domains, 1008, 0, True, 0.0)
    assert (done.targets, done.inactive) == ({1: 3000}, {0})


class WrittenOut:
    """squeezed's pass with mutable state, step by step as its documentation describes it."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.when: dict[int, float] = {}
        self.stuck: dict[int, bool] = {}
        self.lost: set[int] = set()

    def __call__(self, vms: Mapping[int, Domain], free: int, goal: int, enough: bool, now: float):
        for k, d in vms.items():
            delta = d.actual - d.target
            direction = "none" if -4 <= delta <= 4 else "down" if d.target > d.actual else "up"
            if k not in self.last:
                self.last[k], self.when[k], self.stuck[k] = d.actual, now, False
            change = d.actual - self.last[k]
            self.last[k] = d.actual
            if (change > 0 and direction == "down") or (change < 0 and direction == "up"):
                self.when[k], self.stuck[k] = now, False
            if direction != "none" and now - self.when[k] > 5:
                self.stuck[k] = True
        for k in set(self.last) - set(vms):
            del self.last[k], self.when[k], self.stuck[k]
        active = [k for k, d in vms.items() if d.balloons and not self.stuck[k]]
        room = free
        for k in active:
            room += max(0, vms[k].actual - vms[k].minimum - 8)
        surplus, whole = max(0, room - goal), sum(max(0, vms[k].maximum - vms[k].minimum) for k in active)
        gamma = 0.0 if whole == 0 else min(1.0, max(0.0, surplus / whole))
        want = {k: vms[k].minimum + math.floor(gamma * max(0, vms[k].maximum - vms[k].minimum)) for k in active}
        freeing = {k: t for k, t in want.items() if not abs(vms[k].actual - t) <= 4 and t < vms[k].actual}
        send = freeing if freeing else want
        sent = {}
        for k, d in vms.items():
            if k not in active and k not in self.lost and d.balloons:
                sent[k] = min(d.maximum, max(d.minimum, min(d.target, d.actual)))
        self.lost = set(vms) - set(active)
        there = all(abs(vms[k].actual - vms[k].target) <= 4 for k in active)
        if there and all(vms[k].target == t for k, t in send.items()):
            return (SUCCESS if enough else FAILED), sent
        return ADJUST, sent | send


def test_any_run_agrees_with_the_algorithm_written_out() -> None:
    draw = random.Random(4)
    verdicts, losses = [], 0
    for _ in range(300):
        plain, past, now = WrittenOut(), Pass(), 0.0
        free, goal = draw.randrange(5000), draw.choice([0, 500, 8000])
        vms = {}
        for k in range(draw.randrange(1, 6)):
            low = draw.randrange(1000)
            high = low + draw.choice([0, draw.randrange(3000)])
            size = draw.randrange(low, high + 1)
            vms[k] = Domain(low, high, draw.choice([size, draw.randrange(low, high + 1)]), size, draw.random() < 0.9)
        dead = {k for k in vms if draw.random() < 0.3}
        for _ in range(15):
            enough = draw.random() < 0.5
            past = iterate(past, vms, free, goal, enough, now)
            assert (past.verdict, past.targets) == plain(vms, free, goal, enough, now)
            verdicts.append(past.verdict)
            losses += len(past.inactive)
            for k, target in past.targets.items():
                vms[k] = dataclasses.replace(vms[k], target=target)
            for k, d in vms.items():
                if d.balloons and (k not in dead or draw.random() < 0.1):
                    step = max(-300, min(300, d.target - d.actual)) if draw.random() < 0.9 else draw.randrange(-5, 6)
                    vms[k] = dataclasses.replace(d, actual=d.actual + step)
                    free -= step
            if len(vms) > 1 and draw.random() < 0.03:
                vms.pop(draw.choice(list(vms)))
            now += draw.choice([1.0, 1.0, 2.0])
    assert set(verdicts) == {ADJUST, SUCCESS, FAILED}
    assert losses > 500


RAM_MIB = 10_000.0


class ToyHost:
    """Commits memory to VMs of 1000 to 4000 MiB whose balloons move at a rate of their own; free memory is what is left."""

    def __init__(self, sizes: list[float], rates: list[float], ram_mib: float = RAM_MIB) -> None:
        self.vm = np.zeros((1, len(sizes)), VM_TELEMETRY)
        self.vm["min_mib"], self.vm["memory_mib"], self.vm["running"] = 1000.0, 4000.0, 1.0
        self.vm["startup_mib"] = math.nan
        self.vm["size_mib"] = self.vm["target_mib"] = sizes
        self.rates, self.ram_mib, self.time_s = np.array(rates), ram_mib, 0.0
        self.least_free_mib = math.inf

    @property
    def free_mib(self) -> float:
        held = np.nan_to_num(self.vm["size_mib"], nan=4000.0) * self.vm["running"]
        return self.ram_mib - float(held.sum())

    def reading(self) -> Telemetry:
        host = np.zeros((1, 1), HOST_TELEMETRY)
        host["free_mib"] = self.free_mib
        self.vm["resident_mib"] = self.vm["size_mib"] + self.vm["overhead_mib"]
        return Telemetry(np.array([self.time_s]), self.vm.copy(), host)

    def second(self, policy: Squeezed) -> list[float]:
        """Let the policy decide and a second pass; return what it asked for."""
        asked = policy.decide(self.reading()).memory_mib
        assert asked is not None
        vm, told = self.vm, ~np.isnan(asked)
        vm["target_mib"][told] = asked[told]
        vm["size_mib"] += np.clip(vm["target_mib"] - vm["size_mib"], -self.rates, self.rates) * vm["running"]
        self.least_free_mib = min(self.least_free_mib, self.free_mib)
        self.time_s += 1.0
        return asked[0].tolist()

    def run(self, policy: Squeezed, seconds: int) -> list[list[float]]:
        return [self.second(policy) for _ in range(seconds)]


def made(toy: ToyHost, **changes: float) -> Squeezed:
    policy = make_policy(load_group("agent", "squeezed") | changes)
    assert isinstance(policy, Squeezed)
    policy.reset(toy.reading(), 0)
    return policy


def times(asked: list[list[float]]) -> list[int]:
    """Seconds in which something was asked for."""
    return [second for second, row in enumerate(asked) if not all(map(math.isnan, row))]


def test_it_looks_every_second_and_sees_the_host_only() -> None:
    assert (Squeezed.period_s, Squeezed.visibility) == (1.0, Visibility.P0)


def test_the_packaged_configuration_is_the_default() -> None:
    toy = ToyHost([3000.0], [0.0])
    ours, given = Squeezed(), made(toy)
    ours.reset(toy.reading(), 0)
    assert {key: value for key, value in vars(ours).items() if key not in ("hosts", "vms", "declaration")} == {
        key: value for key, value in vars(given).items() if key not in ("hosts", "vms", "declaration")
    }


def test_a_host_is_handed_out_but_for_72_mib_at_one_gamma() -> None:
    """9,928 MiB over three VMs; two balloons are far slower than the third."""
    toy = ToyHost([4000.0, 1000.0, 3000.0], [50.0, 1000.0, 50.0])
    toy.run(made(toy), 60)
    assert toy.vm["size_mib"][0] == pytest.approx([9928 / 3] * 3, abs=0.05)
    assert toy.free_mib == pytest.approx(72.0, abs=0.1)


def test_a_host_that_has_promised_more_than_it_has_is_short() -> None:
    """Three VMs are told 4,000 MiB each and hold 3,000: 1,000 are free and 2,000 are missing, as if they held it all."""
    toy = ToyHost([4000.0] * 3, [1000.0] * 3)
    reading = toy.reading()
    reading.vm["resident_mib"], reading.host["free_mib"] = 3000.0, 1000.0
    asked = made(toy).decide(reading).memory_mib
    assert asked is not None
    assert asked[0] == pytest.approx([9928 / 3] * 3, abs=0.05)


def test_a_vm_whose_range_is_not_known_stays_at_its_target() -> None:
    """8000 MiB for three, one of them at 2000 without a minimum: the others share the rest, but for 72."""
    toy = ToyHost([2000.0, 3500.0, 2500.0], [1000.0] * 3, 8000.0)
    toy.vm["min_mib"][0, 0] = math.nan
    toy.run(made(toy), 30)
    assert toy.vm["size_mib"][0] == pytest.approx([2000.0, 2964.0, 2964.0], abs=0.05)


def test_a_minimum_of_0_is_a_number_and_a_balloon_may_go_there() -> None:
    toy = ToyHost([3000.0, 3000.0], [1000.0] * 2, 4072.0)
    toy.vm["min_mib"] = 0.0
    toy.run(made(toy), 30)
    assert toy.vm["size_mib"][0] == pytest.approx([2000.0, 2000.0], abs=0.05)


def test_a_vm_that_waits_without_a_known_minimum_needs_its_boot_share() -> None:
    """As one whose minimum is less than half of its memory."""
    given = []
    for least in (math.nan, 1000.0):
        toy = ToyHost([3000.0, 4000.0], [1000.0, 0.0], 3672.0)
        toy.vm["min_mib"][0, 1], toy.vm["running"][0, 1], toy.vm["waiting"][0, 1] = least, 0.0, 1.0
        given.append([asked[0] for asked in toy.run(made(toy), 8)])
    np.testing.assert_array_equal(*given)
    assert given[0][0] == 1000.0


@pytest.mark.parametrize(("starts_with", "left"), [(1000.0, 1500.0), (math.nan, 1000.0)])
def test_a_vm_that_waits_needs_what_it_is_told_to_start_with(starts_with: float, left: float) -> None:
    """3000 MiB of 1000 to 4000 run, 1072 are free, 72 are kept: 3000 to share. One that starts with 1000 has the same range,
    so gamma is a half, 2500 are freed for it and 1500 are left. One that needs half of 4000 has 0.6 of 2000: more than all.
    """
    toy = ToyHost([3000.0, 4000.0], [1000.0, 0.0], 4072.0)
    toy.vm["startup_mib"][0, 1], toy.vm["running"][0, 1], toy.vm["waiting"][0, 1] = starts_with, 0.0, 1.0
    assert toy.run(made(toy), 1)[0][0] == pytest.approx(left, abs=0.01)


def test_memory_is_freed_before_it_is_handed_out() -> None:
    """A slow VM has to give and a fast one is to get: the host is never below what it had at first."""
    toy = ToyHost([4000.0, 1928.0, 4000.0], [20.0, 1000.0, 20.0])
    policy = made(toy)
    asked = toy.run(policy, 60)
    assert [math.isnan(size) for size in asked[0]] == [False, True, False]
    assert toy.least_free_mib >= 71.9
    assert toy.vm["size_mib"][0] == pytest.approx([9928 / 3] * 3, abs=0.05)


def test_passes_follow_each_second_and_the_next_check_10_s_after_they_end() -> None:
    """500 MiB more at 200 a second: told in seconds 0, 1 and 2, settled at 3, looked at again at 13."""
    toy = ToyHost([3000.0], [200.0], 3572.0)
    policy = made(toy)
    assert times(toy.run(policy, 5)) == [0, 1, 2]
    assert toy.vm["size_mib"][0, 0] == 3500.0 - 8 / 1024  # what a balloon may be off, twice
    toy.ram_mib -= 300.0
    assert times(toy.run(policy, 10)) == [13 - 5, 14 - 5]


def test_the_check_and_what_is_kept_free_are_configurable() -> None:
    toy = ToyHost([3000.0], [200.0], 3572.0)
    policy = made(toy, check_s=4, keep_free_mib=172)
    assert times(toy.run(policy, 5)) == [0, 1]
    assert toy.vm["size_mib"][0, 0] == 3400.0 - 8 / 1024
    toy.ram_mib -= 300.0
    assert times(toy.run(policy, 5)) == [6 - 5, 7 - 5]


def test_a_check_does_not_start_passes_for_a_balloon_that_is_merely_late() -> None:
    """Its target is what it should be, 3000 and 8 KiB less; it has 50 MiB to go, and nobody to tell."""
    toy = ToyHost([3050.0], [0.0], 3072.0)
    toy.vm["target_mib"] = 3000.0 - 8 / 1024
    policy = made(toy)
    assert times(toy.run(policy, 10)) == [0]
    assert times(toy.run(policy, 5)) == [0]


def test_a_host_as_it_should_be_is_left_alone() -> None:
    toy = ToyHost([3000.0, 3000.0], [100.0] * 2, 6072.0)
    policy = made(toy)
    toy.run(policy, 30)
    assert times(toy.run(policy, 30)) == []


def test_less_than_a_kib_is_nothing() -> None:
    """Sizes that went through sums of fractions."""
    toy = ToyHost([3000.0, 3000.0], [100.0] * 2, 6072.0)
    policy = made(toy)
    toy.run(policy, 30)
    toy.vm["size_mib"] -= 1e-9
    assert times(toy.run(policy, 30)) == []


def test_a_dead_balloon_is_done_without_after_5_s_and_tried_again_at_the_next_check() -> None:
    """The dead VM holds 3000; the other could have 4000 of what is left, but the host is kept at 72 MiB by it alone."""
    toy = ToyHost([3000.0, 3000.0], [0.0, 100.0], 5072.0)
    policy = made(toy)
    asked = toy.run(policy, 60)
    assert [row[0] for row in asked[:6]] == pytest.approx([2500.0] * 6, abs=0.01)
    assert [row[1] for row in asked[:6]] == pytest.approx([2500.0] * 6, abs=0.01)
    assert asked[6] == pytest.approx([2500.0, 2000.0], abs=0.02)  # it may give more, not take more
    assert math.isnan(asked[7][0])
    assert toy.vm["size_mib"][0].tolist() == pytest.approx([3000.0, 2000.0], abs=0.02)


def test_a_balloon_stuck_on_its_way_up_must_not_take_more_later() -> None:
    toy = ToyHost([2000.0, 2000.0], [0.0, 500.0], 7072.0)
    policy = made(toy)
    asked = toy.run(policy, 8)
    assert [row[0] for row in asked[:6]] == pytest.approx([3500.0] * 6, abs=0.02)
    assert asked[6][0] == 2000.0


def test_the_time_until_stuck_is_configurable() -> None:
    toy = ToyHost([2000.0, 2000.0], [0.0, 500.0], 7072.0)
    assert [row[0] == 2000.0 for row in toy.run(made(toy, stuck_after_s=2), 4)] == [False, False, False, True]


def test_a_creeping_balloon_is_never_stuck() -> None:
    toy = ToyHost([3000.0, 3000.0], [0.01, 100.0], 5072.0)
    policy = made(toy)
    asked = toy.run(policy, 100)
    assert min(row[1] for row in asked) == pytest.approx(2500.0, abs=1.5)


def test_a_vm_off_its_target_for_more_than_20_s_is_flagged() -> None:
    toy = ToyHost([3000.0, 3000.0, math.nan], [0.0, 100.0, 0.0], 9072.0)
    policy = made(toy)
    toy.run(policy, 21)
    assert policy.uncooperative(0, 20.0) == set()
    assert policy.uncooperative(0, 20.5) == {0}
    toy.rates[0] = 3000.0
    toy.run(policy, 20)
    assert policy.uncooperative(0, 41.0) == set()


def test_the_time_until_a_vm_is_flagged_is_configurable() -> None:
    toy = ToyHost([3000.0], [0.0], 4000.0)
    policy = made(toy, uncooperative_after_s=5)
    toy.run(policy, 1)
    assert [policy.uncooperative(0, now_s) for now_s in (5.0, 5.5)] == [set(), {0}]


def test_a_vm_that_does_not_run_or_has_no_balloon_is_not_told_anything() -> None:
    """9,000 MiB: 4,000 cannot be had, one VM does not run, and the third gets what is left."""
    toy = ToyHost([math.nan, 2000.0, 2000.0], [0.0, 500.0, 500.0], 7572.0)
    toy.vm["running"] = [1.0, 0.0, 1.0]
    asked = np.array(toy.run(made(toy), 30))
    assert np.isnan(asked[:, :2]).all()
    assert toy.vm["size_mib"][0, 2] == pytest.approx(3500.0, abs=0.02)


def test_a_reset_forgets_and_hosts_of_a_batch_do_not_touch_each_other() -> None:
    def hosts() -> list[ToyHost]:
        return [ToyHost([4000.0, 1500.0], [60.0, 60.0]), ToyHost([3000.0, 3000.0], [0.0, 70.0], 5072.0)]

    alone = hosts()
    asked_alone = [toy.run(made(toy), 40) for toy in alone]
    batch, policy = hosts(), made(hosts()[0])
    for _ in range(2):
        batch = hosts()
        first = [toy.reading() for toy in batch]
        policy.reset(
            Telemetry(*(np.concatenate([getattr(one, part) for one in first]) for part in ("time_s", "vm", "host"))), 0
        )
        for second in range(40):
            now = [toy.reading() for toy in batch]
            joined = Telemetry(
                *(np.concatenate([getattr(one, part) for one in now]) for part in ("time_s", "vm", "host"))
            )
            asked = policy.decide(joined).memory_mib
            assert asked is not None
            np.testing.assert_array_equal(asked, [asked_alone[lane][second] for lane in range(2)])
            for lane, toy in enumerate(batch):
                toy.vm["target_mib"][~np.isnan(asked[lane : lane + 1])] = asked[lane][~np.isnan(asked[lane])]
                toy.vm["size_mib"] += np.clip(toy.vm["target_mib"] - toy.vm["size_mib"], -toy.rates, toy.rates)
                toy.time_s += 1.0


def arriving(ram_mib: float, minimum: float = 1000.0) -> ToyHost:
    """Two VMs of 3000 MiB, 1000 to 4000, run, and a third waits."""
    toy = ToyHost([3000.0, 3000.0, 4000.0], [500.0] * 3, ram_mib)
    toy.vm["running"], toy.vm["waiting"] = [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    toy.vm["min_mib"] = [1000.0, 1000.0, minimum]
    return toy


def test_a_vm_that_waits_gets_its_share_freed_and_kept_until_the_next_check() -> None:
    """It needs 2000 to boot. 4,000 above the others' minimums over ranges of 3000, 3000 and 2000 are half of each (the original
    does not take its minimum off): 3000 for it, and 1000 left over the ranges of the others.
    """
    toy = arriving(6072.0)
    policy = made(toy)
    asked = np.array(toy.run(policy, 14))
    assert np.isnan(asked[:, 2]).all()
    assert toy.vm["size_mib"][0, :2].tolist() == pytest.approx([1500.0] * 2, abs=0.02)
    assert toy.free_mib - 72.0 == pytest.approx(3000.0, abs=0.05)
    assert times(asked.tolist()) == [0, 1, 2, 3]  # then settled; the next check is at 14


def test_a_vm_that_was_served_and_did_not_start_is_not_served_again_while_it_waits() -> None:
    toy = arriving(6072.0)
    policy = made(toy)
    toy.run(policy, 18)
    assert toy.vm["size_mib"][0, :2].tolist() == pytest.approx([3000.0] * 2, abs=0.02)
    toy.vm["waiting"][0, 2] = 0.0
    toy.run(policy, 12)
    toy.vm["waiting"][0, 2] = 1.0
    toy.run(policy, 14)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(1500.0, abs=0.02)


def test_a_vm_that_starts_is_balanced_with_the_others() -> None:
    toy = arriving(6072.0)
    policy = made(toy)
    toy.run(policy, 7)
    toy.vm["waiting"], toy.vm["running"] = 0.0, 1.0
    toy.vm["size_mib"][0, 2] = toy.vm["target_mib"][0, 2] = 2000.0
    toy.run(policy, 30)
    assert toy.vm["size_mib"][0].tolist() == pytest.approx([2000.0] * 3, abs=0.02)


def test_a_vm_whose_minimum_does_not_fit_beside_all_minimums_is_not_served() -> None:
    """Above 1000 each and 72 there are 1999 MiB: short of the half of 4000 that it needs to boot, and enough for 1500 (its share
    would be 2088, so all of it is freed).
    """
    toy = arriving(4071.0)
    toy.vm["size_mib"] = toy.vm["target_mib"] = [1999.5, 1999.5, 4000.0]
    toy.run(made(toy), 8)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(1999.5, abs=0.02)
    toy.run(made(toy, boot_share=0.375), 8)
    assert toy.vm["size_mib"][0, 0] == 1000.0


def test_its_own_minimum_and_overhead_count() -> None:
    """3100 at least and six sevenths of 1000: 3957 of 6,000, and 2043 left for two."""
    toy = arriving(8072.0, minimum=3000.0)
    toy.vm["overhead_mib"] = 100.0
    toy.run(made(toy), 9)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(1000.0 + (6000.0 - 3100.0 - 6000.0 / 7.0) / 2.0, abs=0.05)


def test_where_enough_is_free_already_nobody_is_told_anything_for_a_vm_that_waits() -> None:
    toy = arriving(6072.0 + 4000.0)
    asked = toy.run(made(toy), 11)
    assert times(asked) == [10]


def test_a_minimum_that_just_fits_is_served() -> None:
    """8 KiB of each of the others do not count as theirs to give."""
    toy = arriving(4072.0 + 16 / 1024)
    toy.vm["size_mib"] = toy.vm["target_mib"] = [2000.0, 2000.0, 4000.0]
    toy.run(made(toy), 8)
    assert toy.vm["size_mib"][0, 0] == 1000.0
    toy = arriving(4072.0 + 15 / 1024)
    toy.vm["size_mib"] = toy.vm["target_mib"] = [2000.0, 2000.0, 4000.0]
    toy.run(made(toy), 8)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(2000.0, abs=0.02)


def test_a_request_that_finds_all_targets_as_they_should_be_waits_for_the_balloons() -> None:
    """Another squeezed has told them so a second ago. They are there at 4 s, so the next check is at 14."""
    toy = arriving(6072.0)
    toy.second(made(toy))
    policy = made(toy)
    toy.run(policy, 13)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(1500.0, abs=0.02)
    toy.run(policy, 4)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(3000.0, abs=0.02)


def test_a_request_that_a_dead_balloon_leaves_short_is_given_up_and_made_again() -> None:
    """2,036 MiB come free, and 2000 and 72 are needed. The dead VM is done without from 6 s on, all is over at 7, and the next
    check at 17 tries it again.
    """
    toy = arriving(6036.0)
    toy.rates[0] = 0.0
    policy = made(toy)
    asked = toy.run(policy, 10)
    toy.rates[0] = 1.0
    asked += toy.run(policy, 9)
    assert [second for second in times(asked) if second > 6] == [17, 18]
    assert toy.vm["size_mib"][0, 1] == 1000.0
    assert asked[17][0] == pytest.approx(1000.0 + (3964.0 - 2000.0 - 3964.0 / 4.0) / 2.0, abs=0.05)


def test_exactly_enough_is_enough() -> None:
    """The VM can have 4000 and no other size."""
    toy = arriving(10_072.0, minimum=4000.0)
    assert times(toy.run(made(toy), 1)) == []
    toy = arriving(10_072.0 - 1 / 1024, minimum=4000.0)
    assert times(toy.run(made(toy), 1)) == [0]


def test_what_others_are_yet_to_take_is_not_free() -> None:
    toy = arriving(12_000.0, minimum=4000.0)
    toy.vm["target_mib"][0, 0] = 3500.0
    assert times(toy.run(made(toy), 1)) == [0]


def test_what_comes_free_amid_passes_is_handed_out_before_they_end() -> None:
    """Settled at 3 s with 1500 each but for some KiB; then 300 more."""
    toy = arriving(6072.0)
    policy = made(toy)
    toy.run(policy, 4)
    toy.ram_mib += 300.0
    asked = toy.second(policy)
    assert asked[:2] == pytest.approx([1650.0] * 2, abs=0.02)


def test_a_vm_that_begins_to_wait_amid_passes_waits_for_their_end_and_the_next_check() -> None:
    """A balancing of 3 s, the next check at 13."""
    toy = ToyHost([3000.0, 4000.0], [200.0, 0.0], 3572.0)
    toy.vm["running"][0, 1] = 0.0
    policy = made(toy)
    toy.run(policy, 1)
    toy.vm["waiting"][0, 1] = 1.0
    toy.run(policy, 12)
    assert toy.vm["size_mib"][0, 0] == 3500.0 - 8 / 1024
    assert toy.second(policy)[0] < 3000.0


def test_a_request_that_dead_balloons_refuse_is_made_again() -> None:
    """Given up at 6 s; they come to life at 15 s, reach 1500 by 18, and nobody takes that from the next request, at 16."""
    toy = arriving(6072.0)
    toy.rates[:] = 0.0
    policy = made(toy)
    toy.run(policy, 15)
    assert toy.vm["size_mib"][0, 0] == 3000.0
    toy.rates[:] = 500.0
    toy.run(policy, 10)
    assert toy.vm["size_mib"][0, 0] == pytest.approx(1500.0, abs=0.02)


def test_a_vm_that_starts_amid_its_passes_is_balanced_at_once() -> None:
    toy = arriving(6072.0)
    policy = made(toy)
    toy.run(policy, 1)
    toy.vm["waiting"], toy.vm["running"] = 0.0, 1.0
    toy.vm["size_mib"][0, 2] = toy.vm["target_mib"][0, 2] = 1000.0
    toy.run(policy, 7)
    assert toy.vm["size_mib"][0].tolist() == pytest.approx([2000.0] * 3, abs=0.02)


def test_a_decision_for_20_hosts_takes_less_than_a_millisecond() -> None:
    """Each amid passes all along, for two of its balloons creep."""
    import time

    toy = ToyHost([4000.0] * 4 + [1500.0] * 4, [10.0] * 6 + [0.01] * 2, 30_000.0)
    one = toy.reading()
    batch = Telemetry(np.zeros(20), np.repeat(one.vm, 20, axis=0), np.repeat(one.host, 20, axis=0))
    policy = Squeezed()
    policy.reset(batch, 0)
    policy.decide(batch)
    readings = [dataclasses.replace(batch, time_s=np.full(20, 1.0 + i)) for i in range(100)]
    began = time.process_time()
    for reading in readings:
        policy.decide(reading)
    assert (time.process_time() - began) / 100 < 1e-3
