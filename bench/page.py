"""The report as one HTML page that needs nothing else: no other file, no network, no script.

It follows the reader's choice of light or dark. Tables that are too wide scroll, pictures shrink as long as they can be read and
then scroll too, time lines flow into as many columns as there is room for; so it reads on a telephone and in the pane of MLflow.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hvgym.bench import density_column, report_tables
from hvgym.bench.beaten import alarms
from hvgym.bench.looks import DARK, LIGHT
from hvgym.bench.pictures import SHOWN
from hvgym.bench.protocol import Protocol
from hvgym.bench.summary import doubts, not_played, not_scored
from hvgym.envs.errors import many

STYLE = """
:root{color-scheme:light dark;%(light)s}
@media (prefers-color-scheme:dark){:root{%(dark)s}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:76rem;margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0;overflow-wrap:anywhere} h2{font-size:1.2rem;margin:2.4rem 0 .4rem}
p,ul,summary{max-width:50rem} .dim{color:var(--dim);font-size:.9rem} .red{color:var(--alarm)} a{color:inherit}
nav{margin:.8rem 0;font-size:.9rem;line-height:1.9} nav a{margin-right:1.1rem;white-space:nowrap}
.scroll{overflow-x:auto;margin:.6rem 0;
background:linear-gradient(to left,var(--paper) 40%%,transparent) right/3rem 100%% no-repeat local,
linear-gradient(to left,var(--rule),transparent) right/1rem 100%% no-repeat scroll}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .55rem;text-align:right;vertical-align:top} td{white-space:nowrap} th{line-height:1.25;vertical-align:bottom}
thead th{border-bottom:2px solid var(--ink)} tbody tr{border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);white-space:normal;
overflow-wrap:anywhere;min-width:min(12rem,34vw);max-width:15rem}
.agent{display:inline-flex;align-items:baseline}
td small{display:block;color:var(--dim);font-size:.8em;line-height:1.2} td:first-child small{padding-left:1.45em}
.mark{flex:none;width:.8em;height:.8em;margin-right:.35em;position:relative;top:.05em}
.heat td:not(:first-child){text-align:center;min-width:2.9rem;padding:.3rem .2rem}
.tall th:not(:first-child){writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;padding:.5rem .3rem;
border-bottom:0;border-top:2px solid var(--ink)}
svg{display:block;width:100%%;stroke-linejoin:round;stroke-linecap:butt} svg.mark{display:inline-block;width:.8em}
svg text{font-family:system-ui,sans-serif}
.lines{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%%,21rem),1fr));gap:1rem}
figure{margin:0;min-width:0;overflow-x:auto} figcaption{font-size:.85rem;color:var(--dim)}
code{background:var(--rule);padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}
@media (max-width:30rem){th:first-child,td:first-child{max-width:8.5rem}}
@media print{.scroll,figure{overflow:visible}}
""" % {
    theme: ";".join(f"--{name}:{colour}" for name, colour in {**colours, "alarm": alarm}.items())
    for theme, colours, alarm in (("light", LIGHT, "#b3261e"), ("dark", DARK, "#ff8a80"))
}

ABOUT_SCORES = """\
Score 0 is stock, the hypervisor as shipped; 1 is the clairvoyant reference of the agent's seat (no proven bound), on the same
demand. Bars are 95 % intervals."""

ABOUT_FRONT = """\
An agent is on the front where no other does better in both: more work done, and fewer seconds in which critical VMs miss their
objective. References, which see the future, are shown and not counted. Means an episode over all scenarios, or in each where some
agents play only a part."""

ABOUT_COLUMNS = (
    "Figures are means an episode over all scenarios and seeds; the score is the mean over seeds of each scenario, and of these "
    "the interquartile mean over scenarios.",
    "SLO misses: seconds in which critical VMs missed their objective. Host swap: seconds with host swap traffic. p99 slowdown: "
    "over VMs and control intervals. Each kill and each failed start is charged in goodput.",
    "What an agent sees: P0 host only, P1 and balloon statistics, P2 and committed memory, P3 host and sampled activity, P4 and an "
    "agent in the guest. Its seat, below its name: inside the hypervisor, or outside as an operator's program. Below a score: its "
    "95 % interval.",
)

ABOUT_HOST = """\
Above the memory size of each VM, stacked, and the host's RAM. Below a row a VM: the stronger the colour, the slower it is, as
a share of what it would do alone on the machine. Colours of VMs stand beside their names."""

ABOUT_CLUSTER = """\
Above a row a VM, in the colour and with the number of the host that it is on; below the share of each host's memory that is used,
what is held for copies included. Lines break where a host is off; what happens to hosts stands at the dashed marks."""

UNRECORDED = " Kills and failed starts are not marked: this study was played before time lines kept them."


@dataclass(frozen=True)
class Pictures:
    """SVG by name, and what must be said beside them. episode: a picture an agent, with words below each; recorded: whether its
    kills are; off: agents that lie outside the picture of the front."""

    by_name: Mapping[str, str]
    scenario: str = ""
    episode: Sequence[tuple[str, str]] = ()
    cluster: bool = False
    recorded: bool = True
    off: Sequence[str] = ()


def page(protocol: Protocol, summary: Mapping[str, Any], pictures: Pictures) -> str:
    """The whole page."""
    plain = dict(summary)
    sections = [one for one in _sections(protocol, plain, pictures) if one[2]]
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections)
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, title, content in sections)
    suite = html.escape(protocol.suite.name)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>hvgym: {suite}</title>
<style>{STYLE}</style></head><body>
<h1>Suite {suite}</h1>
{_opening(protocol, plain)}
<nav>{links}</nav>
{body}
</body></html>"""


