"""The physics of one or more virtualised hosts: plain compiled functions over structured arrays, no Gymnasium, no
files.

Read in this order: ``params`` (what a VM and a host are made of), ``tiers`` (arithmetic on all tiers of a VM at
once), ``tick`` (the order of one second), then one file a mechanism: ``guest``, ``balloon``, ``io``, ``overcommit``,
and ``workload`` for where demand comes from.
"""
