"""What came of shadowing or driving, for people: lines on a terminal, a picture over time, one page."""

import csv
import html
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvgym.bench.drawing import new_axes, png, style, svg
from hvgym.bench.looks import LIGHT
from hvgym.bench.page import STYLE
from hvgym.envs.files import write_atomically

if TYPE_CHECKING:
    from hvgym.bench.driving import Decision, Session

VM_IN, WIDTH_IN = 1.3, 9.0

ABOVE = {"loc": "lower right", "frameon": False, "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1}
"""Where legends stand: beside the title, out of the lines' way."""

MOST_POINTS = 2000
"""Of a line in the picture; more than it has pixels."""


def words(decision: "Decision", names: Sequence[str], acts: bool) -> list[str]:
    """A decision in words; nothing where nothing was sent or held back."""
    said, sizes = [], decision.now.vm[0]["size_mib"]
    sent = decision.sent.memory_mib
    for index, name in enumerate(names):
        why = f" ({decision.why[index]})" if decision.why[index] else ""
        if sent is not None and not math.isnan(sent[0, index]):
            verb = "" if acts else "would be "
            said.append(f"{name} {verb}{sizes[index]:.0f} -> {sent[0, index]:.0f} MiB{why}")
    return said


def head(decision: "Decision", acts: bool) -> str:
    """A line of the host."""
    host, second = decision.now.host[0, 0], decision.now.time_s[0]
    return (
        f"{second:.0f} s, {'driving' if acts else 'shadow, touches nothing'}; host {_mib(host['available_mib'])} available of "
        f"{_mib(host['total_mib'])} MiB, {_mib(host['swap_used_mib'])} swapped"
    )


def cells(decision: "Decision", names: Sequence[str]) -> list[list[str]]:
    """A row a VM: name, configured, size, available to the guest, on the host, asked, sent, held by."""
    vm = decision.now.vm[0]
    asked, sent = (
        np.full(len(names), np.nan) if sizes is None else np.asarray(sizes).reshape(-1)
        for sizes in (decision.asked.memory_mib, decision.sent.memory_mib)
    )
    shown = ("memory_mib", "size_mib", "guest_available_mib", "resident_mib")
    return [
        [
            name,
            *(_mib(vm[index][signal]) for signal in shown),
            _mib(asked[index]),
            _mib(sent[index]),
            decision.why[index],
        ]
        for index, name in enumerate(names)
    ]


def _mib(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0f}"


def write_report(folder: Path, session: "Session", agent: str) -> list[Path]:
    """Summary, picture and page from the rows that were logged; nothing where there are none."""
    rows = (
        list(csv.DictReader((folder / "decisions.csv").open(newline=""))) if (folder / "decisions.csv").exists() else []
    )
    if not rows:
        return []
    summary = summarised(rows, session.host.names) | {
        "agent": agent, "host": session.host.settings.name, "acts": session.acts, "channels": list(session.host.channels()),
    }  # fmt: skip
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    figure = picture(rows, session.host.names, session.acts)
    with style():
        write_atomically(folder / "decisions.png", png(figure))
        write_atomically(folder / "report.html", _page(summary, svg(figure, "decisions", "sizes over time")))
    return [folder / name for name in ("decisions.csv", "summary.json", "decisions.png", "report.html")]


def summarised(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> dict[str, Any]:
    """Figures of each VM over all decisions."""
    found = {}
    for name in names:
        mine = [row for row in rows if row["vm"] == name]
        sizes = _numbers(mine, "size_mib")
        held = Counter(row["held_by"] for row in mine if row["held_by"])
        found[name] = {
            "decisions": len(mine), "sent": sum(row["sent_mib"] != "" for row in mine), "held_by": dict(sorted(held.items())),
            "size_mib": _span(sizes), "guest_available_mib": _span(_numbers(mine, "guest_available_mib")),
            "guest_swap_in_mib": _risen(_numbers(mine, "guest_swap_in_mib")),
            "host_swap_mib": _span(_numbers(mine, "host_swap_mib")),
        }  # fmt: skip
    totals = {"decisions": len({row["time_s"] for row in rows})}
    totals |= {
        key: sum(row[column] != "" for row in rows) for key, column in (("sent", "sent_mib"), ("held", "held_by"))
    }
    return {"seconds": float(rows[-1]["time_s"]), **totals, "vms": found}


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) if row[name] else np.nan for row in rows])


