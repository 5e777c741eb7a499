"""What the figures of an advice say, in sentences: the verdict, ten questions that operators ask, what her data cannot tell.

A sentence that the data does not carry is not written; what to record for it stands in its place. The limits of a history by its step
are those at which an operator's tool drops detail: beyond 300 s policies that act in minutes cannot be judged, beyond 1800 s only
occupancy can be planned.
"""

import math
from collections.abc import Mapping
from typing import Any

from hvgym.bench import undecided
from hvgym.envs.fleet.telling import to_record

FINE_S, COARSE_S = 300, 1800

FEW_EPISODES = 5

WEEKS_FOR_CLAIMS_D = 14.0

KNOWN = {
    "bounds": "how much of the page cache they work with is not known; ",
    "bounds, harm observed": "how much of the page cache they work with is not known; ",
    "scenario band": "their page cache is not known; ",
    "cache unknown": "page cache counts as used; ",
    "lower bound": "pages that were touched lately are the least that they need; ",
    "occupancy only": "what the host backs seldom falls and says little of use; ",
    "synthetic memory": "none of their memory is known, and it was drawn as other fleets use theirs; ",
}
"""Of each kind of evidence (``envs.fleet.evidence``), before what to record."""

STALLED_S = 1.0

PAGED_MIB = 64.0
"""Over all that was played, from which paging is named as a reason (guesses)."""


def why(counted: Mapping[str, float]) -> str:
    """What made a VM slow, by its counters."""
    reasons = list[str]()
    if counted["kills"] > 0.0:
        reasons.append("killed: what it asked for was nowhere to be had")
    if counted["host_stalled_s"] > STALLED_S:
        reasons.append("waits for memory that the host swapped out")
    if counted["guest_swap_in_mib"] > PAGED_MIB:
        reasons.append("reads its own swap: its balloon left it less than it works with")
    elif counted["file_in_mib"] > PAGED_MIB and counted["missed_s"] > 0.0:
        reasons.append("reads files again that its page cache lost")
    if not reasons and counted["missed_s"] > 0.0:
        reasons.append("waits for memory that others give back slowly, or for CPU")
    return "; ".join(reasons[:2])


def share(value: float) -> str:
    """A share of time, in per cent."""
    if value < 0.00005:
        return "0 %"
    return f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.0f} %"


def ratio(value: float) -> str:
    """A ratio for people; 0 is none."""
    return f"{value:.2f}" if value > 0.0 else "none that was tried"


def verdict(summary: Mapping[str, Any]) -> list[str]:
    """The answer, in a few sentences."""
    best, policies = summary["best"], summary["policies"]
    of_best = policies[best]
    mid, low, high = (of_best["levels"][level] for level in ("mid", "low", "high"))
    lines = [
        f"Today: {summary['configured_gib']:.0f} GiB of {summary['history']['vms']} VMs on {_hosts(summary)}, a ratio of "
        f"{summary['today']:.2f}."
    ]
    if summary["undecided"]:
        involved = [pair for pair in summary["undecided"] if best in pair]
        lines.append(_undecided(summary, involved or summary["undecided"], bool(involved)))
    if of_best["safe"] > 0.0:
        lines.append(
            f"Under {best} your hosts may be filled up to a ratio of {of_best['safe']:.2f} whatever your data leaves open; at its middle "
            f"reading up to {ratio(mid['density'])} (95 % interval {mid['interval']}), at the low one {ratio(low['density'])}, at the high "
            f"one {ratio(high['density'])}."
        )
    else:
        lines.append(
            f"No ratio that was tried holds your objective at every reading of your data, not even under {best}."
        )
    lines.append(_today(summary, best))
    return lines


def _undecided(summary: Mapping[str, Any], pairs: Any, of_best: bool) -> str:
    names = sorted({name for pair in pairs for name in pair if name != summary["best"]})
    whose = (
        f"{summary['best']} or {', '.join(names)}" if of_best else " or ".join(sorted({n for p in pairs for n in p}))
    )
    return f"Which policy is better, {whose}, is undecided by your data: the order changes between its readings ({undecided.RECORD})."


def _hosts(summary: Mapping[str, Any]) -> str:
    count = summary["hosts"]
    each = f"{summary['host_ram_gib']:.0f} GiB"
    return f"one host of {each}" if count == 1 else f"{count} hosts of {each}"


def _today(summary: Mapping[str, Any], best: str) -> str:
    levels = summary["policies"][best]["levels"]
    holds = [level for level, one in levels.items() if one["today"]["holds"]]
    worst = max((one["today"] for one in levels.values()), key=lambda one: (one["kills"], one["missed"]))
    if len(holds) == len(levels):
        return f"As they are, your hosts hold the objective under {best} at every reading."
    where = f"only at {' and '.join(holds)}" if holds else "at no reading"
    return (
        f"As they are, your hosts hold the objective under {best} {where}: up to {share(worst['missed'])} of the VMs' seconds are missed, "
        f"{worst['kills']:.0f} VMs killed."
    )


