"""Policies that anybody would write first: never to reclaim, by size, one constant share. A scenario on which one of these does
well tells nothing about the others."""