def _opening(protocol: Protocol, summary: dict[str, Any]) -> str:
    red = "".join(f'<p class="red"><strong>{html.escape(line)}</strong></p>' for line in alarms(summary))
    counts = ", ".join((
        many(len(summary["agents"]), "agent"),
        many(len(protocol.scenarios), "scenario"),
        many(protocol.suite.eval_seeds, "evaluation seed") + " each",
        many(protocol.suite.train_seeds, "training seed"),
    ))  # fmt: skip
    rules = html.escape(summary["rules"])
    return f"""<p>{report_tables.first_words(summary)}</p>{red}
<p class="dim">{counts}; rules {rules}; protocol <code>{protocol.hash}</code>.</p>"""


def _sections(protocol: Protocol, summary: dict[str, Any], pictures: Pictures) -> list[tuple[str, str, str]]:
    """Identifier, title and content; those without content are left out."""
    return [
        ("leaderboard", "Leaderboard", _leaderboard(summary, pictures)),
        ("compared", "Against the best heuristic", _compared(summary)),
        ("front", "Goodput and SLO misses", _front(pictures)),
        ("scenarios", "By scenario", _by_scenario(summary)),
        ("profile", "Performance profile", _profile(protocol, pictures)),
        ("training", "Training", _picture(pictures, "training")),
        ("episode", f"One episode of {html.escape(pictures.scenario)}", _episode(protocol, pictures)),
        ("not-played", "Not played", _refused(summary)),
        ("about", "About these figures", _about(summary)),
    ]


def _picture(pictures: Pictures, name: str) -> str:
    return f"<figure>{pictures.by_name[name]}</figure>" if name in pictures.by_name else ""


def _dim(text: str) -> str:
    return f'<p class="dim">{text}</p>'


def _leaderboard(summary: dict[str, Any], pictures: Pictures) -> str:
    density = _dim(html.escape(density_column.line(summary))) if "capacity" in summary else ""
    return f"{_dim(ABOUT_SCORES)}{_picture(pictures, 'leaderboard')}{report_tables.leaderboard(summary)}{density}"


def _compared(summary: dict[str, Any]) -> str:
    warnings = "".join(f"<p><strong>{html.escape(line)}</strong></p>" for line in doubts(summary))
    return f"{report_tables.compared(summary)}{warnings}"


def _front(pictures: Pictures) -> str:
    if "pareto" not in pictures.by_name:
        return ""
    off = f" Off the scale: {html.escape(', '.join(pictures.off))}." if pictures.off else ""
    return _dim(f"{ABOUT_FRONT}{off}") + _picture(pictures, "pareto")


def _by_scenario(summary: dict[str, Any]) -> str:
    refused = " A dash: not played; none: its seat has no score there." if summary["refused"] else ""
    return _dim(f"Mean score; blue is better than stock, orange worse.{refused}") + report_tables.by_scenario(summary)


def _profile(protocol: Protocol, pictures: Pictures) -> str:
    best = " The best agents and the references." if len(protocol.agents) > SHOWN else ""
    return _dim(f"How many of an agent's runs score above τ; the higher a line, the better.{best}") + _picture(
        pictures, "profile"
    )


def _episode(protocol: Protocol, pictures: Pictures) -> str:
    said = (ABOUT_CLUSTER if pictures.cluster else ABOUT_HOST) + ("" if pictures.recorded else UNRECORDED)
    figures = "".join(
        f"<figure>{one}<figcaption>{html.escape(words)}</figcaption></figure>" for one, words in pictures.episode
    )
    return f'{_dim(said)}<div class="lines">{figures}</div>' if figures else ""


def _refused(summary: dict[str, Any]) -> str:
    lines = not_played(summary)
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f"<p>Refused by the rules of this study.</p>{report_tables.folded(f'<ul>{items}</ul>', len(lines), 'refusals')}"
    )


def _about(summary: dict[str, Any]) -> str:
    clusters = [report_tables.ABOUT_CLUSTERS] if summary["clusters"] else []
    said = [
        *(f"{html.escape(line)}." for line in not_scored(summary)),
        *ABOUT_COLUMNS,
        *clusters,
        _code(summary["code"]),
    ]
    return f'<ul class="dim">{"".join(f"<li>{line}</li>" for line in said)}</ul>'


def _code(code: Mapping[str, Any]) -> str:
    """Which rows came from which code."""

    def shown(digest: str) -> str:
        return f"<code>{html.escape(digest)}</code>"

    outside = ", ".join(f"{html.escape(name)} by {shown(digest)}" for name, digest in code["outside"].items())
    others = f"The rows of {outside} (code outside the package), all others" if outside else "All rows were made"
    return f"{others} by the package's code {shown(code['hvgym'])}."
