"""What the figures of an advice say, in sentences: the verdict, what it is worth, and what her data cannot tell.

A sentence that the data does not carry is not written; what to record for it stands in its place. The limits of a history by
its step are those at which an operator's tool drops detail: beyond 300 s policies that act in minutes cannot be judged, beyond
1800 s only occupancy can be planned.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hvgym.bench import undecided
from hvgym.envs.errors import many
from hvgym.envs.fleet.telling import to_record

FINE_S, COARSE_S = 300, 1800

FEW_EPISODES = 5

DAYS_FOR_CLAIMS = 14.0

KNOWN = {
    "bounds": "how much of their page cache they work with is not known; ",
    "bounds, harm observed": "how much of their page cache they work with is not known; ",
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

Summary = Mapping[str, Any]


def why(counted: Mapping[str, float]) -> str:
    """What made a VM slow, by its counters."""
    reasons = list[str]()
    if counted["kills"] > 0.0:
        reasons.append("killed: there was nowhere to take memory from")
    if counted["host_stalled_s"] > STALLED_S:
        reasons.append("waits for what the host swapped out")
    if counted["guest_swap_in_mib"] > PAGED_MIB:
        reasons.append("reads its own swap, for its balloon left it less than it works with")
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


def days(value: float) -> str:
    """For people."""
    return f"{value:.0f}" if math.isclose(value, round(value), abs_tol=0.05) else f"{value:.1f}"


def verdict(summary: Summary) -> list[str]:
    """The answer, in a few sentences."""
    lines = [
        f"Today: {summary['configured_gib']:.0f} GiB of {many(summary['history']['vms'], 'VM')} on {_hosts(summary)}, a ratio of "
        f"{summary['today']:.2f}."
    ]
    if any(summary["best"] in pair for pair in summary["undecided"]):  # of others the table says it
        lines.append(_undecided(summary))
    if beware := _without_memory(summary):
        lines.append(beware)
    counted = _counted(summary)
    return [*lines, _safe(summary), *([counted] if counted else []), _today(summary), *_learned(summary)]


def title(name: str, policy: Summary) -> str:
    """A policy's name in a table."""
    return f"{name} (learned)" if policy["learned"] else name


def _learned(summary: Summary) -> list[str]:
    """What trained policies would reach, which no product has a setting for."""
    best = summary["best"]
    return [
        f"{name} was trained and is no setting of any product; run beside the hypervisor it would be safe up to "
        f"{one['safe_shown']}, against {summary['policies'][best]['safe_shown']} under {best}."
        for name, one in summary["policies"].items()
        if one["learned"] and name != best
    ]


def _hosts(summary: Summary) -> str:
    each = f"{summary['host_ram_gib']:.0f} GiB"
    return f"one host of {each}" if summary["hosts"] == 1 else f"{summary['hosts']} hosts of {each}"


def _undecided(summary: Summary) -> str:
    best, pairs = summary["best"], summary["undecided"]
    rivals = [name for pair in pairs if best in pair for name in pair if name != best]
    return (
        f"Which policy is better, {best} or {', '.join(rivals)}, is undecided by your data: their order changes between its "
        f"readings ({undecided.RECORD})."
    )


def _safe(summary: Summary) -> str:
    best = summary["best"]
    found = summary["policies"][best]
    low, mid, high = (found["levels"][level] for level in ("low", "mid", "high"))
    if found["safe"] <= 0.0:
        return f"No ratio that was tried holds your objective at every reading of your data, not even under {best}."
    further = f" and further (nothing failed up to most_ratio={summary['most_ratio']:g})" if _ended(summary) else ""
    return (
        f"Under {best} your hosts may be filled up to a ratio of {found['safe']:.2f}{further} whatever your data leaves "
        f"open. At its middle reading that is {mid['shown']} (95 % interval {mid['interval']}), at the low one "
        f"{low['shown']}, at the high one {high['shown']}."
    )


def _counted(summary: Summary) -> str | None:
    """What a ratio counts, where VMs came and left."""
    at_once = summary["history"]["at_once"]
    if at_once >= 0.995:
        return None
    return (
        f"Ratios count every VM that ever was. At most {at_once:.0%} of their memory was there at once: counted so, a ratio is "
        f"{at_once:.2f} times what stands here."
    )


