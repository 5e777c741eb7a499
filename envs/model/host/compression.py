"""The hypervisor's pool of compressed pages, between RAM and swap (ESX's memory compression).

Modelled. A page about to be swapped is kept in RAM if it compresses into a slot: ESX keeps pages that shrink to 2 KiB, up
to 10 % of the VM's memory. When the pool is full, the oldest go to swap, so the pool's size stays and its content is a
fair part of what is out: a fault hits it with the probability zipped / out. Storing costs CPU, loading stalls the VM.

Left out: 1 KiB slots, recency within the pool (faults hit it more often than a fair part), the guest's own zram
(``guest.memory``) and a host's zram device (``swap_devices``).

Sources: VMware's documentation (2 KiB, 10 %); 69 % of pages compress well enough (recalled from Google's far memory);
20-40 us to load (a low-confidence figure), 8 us to store (zstd class).
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import PAGES_PER_MIB, HostRecord, HostSpecRecord, VmRecord, VmSpecRecord


@compiled
def share_of(vm: VmRecord, out_mib: float) -> float:
    """Probability that a page which the host took away is in the pool; out_mib is all it took."""
    return min(vm.zipped_mib / out_mib, 1.0) if vm.zipped_mib > 0.0 and out_mib > 0.0 else 0.0


@compiled
def fit(vm: VmRecord, spec: VmSpecRecord, out_mib: float) -> None:
    """Pages that guest or balloon have dropped since are in the pool no longer."""
    vm.zipped_mib = max(min(vm.zipped_mib, spec.compressible_share * out_mib), 0.0)


@compiled
def store(vm: VmRecord, spec: VmSpecRecord, out_mib: float, host: HostRecord, host_spec: HostSpecRecord) -> float:
    """Put what fits of `out_mib` into the pool; return by how much the pool grew (the rest goes to swap)."""
    if spec.zip_cap_mib <= 0.0:
        return 0.0
    fits = out_mib * spec.compressible_share
    host.tax_cpu += fits * PAGES_PER_MIB * host_spec.zip_store_s
    grown = max(min(fits, spec.zip_cap_mib / spec.zip_stored_share - vm.zipped_mib), 0.0)
    vm.zipped_mib += grown
    return grown
