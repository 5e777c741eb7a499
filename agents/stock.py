"""The hypervisor as shipped: the policy that its profile names as ``stock`` runs on beneath policies from outside.

ESXi balloons, Hyper-V has Dynamic Memory, whatever an operator's program does beside it. A policy from inside takes the place
of stock, for there is one such part in a hypervisor. So does one from outside that sets a channel which stock sets: on Xen
whoever sets targets replaces squeezed, which is a program like others. It counts what is declared, and under open rules too.
"""

from hvgym.agents.policy import Policy, make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration, channels_of, check_played
from hvgym.envs.scenario import Scenario, load_group


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
