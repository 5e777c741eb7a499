"""An advice as one HTML page that needs nothing else: no other file, no network, no script (look and style as ``page``)."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from hvgym.bench import advice_words
from hvgym.bench.page import STYLE
from hvgym.envs.errors import many

SHOWN = 12
"""VMs of a table; the others are opened by a click."""

MOST_PAIRS = 3
"""Of policies that are undecided, without a click."""

OWN_STYLE = """
pre{background:var(--rule);padding:.6rem .8rem;border-radius:4px;overflow-x:auto;font-size:.82rem;line-height:1.45;margin:.3rem 0}
dl{max-width:50rem} dt{font-weight:600;margin-top:.7rem} dd{margin:.1rem 0 0}
.why td:last-child,.why th:last-child{text-align:left;white-space:normal;min-width:17rem}
.lead{font-size:1.08rem} h3{font-size:1rem;margin:1.2rem 0 .2rem} details{margin:.4rem 0}
"""

ABOUT_RATIO = """\
Ratio: configured memory over RAM, up to which, at every ratio that was played, {whose} miss their objective in at most {slo} of
their seconds and {kills}. It was found with hosts of less and less RAM, on the same windows for all; what the same VMs miss on
hosts with twice their memory (for want of CPU, say) does not count. The three readings are what your data leaves open of how much
memory the VMs work with. Safe: at all three. In parentheses the 95 % interval over days."""


def page(summary: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The whole page; pictures: SVG by name."""
    sections = [one for one in _sections(summary, pictures) if one[2]]
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections)
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, title, content in sections)
    lead, *more = summary["verdict"]
    said = f'<p class="lead">{_text(lead)}</p>' + "".join(f"<p>{_text(line)}</p>" for line in more)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>hvgym advise</title>
<style>{STYLE}{OWN_STYLE}</style></head><body>
<h1>How full your hosts may be</h1>
{said}
<nav>{links}</nav>
{body}
</body></html>
"""


def _sections(summary: Mapping[str, Any], pictures: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Identifier, title and content; those without content are left out."""
    return [
        ("ratios", "Safe ratios", _ratios(summary, pictures)),
        ("savings", "What that means", _paragraphs(advice_words.savings(summary))),
        ("suffering", "Who suffers first", _suffering(summary)),
        ("at-once", "If all use all they have", _at_once(summary, pictures)),
        ("n-plus-one", "If a host fails", _paragraphs([advice_words.n_plus_one(summary)])),
        ("settings", "Settings", _settings(summary)),
        ("questions", "Ten questions", _questions(summary)),
        ("vms", "Your VMs", _vms(summary)),
        ("unknown", "What your data cannot tell", _list(summary["unknown"])),
        ("about", "About these figures", _about(summary)),
    ]


def _text(value: Any) -> str:
    return html.escape(str(value), quote=False)


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>" if lines else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Texts are escaped; the first column is a name."""
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _folded(heads: Sequence[str], rows: Sequence[Sequence[Any]], what: str) -> str:
    more = rows[SHOWN:]
    rest = f"<details><summary>{len(more)} more {what}</summary>{_table(heads, more)}</details>" if more else ""
    return _table(heads, rows[:SHOWN]) + rest


