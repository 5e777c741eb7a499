"""The shared network played without torch: plain arrays, one lane's answer whatever plays beside it, and nothing that runs when it
is read.

The layers are those of ``shared``; there is what they are. Sums are taken input by input, in the same order for one lane as for
many (a product of matrices has an order of its own for each shape), so a row of a study is the same bits alone and in a batch.
Only the memory of a recurrent policy, attention, and SAC's tanh use an exponential, whose last bit may differ by machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Actor:
    """weights: by the names that torch gives them, float32. squashed: answers go through tanh, as SAC's do."""

    weights: Arrays
    squashed: bool

    @property
    def inputs(self) -> int:
        """Features that it sees of a VM."""
        name = "latent.encoder.each.weight"
        return (
            int(self.weights[name].shape[1])
            if name in self.weights
            else int(self.weights["head.linear.weight"].shape[1])
        )

    @property
    def channels(self) -> int:
        """What it decides of a VM."""
        return int(self.weights["head.linear.weight"].shape[0])

    def act(self, seen: np.ndarray, memory: "Memory") -> np.ndarray:
        """Actions ``[env, channel, vm]`` in [-1, 1] for features ``[env, vm, feature]``; memory: of these lanes."""
        latent = seen
        if "latent.encoder.each.weight" in self.weights:
            codes = self._encode(seen)
            if "latent.cell.weight_ih_l0" in self.weights:
                codes = memory.step(codes, self.weights)
            latent = np.concatenate([codes, seen], axis=-1)
        answers = _linear(latent, self.weights, "head.linear")
        answers = np.tanh(answers) if self.squashed else np.clip(answers, -1.0, 1.0)
        return np.ascontiguousarray(np.swapaxes(answers, -1, -2))

    def _encode(self, seen: np.ndarray) -> np.ndarray:
        codes = _softsign(_linear(seen, self.weights, "latent.encoder.each"))
        all_of_them = np.concatenate([_mean(codes), codes.max(axis=1)], axis=-1)[:, None]
        parts = [codes, np.broadcast_to(all_of_them, (*codes.shape[:2], all_of_them.shape[-1]))]
        if "latent.encoder.attend.weight" in self.weights:
            parts.append(self._attended(codes))
        return _softsign(_linear(np.concatenate(parts, axis=-1), self.weights, "latent.encoder.both"))

    def _attended(self, codes: np.ndarray) -> np.ndarray:
        asks, answers, values = np.split(_linear(codes, self.weights, "latent.encoder.attend"), 3, axis=-1)
        fits = (asks[:, :, None, :] * answers[:, None, :, :]).sum(axis=-1) / codes.shape[-1] ** 0.5
        weights = np.exp(fits - fits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return _softsign((weights[..., None] * values[:, None, :, :]).sum(axis=2))


class Memory:
    """What a recurrent policy keeps of each VM; nothing yet at the start."""

    def __init__(self) -> None:
        self._hidden: np.ndarray | None = None
        self._cell: np.ndarray | None = None

    def step(self, codes: np.ndarray, weights: Arrays) -> np.ndarray:
        """The hidden state after these codes, ``[env, vm, width]``: an LSTM as torch has it."""
        hidden = np.zeros(codes.shape) if self._hidden is None else self._hidden
        cell = np.zeros(codes.shape) if self._cell is None else self._cell
        gates = _product(codes, weights["latent.cell.weight_ih_l0"]) + weights["latent.cell.bias_ih_l0"]
        gates += _product(hidden, weights["latent.cell.weight_hh_l0"]) + weights["latent.cell.bias_hh_l0"]
        let_in, keep, new, show = np.split(gates, 4, axis=-1)
        self._cell = _sigmoid(keep) * cell + _sigmoid(let_in) * np.tanh(new)
        self._hidden = _sigmoid(show) * np.tanh(self._cell)
        return self._hidden


def _linear(x: np.ndarray, weights: Arrays, name: str) -> np.ndarray:
    return _product(x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]


def _product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``[..., out]`` of ``[..., in]`` and ``[out, in]``, float64, input by input."""
    by_input = np.ascontiguousarray(weight.T, np.float64)
    out = np.zeros((*x.shape[:-1], len(weight)))
    for index, row in enumerate(by_input):
        out += x[..., index, None] * row
    return out


def _mean(codes: np.ndarray) -> np.ndarray:
    """Over VMs, in their order."""
    total = np.zeros((codes.shape[0], codes.shape[2]))
    for vm in range(codes.shape[1]):
        total += codes[:, vm]
    return total / codes.shape[1]


def _softsign(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / (1.0 + np.abs(x)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0))))
