"""The physics of one or more virtualised hosts: plain compiled functions over structured arrays, no Gymnasium, no
files.

Read in this order: ``params`` (what a VM and a host are made of), ``tiers`` (arithmetic on all tiers of a VM at
once), ``tick`` (the order of one second), ``planning`` (what moves in it) and ``start``, then one file a mechanism: rooms
``guest`` (inside a VM), ``host`` (many VMs on one machine) and ``devices`` (disks and links), each of which knows only those
before it. Demand comes from ``workload``.
"""
