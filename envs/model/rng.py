"""Counter-based random numbers: a hash of (seed, stream, vm, index), with no state to carry or to disturb.

No action of a policy and no neighbouring lane can shift a draw, because there is nothing to shift. The mixer is the
finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), applied once per key word.
"""

import numpy as np

from hvgym.envs.model.compiled import compiled

(
    STREAM_PHASE,
    STREAM_BURST,
    STREAM_BURST_SIZE,
    STREAM_BURST_START,
    STREAM_GROUP,
    STREAM_IO,
    STREAM_PICK,
    STREAM_EPISODE,
    STREAM_SAMPLE,
    STREAM_FAILURE,
    STREAM_LIFE,
) = range(11)
"""One stream per purpose, so that adding a draw to one mechanism leaves the others as they were."""


@compiled
def mix(word: np.uint64) -> np.uint64:
    """Return a bijective scramble of 64 bits."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@compiled
def random_bits(seed: int, stream: int, vm: int, index: int) -> np.uint64:
    """Return 64 random bits for this key."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    word = mix(np.uint64(seed) + golden)
    word = mix(word ^ (np.uint64(stream) + golden))
    word = mix(word ^ (np.uint64(vm) + golden))
    return mix(word ^ (np.uint64(index) + golden))


@compiled
def uniform(seed: int, stream: int, vm: int, index: int) -> float:
    """Return a double in [0, 1) with 53 random bits."""
    return float(random_bits(seed, stream, vm, index) >> np.uint64(11)) * 2.0**-53
