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
from hvgym.agents.learned import exported as file
from hvgym.agents.learned.by_statistics import LinearByStatistics
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.tree import Node, SizeTree
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import Policy
from hvgym.agents.shield import Shield
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Visibility

ALWAYS = ("maximum", "actual", "host.total", "host.available")

INPUTS: dict[str, tuple[str, ...]] = {
    "guest_free": ("unused",), "guest_available": ("usable",), "guest_caches": ("disk_caches",), "cpu": ("cpu_s", "vcpus"),
    "cpu_ready": ("cpu_ready_s", "vcpus"), "swap_used": ("host.swap_used", "host.swap_total"), "swap_in_rate": ("host.swap_in",),
    "swap_out_rate": ("host.swap_out",), "state": ("host.memory_state",), "shared_share": ("host.shared",),
    "scan_rate": ("host.scan_pages_per_s",),
    **{name: (f"host.{name}",) for name in ("disk_utilisation", "cpu_utilisation", "free", "psi")},
    **{feature: (key,) for feature, key in (*file.VM_RATES, *file.VM_SIZES) if key not in ("minimum", "limit")},
    **{feature: (key,) for feature, key, default in file.VM_SHARES if default != default},
}  # fmt: skip
"""Of features, keys of the file's inputs, but for `ALWAYS`. Keys with a default that says what is so, as that a VM runs, may be
left out, and that a signal is missing is told by its absence."""

BY_LOOP = frozenset((
    *ALWAYS, "minimum", "unused", "usable", "disk_caches", "swap_in", "swap_out", "rss", "cpu_s", "vcpus", "host.free",
    "host.swap_total", "host.swap_used",
))  # fmt: skip
"""What docs/learning.md's loop gives."""

_AVERAGED = re.compile(f"_({'|'.join(f'{length_s:.0f}' for length_s in file.AVERAGED_S)})s$")

_CONSTANTS = re.compile(r"PERIOD_S = .*?(?=# --- what follows)", re.DOTALL)


def exported(policy: Policy, agent: Mapping[str, Any]) -> str:
    """The file's text. Raises `InputError` for a policy that is not exported, and says why."""
    name = str(agent.get("name", "?"))
    if isinstance(policy, Shield):
        raise InputError(f"agent {name}: a shield is not exported; export the agent without agent.shield")
    policy = _where_it_runs(policy)
    if policy.visibility != Visibility.P1 and isinstance(policy, (SharedLinear, SizeTree)):
        raise InputError(
            f"agent {name}: reads profile {policy.visibility.name}; the file reads what P1 has, export one of P1"
        )
    if isinstance(policy, SharedLinear) and len(policy.weights) == 1:
        weights = dict(zip(FEATURES, policy.weights[0].tolist(), strict=True))
        named = {feature: weight for feature, weight in weights.items() if weight != 0.0}
        constants = (
            f"STEP = {policy.step!r}\nLEAST_SHARE = {policy.least_share!r}\nLEAST_MIB = {policy.least_mib!r}\n"
            f"RESCUES = {policy.rescues!r}\nWEIGHTS = {_rows(named)}\nTREE = None\n"
        )
    elif isinstance(policy, SizeTree):
        tree = f"TREE = {_nested(policy.tree)!r}  # (feature, bound, at most, above) or a share\n"
        floor = f"LEAST_SHARE = {policy.least_share!r}\nLEAST_MIB = {policy.least_mib!r}\n"
        constants = f"STEP = 1.0\n{floor}RESCUES = False\nWEIGHTS = {{}}\n{tree}"
    else:
        raise InputError(
            f"agent {name}: {type(policy).__name__} is not exported: only linear policies (es) and trees are; hvgym explain "
            "fits a tree to any policy of memory sizes"
        )
    source = (files("hvgym.agents.learned") / "exported.py").read_text(encoding="utf-8")
    made = json.dumps(f"{name}, written by hvgym export {hvgym.__version__}")
    constants += f"NEEDS = {needs(policy)!r}\n"
    text = _CONSTANTS.sub(lambda found: f"PERIOD_S = {policy.period_s!r}\n{constants}", source)
    text = text.replace("# --- the decision ---", f"# --- the decision: {made[1:-1]} ---")
    ast.parse(text)
    return text


def needs(policy: Policy) -> tuple[str, ...]:
    """Keys of the file's inputs that a policy reads; the host's begin with ``host.``."""
    policy, asked = _where_it_runs(policy), set[str]()
    if isinstance(policy, SharedLinear):
        asked = {feature for feature, weight in zip(FEATURES, policy.weights[0], strict=True) if weight != 0.0}
        asked |= {"guest_available", "guest_swap_in_rate"} if policy.rescues else set()
    elif isinstance(policy, SizeTree):
        asked = _asked(policy.tree)
    found = dict.fromkeys(ALWAYS)
    for feature in sorted(asked, key=FEATURES.index):
        found |= dict.fromkeys(INPUTS.get(_AVERAGED.sub("", feature), ()))
    return tuple(found)


def _where_it_runs(policy: Policy) -> Policy:
    return policy.on("kvm") if isinstance(policy, LinearByStatistics) else policy


def _asked(node: Node) -> set[str]:
    """Features of a tree's questions."""
    return set() if "change" in node else {str(node["feature"])} | _asked(node["below"]) | _asked(node["above"])


def _rows(named: Mapping[str, float]) -> str:
    """A dictionary, a line each."""
    lines = "".join(f"    {json.dumps(name)}: {weight!r},\n" for name, weight in named.items())
    return f"{{\n{lines}}}"


def _nested(node: Node) -> Any:
    """A tree as tuples."""
    if "change" in node:
        return float(node["change"])
    return (str(node["feature"]), float(node["at"]), _nested(node["below"]), _nested(node["above"]))
