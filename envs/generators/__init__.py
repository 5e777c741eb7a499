"""Demand with the statistics of real traces, by class of VM."""
