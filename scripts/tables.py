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

KEY = """\
Per episode. SLO misses: seconds in which critical VMs missed their objective (the
column cost of results.csv); host swap: seconds with host swap traffic; p99
slowdown: over VMs and control intervals. Each kill and each failed start is charged
kill_cost_s of the VM's work in goodput."""
