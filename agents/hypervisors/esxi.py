"""VMware ESXi 5 and 6: ESX's division of memory under five states of a sliding minFree.

Shares, idle tax and smoothing are those of `esx`; what changes is when balloons move. Above 100 % of minFree (high) and
above 64 % (clear) nothing is taken; below 64 % (soft) balloons work. Below 32 % (hard) the hypervisor compresses and swaps:
ESXi 6 stops its balloons there, ESXi 5 keeps them going (`hard_balloon`). Below 16 % (low) balloons rest in both. A balloon
that rests stays at the size it has reached. Page sharing, compression, swap and blocked VMs are the model's, and only an
ESXi host has them at these thresholds. Readings come each second, after the host has swapped: hard is seen when swapping
cannot keep up, so the two versions differ only then.

Fails when: memory fills fast, for balloons work between two thin thresholds (1.2 % and 0.6 % of 64 GiB) and then leave
the field to blind swapping; and as `esx` does.

Left out: the progressive idle tax of vSphere (formula unpublished), its sampling period of 60 s (the model samples each
30 s), the breaking of large pages (the model's). The paper's goal stays: free memory shall pass the highest threshold,
here minFree. Boundaries between states are apart by an unpublished amount: a tenth, a guess.

Edge cases. As those of `esx`, whose sampling and division it shares.

Sources: minFree and thresholds as VMware's engineers describe them (Mem.MemMinFreePct; D. Epping on vSphere 6: balloons
stop in hard; a performance engineer on vSphere 5: between 16 and 64 % balloons and swap together).
"""

from collections.abc import Sequence

from hvgym.agents.hypervisors.esx import Esx, SampledVm, plan
from hvgym.envs.model.host.states import CLEAR, ESXI_SHARES, HARD, SOFT, esxi_min_free_mib


class Esxi(Esx):
    """ESX with the states of ESXi."""

    def __init__(
        self,
        hard_balloon: bool = False,
        idle_tax: float = 0.75,
        slow_gain: float = 0.1,
        fast_gain: float = 0.5,
        cap_share: float = 0.65,
        balance_s: float = 15.0,
        rise_share: float = 0.1,
        shares_by_size: bool = True,
    ) -> None:
        super().__init__(idle_tax, slow_gain, fast_gain, cap_share, balance_s, rise_share, shares_by_size)
        self.hard_balloon = hard_balloon

    def levels_mib(self, total_mib: float) -> tuple[list[float], list[float], float]:
        """Free memory below which clear, soft, hard and low begin, above which they end, and the goal."""
        min_free_mib = esxi_min_free_mib(total_mib)
        begins = [share * min_free_mib for share in ESXI_SHARES]
        ends = [(1.0 + self.rise_share) * level for level in begins]
        return begins, ends, ends[0]

    def sizes_mib(self, state: int, vms: Sequence[SampledVm], spare_mib: float) -> list[float]:
        """What balloons do in a state of the host; at rest they stay as they are."""
        if state <= SOFT or (state == HARD and self.hard_balloon):
            return plan(vms, spare_mib, self.idle_tax, self.cap_share, shrinks=state > CLEAR)
        return [vm.size_mib for vm in vms]
