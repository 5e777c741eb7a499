"""vSphere's counters of a VM, by the names that PowerCLI and govc know them, in units as PowerCLI shows them.

Meanings and units as in VMware's "vSphere Web Services API" (PerformanceManager, counters by group). Its KB is 1024 bytes.
``mem.usage`` is active memory in percent of the VM's size, ``cpu.ready`` the milliseconds of an interval in which a virtual
CPU waited, added up over the VM's. Left out: ``mem.granted``, which is what the VM ever touched and not what it may use.
"""

from hvgym.envs.imports.source import Column

COUNTERS = {
    "mem.active.average": Column("active", "mem.active.average", "KiB"),
    "mem.usage.average": Column("active", "mem.usage.average", "percent"),
    "mem.consumed.average": Column("backed", "mem.consumed.average", "KiB"),
    "mem.vmmemctl.average": Column("balloon_taken", "mem.vmmemctl.average", "KiB"),
    "mem.swapped.average": Column("host_swapped", "mem.swapped.average", "KiB"),
    "mem.compressed.average": Column("host_compressed", "mem.compressed.average", "KiB"),
    "cpu.usage.average": Column("cpu_used", "cpu.usage.average", "percent"),
    "cpu.usagemhz.average": Column("cpu_used", "cpu.usagemhz.average", "MHz"),
    "cpu.ready.summation": Column("cpu_wait", "cpu.ready.summation", "ms", "gauge"),
    "disk.read.average": Column("disk_read", "disk.read.average", "KiB/s"),
    "disk.write.average": Column("disk_write", "disk.write.average", "KiB/s"),
    "net.received.average": Column("net_rx", "net.received.average", "KiB/s"),
    "net.transmitted.average": Column("net_tx", "net.transmitted.average", "KiB/s"),
}
INSTEAD = {"mem.usage.average": "mem.active.average", "cpu.usagemhz.average": "cpu.usage.average"}
"""Counters that are read only where the other one is not there: both say the same quantity."""
