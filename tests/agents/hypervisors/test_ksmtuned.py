"""ksmtuned's batches against numbers worked out by hand from its script's arithmetic, and against that arithmetic itself."""

import random

import numpy as np
import pytest

from hvgym.agents.hypervisors.ksmtuned import Ksmtuned, committed_kib, scan_pages_per_s, sleep_ms, step, threshold_kib
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry

GIB = 1024 * 1024
"""In KiB."""


@pytest.mark.parametrize(
    ("total", "expected"), [(16 * GIB, 10), (64 * GIB, 10), (15 * GIB, 10), (8 * GIB, 20), (6 * GIB, 26), (GIB, 160)]
)
def test_a_host_below_16_gib_sleeps_longer_and_none_sleeps_less_than_10_ms(total: int, expected: int) -> None:
    assert sleep_ms(total) == expected


def test_the_baseline_sleep_scales_down_to_the_floor() -> None:
    assert [sleep_ms(32 * GIB, baseline) for baseline in (10, 20, 30, 60)] == [10, 10, 15, 30]


def test_the_threshold_is_a_fifth_of_ram_and_the_constant_matters_below_10_mib_only() -> None:
    assert threshold_kib(16 * GIB) == 3_355_443  # 16777216 / 5, cut
    assert threshold_kib(10_240) == 2048
    assert threshold_kib(10_245) == 2049
    assert threshold_kib(5_000) == 2048
    assert threshold_kib(1000, 50, 100) == 500


def test_batches_rise_by_300_to_1250_under_pressure_and_fall_by_50_to_64_without() -> None:
    """100 units of RAM, 20 the threshold, 90 committed: it runs whatever is free."""
    pages, seen = 0, []
    for free in [19] * 6 + [21] * 25:
        pages = step(pages, 100, free, 90, 20)
        seen.append(pages)
    assert seen[:6] == [300, 600, 900, 1200, 1250, 1250]
    assert seen[6:9] == [1200, 1150, 1100]
    assert seen[-3:] == [100, 64, 64]


def test_the_first_batch_without_pressure_is_the_least() -> None:
    assert step(0, 100, 21, 90, 20) == 64


@pytest.mark.parametrize(
    ("free", "committed", "expected"),
    [
        (21, 79, None),  # 79 + 20 < 100 and 21 > 20
        (21, 80, 450),  # 80 + 20 is not below 100
        (20, 79, 450),  # 20 is not above 20, nor below it
        (19, 79, 800),
        (19, 80, 800),
    ],
)
def test_it_stops_only_when_vms_fit_and_memory_is_free(free: int, committed: int, expected: int | None) -> None:
    assert step(500, 100, free, committed, 20) == expected


def test_the_ceiling_is_512_mb_per_s_and_a_stop_is_none() -> None:
    assert scan_pages_per_s(1250, 10) * 4096 == 512e6
    assert scan_pages_per_s(64, 26) == pytest.approx(2461.538461538)
    assert scan_pages_per_s(None, 10) == 0.0


def test_any_run_agrees_with_the_script_written_out() -> None:
    def adjust(npages: int, total: int, free: int, committed: int) -> tuple[bool, int]:
        thres = total * 20 // 100
        if thres < 2048:
            thres = 2048
        if committed + thres < total and free > thres:
            return False, npages
        npages += 300 if free < thres else -50
        if npages < 64:
            npages = 64
        elif npages > 1250:
            npages = 1250
        return True, npages

    draw = random.Random(1)
    for _ in range(500):
        total, npages = draw.randrange(1000, 500 * GIB), 0
        for _ in range(20):
            free, committed = draw.randrange(total), draw.randrange(2 * total)
            runs, after = adjust(npages, total, free, committed)
            pages = step(npages, total, free, committed, threshold_kib(total))
            assert pages == (after if runs else None)
            npages = after


def reading(*hosts: tuple[float, float, float], time_s: float = 0.0) -> Telemetry:
    """One VM on each of `hosts` (total, available, resident; MiB)."""
    vm, host = np.zeros((len(hosts), 1), VM_TELEMETRY), np.zeros((len(hosts), 1), HOST_TELEMETRY)
    for lane, (total, available, resident) in enumerate(hosts):
        host["total_mib"][lane], host["available_mib"][lane] = total, available
        vm["resident_mib"][lane], vm["running"][lane] = resident, 1.0
    return Telemetry(np.full(len(hosts), time_s), vm, host)