def _today(summary: Summary) -> str:
    best = summary["best"]
    today = {level: one["today"] for level, one in summary["policies"][best]["levels"].items()}
    holds = [level for level, one in today.items() if one["holds"]]
    if len(holds) == len(today):
        return f"As they are, your hosts hold the objective under {best} at every reading."
    worst = max(today.values(), key=lambda one: (one["kills"], one["missed"]))
    where = (
        f"only at {' and '.join('middle' if level == 'mid' else level for level in holds)}"
        if holds
        else "at no reading"
    )
    killed = (
        f"VMs are killed {many(round(worst['kills']), 'time')} over the history" if worst["kills"] else "no VM killed"
    )
    return (
        f"As they are, your hosts hold the objective under {best} {where}: up to {share(worst['missed'])} of the VMs' "
        f"seconds are missed, {killed}."
    )


def _without_memory(summary: Summary) -> str | None:
    """What is missed with ample memory, where that alone is more than is allowed."""
    worst = max(summary["ample_missed"].values())
    if worst <= summary["slo"]:
        return None
    return (
        f"Beware: with memory enough {share(worst)} of the VMs' seconds are missed all the same, for want of CPU or disk "
        "(host.pcpus= says how many CPUs there are). Only what memory adds to that is counted here, so no ratio means that the "
        "objective is held."
    )


def savings(summary: Summary) -> list[str]:
    """VMs that still fit, RAM and hosts."""
    safe = summary["savings"]["safe"]
    if safe["more_vms"] is None:
        return ["No ratio is safe at every reading, so nothing can be added or saved with certainty."]
    return [_more_vms(summary), _less_ram(summary)]


def _more_vms(summary: Summary) -> str:
    found, reference = summary["savings"], summary["reference_vm"]
    more = found["safe"]["more_vms"]
    vm = f"like {reference['name']!r} ({reference['gib']:.0f} GiB, your median VM)"
    if more >= 0:
        said = f"{many(more, 'more VM')} {vm} fit{'s' if more == 1 else ''} at"
    else:
        said = f"There {'is' if more == -1 else 'are'} {many(-more, 'VM')} {vm} too many for"
    if _ended(summary):
        return f"At least {said} the safe ratio."
    few, most = _count(found["lo"]["more_vms"]), _count(found["hi"]["more_vms"])
    if found["hi"]["ratio"] >= summary["most_ratio"]:  # the search ended there
        most += " or beyond"
    return f"{said} the safe ratio; by interval and reading from {few} to {most}."


def _ended(summary: Summary) -> bool:
    """Whether the search for the safe ratio ended before anything failed."""
    return bool(summary["policies"][summary["best"]]["safe"] >= summary["most_ratio"])


def _count(more: int | None) -> str:
    if more is None:
        return "none"
    return f"{more} more" if more >= 0 else f"{-more} too many"


def _less_ram(summary: Summary) -> str:
    safe, hosts = summary["savings"]["safe"], summary["hosts"]
    needed = hosts * summary["host_ram_gib"] - safe["gib"]
    said = (
        f"At the safe ratio your VMs need {needed:.0f} GiB of RAM{' at most' if _ended(summary) else ''}, "
        f"{abs(safe['gib']):.0f} GiB {'less' if safe['gib'] >= 0.0 else 'more'} than your hosts have"
    )
    if hosts == 1:
        return f"{said}."
    spare = hosts - safe["hosts"]
    there = many(safe["hosts"], "host")
    return f"{said}: {there} in place of {hosts}, {abs(spare)} {'saved' if spare >= 0 else 'to add'}."


def at_once(summary: Summary) -> list[str]:
    """What happens when every VM uses all that it has, and how often they come near."""
    host = "the fullest host" if summary["hosts"] > 1 else "the host"
    found = summary["at_once"]
    said = (
        f"If every VM used all of its memory at once, {host} would need {found['worst_host_gib']:.0f} GiB of its "
        f"{summary['host_ram_gib']:.0f}"
    )
    if found["short_gib"] <= 0.0:
        said += ", which it has."
    elif found["beyond_swap_gib"] <= 0.0:
        said += f": {found['short_gib']:.0f} GiB too few. Its swap would take that, at the speed of its disk."
    else:
        said += (
            f": {found['short_gib']:.0f} GiB too few, {found['beyond_swap_gib']:.0f} of which its swap does not take; VMs "
            "would be killed."
        )
    return [said, *(_shortage(level, one) for level, one in summary["shortage"].items())]


