"""Somebody's own VMs as what an advice plays: a folder that hvgym import wrote becomes scenarios, windows and facts.

Each VM gets a floor, the size below which no policy takes it: what its guest needs to hold the `floor` quantile of its working
set at mid, in whole steps of 64 MiB. All levels and ratios have the same floors, for an operator sets one. Where the hypervisor
commits memory (Xen, Hyper-V) VMs that do not all fit begin smaller, as the model has it (``envs.model.start``).

VMs are spread over hosts as evenly as their sizes allow: the largest first, each to the host with least. Left out: which host a
VM was on, and everything that moves VMs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hvgym.bench import advice_windows
from hvgym.bench.advice_case import Case, for_vms_mib
from hvgym.bench.advice_windows import Floats, Windows
from hvgym.bench.identity import sources
from hvgym.envs.errors import InputError, many
from hvgym.envs.fleet.evidence import LEVELS, Level
from hvgym.envs.fleet.history import History
from hvgym.envs.fleet.needs import Fleet, fleet
from hvgym.envs.fleet.replay import MOST_UNKNOWN
from hvgym.envs.model import params
from hvgym.envs.scenario import Scenario, VmGroup, load_group, resolve

FLOOR_STEP_MIB = 64

CONTROL_S = 20
"""Between two looks at progress; policies decide by periods of their own."""

LEAST_WINDOW_S = 3600

MOST_RATIO, LEAST_RATIO = 20.0, 0.02
"""Of configured memory to RAM, beyond which a wrong unit is more likely than such a host (guesses)."""


@dataclass(frozen=True)
class Question:
    """What is asked. host: keys of her host besides; floor: quantile; hardest, random: how many windows."""

    folder: str
    hypervisor: dict[str, Any]
    ram_mib: float
    hosts: int = 1
    host: Mapping[str, Any] | None = None
    swap_mib: float | None = None
    floor: float = 0.99
    window_s: int | None = None
    hardest: int = 6
    random: int = 12
    seed: int = 0
    without: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class OwnFleet:
    """Her VMs. fleets: by level; needed: sum of working sets of those there ``[row]``, MiB, by level."""

    question: Question
    case: Case
    windows: Windows
    fleets: dict[Level, Fleet]
    needed: dict[Level, Floats]

    @property
    def history(self) -> History:
        """As it was read."""
        return self.fleets["mid"].history

    @property
    def columns(self) -> list[int]:
        """Which VM of the history each of the case is, ``[vm]``."""
        at = {vm.name: index for index, vm in enumerate(self.history.vms)}
        return [at[name] for name in self.case.names]


def own_fleet(question: Question) -> OwnFleet:
    """Read and prepare. Raises `InputError` for a folder, a host or windows that cannot be."""
    fleets = {level: fleet(question.folder, level) for level in LEVELS}
    history = fleets["mid"].history
    chosen = [index for index, vm in enumerate(history.vms) if vm.name not in question.without]
    _check_host(question, history, chosen)
    needed = {
        level: np.asarray((one.working * one.present)[:, chosen].sum(axis=1, dtype=np.float64))
        for level, one in fleets.items()
    }
    unknown = fleets["mid"].unknown[:, chosen].sum(axis=1) / np.maximum(fleets["mid"].present[:, chosen].sum(axis=1), 1)
    window_s = _window_s(question, history.slot_s)
    windows = advice_windows.choose(
        needed["high"], unknown, history.slot_s, history.start_s, window_s, question.hardest, question.random,
        MOST_UNKNOWN, question.seed,
    )  # fmt: skip
    return OwnFleet(question, _case(question, fleets, windows, window_s), windows, fleets, needed)


def _window_s(question: Question, slot_s: int) -> int:
    """As asked, or an hour or the next length that is whole rows and whole looks."""
    step = math.lcm(slot_s, CONTROL_S)
    if question.window_s is None:
        return -(-LEAST_WINDOW_S // step) * step
    if question.window_s % step:
        raise InputError(
            f"window_s={question.window_s}: must be a multiple of {step}, whole rows of the history ({slot_s} s) and whole "
            f"looks ({CONTROL_S} s)"
        )
    return question.window_s


def _check_host(question: Question, history: History, chosen: Sequence[int]) -> None:
    if not chosen:
        raise InputError(f"without={list(question.without)}: leaves no VM of {question.folder}")
    largest = max((history.vms[index] for index in chosen), key=lambda vm: vm.cap_mib)
    total = sum(history.vms[index].cap_mib for index in chosen)
    ratio = total / (question.ram_mib * question.hosts)
    if LEAST_RATIO <= ratio <= MOST_RATIO and largest.cap_mib <= question.ram_mib:
        return
    said = f"host.ram_mib={question.ram_mib:g}"
    for factor, unit in ((1024.0, "GiB"), (2.0**-20, "bytes"), (2.0**-10, "KiB")):
        if question.ram_mib * factor >= largest.cap_mib and LEAST_RATIO * 5 <= ratio / factor <= MOST_RATIO / 5:
            raise InputError(
                f"{said}: {'too small' if factor > 1 else 'too large'} for {many(len(chosen), 'VM')} with {total:.0f} MiB; "
                f"if these are {unit}, write host.ram_mib={question.ram_mib * factor:.0f}"
            )
    if largest.cap_mib > question.ram_mib:
        raise InputError(
            f"{said}: VM {largest.name!r} has {largest.cap_mib:.0f} MiB, more than a host; give the RAM of a host in MiB, or "
            f"leave the VM out, without=[{largest.name}]"
        )
    raise InputError(
        f"{said}: {many(len(chosen), 'VM')} with {total:.0f} MiB on {many(question.hosts, 'such host')} is a ratio of "
        f"{ratio:.3g}; expected {LEAST_RATIO:g} to {MOST_RATIO:g}"
    )


def _case(question: Question, fleets: Mapping[Level, Fleet], windows: Windows, window_s: int) -> Case:
    whole = {level: _scenario(question, level, windows, window_s) for level in LEVELS}
    if (left_mib := for_vms_mib(whole["mid"], question.ram_mib)) <= 0.0:
        own_mib = question.ram_mib - left_mib
        raise InputError(
            f"host.ram_mib={question.ram_mib:g}: leaves nothing to VMs, for the host itself needs {own_mib:.0f} MiB under "
            f"{question.hypervisor['name']}; host.own_mib= says how much yours does"
        )
    floors = _floors(whole["mid"], fleets["mid"], question.floor)
    parts = spread([group.memory_mib for group in whole["mid"].groups], question.hosts)
    levels = {
        str(level): tuple(_on_host(scenario, part, floors).to_dict() for part in parts)
        for level, scenario in whole.items()
    }
    found = sources([whole["mid"].to_dict()])
    first = -(-(10**9) // windows.count) * windows.count  # whose remainder is 0: seed first + i plays window i
    return Case(
        levels, tuple(range(first, first + windows.count)), windows.weights, windows.days, question.ram_mib,
        question.ram_mib if question.swap_mib is None else question.swap_mib, found,
    )  # fmt: skip


def _scenario(question: Question, level: Level, windows: Windows, window_s: int) -> Scenario:
    template = load_group("scenario", "own-vms")
    host = dict(template["host"]) | {"overcommit": None} | dict(question.host or {}) | {"ram_mib": question.ram_mib}
    work = {
        "kind": "history", "path": question.folder, "level": level, "vms": "all", "split": "all",
        "without": list(question.without), "episode_s": window_s,
        "windows": [_start_s(windows, start, window_s) for start in windows.starts],
    }  # fmt: skip
    data = template | {"host": host, "control_interval_s": CONTROL_S, "rules": "default"}
    return resolve(data, hypervisor=question.hypervisor, workload=work)


def _start_s(windows: Windows, start: int, window_s: int) -> int:
    return windows.start_s + start * (window_s // windows.slots)


def _floors(scenario: Scenario, data: Fleet, quantile: float) -> dict[str, float]:
    """By VM, MiB."""
    at = {vm.name: index for index, vm in enumerate(data.history.vms)}
    return {group.name: _floor_mib(group, data, at[group.name], quantile) for group in scenario.groups}


def _floor_mib(group: VmGroup, data: Fleet, column: int, quantile: float) -> float:
    there = data.present[:, column]
    working = float(np.quantile(data.working[there, column], quantile)) if there.any() else 0.0
    kernel = group.kernel_mib + group.kernel_cache_mib + params.default_watermark_mib(group.memory_mib)
    floor = math.ceil(max(working + kernel, group.boot_mib) / FLOOR_STEP_MIB) * FLOOR_STEP_MIB
    return float(min(floor, group.memory_mib))


def _on_host(scenario: Scenario, part: Sequence[int], floors: Mapping[str, float]) -> Scenario:
    """Some of the VMs, with their floors."""
    groups = [replace(group, min_mib=floors[group.name]) for group in scenario.groups]
    return replace(scenario, vms=tuple(groups[index] for index in part))


def spread(sizes_mib: Sequence[float], hosts: int) -> list[list[int]]:
    """Which VMs are on which host, in their order. Raises `InputError` where there are fewer VMs than hosts."""
    if len(sizes_mib) < hosts:
        raise InputError(f"hosts={hosts}: expected at most as many as VMs, and you have {many(len(sizes_mib), 'VM')}")
    parts = [list[int]() for _ in range(hosts)]
    held = [0.0] * hosts
    for index in sorted(range(len(sizes_mib)), key=lambda index: (-sizes_mib[index], index)):
        host = min(range(hosts), key=lambda number: (held[number], number))
        parts[host].append(index)
        held[host] += sizes_mib[index]
    return [sorted(part) for part in parts]
