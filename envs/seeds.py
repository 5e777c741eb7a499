"""Seeds of episodes: what a caller may give, and what the model makes of it.

As in Gymnasium any integer from 0 on is a seed, numpy's integers too, and lane i of a batch seeded s plays s + i.
The model's draws take 63 bits (``model.rng``): a smaller seed is its own key, a larger one is hashed.
"""

from collections.abc import Iterable

import gymnasium as gym
import numpy as np

from hvgym.envs.model import rng

KEY_BITS = 63
_HASH = 1
"""Tells these draws from those of later episodes, which use the same stream."""


def whole(seed: object) -> int:
    """A seed as a Python integer. Raises `gymnasium.error.Error`, as Gymnasium does, for anything else."""
    if not isinstance(seed, (int, np.integer)):
        raise gym.error.Error(f"Seed must be an integer, actual type: {type(seed)}")
    if seed < 0:
        raise gym.error.Error(f"Seed must be greater or equal to zero, actual value: {seed}")
    return int(seed)


def of_lanes(seed: object, lanes: int) -> list[int | None]:
    """One seed a lane: s + i from an integer, or from a list; None leaves a lane with its own sequence.

    Raises `ValueError` when a list is not as long as there are lanes.
    """
    if seed is None:
        return [None] * lanes
    if not isinstance(seed, Iterable) or np.ndim(seed) == 0:  # type: ignore[arg-type]
        first = whole(seed)
        return [first + lane for lane in range(lanes)]
    given = list(seed)
    if len(given) != lanes:
        raise ValueError(
            f"If seeds are passed as a list the length must match num_envs={lanes} but got length={len(given)}."
        )
    return [None if one is None else whole(one) for one in given]


def key_of(seed: int) -> int:
    """The model's key of a seed, below 2**63."""
    if seed < 1 << KEY_BITS:
        return seed
    key = 0
    while seed > 0:
        word = seed & ((1 << KEY_BITS) - 1)
        key = int(rng.random_bits(key, rng.STREAM_EPISODE, _HASH, word)) >> 1
        seed >>= KEY_BITS
    return key


def later_key(seed: int, episode: int) -> int:
    """Key of the lane's `episode`-th episode after the one of `seed`."""
    if episode == 0:
        return key_of(seed)
    return int(rng.random_bits(key_of(seed), rng.STREAM_EPISODE, 0, episode)) >> 1
