"""What a capacity leaves beside its jobs: capacity.json (densities), capacity.csv (a row a point of a curve), fleets.csv (a row a
fleet), capacity.png. What the leaderboard of a study shows of it, see ``density_column``.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hvgym
from hvgym.bench import drawing, statistics
from hvgym.bench.capacity import AMPLE_RATIO, Capacity, Density
from hvgym.bench.density import Point, Rule
from hvgym.bench.identity import is_outside
from hvgym.bench.looks import LIGHT, Look, look
from hvgym.bench.references import CLAIRVOYANT, STOCK
from hvgym.envs.files import write_atomically

CURVE = (
    "agent",
    "ratio",
    "missed",
    "missed_lo",
    "missed_hi",
    "missed_all",
    "kills",
    "kills_all",
    "unfit_fleets",
    "goodput",
)
"""Columns of capacity.csv. missed: counted share of the critical VMs' seconds, with its 95 % interval; missed_all: with what
ample memory has too; goodput: of the fleets that fit."""

FLEET = ("agent", "ratio", "eval_seed", "missed_s", "asked_s", "kills", "goodput", "fits")

SHOWN_SLO = 4.0
"""A curve leaves the picture at so many times the allowed share; beyond it is no matter by how much it fails."""


TEXT_SHARE = 0.3
"""Of the width, which a density's text needs to the right of its interval."""


def write_capacity(capacity: Capacity, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Write all four files; return the summary and their paths."""
    summary = summarise(capacity)
    files: dict[str, str | bytes] = {
        "capacity.json": json.dumps(summary, indent=1, ensure_ascii=False),
        "capacity.csv": _csv(CURVE, (row for one in capacity.densities for row in curve_rows(capacity, one))),
        "fleets.csv": _csv(FLEET, _fleet_rows(capacity)),
        "capacity.png": picture(capacity, summary),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return summary, [folder / name for name in files]


def summarise(capacity: Capacity) -> dict[str, Any]:
    """The content of capacity.json; agents densest first."""
    scenario, rule = capacity.family.scenario, capacity.rule
    vms = sum(int(group["count"]) for group in scenario["vms"])
    fleet_gib = float(capacity.configured_mib.mean()) / 1024
    sample = capacity.draws[:1]
    ample = {
        "ratio": AMPLE_RATIO,
        "missed": float(capacity.ample.missed_share(sample)[0]),
        "kills": float(capacity.ample.kills.sum()),
    }
    result = {
        "scenario": scenario["name"],
        "hypervisor": scenario["hypervisor"]["name"],
        "workload": scenario["workload"]["kind"],
        "rules": scenario.get("rules", "open"),
        "fleets": capacity.family.fleets,
        "vms": vms,
        "fleet_gib": fleet_gib,
        "slo": rule.slo,
        "kills": rule.kills,
        "misses": capacity.misses,
        "ample": ample,
    }
    agents = {one.agent["name"]: _figures(one, capacity, vms, fleet_gib / vms) for one in capacity.densities}
    strangers = [one.agent["name"] for one in capacity.densities if is_outside(one.agent)]
    outside = {name: capacity.codes[name] for name in strangers if name in capacity.codes}
    code = {"hvgym": capacity.family.sources.get("code", ""), "outside": outside, "version": hvgym.__version__}
    searched = {
        one.agent["name"]: search_of(one.agent) for one in capacity.densities if one.agent["name"] in CLAIRVOYANT
    }
    return result | {"agents": agents, "searched": searched, "refused": capacity.refused, "code": code}


def search_of(agent: Mapping[str, Any]) -> str:
    """The budget of a clairvoyant, in words."""
    least = "seconds of critical VMs missed" if agent.get("counts") == "misses" else "goodput lost"
    return (
        f"clairvoyant, the least {least} of {agent['episodes']} episodes played in copies of each fleet at each ratio"
    )


def _figures(one: Density, capacity: Capacity, vms: int, vm_gib: float) -> dict[str, Any]:
    search, found = one.search, one.search.density
    text = f"{search.shown(found.value)} ({search.shown(found.lo)}, {search.shown(found.hi)})"
    return {
        "density": found.value,
        "density_lo": found.lo,
        "density_hi": found.hi,
        "shown": text,
        "vms_a_host": vms * found.value,
        "gib_saved_per_100_vms": gib_saved_per_100_vms(found.value, vm_gib),
        "stopped_by": stopped_by(one, capacity),
    }


def gib_saved_per_100_vms(ratio: float, vm_gib: float) -> float | None:
    """RAM that 100 VMs need less than without overcommitment; None where no ratio holds."""
    return 100.0 * vm_gib * (1.0 - 1.0 / ratio) if ratio > 0.0 else None


def stopped_by(one: Density, capacity: Capacity) -> str:
    """What fails at the first ratio that does."""
    ratio = float(one.search.fails[0])
    if np.isinf(ratio):
        return f"nothing up to {one.search.ratios[-1]:.2f}"
    raw, point = one.raw[ratio], one.curve[ratio]
    reasons = list[str]()
    if unfit := int((raw.fits == 0.0).sum()):
        reasons.append(f"{unfit} of {len(raw.fits)} fleets do not fit, by what is guaranteed to them")
    elif (share := float(point.missed_share(capacity.draws[:1])[0])) > capacity.rule.slo:
        reasons.append(f"{100 * share:.{2 if round(share, 4) > capacity.rule.slo else 4}f} % missed")
    if (killed := point.kills.sum()) > capacity.rule.kills:
        reasons.append(f"{killed:.0f} killed")
    return f"{' and '.join(reasons)} at {ratio:.2f}"


def curve_rows(capacity: Capacity, one: Density) -> list[list[Any]]:
    """Rows of capacity.csv, lowest ratio first."""
    return [
        [one.agent["name"], ratio, *_point_cells(one.raw[ratio], one.curve[ratio], capacity.draws)]
        for ratio in sorted(one.curve)
    ]


def _point_cells(raw: Point, point: Point, draws: np.ndarray) -> list[float]:
    missed = point.missed_share(draws)
    lo, hi = statistics.interval(missed[1:])
    fits = raw.fits > 0.0
    goodput = float(raw.goodput[fits].mean()) if fits.any() else 0.0
    all_missed = float(raw.missed_share(draws[:1])[0])
    return [
        float(missed[0]),
        lo,
        hi,
        all_missed,
        float(point.kills.sum()),
        float(raw.kills.sum()),
        float((~fits).sum()),
        goodput,
    ]


def _fleet_rows(capacity: Capacity) -> list[list[Any]]:
    played = [(STOCK, {AMPLE_RATIO: capacity.ample}), *((one.agent["name"], one.raw) for one in capacity.densities)]
    return [
        [name, ratio, seed, *(float(getattr(curve[ratio], column)[i]) for column in FLEET[3:])]
        for name, curve in played
        for ratio in sorted(curve)
        for i, seed in enumerate(capacity.family.seeds)
    ]


def _csv(columns: Sequence[str], rows: Any) -> str:
    """Floats in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[repr(cell) if isinstance(cell, float) else cell for cell in row] for row in rows])
    return text.getvalue()


