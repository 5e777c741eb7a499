"""Policies of clusters: which host runs which VM."""
