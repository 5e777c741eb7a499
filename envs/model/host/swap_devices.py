"""Where a host swaps to: figures of one 4 KiB page, as data.

Latency is that of an idle device; queueing is added by ``io``. zram and remote memory keep no queue worth modelling at
these rates. `disk` stands for the disk that everything else uses, whose figures are the scenario's.

Sources: zram measured with lz4, 2.5 us with the trap and a ratio of 2.6; RDMA 4-10 us; NVMe 80-100 us and 0.4-0.8 M
IOPS, SATA SSD 100-200 us and 60-95 k IOPS, HDD 8-12 ms, 75-120 IOPS and 120-200 MB/s (all but zram recalled from the
literature). A desktop's host swap lies on its disk.
"""

import dataclasses

READ_AHEAD_PAGES = 8.0
"""Pages that one read fetches when the swapped pages lie in the order of use (Linux ``page-cluster`` 3)."""

DECAYED_ORDER = 0.2
"""Order that is left in an old swap area: read-ahead of 8 pages is worth 1.6 (published: decay to 1.5)."""


@dataclasses.dataclass(frozen=True)
class SwapDevice:
    """One kind of device. `stored_share` is what a swapped page keeps of RAM."""

    latency_us: float
    iops: float
    mib_per_s: float
    stored_share: float = 0.0


SWAP_DEVICES = {
    "nvme": SwapDevice(100.0, 500e3, 2000.0),
    "sata_ssd": SwapDevice(150.0, 80e3, 500.0),
    "hdd": SwapDevice(8000.0, 120.0, 150.0),
    "zram": SwapDevice(2.5, 1e7, 4000.0, 1.0 / 2.6),
    "remote": SwapDevice(8.0, 1e6, 1192.0),
}