def _span(values: np.ndarray) -> list[float] | None:
    """Least, mean and most."""
    known = values[~np.isnan(values)]
    return [round(float(one), 1) for one in (known.min(), known.mean(), known.max())] if len(known) else None


def _risen(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known[-1] - known[0]), 1) if len(known) else None


def picture(rows: Sequence[Mapping[str, str]], names: Sequence[str], acts: bool) -> Any:
    """A panel a VM over time: its size, what was asked for it, what it has available; the host's memory below."""
    with style():
        figure, grid = new_axes((WIDTH_IN, VM_IN * (len(names) + 1) + 0.8), len(names) + 1, 1, sharex=True)
        for axes, name in zip(grid[:, 0], names, strict=False):
            mine = [row for row in rows if row["vm"] == name]
            mine = mine[:: -(-len(mine) // MOST_POINTS)]
            minutes = _numbers(mine, "time_s") / 60.0
            axes.plot(
                minutes, _numbers(mine, "asked_mib"), ".", ms=2.5, color=LIGHT["dim"], label="asked by the policy"
            )
            axes.plot(minutes, _numbers(mine, "size_mib"), color=LIGHT["ink"], lw=1.4, label="size")
            axes.plot(
                minutes,
                _numbers(mine, "guest_available_mib"),
                "--",
                color=LIGHT["ink"],
                lw=0.9,
                label="available to the guest",
            )
            if not any(row["size_mib"] for row in mine):
                axes.text(0.5, 0.5, "off, or its size unknown, all the time", transform=axes.transAxes, ha="center")
                axes.set_yticks([])
            axes.set_ylim(bottom=0)
            axes.set_title(name, loc="left")
            axes.set_ylabel("MiB")
        host = [row for row in rows if row["vm"] == names[0]]
        last, minutes = grid[-1, 0], _numbers(host, "time_s") / 60.0
        last.plot(minutes, _numbers(host, "host_available_mib"), color=LIGHT["ink"], lw=1.4, label="available")
        last.plot(minutes, _numbers(host, "host_swap_used_mib"), ":", color=LIGHT["ink"], lw=1.4, label="swapped")
        last.set_title("host", loc="left")
        last.set_ylabel("MiB")
        last.set_xlabel("minutes" + ("" if acts else " (shadow: nothing was set)"))
        last.set_ylim(bottom=0)
        last.legend(**ABOVE, ncols=2)
        grid[0, 0].legend(**ABOVE, ncols=3)
    return figure


def _page(summary: Mapping[str, Any], svg: str) -> str:
    did = "drove" if summary["acts"] else "in the shadow of"
    title = f"{summary['agent']} {did} {summary['host']}"
    rows = "".join(_row(name, one) for name, one in summary["vms"].items())
    heads = "".join(f"<th>{text}</th>" for text in (
        "VM", "decisions", "sent" if summary["acts"] else "would be sent", "size MiB, least / mean / most",
        "available to the guest MiB", "read from its swap MiB", "in host swap MiB", "held by (decisions)",
    ))  # fmt: skip
    channels = ", ".join(summary["channels"]) or "none"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{summary['seconds'] / 60.0:.1f} minutes. Channels of this host: {html.escape(channels)}.</p>"
        f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<h2>Over time</h2><figure>{svg}</figure></html>\n"
    )


def _row(name: str, one: Mapping[str, Any]) -> str:
    held = ", ".join(f"{why} {count}" for why, count in one["held_by"].items()) or "–"
    spans = [
        " / ".join(f"{value:.0f}" for value in one[key]) if one[key] else "–"
        for key in ("size_mib", "guest_available_mib")
    ]
    swapped = "–" if one["guest_swap_in_mib"] is None else f"{one['guest_swap_in_mib']:g}"
    on_disk = "–" if one["host_swap_mib"] is None else f"{one['host_swap_mib'][-1]:.0f}"
    texts = (name, one["decisions"], one["sent"], *spans, swapped, on_disk, held)
    return "<tr>" + "".join(f"<td>{html.escape(str(text))}</td>" for text in texts) + "</tr>"
