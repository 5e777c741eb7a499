"""What is known of somebody's own VMs, in words: the history, the evidence VM by VM, and what its split lets one claim."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hvgym.envs.fleet import splits
from hvgym.envs.fleet.doubts import doubts
from hvgym.envs.fleet.evidence import Level
from hvgym.envs.fleet.needs import Fleet, fleet

RECORD: Mapping[str, str] = {
    "scenario band": "record page cache and the guest's major faults or swap traffic beside what it uses",
    "cache unknown": "record what guests could give without swapping (available, usable) beside what is not free",
    "lower bound": "record what guests use (tools or agent) beside the pages touched lately",
    "occupancy only": "record the guests' own figures: a balloon driver with its statistics, or an agent",
    "synthetic memory": "record any memory figure: resident of the VM's process is the least, available in the guest the best",
    "bounds": "record major faults, swap traffic and PSI of the guests",
}
"""What would narrow the levels, by kind of evidence."""


def lines(work: Mapping[str, Any]) -> list[str]:
    """A few lines on the table of a workload's configuration."""
    found = fleet(str(work["path"]), _level(work))
    labels = dict[str, int]()
    for one in found.evidence:
        labels[one.label] = labels.get(one.label, 0) + 1
    kinds = ", ".join(f"{count} {label}" for label, count in labels.items())
    return [
        *found.history.lines(),
        *doubts(found.history),
        f"evidence: {kinds}; level {_level(work)}",
        splits.claim(found.history.slots * found.history.slot_s, int(work.get("origin") or 0)),
    ]


def _level(work: Mapping[str, Any]) -> Level:
    level: Level = work.get("level") or "mid"
    return level


def labels(work: Mapping[str, Any]) -> dict[str, str]:
    """Of each VM by name: the kind of evidence, how much of its time demand was cut, and when it came and left."""
    found = fleet(str(work["path"]), _level(work))
    return {vm.name: _label(found, index) for index, vm in enumerate(found.history.vms)}


def _label(found: Fleet, index: int) -> str:
    vm, one, history = found.history.vms[index], found.evidence[index], found.history
    parts = [one.label]
    there = max(1, int(vm.present.sum()))
    if share := float((one.censored & vm.present).sum()) / there:
        parts.append(f"demand cut in {share:.1%} of its time" if share >= 0.001 else "demand cut at times")
    if unknown := float((vm.present & ~vm.known).sum()) / there:
        parts.append(f"unknown in {unknown:.1%}")
    for words, slot, edge in (("comes on day", vm.arrive_slot, 0), ("leaves on day", vm.leave_slot, history.slots)):
        if slot != edge:
            parts.append(f"{words} {slot * history.slot_s / 86400:.1f}")
    off = ~vm.present[vm.arrive_slot : vm.leave_slot]
    if off.any():
        parts.append(f"off {np.mean(off):.1%} of that time")
    return "; ".join(parts)


def to_record(kinds: Mapping[str, int] | list[str]) -> list[str]:
    """What would narrow the levels, for these labels, each once."""
    advice = (next((text for label, text in RECORD.items() if kind.startswith(label)), "") for kind in kinds)
    return list(dict.fromkeys(text for text in advice if text))
