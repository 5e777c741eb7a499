"""Writes docs/rules.md: what the rules are, who plays on which hypervisor, and why not: ``make rules``."""

import sys
from collections.abc import Mapping
from pathlib import Path

from hvgym.agents.policy import declared_by
from hvgym.envs.model.guest import activity
from hvgym.envs.model.host import scanning
from hvgym.envs.model.params import PAGES_PER_MIB
from hvgym.envs.rules import of_hosts, refusal
from hvgym.envs.scenario import Hypervisor, Scenario, group_files, load_group, resolve
from hvgym.envs.seats import METHODS, Method

HYPERVISORS = ("kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation", "baremetal")

SCENARIO = "idle-giants"
"""Any: what is played where depends on the hypervisor alone."""

INTRODUCTION = """\
# Rules

Written by `make rules`, the tables from `conf/hypervisor` and `conf/agent`.

Who manages a host's memory sits at one of two *seats*. **Inside** is what the hypervisor's own kernel and drivers can do: ESX
sets balloon targets by sampled activity, Linux reclaims by its lists or by DAMON's ages. **Outside** is what an operator's program
can call: libvirt, cgroups, PowerShell. Each hypervisor's YAML declares for both seats which *channels* (fields of `Targets`) and
which *signals* (fields of the telemetry) exist, with grain, rate, delay, cap, what happens when the guest does not cooperate, and
the source of each; `hvgym describe hypervisor=esxi` prints it. These texts are for people. Delays and costs that are held stand in
numbers beside them (`every_s`, `silent_s`, `method`; below), and what the model itself obeys are the other keys of the profile.

Each agent's YAML declares seat, channels, signals and, where it was written for a part of a product that others do not have,
interfaces:

```yaml
seat: outside
channels: [memory_mib]
signals: [config, balloon, host, guest_free_mib]   # single ones or groups (SIGNAL_GROUPS in envs/telemetry.py)
interfaces: [qmp]
```

Under `rules=default` an agent plays where its seat has all of that; it reads what it declares and nothing else (the rest is NaN),
and an answer on another channel ends the rollout. Where something is missing it is not played: `hvgym bench` runs none of its
jobs and names it with the reason below the leaderboard and in the report, and `evaluate`, `train`, `tune`, `demo` and a rollout
from Python end in the same line. An agent that plays on a part of a suite is scored on that part, and its name says so.

Under `rules=open` every channel is open to everybody, for research on hypervisors that do not exist yet. A suite says which
rules it is played by: the packaged ones say `default`; a scenario that says nothing is open.

`rules` is a key of scenarios and suites, of every verb that plays, and of `gymnasium.make`; what the command says wins over the
suite, which wins over the scenario. It is part of a study's identity. YAML without declarations, as of a policy of your own,
means `seat: inside`, `channels: [memory_mib]` and `signals: any`: it sees of its profile what the seat has but ages of pages
(they cost, so who wants them says so), and is refused only where no sizes can be set. `channels: any` is all that the seat has,
and `signals_with: {reclaim_age_s: [page_ages]}` reads (and pays for) ages of pages only where the seat has that channel; a
policy is told its channels before it begins (`Policy.granted`). `signals: seat` is as `any`, and under open rules too such
a policy reads only what its seat has, with its delays and costs, and `channels: any` gives it only the channels of its seat: for
one that was trained on what there is. A class that is built without its YAML counts as one without declarations. A hypervisor of
your own without `capabilities` refuses everybody under default rules but those who do nothing.

`gymnasium.make("hvgym/Host-v1", hypervisor="kvm", rules="default", seat="outside")`: actions are what the seat can set, a block
of numbers a channel (`envs/actions.py`), and what it cannot read is missing from the observation. Inside these are memory sizes
wherever the hypervisor has a balloon, and stock is replaced; outside, stock runs on beneath the actions. Starting VMs is left to
the hypervisor, and limits of host memory are set only where `channels` names them. Where a seat has nothing to set (Hyper-V and
Workstation from outside) the environment is refused. Under open rules actions are memory sizes, whatever the seat.
`channels=[memory, reclaim, ...]` chooses others of those that the seat has, `page_ages=True` shows ages of pages where it has them
and pays for each reading. A source that is refreshed at least once in a step is seen as it is at the end of the step.

## Stock and references

Most hypervisors ship with a policy of their own: ESXi balloons by its idle tax, Hyper-V has Dynamic Memory, XenServer squeezed, and
Workstation trims; KVM, VirtualBox and a Linux process have none. `stock` in `conf/hypervisor` names the agent that stands for it
(null is none). It keeps running *beneath* policies from outside, at its own period and with its own signals. A policy from inside
takes its place. So does one from outside that sets a channel which stock sets: on Xen whoever sets targets replaces squeezed.
What counts is what is declared, under open rules too.

- **Score 0** is agent `stock`: an outside policy that does nothing, so what the hypervisor ships with is alone. `static` does
  nothing from inside: nobody reclaims, and the hypervisor's last resort swaps. Where stock loses to `static`, the hypervisor's
  own policy does harm, as `hvgym evaluate -m agent=stock,static scenario=no-guest-swap-short hypervisor=esxi,workstation` shows:
  ESXi balloons guests without swap until they kill, Workstation (a surrogate) trims what is in use.
- **Score 1** is the *reference*: a policy that sees the true state and the demand to come, confined to the channels of a seat.
  `reference` sits inside, in the place of stock; `reference_outside` outside, with stock beneath by the same rule as others.
  Under open rules both seats have every channel, and `reference` serves both.

A study plays `stock` and the reference of each seat among the agents that play. An agent's score is (G - G_stock) /
mean(G_reference - G_stock), G being goodput, paired seed by seed, with the reference of its own seat. Where that mean is under
0.01 of goodput, agents of this seat have no score on the scenario; those of the other still may. A reference is a policy, not a
proof: where an agent gets more work done than the reference of its seat, or has no kill on a seed where that has one, the
leaderboard says so in red, with scenario and seed. docs/optimum.md has the bound that nothing can pass.
"""

