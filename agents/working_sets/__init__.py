"""Policies that estimate how much memory each VM needs (a miss-ratio curve, refaults, pressure) and divide the host by that.
They come from research and from control theory."""
