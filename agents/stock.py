"""The hypervisor as shipped: the policy that its profile names as ``stock`` runs on beneath policies from outside.

ESXi balloons, Hyper-V has Dynamic Memory, whatever an operator's program does beside it. A policy from inside takes the place
of stock, for there is one such part in a hypervisor. So does one from outside that sets a channel which stock sets: on Xen
whoever sets targets replaces squeezed, which is a program like others. It counts what is declared, and under open rules too.
"""

from collections.abc import Sequence

from hvgym.agents.policy import ClairvoyantPolicy, Policy, make_policy
from hvgym.envs.backends import AnySimulator
from hvgym.envs.errors import InputError
from hvgym.envs.hosts_view import HostsView
from hvgym.envs.rules import Declaration, channels_of, check_played, readable
from hvgym.envs.scenario import Scenario, load_group
from hvgym.envs.telemetry import Targets, Telemetry
from hvgym.envs.watching import watching


def beneath(scenario: Scenario, who: Declaration) -> Policy | None:
    """The hypervisor's own policy, new, where it runs on beneath one that declares `who`; None where it does not.

    Raises:
        InputError: where the profile names no packaged policy, or one that its own inside seat lacks something for.
    """
    hypervisor = scenario.hypervisor
    if hypervisor.stock is None or who.seat == "inside":
        return None
    try:
        stock = make_policy(load_group("agent", hypervisor.stock))
    except InputError as error:
        raise InputError(f"hypervisor.stock={hypervisor.stock!r}: {error}") from None
    if not isinstance(stock, Policy):
        raise InputError(f"hypervisor.stock={hypervisor.stock!r}: sees the hidden state; name a policy that does not")
    check_played(stock.declaration, scenario, hypervisor.stock)
    replaced = set(channels_of(stock.declaration, scenario)) & set(channels_of(who, scenario))
    return None if replaced else stock


def beneath_cluster(
    scenario: Scenario, parts: Sequence[Policy | ClairvoyantPolicy]
) -> tuple[Policy | None, Policy | None]:
    """What runs on beneath these policies of a cluster: the hypervisors' own, one on each host, and the stack's balancing as
    shipped; None where there is none, or where one of the policies takes its place.

    Raises:
        InputError: as `beneath`, and where the stack names no packaged policy of clusters.
    """
    assert scenario.stack is not None  # a scenario's check
    hypervisor: Policy | None = None
    hosts = [part.declaration for part in parts if not part.of_cluster] or [NOBODY]
    found = [beneath(scenario, who) for who in hosts]
    if all(one is not None for one in found):
        hypervisor = found[0]
    stack, name = None, scenario.stack.stock
    if name is not None and not any(
        "move_to" in (part.declaration.channels or ()) for part in parts if part.of_cluster
    ):
        made = make_policy(load_group("agent", name))
        if not isinstance(made, Policy) or not made.of_cluster:
            raise InputError(f"stack.stock={name!r}: is no policy of clusters")
        stack = made
    return hypervisor, stack


NOBODY = Declaration(seat="outside", channels=(), signals=frozenset())
"""Who sets nothing on hosts, so that what they do by themselves goes on."""


class Running:
    """A policy at work on a simulator whose lanes began together: its own period, what it may read, what it is held to."""

    def __init__(self, policy: Policy, sim: AnySimulator | HostsView) -> None:
        self._policy, self._sim = policy, sim
        self._readable = readable(policy.declaration, sim.scenario)
        self._watching = watching(policy.declaration, sim.scenario, self._readable, sim)
        self._next_s = 0.0

    @property
    def steps_s(self) -> tuple[int, ...]:
        """Seconds at which it decides, its readings are refreshed, and its settings may take effect."""
        return (max(int(self._policy.period_s), 1), *(() if self._watching is None else self._watching.steps_s))

    def begin(self, first: Telemetry) -> None:
        """An episode has begun in every lane."""
        self._next_s = float(first.time_s[0])
        if self._watching is not None:
            self._watching.begin(first)
        self._policy.granted(channels_of(self._policy.declaration, self._sim.scenario))
        self._policy.reset(self._seen(first), seed=0)

    def act(self, telemetry: Telemetry) -> None:
        """Let it decide if its time has come, and carry out what takes effect now."""
        targets: Targets | None = None
        if self._watching is not None:
            self._watching.note(telemetry)
        if telemetry.time_s[0] >= self._next_s:
            self._next_s += self._policy.period_s
            if self._watching is not None:
                self._watching.pay_for_reading()
            targets = self._policy.decide(self._seen(telemetry))
        if self._watching is not None:
            targets = self._watching.due(telemetry.time_s, targets)
        if targets is not None:
            self._sim.apply(targets)
            if self._watching is not None:
                self._watching.pay_for_asking(targets)

    def _seen(self, telemetry: Telemetry) -> Telemetry:
        if self._watching is not None:
            telemetry = self._watching.seen(telemetry)
        seen = telemetry.seen_with(self._policy.visibility)
        return seen if self._readable is None else seen.restricted_to(self._readable)