WATCHING = """\
## Watching costs

Under default rules nobody reads for nothing, or faster than a source is refreshed, or sets what its channel does not take yet
(`envs/watching.py`). Under open rules, and for the references, which read nothing,
nothing of this is done; a reference decides no more often than the slowest channel of its seat takes effect.

**Readings are as old as their source.** A source that is refreshed every `every_s` seconds is seen as it was at the last refresh,
and `stats_age_s` says so; of a VM that was started less than `silent_s` ago it says nothing (NaN). Statistics that the hypervisor
polls from its guests (`stats_interval_s`: kvm 2 s, virtualbox 10 s, hyperv 1 s) age in the model itself.

**Settings wait for their channel.** After a setting that took effect, the next of the same VM takes effect `every_s` later. A
decision that comes sooner is held until then; of several the last one wins. Nothing is lost but time, and nobody is refused.

**Who watches pages pays.** Ages of pages cost whoever declares them (`page_ages`) at each reading, and whoever asks for pages
by their age (`reclaim_age_s` with an amount) at each request; both in the same second are paid for once. A pass is CPU time of
one kernel thread of the host: it is missing from the pCPUs that VMs share, so it costs work where these are short, and it shows
in the host's CPU utilisation. A pass that has not ended is not begun anew.

| method | costs | of 128 GiB each 120 s |
|---|---|---|
{methods}

Memory in 2 MiB blocks has a 512th of the entries, but a block is idle only when all of it is: by accessed bits (walking, reverse
mapping, DAMON) what is hot looks {hot:g} times as large there (2 to 3.3 in what is published), by the share of large pages that the
model has at the time.

| hypervisor | seat | what is held |
|---|---|---|
{held}

Sources and what is left out (passes that take as long as ages last, KVM's lock, DAMON's regions, the CPU time of a decision) are in
`envs/model/host/scanning.py` and `envs/watching.py`.

"""

MATRIX = """\
## Who plays where

A dot plays. `NAME_tuned` declares what `NAME` does. Packaged policies are the products themselves: where one could be ported by
writing an adapter (Proxmox's loop over VirtualBox's balloon), it is refused until the adapter is there. `pressure_pi` and `greedy`
are such adapters for KVM, loops over a balloon target and the balloon's statistics; `best_constant`, `proportional`, `random` and
`ppo` set sizes wherever a hypervisor has a balloon, `static_shares`, `io_latency` and `minimum_iops` shares wherever it has them.
"""

REASONS = """\
## Why not
"""


def scenarios() -> dict[str, Scenario]:
    """One under default rules on each hypervisor."""
    data = load_group("scenario", SCENARIO)
    profiles = {name: load_group("hypervisor", name) for name in HYPERVISORS}
    return {name: resolve(data, hypervisor=profile, rules="default") for name, profile in profiles.items()}


def refusals() -> dict[str, dict[str, str | None]]:
    """By agent and hypervisor; None plays."""
    there = scenarios()
    configs = {name: load_group("agent", name) for name in sorted(group_files("agent"))}
    agents = {name: one for name, one in configs.items() if not name.endswith("_tuned") and not of_hosts(one)}
    return {
        name: {hypervisor: refusal(declared_by(config), scenario) for hypervisor, scenario in there.items()}
        for name, config in agents.items()
    }


def seat_rows(hypervisor: Hypervisor) -> list[str]:
    """Channels and signals of both seats, a line each."""
    rows = []
    for name in ("inside", "outside"):
        assert hypervisor.capabilities is not None
        seat = hypervisor.capabilities.seat(name)
        channels = ", ".join(f"`{channel}`" for channel in seat.channel_names) or "–"
        signals = ", ".join(f"`{signal}`" for reading in seat.signals for signal in reading.names)
        beside = "; ".join(seat.not_modelled) or "–"
        rows.append(f"| {hypervisor.name} | {name} | {channels} | {signals} | {beside} |")
    return rows


