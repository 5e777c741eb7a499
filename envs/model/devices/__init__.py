"""Disks and links: what a virtual device costs, how bandwidth is divided, and how long requests wait.
Imports guests and hosts; only ``tick`` and ``start`` stand above."""
