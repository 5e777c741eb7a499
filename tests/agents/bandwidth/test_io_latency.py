"""Halving and 1/16, second by second, by hand."""

import numpy as np
import pytest

from hvgym.agents.bandwidth.io_latency import IoLatency
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry

FAST, SLOW = 0.001, 0.005


class Disk:
    """A critical VM and two neighbours, whose counters grow by what each moves a second."""

    def __init__(self, policy, moves=(10.0, 50.0, 40.0), critical=(1.0, 0.0, 0.0), running=(1.0, 1.0, 1.0)):
        self.policy, self.moves, self.critical, self.running, self.seconds = (
            policy,
            np.array(moves),
            critical,
            running,
            0,
        )
        policy.reset(self.reading(FAST), 0)

    def reading(self, latency_s):
        vm = np.zeros((1, 3), VM_TELEMETRY)
        vm["critical"], vm["running"], vm["disk_latency_s"] = self.critical, self.running, latency_s
        vm["disk_mib"] = self.seconds * self.moves
        return Telemetry(np.full(1, float(self.seconds)), vm, np.zeros((1, 1), HOST_TELEMETRY))

    def after(self, *latencies_s):
        for latency_s in latencies_s:
            self.seconds += 1
            shares = self.policy.decide(self.reading(latency_s)).disk_shares
        return shares[0].tolist()


def test_shares_are_normal_while_the_target_is_met():
    assert Disk(IoLatency()).after(FAST, 2.0 * FAST) == [1000.0, 1000.0, 1000.0]


def test_each_second_that_the_target_is_missed_halves_the_neighbours_and_never_the_critical_vm():
    disk = Disk(IoLatency())
    assert disk.after(FAST, SLOW) == [1000.0, 500.0, 500.0]
    assert disk.after(SLOW) == [1000.0, 250.0, 250.0]


def test_each_second_that_it_is_met_returns_a_sixteenth_of_the_normal_shares():
    disk = Disk(IoLatency())
    assert disk.after(FAST, SLOW, FAST) == [1000.0, 562.5, 562.5]
    assert disk.after(*[FAST] * 7) == [1000.0, 1000.0, 1000.0]


def test_the_floor_is_one_request_of_a_full_queue():
    assert Disk(IoLatency(depth=64.0)).after(FAST, *[SLOW] * 9) == [1000.0, 1000.0 / 64.0, 1000.0 / 64.0]


def test_a_neighbour_that_did_a_twentieth_of_the_io_or_less_is_spared():
    assert Disk(IoLatency(), moves=(45.0, 50.0, 5.0)).after(FAST, SLOW) == [1000.0, 500.0, 1000.0]


def test_a_slow_disk_of_a_neighbour_or_of_a_vm_that_does_nothing_moves_nobody():
    assert Disk(IoLatency()).after(FAST, np.array([FAST, SLOW, SLOW])) == [1000.0] * 3
    assert Disk(IoLatency(), moves=(0.0, 50.0, 50.0)).after(FAST, SLOW) == [1000.0] * 3


def test_without_a_critical_vm_that_runs_shares_stay_normal():
    assert Disk(IoLatency(), critical=(0.0, 0.0, 0.0)).after(FAST, SLOW) == [1000.0] * 3
    missing = Disk(IoLatency(), running=(0.0, 1.0, 1.0)).after(FAST, SLOW)
    assert np.isnan(missing[0])
    assert missing[1:] == [1000.0, 1000.0]


def test_the_target_is_a_multiple_of_the_least_latency_so_far():
    assert Disk(IoLatency(target_ratio=6.0)).after(FAST, SLOW)[1] == 1000.0
    assert Disk(IoLatency(target_ratio=4.0)).after(SLOW, FAST, SLOW)[1] == pytest.approx(500.0)
