"""What a study leaves where nothing can be scored, for no reference gains anything: what was measured, and why there is no score.

On a host with memory enough for all its VMs no policy can win anything; that is an answer, not a failure. summary.json and
report.html then have goodput, missed seconds and kills of each agent, and a line that says which of two things it is: memory that
suffices (`suffices`), or a want of memory that even who sees the future cannot help.
"""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hvgym
from hvgym.bench.density import FloatArray
from hvgym.bench.jobs import Done
from hvgym.bench.page import STYLE
from hvgym.bench.protocol import Protocol
from hvgym.bench.references import SMALLEST_GAP, STOCK
from hvgym.bench.rollout import METRICS
from hvgym.bench.summary import arranged, not_played
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario

SUFFICES = 0.01
"""Stock misses less of what critical VMs were asked for, and kills nothing, where memory suffices: the objective of an advice."""


def write_unscored(folder: Path, protocol: Protocol, done: Sequence[Done]) -> tuple[dict[str, Any], list[Path]]:
    """Write summary.json and report.html; return the summary and the files."""
    summary = summarise(protocol, done)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1))
    write_atomically(folder / "report.html", _page(protocol, summary))
    return summary, [folder / name for name in ("report.html", "summary.json", "results.csv")]


def summarise(protocol: Protocol, done: Sequence[Done]) -> dict[str, Any]:
    """What was measured, most goodput first; `unscored`: lines on why nobody has a score, and what to do."""
    metrics = arranged(protocol, done, METRICS)
    scenarios = [str(scenario["name"]) for scenario in protocol.scenarios]
    sees = {result.job.agent["name"]: result.sees for result in done}
    agents = dict[str, Any]()
    for agent in sorted(metrics, key=lambda name: -_mean(metrics[name]["goodput"])):
        found = metrics[agent]
        means = {name: _mean(found[name]) for name in METRICS if name != "sim_seconds"}
        of_each = {
            name: {"goodput": float(found["goodput"][i].mean()), "score": None}
            for i, name in enumerate(scenarios)
            if name in protocol.plays(agent)
        }
        agents[agent] = means | {"sees": sees[agent], "code": protocol.code(agent), "seat": protocol.seat(agent)}
        agents[agent]["scenarios"] = of_each
    summary = {
        "suite": protocol.suite.name, "protocol": protocol.hash, "agents": agents, "rules": protocol.rules,
        "refused": protocol.refusals, "beaten": [], "unscored": list(agents),
        "clusters": [scenario["name"] for scenario in protocol.scenarios if scenario.get("hosts")],
        "code": {"hvgym": protocol.sources.get("code", ""), "outside": {}, "summarised_by": hvgym.__version__},
    }  # fmt: skip
    return summary | {"nothing_scored": [_why(protocol, metrics[STOCK]), _what_next(protocol)]}


def _mean(values: FloatArray) -> float:
    """Of what is played."""
    return float(np.nanmean(values))


def suffices(protocol: Protocol, stock: Mapping[str, Any]) -> bool:
    """Whether memory is enough on every host: stock, the hypervisor as shipped, kills nothing and hardly misses."""
    asked_s = [
        sum(int(group["count"]) * bool(group["critical"]) for group in scenario["vms"])
        * Scenario.from_dict(dict(scenario)).duration_s
        for scenario in protocol.scenarios
    ]
    missed = [float(of_it.mean()) / max(asked, 1) for of_it, asked in zip(stock["cost"], asked_s, strict=True)]
    return max(missed) <= SUFFICES and float(stock["oom_kills"].max()) == 0.0


def _why(protocol: Protocol, stock: Mapping[str, Any]) -> str:
    ratio = _ratio(protocol)
    host = f"this host (configured memory over its RAM: {ratio:.2f})" if ratio is not None else "these hosts"
    if suffices(protocol, stock):
        return f"On {host} nothing is to be won: memory suffices, stock misses next to nothing and kills no VM."
    return (
        f"On {host} nothing is to be won: VMs miss their objective, but even the reference, which sees the future, gains less "
        f"than {SMALLEST_GAP:g} of goodput over stock. Memory is not what is short, or far too short."
    )


def _ratio(protocol: Protocol) -> float | None:
    """Of the one host that is played; None where there are several."""
    found = {_ratio_of(scenario) for scenario in protocol.scenarios}
    return found.pop() if len(found) == 1 else None


def _ratio_of(scenario: Mapping[str, Any]) -> float | None:
    if scenario.get("hosts"):
        return None
    host = scenario["host"]
    configured_mib = sum(float(group["memory_mib"]) * int(group["count"]) for group in scenario["vms"])
    ram_mib = host.get("ram_mib")
    return round(configured_mib / float(ram_mib), 2) if ram_mib else host.get("overcommit")


def _what_next(protocol: Protocol) -> str:
    first = protocol.scenarios[0]
    sweep = "scenario.host.ram_mib=null scenario.host.overcommit=1.25,1.5,2.0 -m plays fuller hosts"
    if first["workload"]["kind"] != "history" or first.get("hosts"):
        return f"{sweep}."
    folder = shlex.quote(str(first["workload"]["path"]))
    hypervisor, ram_mib = first["hypervisor"]["name"], first["host"].get("ram_mib")
    host = f"{float(ram_mib):.0f}" if ram_mib else "…"
    return f"hvgym advise workload={folder} host.ram_mib={host} hypervisor={hypervisor} says how full this host may be; {sweep}."


COLUMNS = {
    "goodput": ("goodput", 4), "cost": ("SLO misses, s", 0), "oom_kills": ("OOM kills", 2), "host_swap_s": ("host swap, s", 0),
    "p99_slowdown": ("p99 slow-down", 2),
}  # fmt: skip
"""What is shown of an agent, and with how many digits."""


def rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Agent and the figures of `COLUMNS`, most goodput first."""
    return [
        [agent, *(f"{found[name]:.{digits}f}" for name, (_, digits) in COLUMNS.items())]
        for agent, found in summary["agents"].items()
    ]


def _page(protocol: Protocol, summary: Mapping[str, Any]) -> str:
    lines = "".join(f"<p>{html.escape(line)}</p>" for line in summary["nothing_scored"])
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in ("agent", *(head for head, _ in COLUMNS.values())))
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows(summary))
    refused = "".join(f"<li>{html.escape(line)}</li>" for line in not_played(dict(summary)))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>hvgym: {html.escape(protocol.suite.name)}</title>
<style>{STYLE}</style></head><body>
<h1>Suite {html.escape(protocol.suite.name)}: nothing to be won</h1>
{lines}
<p class="dim">Means an episode over {len(protocol.scenarios)} scenarios and {protocol.suite.eval_seeds} evaluation seeds; rules
{html.escape(summary["rules"])}; protocol <code>{protocol.hash}</code>. No score, for there is nothing to divide by.</p>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>
{f"<h2>Not played</h2><ul>{refused}</ul>" if refused else ""}
</body></html>"""
