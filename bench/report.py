"""The report of a study: one HTML file that needs nothing else, its pictures also as PNG beside it.

It is drawn from the finished jobs alone: neither policies nor networks are imported, built or played.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.bench import cluster_picture, density_column, statistics, stopping
from hvgym.bench.beaten import alarms
from hvgym.bench.jobs import Done, job_file
from hvgym.bench.protocol import Protocol
from hvgym.bench.references import ENDS
from hvgym.bench.study import read_study
from hvgym.bench.summary import Table, doubts, in_part, not_played, not_scored, ranking, summarise, tabulate
from hvgym.bench.timeline import Timeline
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario

COLOURS = ("#3b6fb6", "#d1603d", "#4f9d69", "#8d6cab", "#c79a2b", "#5aa5b8", "#a04d6d", "#7a7a7a")

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1d2733;max-width:76rem;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;margin-bottom:.2rem} h2{font-size:1.2rem;margin-top:2.2rem} .dim{color:#5d6b7a}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;text-align:right} td{white-space:nowrap}
th:first-child,td:first-child{text-align:left} thead th{border-bottom:2px solid #1d2733} tbody tr{border-bottom:1px solid #dde3ea}
.red{color:#b3261e} img{max-width:100%;height:auto;margin:.6rem 0} code{background:#eef2f6;padding:.1rem .3rem;border-radius:3px}
"""


OF_CLUSTERS = {"outage_s": "outage, s", "recovery_s": "recovery, s", "downtime_s": "downtime, s", "moves": "moves"}
"""Columns beside, where a scenario has several hosts (of ``rollout.OF_CLUSTERS``)."""

ABOUT_CLUSTERS = """\
Outage: seconds without service after failures of hosts, summed over VMs; recovery: the longest from a failure until a VM was back
at work; downtime: seconds for which VMs stood still at the end of copies; moves: VMs copied to another host while they ran."""


ABOUT_PICTURE = """\
Above a row a VM, in the colour and with the number of the host that it is on; below the share of each host's memory that is used,
what is held for copies included. Lines break where a host is off; what happens to hosts stands at the dashed marks."""


