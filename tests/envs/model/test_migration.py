"""The copy of one VM against closed forms, hand-computed cases and conservation."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from hvgym.envs.migration_rules import MigrationRules
from hvgym.envs.model import convergence, migration, params
from hvgym.envs.model.convergence import ABORTED, DONE, POSTCOPY, RUNNING

PAGES = params.PAGES_PER_MIB
AMPLE = 1e6


class Copied:
    """A VM of two tiers whose memory never moves, and its copy."""

    def __init__(self, sizes=(128.0, 0.0), writes_per_s=(5000.0, 0.0), kernel_mib=60.0, memory_mib=512.0, **rules):
        self.vm = params.zeros((1,), params.VM)[0]
        self.spec = params.zeros((1,), params.VM_SPEC)[0]
        self.copy = params.zeros((1,), migration.COPY)[0]
        self.spec["memory_mib"], self.spec["kernel_mib"], self.spec["fault_parallelism"] = memory_mib, kernel_mib, 1.0
        self.vm["progress"] = 1.0
        self.spec["tier_write_share"] = 1.0
        for k, (size, writes) in enumerate(zip(sizes, writes_per_s, strict=True)):
            self.vm["resident_mib"][k] = size
            self.spec["tier_rate_per_s"][k] = writes / (size * PAGES) if size else 0.0
        self.spec["tier_touched_share"] = 1.0 - np.exp(-self.spec["tier_rate_per_s"])
        self.rules = MigrationRules("test", **{"bandwidth_mib_per_s": 60.0, "switch_ms": 0.0, **rules}).row()
        migration.begin(self.copy, self.vm, self.spec, self.rules)

    def second(self, room_mib=AMPLE):
        return migration.advance(self.copy, self.vm, self.spec, self.rules, room_mib)

    def play(self, most_s=1000, room_mib=AMPLE):
        """Bytes of each second until the end."""
        sent = []
        while self.copy["result"] == RUNNING and len(sent) < most_s:
            sent.append(self.second(room_mib))
        return sent

    def __getattr__(self, name):
        return self.copy[name]


def rounds(case, most=10_000):
    """Laws 1 and 4 in closed form: V of each round, seconds of pre-copy."""
    vm, spec, rules = case.vm, case.spec, case.rules
    written = spec["tier_rate_per_s"] * spec["tier_write_share"] * float(vm["progress"])
    bandwidth, volume, seconds = float(rules["bandwidth_mib_per_s"]), migration.content_mib(vm, spec), 0.0
    sent = [volume]
    while len(sent) < most:
        seconds += volume / bandwidth
        volume = float(np.sum(vm["resident_mib"] * -np.expm1(-written * volume / bandwidth)))
        sent.append(volume)
        if volume <= bandwidth * float(rules["downtime_limit_s"]):
            return sent, seconds
    return sent, math.inf


@pytest.mark.parametrize("limit_ms", [30.0, 300.0, 1500.0])
@pytest.mark.parametrize("bandwidth", [17.0, 60.0, 1100.0])
@pytest.mark.parametrize(
    ("sizes", "writes"),
    [
        ((128.0, 0.0), (0.0, 0.0)),
        ((128.0, 0.0), (4000.0, 0.0)),
        ((40.0, 200.0), (3000.0, 900.0)),
        ((0.5, 300.0), (9e4, 10.0)),
    ],
)
def test_second_by_second_is_the_closed_form(sizes, writes, bandwidth, limit_ms):
    case = Copied(sizes, writes, bandwidth_mib_per_s=bandwidth, downtime_limit_ms=limit_ms, caps_last_round=True)
    volumes, seconds = rounds(case)
    sent = case.play()
    if math.isinf(seconds):
        assert case.result == RUNNING
        return
    downtime = volumes[-1] / bandwidth
    assert case.result == DONE
    assert case.round == len(volumes)
    assert case.downtime_s == pytest.approx(downtime, rel=1e-6, abs=1e-12)
    assert case.elapsed_s == pytest.approx(seconds + downtime, rel=1e-6)
    assert case.sent_mib == pytest.approx(sum(volumes), rel=1e-6)
    assert sum(sent) == pytest.approx(case.sent_mib, rel=1e-12)
    assert max(sent) <= bandwidth * (1.0 + 1e-12)


def test_a_second_may_hold_many_rounds_or_a_part_of_one():
    """The same copy at 100 times the speed of all its clocks."""
    slow = Copied((128.0, 0.0), (1000.0, 0.0), bandwidth_mib_per_s=20.0, downtime_limit_ms=1000.0, caps_last_round=True)
    fast = Copied((128.0, 0.0), (1e5, 0.0), bandwidth_mib_per_s=2000.0, downtime_limit_ms=10.0, caps_last_round=True)
    slow.play()
    fast.play()
    assert slow.elapsed_s > 5.0
    assert fast.elapsed_s * 100.0 == pytest.approx(slow.elapsed_s, rel=1e-4)  # the exponential's own error is 2e-5
    assert fast.sent_mib == pytest.approx(slow.sent_mib, rel=1e-4)


def test_reading_is_free():
    case = Copied()
    case.spec["tier_write_share"] = 0.0
    case.play()
    assert case.sent_mib == pytest.approx(migration.content_mib(case.vm, case.spec))


def test_writes_faster_than_the_link_never_end_and_bytes_grow_at_its_speed():
    case = Copied(writes_per_s=(20_000.0, 0.0))
    sent = case.play(most_s=200)
    assert case.result == RUNNING
    assert sent == pytest.approx([60.0] * 200)


def test_content_is_what_pages_hold_and_eight_bytes_for_each_that_holds_nothing():
    case = Copied((128.0, 0.0), (0.0, 0.0), kernel_mib=20.0)
    case.vm["free_backed_mib"] = 40.0
    case.vm["free_deflated_mib"], case.vm["balloon_mib"] = 24.0, 100.0
    case.vm["free_untouched_mib"] = 512.0 - 128.0 - 20.0 - 40.0 - 124.0
    assert migration.content_mib(case.vm, case.spec) == pytest.approx(188.0 + (512.0 - 188.0) * 8.0 / 4096.0)


def test_what_the_host_has_swapped_merged_or_compressed_is_sent_whole_and_the_swapped_read_back():
    case = Copied()
    before = migration.content_mib(case.vm, case.spec)
    case.vm["host_swapped_mib"][0], case.vm["merged_mib"][0], case.vm["shared_mib"] = 50.0, 30.0, 30.0
    case.vm["zipped_mib"] = 20.0
    assert migration.content_mib(case.vm, case.spec) == before
    assert migration.swapped_mib(case.vm) == 30.0


def test_memory_that_a_guest_keeps_compressed_is_sent_and_its_swap_on_a_disk_is_not():
    case = Copied()
    before = migration.content_mib(case.vm, case.spec)
    case.vm["allocated_mib"] = case.vm["resident_mib"]
    case.vm["allocated_mib"][0] += 50.0
    assert migration.content_mib(case.vm, case.spec) == before
    case.spec["zram_stored_share"], case.spec["tier_gain"] = 0.4, 0.6
    assert migration.content_mib(case.vm, case.spec) == pytest.approx(before + 20.0 * (1.0 - 8.0 / 4096.0))


def test_compression_sends_less_and_ends_sooner():
    plain, packed = Copied(writes_per_s=(0.0, 0.0)), Copied(writes_per_s=(0.0, 0.0), compression_ratio=4.0)
    plain.play()
    packed.play()
    assert packed.sent_mib == pytest.approx(plain.sent_mib / 4.0)
    assert packed.elapsed_s == pytest.approx(plain.elapsed_s / 4.0)


def test_a_link_without_room_sends_nothing_and_the_copy_waits():
    case = Copied()
    case.second()
    before = case.sent_mib
    assert [case.second(0.0) for _ in range(5)] == [0.0] * 5
    assert case.sent_mib == before
    assert case.elapsed_s == pytest.approx(6.0)
    case.play()
    assert case.result == DONE


def test_the_last_round_goes_at_the_speed_of_the_link_unless_the_cap_holds_it():
    free, capped = Copied(), Copied(caps_last_round=True)
    free.play(room_mib=600.0)
    capped.play(room_mib=600.0)
    assert free.downtime_s == pytest.approx(capped.downtime_s / 10.0)
    assert free.sent_mib == pytest.approx(capped.sent_mib)


def test_all_of_a_downtime_is_held_back_a_second_later():
    case = Copied((128.0, 0.0), (20_000.0, 0.0), most_rounds=2, caps_last_round=True, switch_ms=70.0)
    held = []
    while case.result == RUNNING:
        case.second()
        held.append(float(case.held_back))
    case.second()
    assert case.held_back == 0.0
    assert case.downtime_s > 1.5
    assert sum(held) == pytest.approx(case.downtime_s)
    assert max(held) == 1.0
    assert case.round == 3


def test_the_target_prepares_its_memory_before_the_first_page():
    case = Copied((1024.0, 0.0), (0.0, 0.0), memory_mib=2048.0, prepare_s_per_gib=0.75)
    assert case.second() == 0.0
    assert case.second() == pytest.approx(30.0)


# --- what changes while it runs


def test_a_guest_that_grows_has_its_new_pages_sent_too():
    case = Copied((128.0, 0.0), (0.0, 0.0), memory_mib=512.0)
    first = migration.content_mib(case.vm, case.spec)
    case.second()
    case.vm["resident_mib"][0] += 40.0
    case.play()
    assert case.sent_mib == pytest.approx(first + 40.0, abs=0.2)  # less the headers of the pages that were empty


def test_what_a_guest_frees_and_keeps_is_sent_once_and_what_its_balloon_takes_not_at_all():
    freed, taken = (Copied((128.0, 0.0), (0.0, 0.0)) for _ in range(2))
    first = migration.content_mib(freed.vm, freed.spec)
    for case in (freed, taken):
        case.second()
        case.vm["resident_mib"][0] -= 64.0
    freed.vm["free_backed_mib"] += 64.0
    taken.vm["balloon_mib"] += 64.0
    freed.play()
    taken.play()
    unsent = 64.0 * (1.0 - 60.0 / first)
    assert freed.sent_mib == pytest.approx(first)
    assert taken.sent_mib == pytest.approx(first - unsent, abs=0.2)


def test_a_vm_that_stands_still_dirties_nothing():
    case = Copied(writes_per_s=(20_000.0, 0.0))
    case.vm["progress"] = 0.0
    case.play()
    assert case.sent_mib == pytest.approx(migration.content_mib(case.vm, case.spec))


def test_a_cancelled_copy_changes_nothing_of_the_vm():
    case = Copied()
    before = case.vm.tobytes()
    case.second()
    assert migration.cancel(case.copy)
    assert case.result == ABORTED
    assert case.second() == 0.0
    assert case.held_back == 0.0
    assert case.vm.tobytes() == before
    assert not migration.cancel(case.copy)


def test_there_is_nothing_to_cancel_before_a_copy_begins_or_once_the_vm_runs_at_the_target():
    assert not migration.cancel(params.zeros((1,), migration.COPY)[0])
    case = Copied(postcopy_after_s=1.0)
    case.second()
    assert case.phase == POSTCOPY
    assert not migration.cancel(case.copy)
    case.play()
    assert case.result == DONE


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_guest_does_nothing_is_negative_and_no_more_is_left_than_there_is(seed):
    draw = np.random.Generator(np.random.PCG64(seed))
    rules = {"compression_ratio": draw.choice((1.0, 2.0)), "postcopy_after_s": draw.choice((6.0, 1e6))}
    rules |= {"postcopy_mib_per_s": 40.0, "most_rounds": int(draw.integers(2, 20))}
    case = Copied((150.0, 90.0), (9000.0, 300.0), bandwidth_mib_per_s=70.0, **rules)
    for _ in range(60):
        room = draw.uniform(0.0, 120.0)
        assert -1e-9 <= case.second(room) <= room + 1e-9
        assert 0.0 <= case.held_back <= 1.0
        content = migration.content_mib(case.vm, case.spec)
        for name in ("left_mib", "dirty_mib"):
            assert (case.copy[name] >= -1e-9).all()
            assert (case.copy[name] <= case.copy["known_mib"] + 1e-9).all()
        assert -1e-9 <= convergence.left_mib(case.copy) <= content + 1e-6
        moved = draw.uniform(-20.0, 20.0, 2)
        case.vm["resident_mib"][:2] = np.clip(case.vm["resident_mib"][:2] + moved, 0.0, 200.0)
        case.vm["free_backed_mib"] = max(case.vm["free_backed_mib"] - draw.uniform(0.0, 1.2) * moved.sum(), 0.0)
        case.vm["progress"] = draw.uniform()


# --- post-copy


def test_post_copy_sends_again_what_was_sent_and_then_dirtied():
    """Of the round a share is sent when the VM moves; of what was dirtied by then, the same share needs sending again."""
    case = Copied(
        (128.0, 0.0), (15_000.0, 0.0), bandwidth_mib_per_s=45.0, postcopy_mib_per_s=45.0, postcopy_after_s=2.5
    )
    first = migration.content_mib(case.vm, case.spec)
    case.play()
    dirtied = 128.0 * -math.expm1(-15_000.0 / (128.0 * PAGES) * 2.5)
    assert case.sent_mib == pytest.approx(first + dirtied * 45.0 * 2.5 / first, rel=1e-9)
    assert case.elapsed_s == pytest.approx(case.sent_mib / 45.0, rel=1e-9)
    assert case.downtime_s == 0.0


def test_post_copy_ends_where_pre_copy_never_does_and_its_downtime_is_the_switch_over():
    case = Copied(writes_per_s=(90_000.0, 0.0), postcopy_after_s=3.0, postcopy_mib_per_s=60.0, switch_ms=40.0)
    case.play()
    assert case.result == DONE
    assert case.downtime_s == pytest.approx(0.04)
    assert case.elapsed_s == pytest.approx(case.sent_mib / 60.0 + 0.04)


def test_remote_faults_slow_the_vm_less_and_less():
    case = Copied(writes_per_s=(20_000.0, 0.0), postcopy_after_s=1.0, postcopy_mib_per_s=30.0)
    held = []
    while case.result == RUNNING:
        case.second()
        held.append(float(case.held_back))
    assert all(after < before for before, after in itertools.pairwise(held))
    assert 0.3 < held[0] < 1.0
    assert held[-1] == 0.0
    assert 0.0 < case.faults <= 128.0 * PAGES


# --- throttling


def throttles(case, most_s=400):
    """Every value that the throttle takes, with the round at whose end it was set; the VM slows down with it."""
    seen = {}
    for _ in range(most_s):
        case.second()
        if case.result != RUNNING:
            break
        seen.setdefault(round(float(case.throttle), 6), int(case.round) - 1)
        case.vm["progress"] = 1.0 - float(case.held_back)
    return seen


def test_auto_converge_takes_a_step_after_every_two_bad_periods():
    case = Copied(writes_per_s=(400_000.0, 0.0), bandwidth_mib_per_s=30.0, throttle_most_share=0.99)
    got = throttles(case)
    assert list(got)[1:5] == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert list(got.values())[1:5] == [2, 4, 6, 8]  # each round takes more than a second
    assert case.result == DONE
    assert max(got) <= 0.99


def test_a_good_period_between_two_bad_ones_forgives_nothing_as_in_qemu():
    case = Copied(throttle_most_share=0.99)
    for dirtied, sent, expected in ((90.0, 100.0, 0.0), (10.0, 100.0, 0.0), (51.0, 100.0, 0.2), (50.0, 100.0, 0.2)):
        case.copy["round_mib"] = sent
        case.copy["elapsed_s"] += 2.0
        convergence.end_round(case.copy, case.rules, dirtied)
        assert case.throttle == pytest.approx(expected)


def test_rounds_of_less_than_a_second_are_tested_together():
    case = Copied(throttle_most_share=0.99)
    for seconds, bad in ((0.4, 0.0), (0.8, 0.0), (1.2, 1.0)):
        case.copy["round_mib"], case.copy["elapsed_s"] = 10.0, seconds
        convergence.end_round(case.copy, case.rules, 9.0)
        assert case.bad_periods == bad


def test_the_slow_down_during_page_send_ends_what_else_would_never_end():
    without, slowed = (Copied(writes_per_s=(400_000.0, 0.0), slow_to_share=share) for share in (None, 0.5))
    assert not throttles(without, 60).get(0.5)
    assert without.result == RUNNING
    throttles(slowed)
    assert slowed.result == DONE


def test_a_copy_that_converges_by_itself_is_not_slowed_down():
    case = Copied((128.0, 0.0), (500.0, 0.0), slow_to_share=0.5, throttle_most_share=0.99)
    assert list(throttles(case)) == [0.0]


def test_records_are_written_by_begin_alone():
    """A record that was used before starts as a fresh one does."""
    case, fresh = Copied(throttle_most_share=0.99, writes_per_s=(90_000.0, 0.0)), Copied(writes_per_s=(90_000.0, 0.0))
    throttles(case, 30)
    case.vm["progress"] = 1.0
    migration.begin(case.copy, case.vm, case.spec, fresh.rules)
    assert case.copy.tobytes() == fresh.copy.tobytes()


def test_rules_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MigrationRules("test").poll_s = 1.0
