"""What it takes of a host to learn the ages of its guests' pages, or a sample of them.

Modelled. A pass over accessed bits is CPU time of one kernel thread, so much per entry of the tables that map the guests'
memory: `WALK_S` where tables are walked (MGLRU, lockless), `RMAP_S` where each page's mappings are looked up (idle page
tracking, kstaled). A block of 2 MiB is one entry of 512. A pass that has not ended when the next is asked for goes on, and
none is begun. DAMON takes the same share of a CPU whatever the memory (`DAMON_CPUS`), ESX's sampling `SAMPLED_PAGES` minor faults
a VM and period. All that is missing from the pCPUs that VMs share, and shows in the host's CPU utilisation. Page protection traps
the guest, so it lengthens the VM's own work (`PROTECTION_TAX`).

A block of 2 MiB is idle when all of it is: memory that is hot looks `HOT_IN_LARGE` times as large where it lies in such blocks,
and what wakes is a block.

Left out: that ages are as old as the pass is long, contention for KVM's lock (6 to 20 times as long, with vCPUs that fault 8 to
20 % slower, before the lockless walk of 2024), larger entries beyond 32 vCPUs (80 ns), regions that DAMON takes for one, misses of
bits that TLBs still hold, memory of the pass.

Sources: KVM's selftest of ageing, 0.122 s for 16 GiB of 4 KiB pages, 29 ns an entry up to 32 vCPUs; Google's figures for its cover
letter, walking cuts the CPU time of tracking by 80 %, so 150 to 200 ns a page by reverse mapping; DAMON's evaluation and DAMON_STAT
(0.5 to 1.2 % of a CPU); Waldspurger (OSDI 2002) for the sampling; MEB's successor, 2 % with tracking off for 82 % of the time, 16 %
with tracking always on; consolidating scattered hot pages cuts near memory by 50 to 70 %, so 2 to 3.3 times too much looks hot.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import HostRecord, HostSpecRecord

WALK_S, RMAP_S = 30e-9, 200e-9
"""CPU time per entry."""

PAGES_PER_BLOCK = 512.0

DAMON_CPUS = 0.01
"""Of 0.5 to 1.2 %."""

MINOR_FAULT_S = 2e-6
"""Of a sampled page: an exit and a mapping (a guess; EPT faults take 1 to 2 us, recalled)."""

PROTECTION_TAX = 0.02
"""Of a VM's time, with tracking off for most of it."""

HOT_IN_LARGE = 2.5
"""Of 2 to 3.3."""

THREAD_CPUS = 1.0
"""One thread walks."""


@compiled
def charge(host: HostRecord, host_spec: HostSpecRecord) -> float:
    """Let watching run for a second: what is left of a pass, and what it takes all the time; return pCPUs."""
    walked = min(host.pass_left_s, THREAD_CPUS)
    host.pass_left_s -= walked
    taken = walked + host_spec.watching_cpu
    host.tax_cpu += taken
    return taken
