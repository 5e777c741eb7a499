"""Proactive reclaim: controllers that push pages out of the host's memory before it is short, and stop when guests stall.
They act by cgroup reclaim and page ages, not by balloons."""
