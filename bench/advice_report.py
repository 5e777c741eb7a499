"""What an advice leaves beside its jobs: advice.json with every figure, advice.html (one page), advice.png.

All figures are of the VMs and the history that were given; nothing depends on when, where or how fast it was played.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import hvgym
from hvgym.bench import advice_facts, advice_words, drawing, statistics
from hvgym.bench.advice import Advice, OfLevel, best_without, is_learned, ranked, safe, undecided
from hvgym.bench.advice_case import for_vms_mib
from hvgym.bench.advice_own import OwnFleet
from hvgym.bench.advice_questions import questions
from hvgym.bench.advice_settings import OwnVm, settings
from hvgym.bench.density import Point
from hvgym.bench.references import STOCK
from hvgym.envs.files import write_atomically
from hvgym.envs.fleet.evidence import LEVELS
from hvgym.envs.scenario import load_group

FORMAT = 1

MOST_RIVALS = 2
"""Of the best policy where the data does not decide, whose settings are given too."""


def write_advice(own: OwnFleet, advice: Advice, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Write all files; return the summary and their paths."""
    from hvgym.bench.advice_page import page
    from hvgym.bench.advice_pictures import pictures

    summary = summarise(own, advice)
    with drawing.style():
        figures = pictures(own, summary)
        png = drawing.png(figures["ratios"][0])
        svg = {name: drawing.svg(figure, name, title) for name, (figure, title) in figures.items()}
    files: dict[str, str | bytes] = {
        "advice.json": json.dumps(summary, indent=1, ensure_ascii=False),
        "advice.html": page(summary, svg),
        "advice.png": png,
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return summary, [folder / name for name in files]


def summarise(own: OwnFleet, advice: Advice) -> dict[str, Any]:
    """The content of advice.json."""
    case, order = advice.case, ranked(advice)
    summary: dict[str, Any] = {
        "format": FORMAT,
        "version": hvgym.__version__,
        "code": case.sources.get("code", ""),
        "hypervisor": case.hypervisor["name"],
        "rules": "default",
        "hosts": case.hosts,
        "host_ram_gib": case.ram_mib / 1024,
        "host_swap_gib": case.swap_mib / 1024,
        "swap_assumed": own.question.swap_mib is None,
        "configured_gib": case.configured_mib / 1024,
        "today": case.today,
        "slo": advice.rule.slo,
        "most_ratio": advice.rule.most,
        "kills": advice.rule.kills,
        "floor": own.question.floor,
        "critical": [name for name, counts in zip(case.names, case.critical, strict=True) if counts],
        "history": advice_facts.history_facts(own),
        "policies": {name: _policy(advice, name) for name in order},
        "refused": advice.refused,
        "best": order[0],
        "undecided": [list(pair) for pair in undecided(advice)],
        "decided_by_one_vm": {level: best_without(advice, level) for level in case.levels},
        "reference_vm": _reference_vm(advice),
        "shortage": {level: advice_facts.shortage(own, level) for level in LEVELS},
        "at_once": advice_facts.at_once(case),
        "ample_missed": {
            level: float(point.missed_share(advice.draws[:1])[0]) for level, point in advice.ample.items()
        },
        "vms": advice_facts.vm_facts(own),
    }
    summary["savings"] = _savings(advice, summary["best"])
    summary["n_plus_one"] = _n_plus_one(advice)
    summary["suffering"] = _suffering(advice, order)
    rivals = [name for pair in summary["undecided"] if order[0] in pair for name in pair if name != order[0]]
    summary["settings"] = {name: _settings(advice, name) for name in [order[0], *rivals[:MOST_RIVALS]]}
    summary["verdict"] = advice_words.verdict(summary)
    summary["questions"] = questions(summary)
    summary["unknown"] = advice_words.unknown(summary)
    return summary


def _policy(advice: Advice, name: str) -> dict[str, Any]:
    levels = {level: _level(advice, one) for level, one in advice.found[name].items()}
    agent = advice.agents[name]
    about = {"description": agent.get("description", ""), "learned": is_learned(agent)}
    least = min(advice.found[name].values(), key=lambda one: one.search.density.value).search
    return about | {"safe": safe(advice, name), "safe_shown": least.shown(safe(advice, name)), "levels": levels}


def _level(advice: Advice, one: OfLevel) -> dict[str, Any]:
    found, search = one.search.density, one.search
    return {
        "density": found.value,
        "lo": found.lo,
        "hi": found.hi,
        "shown": search.shown(found.value),
        "interval": f"{search.shown(found.lo)} to {search.shown(found.hi)}",
        "then": _then(advice, one),
        "today": _at(advice, one.today),
        "curve": {f"{ratio:.2f}": _at(advice, one.curve[ratio]) for ratio in sorted(one.curve)},
    }


def _at(advice: Advice, point: Point) -> dict[str, Any]:
    missed = np.maximum(point.missed_share(advice.draws), 0.0)
    lo, hi = statistics.interval(missed[1:])
    kills = float((advice.draws[0] * point.kills).sum())
    return {
        "missed": float(missed[0]),
        "missed_lo": lo,
        "missed_hi": hi,
        "kills": max(kills, 0.0),
        "fits": bool(point.fits.all()),
        "holds": not bool(advice.rule.fails(point, advice.draws[:1])[0]),
    }


def _then(advice: Advice, one: OfLevel) -> str:
    """What fails at the first ratio that does."""
    ratio = float(one.search.fails[0])
    if math.isinf(ratio):
        return f"nothing up to {one.search.ratios[-1]:.2f}"
    found, reasons = _at(advice, one.curve[ratio]), list[str]()
    if not found["fits"]:
        return f"VMs do not fit at {ratio:.2f}, by what they boot with"
    if found["missed"] > advice.rule.slo:
        digits = 2 if round(found["missed"], 4) > advice.rule.slo else 4
        reasons.append(f"{100 * found['missed']:.{digits}f} % missed")
    if found["kills"] > advice.rule.kills:
        reasons.append(f"{found['kills']:.0f} killed")
    return f"{' and '.join(reasons)} at {ratio:.2f}"


def _reference_vm(advice: Advice) -> dict[str, Any]:
    """The median VM of hers by size; the lower one of two."""
    memory = advice.case.memory_mib
    index = int(np.argsort(memory, kind="stable")[(len(memory) - 1) // 2])
    return {"name": advice.case.names[index], "gib": float(memory[index]) / 1024}


def _savings(advice: Advice, name: str) -> dict[str, Any]:
    """What a policy's safe ratio means against today, from the least to the most that her data allows, and at mid."""
    levels = advice.found[name]
    found = {level: one.search.density for level, one in levels.items()}
    ends = {
        "lo": min(one.lo for one in found.values()),
        "mid": found["mid"].value,
        "hi": max(one.hi for one in found.values()),
    }
    return {key: _against_today(advice, ratio) for key, ratio in ends.items()} | {
        "safe": _against_today(advice, min(one.value for one in found.values()))
    }


def _against_today(advice: Advice, ratio: float) -> dict[str, Any]:
    case, reference = advice.case, 1024 * _reference_vm(advice)["gib"]
    if ratio <= 0.0:
        return {"ratio": 0.0, "more_vms": None, "gib": None, "hosts": None}
    host = case.at("mid", case.today)[0]
    # the part of her hosts, without what these need themselves, that her VMs take at the ratio
    part = for_vms_mib(host, case.ram_at(ratio)) / for_vms_mib(host, case.ram_mib)
    return {
        "ratio": ratio,
        "more_vms": math.floor(case.configured_mib * (1.0 / part - 1.0) / reference + 1e-9),
        "gib": (case.hosts * case.ram_mib - case.configured_mib / ratio) / 1024,
        "hosts": math.ceil(case.hosts * part - 1e-9),
    }


def _n_plus_one(advice: Advice) -> dict[str, Any]:
    """Her VMs on one host less. after: the ratio then; None where there is one host."""
    case = advice.case
    after = case.today * case.hosts / (case.hosts - 1) if case.hosts > 1 else None
    carries = {
        name: [level for level, one in levels.items() if after is not None and one.search.density.value >= after - 1e-9]
        for name, levels in advice.found.items()
    }
    return {"after": after, "carries": carries}


def _suffering(advice: Advice, order: Sequence[str]) -> dict[str, Any]:
    """Of the best policy and of the hypervisor as shipped: who suffers at the first ratio that fails, or the last where none
    does, at the least favourable level."""
    names = dict.fromkeys([order[0], *(["stock"] if "stock" in advice.found else [])])
    return {name: _of_policy(advice, name) for name in names}


def _of_policy(advice: Advice, name: str) -> dict[str, Any]:
    levels = reversed(advice.found[name])  # of equal ones the highest
    level = min(levels, key=lambda one: advice.found[name][one].search.density.value)
    search = advice.found[name][level].search
    failing = float(search.fails[0])
    ratio = search.ratios[-1] if math.isinf(failing) else failing
    return {
        "level": level,
        "ratio": ratio,
        "failed": not math.isinf(failing),
        "vms": _rows(advice, name, level, ratio),
        "today": _rows(advice, name, level, advice.case.today),
    }


def _rows(advice: Advice, name: str, level: str, ratio: float) -> list[dict[str, Any]]:
    """A row a VM, who suffers most first; amounts an hour of the history. What it misses with ample memory does not count here
    either."""
    rows, ample, weights = advice.rows(name, level, ratio), advice.ample_rows(level), advice.draws[0]
    hours = float((weights.sum() * advice.case.at(level, ratio)[0].duration_s) / 3600)
    sums = {key: weights @ values for key, values in rows.counted.items()}
    found = []
    for column, vm in enumerate(advice.case.names):
        of_it = {key: float(values[column]) for key, values in sums.items()}
        for key in ("missed_s", "kills"):
            of_it[key] = max(0.0, of_it[key] - float(weights @ ample.counted[key][:, column]))
        found.append({
            "name": vm,
            "missed": of_it["missed_s"] / max(of_it["asked_s"], 1e-9),
            "kills": of_it["kills"],
            "host_swap_gib_an_hour": of_it["host_swap_in_mib"] / 1024 / hours,
            "guest_swap_gib_an_hour": of_it["guest_swap_in_mib"] / 1024 / hours,
            "why": advice_words.why(of_it),
        })  # fmt: skip
    return sorted(found, key=lambda row: (-row["kills"], -row["missed"], row["name"]))


def _settings(advice: Advice, best: str) -> list[dict[str, Any]]:
    """Of a policy, or of what the hypervisor ships with where it is that."""
    case = advice.case
    agent: Mapping[str, Any] = advice.agents[best]
    if agent["name"] == STOCK and case.hypervisor["stock"]:
        agent = load_group("agent", case.hypervisor["stock"])
    floors = case.floors_mib(case.today)
    vms = [
        OwnVm(name, float(memory), float(floor), float(group["shares"]))
        for name, memory, floor, group in zip(case.names, case.memory_mib, floors, case.groups, strict=True)
    ]
    return [asdict(block) for block in settings(agent, str(case.hypervisor["name"]), vms)]
