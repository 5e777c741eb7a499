"""Policies that decide only whether a VM may start, by reservations, ratios, predicted peaks or room kept for a failure.
``rules`` has the policies, ``predictors`` and ``failover`` the arithmetic under them."""
