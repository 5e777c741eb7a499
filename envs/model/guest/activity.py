"""What a host can learn of a VM's use of memory without asking it: ages of its pages, and samples of them.

Ages: accessed bits, scanned often enough, tell how long each page has been idle (idle-page tracking, DAMON, EPT accessed
bits). Pages of tier k are touched at rate lambda_k, so of those in guest memory the share exp(-lambda_k a) is idle for a
seconds or longer; what the host has swapped out is the oldest of it. Free guest pages that the host still backs are never
touched. What a kernel's lists know instead is ``host.victims``'.

Samples: ESX unmaps `SAMPLED_PAGES` random pages at the start of each `SAMPLE_S` of a VM's own CPU time and counts those
touched before the end. The count is drawn: page i has been touched when its uniform number, fixed for the period, lies
below the share of memory touched since.

That all of a 2 MiB page counts as touched when 4 KiB of it is, and what it takes to look, is held by the default rules, not
here (``envs.watching``, ``host.scanning``). Left out: pages that have changed their tier since they were touched last, ages in
wall-clock time of a VM that stood still.

Source: Waldspurger (OSDI 2002) for the sampling.
"""

from hvgym.envs.model import rng
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, tiers, total

SAMPLED_PAGES = 100
SAMPLE_S = 30.0
"""Pages and seconds of CPU time of a VM's vCPUs (ESX's defaults; vSphere samples for 60 s)."""


@compiled
def share_idle(rate_per_s: Tiers, age_s: float) -> Tiers:
    """Share of pages that have been idle for `age_s`, by accessed bits."""
    return guest.decay(rate_per_s * age_s)


@compiled
def idle_pages_mib(vm: VmRecord, spec: VmSpecRecord, age_s: float) -> Tiers:
    """The workload's memory in host RAM that has been idle for `age_s`, by tier."""
    idle = tiers(vm.resident_mib) * share_idle(tiers(spec.tier_rate_per_s), age_s)
    return max(idle - tiers(vm.host_swapped_mib), 0.0)


@compiled
def idle_mib(vm: VmRecord, spec: VmSpecRecord, age_s: float) -> float:
    """Memory of a VM in host RAM, its free pages included, that has been idle for `age_s`."""
    return total(idle_pages_mib(vm, spec, age_s)) + max(vm.free_backed_mib - vm.free_swapped_mib, 0.0)


@compiled
def woken_mib_per_s(vm: VmRecord, spec: VmSpecRecord, age_s: float) -> float:
    """Pages touched per second after they had been idle for `age_s`, wherever they were."""
    rate = tiers(spec.tier_rate_per_s)
    return total(tiers(vm.resident_mib) * rate * share_idle(rate, age_s)) * vm.progress


@compiled
def _touched_share(vm: VmRecord, spec: VmSpecRecord, progress_s: float) -> float:
    """Share of guest memory touched while the workload gets this far."""
    touched = total(tiers(vm.resident_mib) * (1.0 - guest.decay(tiers(spec.tier_rate_per_s) * progress_s)))
    if progress_s > 0.0:
        touched += spec.kernel_mib
    return min(touched / spec.memory_mib, 1.0)


@compiled
def start_sampled(vm: VmRecord, spec: VmSpecRecord, cpu_share: float) -> None:
    """Give a VM that has been running at this load the last sample that it would have."""
    vm.sampled_share = _touched_share(vm, spec, SAMPLE_S / max(cpu_share, 1e-3))
    vm.sample_periods = 1.0


@compiled
def advance_sampling(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Begin a new period when the VM's CPUs have run for long enough."""
    if vm.cpu_s - vm.sample_cpu_s >= SAMPLE_S * spec.vcpus:
        vm.sampled_share = _touched_share(vm, spec, vm.progress_s - vm.sample_progress_s)
        vm.sample_periods += 1.0
        vm.sample_cpu_s = vm.cpu_s
        vm.sample_progress_s = vm.progress_s


@compiled
def _drawn_share(seed: int, v: int, period: int, share: float) -> float:
    touched = 0
    for page in range(SAMPLED_PAGES):
        if rng.uniform(seed, rng.STREAM_SAMPLE, v, period * SAMPLED_PAGES + page) < share:
            touched += 1
    return touched / SAMPLED_PAGES


@compiled
def last_sample(vm: VmRecord, seed: int, v: int) -> float:
    """Share of the sampled pages that was touched in the last full period; NaN before there is one."""
    if vm.sample_periods < 1.0:
        return float("nan")
    return _drawn_share(seed, v, int(vm.sample_periods) - 1, vm.sampled_share)


@compiled
def present_sample(vm: VmRecord, spec: VmSpecRecord, seed: int, v: int) -> float:
    """Share of the sampled pages that has been touched in the period that is running."""
    share = _touched_share(vm, spec, vm.progress_s - vm.sample_progress_s)
    return _drawn_share(seed, v, int(vm.sample_periods), share)
