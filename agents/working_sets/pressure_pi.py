"""A proportional-integral controller per VM that holds memory pressure at a setpoint.

Pressure is what a guest reads back from its disk, in MiB/s (P1: the larger of swap-ins and major faults, for a swap-in
is a major fault too), or the share of time in which it stalls on memory (P4: PSI, 10 s average). The error is pressure
over setpoint less one, between -1 (no pressure at all) and a cap, so a VM that is squeezed grows several times faster
than a quiet one shrinks. The controller is in velocity form: each period it adds

    memory * (proportional * (error - error before) + integral * period * error)

to the size that the balloon has really reached. The balloon is thus the integrator: what it cannot follow, what bounds
cut and what the host does not have never winds up. If sizes add up to more than the host's room, what VMs have
above their minimums is scaled down alike.

Fails when pressure is of another cause (first reads of files, a cold start), when it comes only at the cliff (zram, no
swap at all), on demand that rises faster than one period, and as all must who only react: it cannot know how much a VM
without pressure could give, and finds out by hurting it a little. A VM whose pressure is not known, or of which nothing
newer has been heard, is left as it is and what it uses is set aside.

Edge cases. No statistics, or none newer than the last time: the VM is left as it is. Windows: only its faults are
read, or what its agent says. Start: a VM joins with its second report. No minimum is one of 0; limits are not known.

A textbook controller, not a published policy: setpoints, gains, cap and period are guesses, set by hand.

Source: Astrom and Hagglund, PID Controllers (2nd ed., 1995), velocity form and anti-windup.
"""

from collections.abc import Sequence

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import PAGES_PER_MIB, GuestRate, least_mib, room_for_mib
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


def error_of(pressure: float, setpoint: float, most: float) -> float:
    """Pressure over setpoint less one, at most `most`."""
    return min(pressure / setpoint - 1.0, most)


def change_share(
    error: float, error_before: float, proportional: float, integral_per_s: float, period_s: float
) -> float:
    """Change of size in one period, as a share of configured memory (velocity form)."""
    return proportional * (error - error_before) + integral_per_s * period_s * error


def project(
    sizes_mib: Sequence[float], low_mib: Sequence[float], high_mib: Sequence[float], capacity_mib: float
) -> list[float]:
    """Sizes within bounds; if they add up to more than the capacity, what they have above the lower bounds is scaled."""
    triples = zip(sizes_mib, low_mib, high_mib, strict=True)
    above = [min(max(size, low), high) - low for size, low, high in triples]
    left = max(capacity_mib - sum(low_mib), 0.0)
    scale = left / sum(above) if sum(above) > left else 1.0
    return [low + scale * extra for low, extra in zip(low_mib, above, strict=True)]


class PressurePi(Policy):
    """One controller per VM, and the projection per host. `signal`: refaults (setpoint in MiB/s) or psi (a share)."""

    def __init__(
        self,
        signal: str = "refaults",
        setpoint: float = 2.0,
        proportional: float = 0.005,
        integral_per_s: float = 0.0005,
        most_error: float = 10.0,
        keep_free_share: float = 0.05,
        period_s: float = 10.0,
    ) -> None:
        if signal not in ("refaults", "psi"):
            raise InputError(f"agent.signal={signal!r}: choose one of refaults, psi")
        if setpoint <= 0.0:
            raise InputError(f"agent.setpoint={setpoint!r}: must be above 0")
        self.signal = signal
        self.setpoint = setpoint
        self.proportional = proportional
        self.integral_per_s = integral_per_s
        self.most_error = most_error
        self.keep_free_share = keep_free_share
        self.period_s = period_s
        self.visibility = Visibility.P4 if signal == "psi" else Visibility.P1

    def reset(self, first: Telemetry, seed: int) -> None:
        """Forget counters and errors."""
        self._swap_in = GuestRate(first, first.vm["guest_swap_in_mib"])
        self._faults = GuestRate(first, first.vm["guest_major_faults"])
        self._error_before = np.full(first.vm.shape, np.nan)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        pressure = self._pressure(telemetry)
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane, vm in enumerate(telemetry.vm):
            known = ~np.isnan(pressure[lane])
            if known.any():
                asked = [self._size_mib(lane, int(v), pressure[lane, v], vm[v]) for v in np.flatnonzero(known)]
                room = room_for_mib(vm, telemetry.host[lane, 0], known, self.keep_free_share)
                low, high = least_mib(vm)[known].tolist(), vm["memory_mib"][known].tolist()
                sizes[lane, known] = project(asked, low, high, room)
        return Targets(sizes)

    def _pressure(self, telemetry: Telemetry) -> np.ndarray:
        """Of every VM, ``[env, vm]``; NaN where it is not known."""
        vm = telemetry.vm
        if self.signal == "psi":
            return np.where(vm["running"] > 0.0, vm["guest_psi_some10"], np.nan)
        swap_in = self._swap_in.update(telemetry, vm["guest_swap_in_mib"])
        faults = self._faults.update(telemetry, vm["guest_major_faults"])
        return np.maximum(swap_in, faults / PAGES_PER_MIB)

    def _size_mib(self, lane: int, v: int, pressure: float, vm: np.void) -> float:
        """What one VM's controller asks for."""
        error = error_of(float(pressure), self.setpoint, self.most_error)
        before = self._error_before[lane, v]
        self._error_before[lane, v] = error
        kick = error if np.isnan(before) else float(before)
        share = change_share(error, kick, self.proportional, self.integral_per_s, self.period_s)
        return float(vm["size_mib"] + vm["memory_mib"] * share)