def picture(capacity: Capacity, summary: Mapping[str, Any]) -> bytes:
    """PNG: violations over ratio, a line an agent, and below it the densities with their intervals."""
    count = max(len(capacity.densities), 1)
    size, heights = (9.0, 4.6 + 0.3 * count), (4.0, 0.6 + 0.3 * count)
    with drawing.style():
        figure, axes = drawing.new_axes(size, 2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        curves, densities = axes[:, 0]
        for one in axes.flat:
            one.grid(axis="x", alpha=0.25)
        for i, density in enumerate(capacity.densities):
            _curve(curves, capacity, density, look(density.agent["name"]))
            _density(densities, density, count - 1 - i, look(density.agent["name"]))
        _frame(curves, densities, capacity, summary)
        return drawing.png(figure)


def _curve(axes: Any, capacity: Capacity, one: Density, style: Look) -> None:
    rows = np.array([row[1:5] for row in curve_rows(capacity, one)], np.float64)
    ratio, missed, lo, hi = rows.T
    axes.fill_between(ratio, 100 * lo, 100 * hi, color=style.colour, alpha=0.12, linewidth=0)
    axes.plot(ratio, 100 * missed, **style.line | style.point, markersize=4, label=one.agent["name"])
    killed = [x for x in sorted(one.curve) if one.curve[x].kills.sum() > capacity.rule.kills]
    height = [
        min(100 * float(one.curve[x].missed_share(capacity.draws[:1])[0]), 0.97 * _top(capacity.rule)) for x in killed
    ]
    axes.plot(killed, height, "X", color=style.colour, markersize=8, markeredgecolor="white", zorder=3)


def _top(rule: Rule) -> float:
    """Of the picture, per cent."""
    return SHOWN_SLO * max(100 * rule.slo, 0.01)


def _density(axes: Any, one: Density, y: int, style: Look) -> None:
    found = one.search.density
    least = one.search.rule.least
    lo, value, hi = (max(x, least) for x in (found.lo, found.value, found.hi))
    axes.plot([lo, hi], [y, y], color=style.colour, linewidth=7, alpha=0.35, solid_capstyle="butt")
    axes.plot(value, y, **style.point | ({} if found.value > 0.0 else {"marker": "<"}), markersize=7)
    text = f"{one.search.shown(found.value)}  ({one.search.shown(found.lo)}, {one.search.shown(found.hi)})"
    axes.annotate(text, (hi, y), textcoords="offset points", xytext=(9, -3.5), fontsize=8)


def _frame(curves: Any, densities: Any, capacity: Capacity, summary: Mapping[str, Any]) -> None:
    rule, names = capacity.rule, [one.agent["name"] for one in capacity.densities]
    allowed = 100 * rule.slo
    curves.axhline(allowed, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 2)))
    curves.annotate(f"allowed: {allowed:g} %", (1.0, allowed), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                    fontsize=8, xytext=(-2, 2), textcoords="offset points")  # fmt: skip
    curves.set_ylim(-0.02 * _top(rule), _top(rule))
    more = "beyond ample memory's, " if capacity.misses == "added" else ""
    curves.set_ylabel(f"critical VMs' seconds that\nmiss their objective, {more}%")
    drawn = f"{summary['fleets']} fleets of {summary['vms']} VMs"
    title = f"{summary['scenario']}, {summary['workload']}, on {summary['hypervisor']}: {drawn}"
    curves.set_title(title, fontsize=10, loc="left")
    if any(one.curve[x].kills.sum() > rule.kills for one in capacity.densities for x in one.curve):
        curves.plot([], [], "X", color=LIGHT["dim"], label="VMs killed")
    if names:
        curves.legend(frameon=False, fontsize=8, loc="upper left", ncols=2 if len(names) > 6 else 1)
    densities.set_yticks(range(len(names)), names[::-1], fontsize=9)
    densities.set_ylim(-0.7, max(len(names), 1) - 0.3)
    densities.set_xlabel("overcommit ratio: configured memory over RAM; below: density with 95 % interval")
    played = [x for one in capacity.densities for x in one.curve] or [rule.least, rule.most]
    widest = max([one.search.density.hi for one in capacity.densities] or [rule.least])
    right = max(max(played) + 0.02, widest + TEXT_SHARE * (max(played) - min(played)))
    densities.set_xlim(min(played) - 0.02, right)
