"""Guard rails, by hand: one VM of 1000 MiB, minimum 300, at 800 now."""

import math

import numpy as np
import pytest

from hvgym.envs.real.rails import Rails, RailSettings
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Targets, Telemetry

QUIET = {
    "running": 1.0, "memory_mib": 1000.0, "min_mib": 300.0, "size_mib": 800.0, "target_mib": 800.0, "stats_age_s": 1.0,
    "guest_swap_in_mib": 0.0, "host_psi_some10": 0.0,
}  # fmt: skip


def reading(time_s: float = 0.0, **changed: float) -> Telemetry:
    vm = np.zeros((1, 1), VM_TELEMETRY)
    for name in VM_TELEMETRY.names or ():
        vm[name] = (QUIET | changed).get(name, np.nan)
    return Telemetry(np.array([time_s]), vm, np.zeros((1, 1), HOST_TELEMETRY))


def sent(asked_mib: float, now: Telemetry, rails: Rails | None = None) -> tuple[float, str]:
    rails = rails or Rails(RailSettings(), reading(), needs_statistics=True)
    targets, why = rails.held(Targets(np.array([[asked_mib]])), now)
    assert targets.memory_mib is not None
    return float(targets.memory_mib[0, 0]), why[0]


def test_a_small_wish_passes_as_it_is() -> None:
    assert sent(750.0, reading(5)) == (750.0, "")


def test_a_size_moves_by_a_tenth_of_its_memory_at_a_decision() -> None:
    assert sent(0.0, reading(5)) == (700.0, "step")
    assert sent(9e9, reading(5)) == (900.0, "step")


def test_nobody_goes_below_its_minimum_or_above_its_memory() -> None:
    assert sent(100.0, reading(5, size_mib=350.0, target_mib=350.0)) == (300.0, "minimum")
    assert sent(9e9, reading(5, size_mib=950.0, target_mib=950.0)) == (1000.0, "step")


def test_what_is_hardly_a_change_is_not_sent() -> None:
    size, why = sent(800.4, reading(5))
    assert (math.isnan(size), why) == (True, "unchanged")


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"running": 0.0}, "off"), ({"size_mib": np.nan}, "size unknown"), ({"memory_mib": np.nan}, "size unknown")],
)
def test_whom_nothing_is_known_of_nothing_is_sent_to(changed: dict[str, float], why: str) -> None:
    size, said = sent(700.0, reading(5, **changed))
    assert (math.isnan(size), said) == (True, why)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"stats_age_s": 31.0}, "statistics stale"),
        ({"stats_age_s": np.nan}, "statistics stale"),
        ({"host_psi_some10": 0.3}, "stalls"),
        ({"guest_swap_in_mib": 50.0}, "stalls"),  # 50 MiB in 5 s
    ],
)
def test_who_stalls_or_is_silent_gets_at_once_what_it_had_and_keeps_it(changed: dict[str, float], why: str) -> None:
    rails = Rails(RailSettings(hold_s=60.0), reading(), needs_statistics=True)
    assert sent(450.0, reading(5, size_mib=500.0, target_mib=500.0, **changed), rails) == (800.0, why)
    calm = {"guest_swap_in_mib": changed.get("guest_swap_in_mib", 0.0)}
    size, said = sent(450.0, reading(30, **calm), rails)
    assert (math.isnan(size), said) == (True, "handed back")
    assert sent(750.0, reading(66, **calm), rails) == (750.0, "")


def test_a_vm_that_grew_since_is_not_shrunk_by_handing_back() -> None:
    rails = Rails(RailSettings(), reading(size_mib=500.0), needs_statistics=True)
    size, why = sent(100.0, reading(5, host_psi_some10=0.5), rails)
    assert (math.isnan(size), why) == (True, "stalls")


def test_who_reads_no_statistics_needs_none() -> None:
    rails = Rails(RailSettings(), reading(), needs_statistics=False)
    assert sent(750.0, reading(5, stats_age_s=np.nan), rails) == (750.0, "")


def test_a_vm_that_came_later_is_handed_back_what_it_came_with() -> None:
    rails = Rails(RailSettings(), reading(running=0.0, size_mib=np.nan, target_mib=np.nan), needs_statistics=True)
    sent(950.0, reading(5, size_mib=1000.0, target_mib=1000.0), rails)
    assert rails.restored_mib.tolist() == [1000.0]


def test_reclaim_is_held_to_a_step_and_not_done_to_whom_is_handed_back() -> None:
    rails = Rails(RailSettings(), reading(), needs_statistics=True)
    asked = Targets(reclaim_mib=np.array([[500.0]]))
    assert rails.held(asked, reading(5))[0].reclaim_mib == 100.0
    assert rails.held(asked, reading(10, host_psi_some10=0.9))[0].reclaim_mib == 0.0
