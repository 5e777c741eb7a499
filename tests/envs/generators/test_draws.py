"""Draws without a compiler are those of the compiled model, and quantile functions pass through what is published."""

import numpy as np
import pytest

from hvgym.envs.generators.draws import NORMAL, Quantiles, normals, uniforms
from hvgym.envs.model import rng

SEEDS = (0, 1, 12345, 2**31, 2**63 - 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_uniforms_are_those_of_the_model_bit_by_bit(seed):
    keys, indices = np.array([-1, 0, 3, 1 << 20]), np.array([-(10**9), -1, 0, 7, 10**12])
    drawn = uniforms(seed, 70, keys[:, None], indices)
    for i, key in enumerate(keys):
        for j, index in enumerate(indices):
            assert drawn[i, j] == rng.uniform(seed, 70, key, index)


def test_a_draw_depends_on_its_key_alone():
    alone, among = uniforms(5, 64, 3, [2]), uniforms(5, 64, np.arange(9)[:, None], np.arange(4))
    assert among[3, 2] == alone[0]


def test_quantiles_are_straight_between_what_is_known():
    known = Quantiles((0, 50, 100), (1.0, 3.0, 11.0))
    assert known.at([0.0, 0.25, 0.5, 0.75, 1.0]).tolist() == [1.0, 2.0, 3.0, 7.0, 11.0]


def test_normal_draws_have_mean_0_and_variance_1():
    drawn = normals(3, 64, 0, np.arange(100_000))
    assert abs(drawn.mean()) < 0.01
    assert drawn.var() == pytest.approx(1.0, abs=0.03)
    assert np.abs(drawn).max() < NORMAL.values[-1] + 1e-12