def write_report(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Write summary.json, report.html and the pictures of a finished study; return the summary and the files."""
    protocol, done = read_study(folder)
    table = tabulate(protocol, done)
    summary = summarise(protocol, table)
    density_column.add_density(summary, folder)
    stopping.add_decisions(summary, folder)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1))
    shown = _shown(summary)
    others = [agent for agent in table.agents if agent not in shown]
    colour = {agent: COLOURS[i % len(COLOURS)] for i, agent in enumerate([*shown, *others])}
    pictures: dict[str, bytes] = {
        "leaderboard": _picture((9, 0.34 * len(table.agents) + 1.8), lambda axes: _leaderboard(axes, summary, colour)),
        "scenarios": _picture((9, 0.28 * len(table.agents) + 0.8), lambda axes: _scenarios(axes, summary, table)),
        "profile": _picture((9, 4.2), lambda axes: _profile(axes, table, colour, shown)),
        "timeline": _timelines(protocol, done, folder, colour, shown),
    }
    curves = [result for result in done if result.curve]
    if curves:
        pictures["training"] = _picture((9, 4.2), lambda axes: _training(axes, curves))
    for name, data in pictures.items():
        write_atomically(folder / f"{name}.png", data)
    write_atomically(folder / "report.html", _page(protocol, summary, pictures))
    files = [folder / name for name in ("report.html", "summary.json", "results.csv")]
    return summary, files + [folder / f"{name}.png" for name in pictures]


def _picture(size: tuple[float, float], draw: Callable[[Any], None]) -> bytes:
    figure, axes = _figure(size, 1, 1)
    draw(axes)
    return figure_png(figure)


def _figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Any, Any]:
    """A figure without pyplot: no global state, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes if rows * columns > 1 else axes[0, 0]


def figure_png(figure: Any) -> bytes:
    """As all pictures are written."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return data.getvalue()


SCORE_FLOOR = -1.5
"""Pictures are cut here and say so; one agent that kills its guests would squeeze all others into a corner."""


def _leaderboard(axes: Any, summary: Mapping[str, Any], colour: Mapping[str, str]) -> None:
    agents = ranking(dict(summary))[::-1]
    for y, agent in enumerate(agents):
        result = summary["agents"][agent]
        score, low, high = (max(result[key], SCORE_FLOOR) for key in ("score_iqm", "score_lo", "score_hi"))
        axes.plot([low, high], [y, y], color=colour[agent], linewidth=7, alpha=0.35, solid_capstyle="butt")
        axes.plot(score, y, "o" if score > SCORE_FLOOR else "<", color=colour[agent], markersize=8)
        label = f"{result['score_iqm']:.2f}" if score > SCORE_FLOOR else f"  {result['score_iqm']:.1f}, off the scale"
        at = {"ha": "center", "xytext": (0, 9)} if score > SCORE_FLOOR else {"ha": "left", "xytext": (6, -4)}
        axes.annotate(label, (score, y), textcoords="offset points", **at)
    axes.set_yticks(
        range(len(agents)), [f"{in_part(summary, agent)}, {summary['agents'][agent]['seat']}" for agent in agents]
    )
    axes.set_ylim(-0.7, len(agents) - 0.3)
    for x, label, side in ((0.0, "stock ", "right"), (1.0, " reference of the seat", "left")):
        axes.axvline(x, color="#9aa6b2", linewidth=1, zorder=0)
        axes.annotate(label, (x, -0.62), color="#7b8794", fontsize=8, ha=side)
    axes.set_xlim(right=max(1.3, axes.get_xlim()[1]))
    axes.set_xlabel("score: interquartile mean over scenarios and seeds, 95 % interval")


def _scenarios(axes: Any, summary: Mapping[str, Any], table: Table) -> None:
    """Mean score of every agent (best first) in every scenario."""
    agents = ranking(dict(summary))
    found = [[summary["agents"][a]["scenarios"][s]["score"] for s in table.scored] for a in agents]
    scores = np.array(found, float)  # NaN where the rules refuse an agent, or its seat has no score
    axes.imshow(np.clip(scores, -1.0, 1.0), cmap="RdBu", vmin=-1.8, vmax=1.8, aspect="auto")
    for (y, x), score in np.ndenumerate(scores):
        played = summary["agents"][agents[y]]["scenarios"][table.scored[x]]["goodput"] is not None
        none = "no score" if played else "not played"
        label = none if np.isnan(score) else f"{score:.2f}" if score > -10 else f"{score:.0f}"
        axes.text(x, y, label, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(table.scored)), table.scored)
    axes.set_yticks(range(len(agents)), agents)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)


SHOWN = 8
"""More agents than this do not fit beside each other: the best are shown, and the references."""


def _shown(summary: Mapping[str, Any]) -> list[str]:
    """Agents for pictures with one line or column each, best first."""
    agents = ranking(dict(summary))
    best = [agent for agent in agents if agent not in ENDS][: SHOWN - len(ENDS)]
    return [agent for agent in agents if agent in best or agent in ENDS]


def _profile(axes: Any, table: Table, colour: Mapping[str, str], shown: Sequence[str]) -> None:
    thresholds = np.linspace(-1.0, 1.2, 221)
    for agent in shown:
        share = statistics.performance_profile(table.scores[agent], thresholds)
        axes.plot(thresholds, share, color=colour[agent], label=agent, linewidth=2)
    axes.set_xlabel("score τ")
    axes.set_ylabel("share of runs with score > τ")
    axes.legend(frameon=False)


def _training(axes: Any, curves: Sequence[Done]) -> None:
    for i, done in enumerate(curves):
        steps = [point["steps"] for point in done.curve]
        axes.plot(
            steps, [point["score"] for point in done.curve], "o-", color=COLOURS[i % len(COLOURS)], label=done.job.name
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel("goodput on validation seeds")
    axes.legend(frameon=False, fontsize=8)


def pictured(protocol: Protocol) -> Mapping[str, Any]:
    """The scenario of which an episode is drawn: the first in which a host fails, or else the first."""
    return next((scenario for scenario in protocol.scenarios if scenario.get("failures")), protocol.scenarios[0])


def _timelines(
    protocol: Protocol, done: Sequence[Done], folder: Path, colour: Mapping[str, str], agents: Sequence[str]
) -> bytes:
    """One episode under these agents: who was where on which host, or on a host alone memory sizes and progress."""
    scenario = pictured(protocol)
    first = {
        result.job.agent["name"]: result for result in reversed(done) if result.job.scenario["name"] == scenario["name"]
    }
    lines = {agent: _timeline(first[agent], folder) for agent in agents if agent in first}
    if lines and all(line.cluster is not None for line in lines.values()):
        return figure_png(cluster_picture.picture(Scenario.from_dict(scenario), lines, colour))
    return figure_png(_memory_and_progress(lines, colour))


def _memory_and_progress(lines: Mapping[str, Timeline], colour: Mapping[str, str]) -> Any:
    """Memory sizes stacked, and progress below."""
    figure, axes = _figure((2.6 * len(lines) + 0.6, 5.4), 2, len(lines))
    for column, (agent, line) in enumerate(lines.items()):
        sizes_gib, colours = line.sizes_mib.T / 1024, [f"C{v % 10}" for v in range(line.sizes_mib.shape[1])]
        axes[0, column].stackplot(line.minutes, sizes_gib, colors=colours, alpha=0.75)
        axes[0, column].axhline(line.ram_mib / 1024, color="black", linewidth=1.2)
        axes[0, column].set_title(agent, color=colour[agent], fontweight="bold")
        axes[1, column].plot(line.minutes, line.progress, linewidth=0.8, alpha=0.8)
        axes[1, column].set_ylim(0, 1.02)
        axes[1, column].set_xlabel("minutes")
        axes[0, column].sharey(axes[0, 0])
    axes[0, 0].set_ylabel("memory sizes, GiB (line: RAM)")
    axes[1, 0].set_ylabel("progress of each VM")
    return figure


def _timeline(done: Done, folder: Path) -> Timeline:
    try:
        return Timeline.unpack(done.timeline)
    except InputError as error:
        raise InputError(f"{job_file(folder, done.job)}: {error}; delete it and run hvgym bench again") from None


def _page(protocol: Protocol, summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    def image(name: str) -> str:
        return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(pictures[name]).decode()}">'

    compared = summary["paired_to_best_heuristic"]
    rows = "".join(_row(agent, summary, compared.get(agent)) for agent in ranking(dict(summary)))
    dense = "capacity" in summary
    of_clusters = "".join(f"<th>{title}</th>" for title in OF_CLUSTERS.values()) if summary["clusters"] else ""
    density = f"<br>{html.escape(density_column.line(dict(summary)))}" if dense else ""
    suite = protocol.suite
    best = f'<p class="dim">The best {SHOWN} agents, references among them.</p>' if len(protocol.agents) > SHOWN else ""
    said = f"<br>{ABOUT_CLUSTERS}" if summary["clusters"] else ""
    caption = f'<p class="dim">{ABOUT_PICTURE}</p>' if pictured(protocol).get("hosts") else ""
    unscored = "".join(f"<br>{html.escape(line)}." for line in not_scored(summary))
    red = "".join(f'<p class="red"><strong>{html.escape(line)}</strong></p>' for line in alarms(summary))
    training = f"<h2>Training</h2>{image('training')}" if "training" in pictures else ""
    refused = "".join(f"<li>{html.escape(line)}</li>" for line in not_played(dict(summary)))
    refused = f"<h2>Not played</h2><p>Refused by the rules of this study.</p><ul>{refused}</ul>" if refused else ""
    warnings = "".join(f"<p><strong>{html.escape(line)}</strong></p>" for line in doubts(dict(summary)))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>hvgym: {html.escape(suite.name)}</title>
<style>{STYLE}</style></head><body>
<h1>Leaderboard: suite {html.escape(suite.name)}</h1>
<p class="dim">{len(protocol.scenarios)} scenarios, {suite.eval_seeds} evaluation seeds each, {suite.train_seeds} training seed(s);
rules {html.escape(summary["rules"])}; protocol <code>{protocol.hash}</code>. Score 0 is stock, the hypervisor as shipped,
1 the clairvoyant reference of the agent's seat (not a proven bound), on the same demand.</p>
{red}
{image("leaderboard")}
<table><thead><tr><th>agent</th><th>seat</th><th>sees</th>
<th>score</th><th>95 % interval</th>{"<th>density</th>" if dense else ""}<th>goodput</th><th>SLO misses, s</th>
<th>OOM kills</th><th>failed starts</th>
<th>host swap, s</th><th>p99 slowdown</th>{of_clusters}
<th>goodput vs {html.escape(summary["best_heuristic"])}</th><th>p (Holm)</th></tr></thead>
<tbody>{rows}</tbody></table>
{warnings}{refused}
<p class="dim">Per episode, means over all scenarios and seeds; the score is an interquartile mean. Profiles of what an agent
sees: P0 host only, P1 and balloon statistics, P2 and committed memory, P3 host and sampled activity, P4 and an agent in the guest.
The last two columns are paired differences on equal demand to the best heuristic.{unscored}
p-values speak of new demand for the agents as trained, not of training anew.{said}
{_code(summary["code"])}{density}</p>
<h2>By scenario</h2>{image("scenarios")}
<h2>Performance profile</h2>{image("profile")}{best}
<h2>One episode of {html.escape(pictured(protocol)["name"])}</h2>{image("timeline")}{caption}{training}
</body></html>"""


def _code(code: Mapping[str, Any]) -> str:
    """Which rows came from which code."""

    def shown(digest: str) -> str:
        return f"<code>{html.escape(digest)}</code>"

    outside = ", ".join(f"{html.escape(name)} by {shown(digest)}" for name, digest in code["outside"].items())
    others = f"The rows of {outside} (code outside the package), all others" if outside else "All rows were made"
    return f"{others} by the package's code {shown(code['hvgym'])}."


def _row(agent: str, summary: Mapping[str, Any], test: Mapping[str, float] | None) -> str:
    result = summary["agents"][agent]
    density = [html.escape(density_column.shown(dict(summary), agent))] if "capacity" in summary else []
    versus = f"{test['goodput_difference']:+.4f} [{test['lo']:+.4f}, {test['hi']:+.4f}]" if test else "–"
    p_value = f"{test['p_holm']:.2g}" if test else "–"
    cells = [
        html.escape(in_part(summary, agent)), html.escape(result["seat"]), html.escape(result["sees"]),
        f"{result['score_iqm']:.3f}", f"[{result['score_lo']:.3f}, {result['score_hi']:.3f}]", *density,
        f"{result['goodput']:.4f}", f"{result['cost']:.0f}", f"{result['oom_kills']:.2f}",
        f"{result['failed_starts']:.2f}", f"{result['host_swap_s']:.0f}", f"{result['p99_slowdown']:.2f}",
        *([f"{result[name]:.1f}" for name in OF_CLUSTERS] if summary["clusters"] else []), versus, p_value,
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
