"""A policy of the cluster beside one of every host, as data centres run them: neither knows of the other.

`placement` decides which host runs which VM, `memory` manages each host's memory, host by host with a memory of its own. Either
may be left out: then what the stack or the hypervisor ships with goes on. Each keeps its own period, view and channels.
"""

from collections.abc import Mapping
from typing import Any

from hvgym.agents.policy import Policy, make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import Targets, Telemetry

Agent = str | Mapping[str, Any] | None


class Composed(Policy):
    """Agents by name, or as plain data."""

    of_cluster = True
    declaration = Declaration(seat="outside", channels=(), signals=frozenset())

    def __init__(self, memory: Agent = None, placement: Agent = None) -> None:
        made = [_made(key, agent) for key, agent in (("placement", placement), ("memory", memory)) if agent is not None]
        for key, part in made:
            if part.of_cluster != (key == "placement"):
                kind = "decides for a whole cluster" if part.of_cluster else "decides for one host"
                raise InputError(f"agent.{key}: {kind}; give it as {'placement' if part.of_cluster else 'memory'}")
        if not made:
            raise InputError("agent.placement: give placement or memory; agent=stock is the stack as shipped")
        self._parts = tuple(part for _, part in made)

    @property
    def parts(self) -> tuple[Policy, ...]:
        """See `Policy`."""
        return self._parts

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`; rollouts ask the parts."""
        raise InputError("agent: a composed policy is played part by part, by hvgym.bench.rollout")


def _made(key: str, agent: str | Mapping[str, Any]) -> tuple[str, Policy]:
    made = make_policy(load_group("agent", agent) if isinstance(agent, str) else agent)
    if not isinstance(made, Policy):
        raise InputError(f"agent.{key}: sees the hidden state; a part must be a Policy")
    return key, made
