"""Policies that decide which host a VM starts on and when it moves; each file holds one product's decisions as pure functions."""