def savings(summary: Mapping[str, Any]) -> list[str]:
    """VMs that still fit, RAM and hosts."""
    found, reference = summary["savings"], summary["reference_vm"]
    safe, lo, hi = found["safe"], found["lo"], found["hi"]
    if safe["more_vms"] is None:
        return ["No ratio is safe at every reading, so nothing can be added or saved with certainty."]
    few, many = _count(lo["more_vms"]), _count(hi["more_vms"])
    vm = f"VMs like {reference['name']!r} ({reference['gib']:.0f} GiB, your median VM)"
    if safe["more_vms"] >= 0:
        more = f"{safe['more_vms']} more {vm} fit at the safe ratio; by interval and reading from {few} to {many}."
    else:
        more = f"There are {-safe['more_vms']} {vm} too many for the safe ratio; by interval and reading from {few} to {many}."
    saved = (
        f"Your VMs need {summary['hosts'] * summary['host_ram_gib'] - safe['gib']:.0f} GiB of RAM at the safe ratio, "
        f"{abs(safe['gib']):.0f} GiB {'less' if safe['gib'] >= 0 else 'more'} than your hosts have"
    )
    spare = summary["hosts"] - safe["hosts"]
    hosts = "" if summary["hosts"] == 1 else (
        f": {safe['hosts']} hosts in place of {summary['hosts']}, {abs(spare)} {'saved' if spare >= 0 else 'to add'}"
    )  # fmt: skip
    return [more, saved + hosts + "."]


def _count(more: int | None) -> str:
    if more is None:
        return "none"
    return f"{more} more" if more >= 0 else f"{-more} too many"


def at_once(summary: Mapping[str, Any]) -> list[str]:
    """What happens when every VM uses all that it has, and how often they come near."""
    found, shortage = summary["at_once"], summary["shortage"]
    lines = [
        f"If every VM used all of its memory at once, {'the fullest host' if summary['hosts'] > 1 else 'the host'} would need "
        f"{found['worst_host_gib']:.0f} GiB of its {summary['host_ram_gib']:.0f}"
        + (f": {found['short_gib']:.0f} GiB too few" if found["short_gib"] > 0.0 else ", which it has")
        + (
            f", and {found['beyond_swap_gib']:.0f} GiB more than its swap takes besides; VMs would be killed."
            if found["beyond_swap_gib"] > 0.0
            else "; swap would take that, at the speed of its disk."
            if found["short_gib"] > 0.0
            else "."
        )
    ]
    for level, one in shortage.items():
        hours = f"{one['hours_in_30_days']:.1f} h in 30 days ({one['hours_lo']:.1f} to {one['hours_hi']:.1f})"
        lines.append(
            f"In your history, at the {level} reading, what VMs work with passes the RAM of a host for {hours}, in {one['episodes']} "
            f"episodes, by up to {one['short_gib']:.1f} GiB; beyond RAM and swap for {one['beyond_swap_hours_in_30_days']:.1f} h."
        )
    return lines


def n_plus_one(summary: Mapping[str, Any]) -> str:
    """Whether the others carry the VMs of a host that fails."""
    after = summary["n_plus_one"]["after"]
    if after is None:
        return "With one host nobody carries its VMs when it fails; hosts=N says how many there are."
    levels = summary["n_plus_one"]["carries"][summary["best"]]
    said = f"With one of {summary['hosts']} hosts lost the ratio is {after:.2f}; under {summary['best']} the others carry that "
    most = f" Filled up to {summary['policies'][summary['best']]['safe'] * (summary['hosts'] - 1) / summary['hosts']:.2f} they would."
    if len(levels) == len(summary["shortage"]):
        return said + "at every reading of your data."
    return said + (f"only at {' and '.join(levels)}." if levels else "at no reading.") + most


