"""Peak predictors: how much memory the VMs of a host will use at most, from samples of their use and their limits.

A VM is cold until it has been sampled often enough, and counts at its limit; the predictor sees the others. Samples are
aligned at the latest: the last of every VM were taken together. Functions take the warm VMs of one host and return MiB,
so that they can be compared with the original on any input.

Fail when peaks are correlated but did not coincide in the window, when use has never yet risen, and with less than two
samples (then `n_sigma` falls back to limits). They were written for CPU time, which gives way; memory does not.

Surrogate: none here. Left out: the oracle that knows the peaks of the next 24 hours, the mean, and the percentile of the
whole machine.

Source: Bashir et al., Take it to the limit (EuroSys 2021), and its simulator, googleinterns/cluster-resource-forecast
(``simulator/*_predictor.py``): 300 s a sample, at least 24 of them, the last 24 kept, use capped at the limit, N = 5;
``borg_default`` at 0.9 and the maximum of RC-like and N-sigma are the paper's. The RC-like percentile is recalled (95-99).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Samples:
    """What is kept of one VM: the latest samples, oldest first; how many there were, and the highest of all."""

    usage_mib: tuple[float, ...] = ()
    limit_mib: tuple[float, ...] = ()
    count: int = 0
    peak_mib: float = 0.0

    def with_sample(self, usage_mib: float, limit_mib: float, history: int) -> "Samples":
        """These and one more, use capped at the limit; the latest `history` are kept."""
        usage_mib = min(usage_mib, limit_mib)
        return Samples(
            (*self.usage_mib, usage_mib)[-history:],
            (*self.limit_mib, limit_mib)[-history:],
            self.count + 1,
            max(self.peak_mib, usage_mib),
        )


Predictor = Callable[[Sequence[Samples]], float]
"""From the warm VMs of a host to their peak."""


def limits_mib(vms: Sequence[Samples]) -> float:
    """Sum of the latest limits."""
    return sum(vm.limit_mib[-1] for vm in vms)


def borg_default(vms: Sequence[Samples], share: float) -> float:
    """A share of all limits."""
    return share * limits_mib(vms)


def vm_max(vms: Sequence[Samples]) -> float:
    """Every VM at its own highest use ever."""
    return sum(vm.peak_mib for vm in vms)


def rc_like(vms: Sequence[Samples], percentile: float) -> float:
    """Every VM at a percentile of its own use, as a share of its limit (after Resource Central)."""
    return sum(vm.limit_mib[-1] * percentile_of(_shares(vm), percentile) for vm in vms)


def n_sigma(vms: Sequence[Samples], sigmas: float) -> float:
    """Mean of the host's use as a share of limits, and `sigmas` sample standard deviations more; at most the limits."""
    ratios = host_ratios(vms)
    if len(ratios) < 2:
        return limits_mib(vms)
    mean = sum(ratios) / len(ratios)
    deviation = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1))
    return limits_mib(vms) * min(1.0, mean + sigmas * deviation)


def host_ratios(vms: Sequence[Samples]) -> list[float]:
    """Use over limits of the VMs that have a sample of that age, latest first."""
    ratios = []
    for age in range(1, 1 + max((len(vm.usage_mib) for vm in vms), default=0)):
        there = [vm for vm in vms if len(vm.usage_mib) >= age]
        limit = sum(vm.limit_mib[-age] for vm in there)
        ratios.append(sum(vm.usage_mib[-age] for vm in there) / limit if limit > 0.0 else 0.0)
    return ratios


def percentile_of(values: Sequence[float], percentile: float) -> float:
    """With linear interpolation between ranks."""
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percentile / 100.0
    low = min(int(rank), len(ordered) - 2) if len(ordered) > 1 else 0
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


def predicted_peak_mib(
    vms: Sequence[Samples], limits: Sequence[float], predictors: Sequence[Predictor], least: int
) -> float:
    """The highest that any predictor says of the VMs with `least` samples, and the others at their limits."""
    warm = [vm for vm in vms if vm.count >= least]
    cold_mib = sum(limit for vm, limit in zip(vms, limits, strict=True) if vm.count < least)
    return max((predict(warm) for predict in predictors), default=0.0) + cold_mib


def _shares(vm: Samples) -> list[float]:
    return [use / limit if limit > 0.0 else 0.0 for use, limit in zip(vm.usage_mib, vm.limit_mib, strict=True)]
