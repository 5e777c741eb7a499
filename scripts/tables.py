"""What the tables of results call each figure; the same words as report.html."""

LABELS = {
    "goodput": "goodput",
    "cost": "SLO\nmisses,\ns",
    "oom_kills": "OOM\nkills",
    "failed_starts": "failed\nstarts",
    "host_swap_s": "host\nswap,\ns",
    "p99_slowdown": "p99\nslow-\ndown",
}
"""Column of each outcome of an episode (``bench.rollout.OUTCOMES``)."""

OF_CLUSTERS = {
    "outage_s": "outage, s",
    "recovery_s": "recovery, s",
    "downtime_s": "downtime, s",
    "moves": "moves",
    "failed_moves": "failed moves",
    "moved_gib": "moved GiB",
}
"""Columns of a second table, where a scenario has several hosts (``bench.rollout.OF_CLUSTERS``)."""

KEY = """\
Per episode. SLO misses: seconds in which critical VMs missed their objective (the
column cost of results.csv); host swap: seconds with host swap traffic; p99
slowdown: over VMs and control intervals. Each kill and each failed start is charged
kill_cost_s of the VM's work in goodput."""

KEY_OF_CLUSTERS = """\
Outage: seconds without service after failures of hosts, summed over VMs; recovery:
the longest from a failure until a VM was back at work; downtime: seconds for which
VMs stood still at the end of copies; moves: VMs copied to another host while they ran."""
