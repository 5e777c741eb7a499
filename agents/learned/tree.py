"""A small regression tree in the place of a policy: rules that a person can read, fitted to what the policy decides.

Like `SharedLinear` it says for each VM how its size changes, as a share of its configured memory each `period_s`, but by questions
about one feature of the view at a time. It is grown best question first (CART: Breiman, Friedman, Olshen and Stone, 1984, least
squares) until it has `leaves` answers. Candidates are quantiles of each feature; no leaf holds less than `LEAST_SHARE` of the
decisions, so that a rule is not one odd minute. Of equal questions the first feature's and the lowest is taken: the same data give
the same tree. It is a file of plain numbers, which runs nothing when it is read.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

KIND = "hvgym size tree, version 1"

MOST_BYTES = 2**20

LEAST_SHARE = 0.005
"""Of all decisions in a leaf (a guess)."""

CANDIDATES = 64
"""Quantiles of a feature that are tried (a guess; more changed no tree's fidelity by .01)."""

FLOOR = ("least_share", "least_mib")
"""Keys of a file: no rule knows the size below which a policy never asks a VM to go."""

Node = dict[str, Any]
"""``{change, share}``: an answer and the share of decisions that got it, or ``{feature, at, below, above}``: below where the
feature is at most `at`."""


class SizeTree(Policy):
    """A tree that ``hvgym explain`` left. `checkpoint`: its file. least_share, least_mib: as of `SharedLinear`."""

    least_share: float = 0.0
    least_mib: float = 0.0

    def __init__(self, checkpoint: str | os.PathLike[str] | None = None) -> None:
        if checkpoint is None:
            raise InputError("agent.checkpoint is missing; name a tree.json that hvgym explain left")
        content = _read(Path(checkpoint))
        self._take(content["tree"], float(content["period_s"]), Visibility[content["visibility"]])
        self.least_share, self.least_mib = (float(content.get(name, 0.0)) for name in FLOOR)

    @classmethod
    def of(cls, tree: Node, period_s: float, visibility: Visibility) -> "SizeTree":
        """With this tree."""
        policy = cls.__new__(cls)
        policy._take(tree, period_s, visibility)
        return policy

    def _take(self, tree: Node, period_s: float, visibility: Visibility) -> None:
        self.tree, self.period_s, self.visibility = tree, period_s, visibility

    def keep_floor(self, of: Policy) -> None:
        """Ask no VM to go below what the policy that it stands in for leaves it."""
        self.least_share, self.least_mib = (float(getattr(of, name, 0.0)) for name in FLOOR)

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm = telemetry.vm
        change = answers(self.tree, self._view.look(telemetry))
        asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"])
        least = np.maximum(self.least_share * vm["memory_mib"], np.minimum(self.least_mib, vm["memory_mib"]))
        least = np.maximum(np.nan_to_num(vm["min_mib"]), least)
        return Targets(np.clip(asked + change * vm["memory_mib"], least, vm["memory_mib"]))


def answers(tree: Node, features: np.ndarray) -> np.ndarray:
    """Of the tree, for features ``[…, feature]``."""
    if "change" in tree:
        return np.full(features.shape[:-1], float(tree["change"]))
    below = features[..., FEATURES.index(tree["feature"])] <= tree["at"]
    return np.where(below, answers(tree["below"], features), answers(tree["above"], features))


@dataclass(eq=False)
class _Leaf:
    """A leaf that may still be split: its rows, and its best question."""

    node: Node
    rows: np.ndarray
    gain: float = 0.0
    feature: int = -1
    edge: int = -1


def grow(features: np.ndarray, changes: np.ndarray, leaves: int) -> Node:
    """The tree of so many leaves, or fewer where no question tells any decisions apart. features ``[row, feature]``, changes
    ``[row]``."""
    edges = [_edges(column) for column in features.T]
    bins = np.stack(
        [np.searchsorted(edge, column, side="left") for edge, column in zip(edges, features.T, strict=True)]
    )
    least = max(int(LEAST_SHARE * len(changes)), 1)
    root: Node = {}
    open_leaves = [_questioned(_Leaf(root, np.arange(len(changes))), bins, edges, changes, least)]
    for _ in range(leaves - 1):
        best = max(open_leaves, key=lambda leaf: leaf.gain)
        if best.gain <= 1e-12 * len(changes):
            break
        open_leaves.remove(best)
        below = bins[best.feature, best.rows] <= best.edge
        children = [_Leaf({}, best.rows[below]), _Leaf({}, best.rows[~below])]
        best.node |= {"feature": FEATURES[best.feature], "at": float(edges[best.feature][best.edge])}
        best.node |= {"below": children[0].node, "above": children[1].node}
        open_leaves += [_questioned(child, bins, edges, changes, least) for child in children]
    for leaf in open_leaves:
        leaf.node |= {"change": float(changes[leaf.rows].mean()), "share": len(leaf.rows) / len(changes)}
    return root


def _edges(column: np.ndarray) -> np.ndarray:
    """Values at which a feature is asked for: in the middle between its quantiles, as they occur."""
    values = np.unique(np.quantile(column, np.linspace(0.0, 1.0, CANDIDATES + 1), method="nearest"))
    return np.asarray((values[1:] + values[:-1]) / 2.0)


def _questioned(leaf: _Leaf, bins: np.ndarray, edges: Sequence[np.ndarray], changes: np.ndarray, least: int) -> _Leaf:
    """Find its best question: by how much it lowers the sum of squares."""
    answer = changes[leaf.rows] - changes[leaf.rows].mean()
    for feature, edge in enumerate(edges):
        if not len(edge):
            continue
        of_rows = bins[feature, leaf.rows]
        count = np.cumsum(np.bincount(of_rows, minlength=len(edge) + 1))[:-1]
        total = np.cumsum(np.bincount(of_rows, answer, len(edge) + 1))[:-1]
        other = len(leaf.rows) - count
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = np.where((count >= least) & (other >= least), total**2 / count + total**2 / other, 0.0)
        if (most := float(gains.max())) > leaf.gain:
            leaf.gain, leaf.feature, leaf.edge = most, feature, int(gains.argmax())
    return leaf


def rules(tree: Node, conditions: tuple[str, ...] = ()) -> Iterator[tuple[str, float, float]]:
    """Each leaf as a rule: its conditions in words, its change as a share of memory, and the share of decisions that got it."""
    if "change" in tree:
        yield " and ".join(conditions) or "always", float(tree["change"]), float(tree["share"])
        return
    yield from rules(tree["below"], (*conditions, f"{tree['feature']} ≤ {tree['at']:.4g}"))
    yield from rules(tree["above"], (*conditions, f"{tree['feature']} > {tree['at']:.4g}"))


def text(policy: SizeTree, made: Mapping[str, Any]) -> str:
    """What a file of a tree says; made: how it came about, for people."""
    plays = {"period_s": policy.period_s, "visibility": policy.visibility.name}
    content = {"kind": KIND, **made, **plays, **{name: getattr(policy, name) for name in FLOOR}, "tree": policy.tree}
    return json.dumps(content, indent=1) + "\n"


def _read(path: Path) -> dict[str, Any]:
    """Content of a file. Raises `InputError` that names it."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"longer than {MOST_BYTES} bytes")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise ValueError(f"its kind is not {KIND!r}")
        period_s = float(content["period_s"])
        if not 0.0 < period_s < math.inf:
            raise ValueError(f"period_s is {period_s}")
        Visibility[content["visibility"]]
        if not all(0.0 <= float(content.get(name, 0.0)) < math.inf for name in FLOOR):
            raise ValueError(f"{' and '.join(FLOOR)} are numbers, at least 0")
        _check(content["tree"])
    except FileNotFoundError:
        raise InputError(f"agent.checkpoint={path}: no such file; name a tree.json that hvgym explain left") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"agent.checkpoint={path}: no tree as hvgym explain writes it ({error})") from None
    return content


def _check(node: Any) -> None:
    if "change" in node:
        if not math.isfinite(float(node["change"])):
            raise ValueError("a change in it is not finite")
        return
    if node["feature"] not in FEATURES:
        raise ValueError(f"{shown(node['feature'])} is no feature")
    if not math.isfinite(float(node["at"])):
        raise ValueError("a bound in it is not finite")
    _check(node["below"])
    _check(node["above"])
