"""An explanation (``explaining``) as pictures, as one HTML page that needs nothing else, and as text for a terminal."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.agents.learned.tree import rules
from hvgym.bench.drawing import legend_above, new_axes, style, wrapped
from hvgym.bench.explaining import Explained, Sensitivity
from hvgym.bench.looks import COLOURS, GREY, LIGHT
from hvgym.bench.page import STYLE

SHOWN = 12
"""Signals and features in pictures and on a terminal; the page folds the rest."""


def draw_sensitivities(told: Explained) -> Any:
    """A bar each: by how much one standard deviation more of it moves sizes in one decision."""
    parts = [(title, found) for title, found in (("signals", told.signals), ("features", told.features)) if found]
    with style():
        figure, axes = new_axes((4.6 * max(len(parts), 1), 3.6), 1, max(len(parts), 1))
        for one, (title, found) in zip(axes.flat, parts, strict=False):
            top = found[:SHOWN][::-1]
            colours = [LIGHT["green"] if part.moves >= 0.0 else LIGHT["orange"] for part in top]
            one.barh([part.name for part in top], [100.0 * part.most for part in top], color=colours, height=0.7)
            one.set_xlabel(f"{title}: moves sizes by … % of memory a decision")
            one.tick_params(axis="y", labelsize=7)
    return figure


def draw_burst(told: Explained) -> Any:
    """What each VM is asked to have, and what its balloon leaves it, through the burst."""
    course = told.course
    with style():
        figure, axes = new_axes((7.0, 3.2))
        one = axes[0, 0]
        at = [*course["needs_mib"], course["minutes"][-1]]
        needs = [*course["needs_mib"].values()]
        one.fill_between(
            at, [*needs, needs[-1]], step="post", color=GREY, alpha=0.25, label="hot memory of the first VM"
        )
        for index, vm in enumerate(course["vms"]):
            colour = COLOURS[index % len(COLOURS)]
            one.plot(course["minutes"], course["size_mib"][:, index], color=colour, label=wrapped(vm))
            one.plot(
                course["minutes"], course["asked_mib"][:, index], color=colour, linewidth=0.8, linestyle=(0, (2, 2))
            )
        one.set_xlabel("minutes")
        one.set_ylabel("MiB (dashed: asked for)")
        one.set_ylim(bottom=0.0)
        legend_above(figure)
    return figure


def words(told: Explained) -> list[str]:
    """The explanation for a terminal."""
    lines = [f"{told.agent} on {told.scenario}: {told.decisions:,} decisions of {told.seeds} episodes"]
    for title, found in (("feature (its pull alone)", told.features), ("signal (finite differences)", told.signals)):
        if found:
            lines += ["", f"{title:<34}{'one deviation':>14}{'moves sizes by':>16}{'… in size':>11}"]
            lines += [_line(one) for one in found[:SHOWN]]
            lines += [f"  and {len(found) - SHOWN} more, on the page"] if len(found) > SHOWN else []
    lines += ["", "tree of rules                change of size per decision   share of decisions"]
    lines += [
        f"  {100 * change:+7.2f} %  {share:6.1%}  if {condition}" for condition, change, share in rules(told.tree)
    ]
    return [*lines, "", *_scores(told)]


def _line(one: Sensitivity) -> str:
    return f"  {one.name:<32}{one.spread:>14.4g}{100 * one.moves:>14.3f} %{100 * one.most:>9.3f} %"


def _scores(told: Explained) -> list[str]:
    """Of the tree; and what is not explained."""
    fidelity, goodput = told.fidelity, told.goodput
    gained, stands = goodput[told.agent] - goodput["stock"], goodput["tree"] - goodput["stock"]
    kept = f", {stands / gained:.0%} of the policy's gain over stock" if abs(gained) > 1e-4 else ""
    kills = ", ".join(f"{who} {count:.1f}" for who, count in told.kills.items())
    return [
        f"fidelity on {told.seeds} validation seeds: R² {fidelity['r2']:.3f}; the tree's decisions lie "
        f"{100 * fidelity['mean_difference']:.2f} % of memory beside the policy's, which move sizes by "
        f"{100 * fidelity['mean_change']:.2f} %",
        "goodput there: "
        + ", ".join(f"{who} {worth:.4f}" for who, worth in goodput.items())
        + kept
        + f"; kills: {kills}",
        f"burst: goodput {told.course['goodput']:.4f}, kills {told.course['kills']:.0f}",
        *_unexplained(told),
    ]


def _unexplained(told: Explained) -> list[str]:
    if not told.others:
        return []
    return [
        f"not explained: {', '.join(told.others)}, which it sets too; they count in its goodput, and the tree has sizes alone"
    ]


def page(told: Explained, pictures: Mapping[str, str]) -> str:
    """The whole of it; pictures: names of PNG files beside it."""
    parts = [
        f"<h1>{_text(told.agent)} on {_text(told.scenario)}</h1>",
        *(f"<p>{_text(line)}</p>" for line in _scores(told)),
    ]
    parts += ["<h2>What it does on a burst</h2>", f"<p>{_text(_ABOUT_BURST)}</p>", _figure(pictures["burst"], "burst")]
    parts += [
        "<h2>What moves it</h2>",
        f"<p>{_text(_ABOUT_SENSITIVITY)}</p>",
        _figure(pictures["sensitivities"], "sensitivities"),
    ]
    for title, found in (("Features, exact", told.features), ("Signals, by finite differences", told.signals)):
        if found:
            parts.append(f"<details><summary>{title}: all {len(found)}</summary>{_sensitivities(found)}</details>")
    parts += ["<h2>A tree in its place</h2>", f"<p>{_text(_ABOUT_TREE)}</p>", _rules(told)]
    body = "".join(parts)
    title = f"hvgym explain: {_text(told.agent)}"
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>{body}</html>\n'


_ABOUT_BURST = """\
Four VMs of 4 GiB on a host of 10 GiB: the first one's hot memory grows from 1 to 3 GiB after ten minutes, for ten minutes. Lines:
what each balloon leaves its VM; dashed: what it is asked to leave."""

_ABOUT_SENSITIVITY = """\
By how much one standard deviation more of a signal, in all VMs at once, moves sizes in the decision that follows, in % of
configured memory. Green: sizes grow, orange: they shrink. A policy that remembers may move more later, which is not seen here.
Features (of a linear policy): what a VM's own pull moves before the price of the host's memory and sizes' limits, which on a
full host hold most of it back; the signals' rows show what is left."""

