"""A trained policy of memory sizes as one Python file that needs nothing: `exported`, with its own constants.

Linear policies and trees are exported, of those with a map for each kind of host the one of KVM. What is not: networks (fit a tree
to them: ``hvgym explain``), sets of weights a lane, whatever stands behind a shield, and every policy that is no such map: those
are programs already.
"""

import ast
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import hvgym
from hvgym.agents.learned.by_statistics import LinearByStatistics
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.tree import Node, SizeTree
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import Policy
from hvgym.agents.shield import Shield
from hvgym.envs.errors import InputError

_CONSTANTS = re.compile(r"PERIOD_S = .*?(?=# --- what follows)", re.DOTALL)


def exported(policy: Policy, agent: Mapping[str, Any]) -> str:
    """The file's text. Raises `InputError` for a policy that is not exported, and says why."""
    name = str(agent.get("name", "?"))
    if isinstance(policy, Shield):
        raise InputError(f"agent {name}: a shield is not exported; export the agent without agent.shield")
    if isinstance(policy, LinearByStatistics):
        policy = policy.on("kvm")  # where the file runs
    if isinstance(policy, SharedLinear) and len(policy.weights) == 1:
        weights = dict(zip(FEATURES, policy.weights[0].tolist(), strict=True))
        named = {feature: weight for feature, weight in weights.items() if weight != 0.0}
        constants = (
            f"STEP = {policy.step!r}\nLEAST_SHARE = {policy.least_share!r}\nLEAST_MIB = {policy.least_mib!r}\n"
            f"RESCUES = {policy.rescues!r}\nWEIGHTS = {_rows(named)}\nTREE = None\n"
        )
    elif isinstance(policy, SizeTree):
        tree = f"TREE = {_nested(policy.tree)!r}  # (feature, bound, at most, above) or a share\n"
        constants = "STEP = 1.0\nLEAST_SHARE = 0.0\nLEAST_MIB = 0.0\nRESCUES = False\nWEIGHTS = {}\n" + tree
    else:
        raise InputError(
            f"agent {name}: {type(policy).__name__} is not exported: only linear policies (es) and trees are; hvgym explain "
            "fits a tree to any policy of memory sizes"
        )
    source = (files("hvgym.agents.learned") / "exported.py").read_text(encoding="utf-8")
    made = json.dumps(f"{name}, written by hvgym export {hvgym.__version__}")
    text = _CONSTANTS.sub(lambda found: f"PERIOD_S = {policy.period_s!r}\n{constants}", source)
    text = text.replace("# --- the decision ---", f"# --- the decision: {made[1:-1]} ---")
    ast.parse(text)
    return text


def _rows(named: Mapping[str, float]) -> str:
    """A dictionary, a line each."""
    lines = "".join(f"    {json.dumps(name)}: {weight!r},\n" for name, weight in named.items())
    return f"{{\n{lines}}}"


def _nested(node: Node) -> Any:
    """A tree as tuples."""
    if "change" in node:
        return float(node["change"])
    return (str(node["feature"]), float(node["at"]), _nested(node["below"]), _nested(node["above"]))