def questions(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Ten questions that operators ask, each with the number that answers it, or why there is none."""
    high, mid = summary["shortage"]["high"], summary["shortage"]["mid"]
    best = summary["best"]
    levels = summary["policies"][best]["levels"]
    swap = _swap(summary)
    sized = sorted(summary["vms"], key=lambda vm: vm["p99_gib"]["high"] - vm["configured_gib"])[:3]
    idle = [vm["idle_backed_gib"] for vm in summary["vms"] if vm["idle_backed_gib"] is not None]
    asked = [
        ("What if every VM uses all its memory at once?", " ".join(at_once(summary)[:1])
         + f" In your history that came no nearer than {high['peak_gib']:.0f} GiB on a host (high reading)."),
        ("Which ratio is good, which is bad?", f"Under {best}: {ratio(levels['low']['density'])}, {ratio(levels['mid']['density'])}, "
         f"{ratio(levels['high']['density'])} at the low, middle and high reading; then {levels['mid']['then']} (middle)."),
        ("Host swap is full though RAM is free: is that bad?", swap),
        ("Turn ballooning off for some VMs?", "Those whose floor is their whole memory are never taken from: "
         + (", ".join(vm["name"] for vm in summary["vms"] if vm["floor_mib"] >= 1024 * vm["configured_gib"] - 1) or "none")
         + ". For others compare the columns of host swap and own swap of those who suffer, under each policy."),
        ("Balance by assigned or by used memory?", "Not answered here: no VM is moved. hvgym bench suite=cluster compares balancers."),
        ("How to keep a balancer from filling a host?", f"The host's need stays below {high['p999_gib']:.0f} GiB in 999 of 1,000 rows (high "
         f"reading, {mid['p999_gib']:.0f} at the middle one); a move is safe where that and the VM's p99 fit into RAM."),
        ("Hosts of unequal size: bytes or per cent?", f"In bytes: a host of {summary['host_ram_gib']:.0f} GiB has "
         f"{summary['host_ram_gib'] - mid['p99_gib']:.0f} GiB to spare in 99 of 100 rows at the middle reading, "
         f"{summary['host_ram_gib'] - high['p99_gib']:.0f} at the high one. Hosts of other sizes were not played."),
        ("How much must be reserved for the host?", "Your data says nothing of the host's own memory (a ZFS cache, say); the hypervisor's "
         "figures were taken. Record MemTotal - MemAvailable less the VMs' processes, and give host.own_mib."),
        ("What is the real demand of a VM?", "Per VM below: p99 of its working set at three readings. Most to spare: " + ", ".join(
            f"{vm['name']} ({vm['p99_gib']['high']:.1f} of {vm['configured_gib']:.0f} GiB)" for vm in sized) + "."),
        ("Does a guest give its cache back?", f"On average the hosts back {sum(idle):.0f} GiB that {len(idle)} guests do not use; a "
         "balloon or free page reporting can take that." if idle else
         "Your data does not have backed and used memory of the same VM; record `rss` (or consumed) beside `usable`."),
    ]  # fmt: skip
    return [{"question": question, "answer": answer} for question, answer in asked]


def _swap(summary: Mapping[str, Any]) -> str:
    name, found = next(iter(summary["suffering"].items()))
    rows = sorted(found["today"], key=lambda row: -row["host_swap_gib_an_hour"])
    worst = [row for row in rows[:3] if row["host_swap_gib_an_hour"] > 0.0005]
    if not worst:
        return f"What counts is what is read back: nothing, on your hosts as they are under {name} ({found['level']} reading)."
    read = ", ".join(f"{row['name']} {row['host_swap_gib_an_hour']:.2f}" for row in worst)
    return f"What counts is what is read back, GiB an hour on your hosts as they are under {name} ({found['level']} reading): {read}."


def unknown(summary: Mapping[str, Any]) -> list[str]:
    """What the data cannot tell, and what to record for it."""
    history, vms = summary["history"], summary["vms"]
    lines = list[str]()
    labels = sorted({vm["evidence"] for vm in vms})
    for label in labels:
        kind = label.removesuffix(", scaled")
        of_it = [vm["name"] for vm in vms if vm["evidence"] == label]
        lines += [f"{_some(of_it, len(vms))}: {KNOWN[kind]}{text}." for text in to_record([kind])]
        if kind != label:
            lines.append(f"{_some(of_it, len(vms))}: sizes are of an assumed machine; only ratios count.")
    cut = [vm["name"] for vm in vms if vm["censored"] > 0.0]
    if cut:
        lines.append(
            f"{_some(cut, len(vms))}: at times they had less than they may have wanted (ballooned, swapping or waiting), so their demand is "
            "known from below only; record it where memory is ample."
        )
    lines += _of_history(summary)
    episodes = summary["shortage"]["mid"]["episodes"]
    if episodes < FEW_EPISODES:
        lines.append(
            f"Your hosts came under pressure in {episodes} episodes (middle reading): fewer than {FEW_EPISODES} are no evidence on harm at "
            "today's ratio. What was played beyond it is the model's."
        )
    if summary["swap_assumed"]:
        lines.append(
            f"Host swap was taken to be {summary['host_swap_gib']:.0f} GiB on each host; host.swap_mib= says what there is."
        )
    without_cpu = len(vms) - history["with_cpu"]
    if without_cpu:
        lines.append(
            f"CPU of {without_cpu} VMs is not known: a tenth of their cores was taken, and CPU is never short."
        )
    lines.append("Swap within the guests is not known: half of each VM's memory was taken.")
    return lines


def _of_history(summary: Mapping[str, Any]) -> list[str]:
    history, lines = summary["history"], list[str]()
    if history["row_s"] > COARSE_S:
        lines.append(f"A row every {history['row_s']} s is for planning occupancy only; record a row a minute.")
    elif history["row_s"] > FINE_S:
        lines.append(
            f"A row every {history['row_s']} s cannot judge policies that act in minutes; record a row a minute."
        )
    if history["days"] < WEEKS_FOR_CLAIMS_D:
        lines.append(
            f"{history['days']:.1f} days are a replay: they say nothing of other weeks (a month's end, say). Record two weeks at least."
        )
    if history["days_played"] < 2:
        lines.append("All that was played is of one day: there is no interval.")
    return lines


def _some(names: list[str], total: int) -> str:
    if len(names) == total:
        return "All VMs"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def rounded_days(days: float) -> str:
    """For people."""
    return f"{days:.0f}" if math.isclose(days, round(days), abs_tol=0.05) else f"{days:.1f}"