def method_rows() -> list[str]:
    """What each method takes, and of a core for 128 GiB of 4 KiB and of 2 MiB pages read each two minutes."""
    entries = 128 * 1024 * PAGES_PER_MIB

    def of_a_core(entry_s: float) -> str:
        small = 100 * entry_s * entries / 120
        return f"{small:.2g} % of a core; in large pages {small / scanning.PAGES_PER_BLOCK:.1g} %"

    sampled_s = activity.SAMPLED_PAGES * scanning.MINOR_FAULT_S
    always, at_once = "{:.2g} % of a CPU, all the time", "a second's work takes {:.0f} % longer"
    costs: dict[Method, tuple[str, str]] = {
        "walk": (f"{1e9 * scanning.WALK_S:.0f} ns an entry", of_a_core(scanning.WALK_S)),
        "rmap": (f"{1e9 * scanning.RMAP_S:.0f} ns an entry", of_a_core(scanning.RMAP_S)),
        "damon": (always.format(100 * scanning.DAMON_CPUS), "the same"),
        "sampling": (
            f"{activity.SAMPLED_PAGES} minor faults of {1e6 * scanning.MINOR_FAULT_S:g} us a VM each {activity.SAMPLE_S:g} s",
            f"{100 * sampled_s / activity.SAMPLE_S:.1g} % of a core for each VM",
        ),
        "page_protection": (at_once.format(100 * scanning.PROTECTION_TAX), "the same"),
    }
    return [f"| {METHODS[method]} | {cost} | {whole} |" for method, (cost, whole) in costs.items()]


def held_rows(hypervisor: Hypervisor) -> list[str]:
    """Delays and methods of both seats, a line each; nothing where nothing is held."""
    rows = []
    for name in ("inside", "outside"):
        assert hypervisor.capabilities is not None
        seat, held = hypervisor.capabilities.seat(name), []
        for channel in seat.channels:
            held += [f"`{channel.name}` takes a setting each {channel.every_s} s"] if channel.every_s > 1 else []
            held += [f"`{channel.name}` by {METHODS[channel.method]}"] if channel.method else []
        for reading in seat.signals:
            names = ", ".join(f"`{signal}`" for signal in reading.names)
            held += [f"{names} refreshed each {reading.every_s} s"] if reading.every_s > 1 else []
            held += [f"{names} silent for {reading.silent_s} s after a start"] if reading.silent_s else []
            held += [f"{names} by {METHODS[reading.method]}"] if reading.method else []
        rows += [f"| {hypervisor.name} | {name} | {'; '.join(held)} |"] if held else []
    return rows


def watching() -> str:
    """What is held, and what it costs."""
    held = [row for scenario in scenarios().values() for row in held_rows(scenario.hypervisor)]
    return WATCHING.format(methods="\n".join(method_rows()), held="\n".join(held), hot=scanning.HOT_IN_LARGE)


def reasons(of_it: Mapping[str, str | None]) -> str:
    """Reasons of one agent, hypervisors with the same one together."""
    found = dict[str, list[str]]()
    for hypervisor, reason in of_it.items():
        if reason is not None:
            text = reason.replace(f"which {hypervisor} ", "which {} ")
            found.setdefault(text, []).append(hypervisor)
    plural = {True: ("lack", "have"), False: ("lacks", "has")}
    parts = []
    for text, where in found.items():
        lacks, has = plural[len(where) > 1]
        parts.append(text.format(", ".join(where)).replace(" lacks", f" {lacks}").replace(" has ", f" {has} "))
    return "; ".join(parts)


def page() -> str:
    """The whole page."""
    found = refusals()
    lines = [INTRODUCTION, "## Seats", ""]
    lines += ["| hypervisor | seat | sets | reads | offers, not in this model |", "|---|---|---|---|---|"]
    lines += [row for scenario in scenarios().values() for row in seat_rows(scenario.hypervisor)]
    lines += [
        "",
        watching() + MATRIX,
        f"| agent | seat | {' | '.join(HYPERVISORS)} |",
        f"|---|---|{':-:|' * len(HYPERVISORS)}",
    ]
    for agent, of_it in found.items():
        seat = declared_by(load_group("agent", agent)).seat
        lines.append(f"| {agent} | {seat} | {' | '.join('' if of_it[h] else '●' for h in HYPERVISORS)} |")
    lines += ["", REASONS, "| agent | is refused because it |", "|---|---|"]
    lines += [f"| {agent} | {reasons(of_it)} |" for agent, of_it in found.items() if any(of_it.values())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write it."""
    path = Path(__file__).with_suffix(".md")
    path.write_text(page())
    print(path, file=sys.stdout)


if __name__ == "__main__":
    main()