_ABOUT_TREE = """\
Fitted by least squares to the policy's decisions on training seeds; features are explained in envs/view.py. It plays as agent tree
with this tree.json as its checkpoint, and hvgym export writes it as one Python function."""


def _text(value: Any) -> str:
    return html.escape(str(value), quote=False)


def _figure(name: str, title: str) -> str:
    return f'<figure><img src="{html.escape(name)}" alt="{title}" style="max-width:100%"></figure>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _sensitivities(found: Sequence[Sensitivity]) -> str:
    rows = [(one.name, f"{one.spread:.4g}", f"{100 * one.moves:+.4f}", f"{100 * one.most:.4f}") for one in found]
    return _table(("name", "one deviation", "moves sizes by, % of memory", "size of it"), rows)


def _rules(told: Explained) -> str:
    rows = [(condition, f"{100 * change:+.2f} %", f"{share:.1%}") for condition, change, share in rules(told.tree)]
    return _table(("if", "size changes per decision by", "share of decisions"), rows)


def figures(told: Explained) -> dict[str, Any]:
    """Plain data of the explanation, for other programs."""
    course = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in told.course.items()}
    lists = {of: [vars(one) for one in getattr(told, of)] for of in ("features", "signals")}
    return {**vars(told), **lists, "course": course}