def _shortage(level: str, one: Summary) -> str:
    if one["episodes"] == 0:
        return f"In your history, at the {level} reading, what VMs work with always fits into the RAM of a host."
    hours = f"{one['hours_in_30_days']:.1f} h in 30 days ({one['hours_lo']:.1f} to {one['hours_hi']:.1f})"
    beyond = one["beyond_swap_hours_in_30_days"]
    return (
        f"In your history, at the {level} reading, what VMs work with passes the RAM of a host for {hours}, in "
        f"{many(one['episodes'], 'episode')}, by up to {one['short_gib']:.1f} GiB; RAM and swap for {beyond:.1f} h."
    )


def n_plus_one(summary: Summary) -> str:
    """Whether the others carry the VMs of a host that fails."""
    after, best, hosts = summary["n_plus_one"]["after"], summary["best"], summary["hosts"]
    if after is None:
        return "With one host nobody carries its VMs when it fails; hosts=N says how many there are."
    levels = summary["n_plus_one"]["carries"][best]
    said = f"With one of {hosts} hosts lost the ratio is {after:.2f}; under {best} the others carry that"
    if len(levels) == len(summary["shortage"]):
        return f"{said} at every reading of your data."
    filled = summary["policies"][best]["safe"] * (hosts - 1) / hosts
    where = f"only at {' and '.join(levels)}" if levels else "at no reading"
    return f"{said} {where}. They would at every one if all were filled up to {filled:.2f} at the most."


def unknown(summary: Summary) -> list[str]:
    """What the data cannot tell, and what to record for it."""
    lines = [*_of_evidence(summary["vms"]), *_of_history(summary["history"])]
    episodes = summary["shortage"]["mid"]["episodes"]
    if episodes < FEW_EPISODES:
        lines.append(
            f"Your hosts came under pressure in {many(episodes, 'episode')} (middle reading). Fewer than {FEW_EPISODES} are no "
            "evidence on harm at today's ratio; what lies beyond it is the model's."
        )
    if summary["swap_assumed"]:
        swap = summary["host_swap_gib"]
        lines.append(f"Host swap was taken to be {swap:.0f} GiB on each host; host.swap_mib= says what there is.")
    if without_cpu := summary["history"]["vms"] - summary["history"]["with_cpu"]:
        lines.append(f"CPU of {many(without_cpu, 'VM')} is not known: a tenth of their cores was taken.")
    lines.append("Swap within the guests is not known: half of each VM's memory was taken.")
    return lines


def _of_evidence(vms: Sequence[Summary]) -> list[str]:
    lines = list[str]()
    for label in sorted({vm["evidence"] for vm in vms}):
        kind = label.removesuffix(", scaled")
        whose = _some([vm["name"] for vm in vms if vm["evidence"] == label], len(vms))
        lines += [f"{whose}: {KNOWN[kind]}{text}." for text in to_record([kind])]
        if kind != label:
            lines.append(f"{whose}: sizes are of an assumed machine; only ratios count.")
    if cut := [vm["name"] for vm in vms if vm["censored"] > 0.0]:
        lines.append(
            f"{_some(cut, len(vms))}: at times they had less than they may have wanted (ballooned, swapping or waiting), so "
            "their demand is known from below only. Record it where memory is ample."
        )
    return lines


def _of_history(history: Summary) -> list[str]:
    lines = [f"In the table: {doubt}" for doubt in history["doubts"]]
    if history["row_s"] > COARSE_S:
        lines.append(f"A row every {history['row_s']} s is for planning occupancy only. Record a row a minute.")
    elif history["row_s"] > FINE_S:
        lines.append(
            f"A row every {history['row_s']} s cannot judge policies that act in minutes. Record a row a minute."
        )
    if history["days"] < DAYS_FOR_CLAIMS:
        lasts = days(history["days"])
        lines.append(
            f"{lasts} {'day is' if lasts == '1' else 'days are'} a replay, which says nothing of other weeks (a month's end, "
            "say). Record two weeks at least."
        )
    if leaving := history["leaving"]:
        lines.append(
            f"{_some(leaving, history['vms'])}: leave or are switched off within what was played; there their memory stays behind, "
            "for a balloon or the host's swap to take."
        )
    if history["days_played"] < 2:
        lines.append("All that was played is of one day: there is no interval.")
    return lines


def _some(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return "All VMs"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