def rates(policy: Ksmtuned, telemetry: Telemetry) -> list[float]:
    targets = policy.decide(telemetry)
    assert targets.scan_pages_per_s is not None
    assert [targets.memory_mib, targets.reclaim_mib, targets.report_free_pages, targets.admit] == [None] * 4
    return targets.scan_pages_per_s[:, 0].tolist()


def started(first: Telemetry) -> Ksmtuned:
    policy = make_policy(load_group("agent", "ksmtuned"))
    assert isinstance(policy, Ksmtuned)
    policy.reset(first, 0)
    return policy


FULL, EASY, EMPTY = (8192.0, 1000.0, 7000.0), (8192.0, 2000.0, 7000.0), (8192.0, 7000.0, 1000.0)
"""8 GiB sleep 20 ms; the threshold is 1638 MiB."""


def test_it_runs_every_60_s_and_answers_the_scan_rate_only() -> None:
    policy = started(reading(FULL))
    assert policy.period_s == 60.0
    assert rates(policy, reading(FULL)) == [300 / 0.020]
    assert rates(policy, reading(FULL)) == [600 / 0.020]
    assert rates(policy, reading(EASY)) == [550 / 0.020]


def test_a_stop_keeps_the_batch_for_the_next_start() -> None:
    policy = started(reading(FULL))
    assert [rates(policy, reading(host))[0] * 0.020 for host in (FULL, FULL, EMPTY, EMPTY, FULL)] == [
        300,
        600,
        0,
        0,
        900,
    ]


def test_hosts_of_a_batch_do_not_touch_each_other_and_a_reset_forgets() -> None:
    policy = started(reading(FULL, EMPTY, EASY))
    assert rates(policy, reading(FULL, EMPTY, EASY)) == [15_000, 0, 64 / 0.020]
    assert rates(policy, reading(FULL, FULL, FULL)) == [30_000, 15_000, 364 / 0.020]
    policy.reset(reading(FULL), 0)
    assert rates(policy, reading(FULL)) == [15_000]


def test_merged_pages_count_as_resident_and_vms_that_do_not_run_as_nothing() -> None:
    vm = np.zeros(3, VM_TELEMETRY)
    vm["resident_mib"], vm["shared_mib"], vm["running"] = [1000.0, 500.0, 700.0], [200.0, 0.0, 50.0], [1.0, 1.0, 0.0]
    assert committed_kib(vm) == 1700 * 1024


def test_merged_pages_alone_keep_the_scanner_running() -> None:
    """6,500 MiB resident would fit below 8,192 less 1,638; with 100 MiB merged they do not."""
    telemetry = reading((8192.0, 1700.0, 6500.0))
    assert rates(started(telemetry), telemetry) == [0.0]
    telemetry.vm["shared_mib"] = 100.0
    assert rates(started(telemetry), telemetry) == [64 / 0.020]


def test_every_constant_of_the_configuration_counts() -> None:
    config = load_group("agent", "ksmtuned")
    other = {"boost_pages": 100, "decay_pages": 20, "least_pages": 90, "most_pages": 120, "sleep_ms": 40}
    other |= {"threshold_percent": 10, "least_threshold_kib": 4_000_000}
    expected = {
        "boost_pages": [100, 200, 150],
        "decay_pages": [300, 600, 580],
        "least_pages": [300, 600, 550],
        "most_pages": [120, 120, 70],
        "sleep_ms": [75, 150, 137.5],
        "threshold_percent": [0, 0, 0],  # 7,000 and 819 fit, and 1,000 is more than 819
        "least_threshold_kib": [300, 600, 900],
    }
    for key, value in other.items():
        policy = make_policy(config | {key: value})
        assert isinstance(policy, Ksmtuned)
        policy.reset(reading(FULL), 0)
        assert [rates(policy, reading(host))[0] * 0.020 for host in (FULL, FULL, EASY)] == expected[key], key
    policy = make_policy(config | {"least_pages": 90})
    assert isinstance(policy, Ksmtuned)
    policy.reset(reading(EASY), 0)
    assert rates(policy, reading(EASY)) == [90 / 0.020]


def test_the_packaged_configuration_is_the_default() -> None:
    given = vars(started(reading(FULL)))
    assert vars(Ksmtuned()) == {key: value for key, value in given.items() if key not in ("pages", "declaration")}