def _ratios(summary: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    heads = [
        "policy",
        "safe",
        "low",
        "middle",
        "high",
        "then (middle)",
        "missed today (middle)",
        "killed today (middle)",
    ]
    rows = [[advice_words.title(name, one), *_cells(one)] for name, one in summary["policies"].items()]
    pairs = [
        f"{' and '.join(pair)}: undecided by your data, their order changes between its readings."
        for pair in summary["undecided"]
    ]
    undecided = _list(pairs) if len(pairs) <= MOST_PAIRS else (
        f"<details><summary>{len(pairs)} pairs of policies are undecided by your data</summary>{_list(pairs)}</details>"
    )  # fmt: skip
    by_one = [
        f"At the {level} reading one VM decides: without {vm} {best} is best."
        for level, found in summary["decided_by_one_vm"].items()
        for vm, best in found.items()
    ]
    refused = [f"{name}: {why}" for name, why in summary["refused"].items()]
    not_played = f"<details><summary>{len(refused)} not played</summary>{_list(refused)}</details>" if refused else ""
    return (
        f'<p class="dim">{_text(_about_ratio(summary))}</p><figure>{pictures["ratios"]}</figure>'
        f"{_table(heads, rows)}{undecided}{_list(by_one)}{not_played}"
    )


def _cells(one: Mapping[str, Any]) -> list[str]:
    levels = one["levels"]
    shown = [f"{levels[level]['shown']} ({levels[level]['interval']})" for level in ("low", "mid", "high")]
    today = levels["mid"]["today"]
    safe = one["safe_shown"] if one["safe"] > 0.0 else "none"
    return [safe, *shown, levels["mid"]["then"], advice_words.share(today["missed"]), f"{today['kills']:.0f}"]


def _about_ratio(summary: Mapping[str, Any]) -> str:
    every = len(summary["critical"]) == summary["history"]["vms"]
    most = many(summary["kills"], "time")
    kills = "no VM is killed" if summary["kills"] == 0 else f"VMs are killed at most {most} over the history"
    return ABOUT_RATIO.format(whose="VMs" if every else "critical VMs", slo=f"{100 * summary['slo']:g} %", kills=kills)


def _suffering(summary: Mapping[str, Any]) -> str:
    heads = ["VM", "seconds missed", "killed", "host swap read, GiB/h", "own swap read, GiB/h", "why"]
    parts = list[str]()
    for name, found in summary["suffering"].items():
        hurt = [row for row in found["vms"] if row["missed"] > 0.0 or row["kills"] > 0.0]
        which = "the first that fails" if found["failed"] else "the highest that was played, and nothing failed"
        said = f"Under {name} at a ratio of {found['ratio']:.2f}, {found['level']} reading: {which}."
        rows = [
            [row["name"], advice_words.share(row["missed"]), f"{row['kills']:.0f}", f"{row['host_swap_gib_an_hour']:.2f}",
             f"{row['guest_swap_gib_an_hour']:.2f}", row["why"]]
            for row in hurt
        ]  # fmt: skip
        parts.append(
            f"<p>{_text(said)}</p>" + (_why(_folded(heads, rows, "VMs")) if rows else "<p>Nobody misses anything.</p>")
        )
    return "".join(parts)


def _why(table: str) -> str:
    return f'<div class="why">{table}</div>'


def _at_once(summary: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    first, *others = advice_words.at_once(summary)
    return f"{_paragraphs([first])}<figure>{pictures['needed']}</figure>{_list(others)}"


def _settings(summary: Mapping[str, Any]) -> str:
    said = (
        f"As it was played on your hosts: each VM's floor is what it needs to hold {100 * summary['floor']:g} % of its history's "
        "working set (middle reading), kernel included, and less where hosts have no room for that."
    )
    best, *rivals = summary["settings"]
    folded = "".join(
        f"<details><summary>Settings for {_text(name)}, between which and {_text(best)} your data does not decide</summary>"
        f"{_blocks(summary['settings'][name])}</details>"
        for name in rivals
    )
    return f'<p>For {_text(best)}.</p><p class="dim">{_text(said)}</p>{_blocks(summary["settings"][best])}{folded}'


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> str:
    if not blocks:
        return "<p>Nothing is to be set.</p>"
    return "".join(
        f"<h3>{_text(block['where'])}</h3><pre>{_text(chr(10).join(block['lines']))}</pre>"
        + (f'<p class="dim">{_text(block["note"])}</p>' if block["note"] else "")
        for block in blocks
    )


def _questions(summary: Mapping[str, Any]) -> str:
    asked = "".join(
        f"<dt>{number}. {_text(one['question'])}</dt><dd>{_text(one['answer'])}</dd>"
        for number, one in enumerate(summary["questions"], 1)
    )
    return f"<dl>{asked}</dl>"


def _vms(summary: Mapping[str, Any]) -> str:
    hosts = ["host"] if summary["hosts"] > 1 else []
    heads = ["VM", *hosts, "configured, GiB", "works with (median, GiB)", "p99 low", "p99 middle", "p99 high", "floor, MiB",
             "demand was cut", "known"]  # fmt: skip
    rows = [
        [vm["name"], *([vm["host"]] if hosts else []), f"{vm['configured_gib']:g}", f"{vm['median_gib']:.1f}",
         *(f"{vm['p99_gib'][level]:.1f}" for level in ("low", "mid", "high")), f"{vm['floor_mib']:.0f}",
         advice_words.share(vm["censored"]), vm["evidence"]]
        for vm in summary["vms"]
    ]  # fmt: skip
    return _folded(heads, rows, "VMs")


def _about(summary: Mapping[str, Any]) -> str:
    history = summary["history"]
    lines = [
        f"Played: the {many(history['hardest'], 'hardest window')} of {history['window_s'] / 3600:g} h (highest sum "
        f"of working sets) and {history['random']} random ones that stand for all others, {100 * history['share']:.1f} % of "
        f"{advice_words.days(history['days'])} days from {history['first']} UTC on, a row every {history['row_s']} s.",
        f"Hypervisor {summary['hypervisor']}, {summary['rules']} rules: who needs what it does not have is not played.",
        "The figures are of a model. Intervals resample days, and say nothing of weeks that were not recorded.",
        f"Made by hvgym {summary['version']}, code {summary['code'][:12]}.",
    ]
    return f'<div class="dim">{_list(lines)}</div>'
