"""The physics of one or more virtualised hosts: plain compiled functions over structured arrays, no Gymnasium, no
files.

Read in this order: ``params`` (what a VM and a host are made of), ``tiers`` (arithmetic on all tiers of a VM at
once), ``tick`` (the order of one second) and ``start``, then one file a mechanism. In the guest: ``guest``, ``balloon``,
``patterns``. On the host: ``overcommit`` (the last resort) with ``states``, ``sharing``, ``compression`` and ``devices``,
``io``, ``cpu``, ``admission``. Demand comes from ``workload``.
"""
