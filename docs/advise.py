"""Writes docs/advise.md and its pictures from what ``make advise`` has run.

    python docs/advise.py runs/advise-docs

Figures of a folder of somebody's traces are carried over, rows are not.
"""

import html
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvgym.bench import advice_words

IMPORT = """hvgym import plain fleet.csv out=shop \\
  'columns={vm: machine, time: when, cap: size GiB, guest_used: used GiB, guest_cache: cache GiB,
            cpu_used: cores used, vcpus: cores, group: team}' \\
  'units={cap: GiB, guest_used: GiB, guest_cache: GiB, cpu_used: cores}'"""

SHOP = "hvgym advise workload=shop host.ram_mib=98304 hypervisor=kvm"
SPREAD = "hvgym advise workload=shop host.ram_mib=57344 hosts=3 hypervisor=esxi agents=[stock,static,esx]"
TRACES = (
    "hvgym import bitbrains DIR out=bitbrains",
    "hvgym advise workload=bitbrains host.ram_mib={ram} hypervisor=kvm agents=[stock,proxmox_tuned,mom_vdsm_tuned]",
)

HEAD = f"""# How full may my hosts be?

`hvgym advise` plays your own VMs, by name, on your hosts under the policies that can run there, and writes one page: how far you
may overcommit, how many VMs still fit, what you save, who suffers first and why, what happens if all use all they have or a host
fails, which settings to put where, and what your data cannot tell. This page is made by `make advise`; every figure comes from the
command beside it.

```
hvgym import SOURCE FILES out=DIR                               # what your tools recorded, as one table (import.md)
hvgym advise workload=DIR host.ram_mib=131072 hypervisor=kvm    # hosts=3 slo=0.005 kills=0 agents=all …
```

## A made-up shop

Twelve VMs, one week, a row a minute, in a format of nobody but its maker (`docs/advise_fleet.py`):

```
python docs/advise_fleet.py fleet.csv
{IMPORT}
```

The importer believes no unit that the numbers do not decide: 4.8 of page cache may be GiB, GB or per cent, so it asks, and `units=`
answers. Then, for one host of 96 GiB:

```
{SHOP}
```
"""

READING = """## How to read it

- **Ratio**: configured memory over the RAM of your hosts. It is searched with hosts of less and less RAM and the same VMs, demand
  and windows; your own hosts are one point of each curve. A ratio is safe where, there and at every smaller one that was played,
  critical VMs miss their objective in at most `slo=` of their seconds (all VMs, where none is critical) and no more than `kills=`
  are killed.
- **Readings**: a history seldom says how much memory a VM works with. *Low*, *middle* and *high* are what yours leaves open
  ([own-vms.md](own-vms.md)). What is called safe is safe at all three. Where the order of two policies changes between them, your
  data does not decide which is better; the page says what to record.
- **Intervals** resample whole days, for the hours of a day are alike. A policy that wins by one VM alone is told with its name.
- **Windows**: the hardest hours are all played, and hours drawn evenly over the rest stand for the others. The page states which
  share of the history that is. `hardest=` and `random=` play more.
- **Floors**: each VM has the smallest size that holds 99 % of its working set at the middle reading (`floor=`), less where the host
  has no room for all of them; that is what the settings say. Policies are played with them.
- **Hosts**: `hosts=3` spreads the VMs evenly over three hosts alike. N+1 is the ratio with one host less against the safe one.
- Swap of the host is taken to be as large as its RAM, and CPU to be enough, unless `host.swap_mib=` and `host.pcpus=` say
  otherwise.
- The figures are of a model ([validation.md](validation.md)), and of the weeks that were recorded.

The page, its figures (`advice.json`) and the MLflow experiment `advise/NAME` are the same to the bit for the same input. A command
that was stopped goes on when it is given again."""


def part(folder: Path, docs: Path, name: str, pictures: bool) -> list[str]:
    """What the page of one advice says, in short."""
    data = json.loads((folder / "advice.json").read_text(encoding="utf-8"))
    lines = ["", *(one for line in _quoted(data) for one in wrapped(line, "> ")), ""]
    if pictures:
        shutil.copyfile(folder / "advice.png", docs / f"advise_{name}.png")
        lines += [f"![safe ratios at three readings](advise_{name}.png)", ""]
    return [*lines, *_table(data), "", *_more(data)]


def _quoted(data: dict[str, Any]) -> list[str]:
    said = [*data["verdict"], *advice_words.savings(data), advice_words.at_once(data)[0], advice_words.n_plus_one(data)]
    return [line for sentence in said for line in (sentence, "")][:-1]


def _table(data: dict[str, Any]) -> list[str]:
    lines = ["| policy | safe | low | middle | high | then (middle) |", "|---|---|---|---|---|---|"]
    for name, one in data["policies"].items():
        levels = one["levels"]
        shown = " | ".join(
            f"{levels[level]['shown']} ({levels[level]['interval']})" for level in ("low", "mid", "high")
        )
        safe = one["safe_shown"] if one["safe"] else "none"
        lines.append(f"| {name} | {safe} | {shown} | {levels['mid']['then']} |")
    return lines


def _more(data: dict[str, Any]) -> list[str]:
    name, found = next(iter(data["suffering"].items()))
    hurt = [row for row in found["vms"] if row["missed"] > 0.0 or row["kills"] > 0.0][:4]
    lines = list[str]()
    if hurt:
        lines += [f"Who suffers first under {name}, at a ratio of {found['ratio']:.2f} ({found['level']} reading):", ""]
        said = (f"{html.escape(row['name'])}: {advice_words.share(row['missed'])} missed; {row['why']}" for row in hurt)
        lines += [one for line in said for one in wrapped(line, "- ", "  ")]
    blocks = data["settings"][data["best"]]
    lines += ["", f"Settings for {data['best']}, the first lines of each place:", "", "```"]
    for block in blocks:
        lines += [f"# {block['where']}", *block["lines"][:3], *(["…"] if len(block["lines"]) > 3 else [])]
    history = data["history"]
    share, length = f"{100 * history['share']:.1f} %", f"{history['window_s'] / 3600:g} h"
    played = f"Played: {history['hardest']} hardest windows and {history['random']} random ones of {length}"
    lines += ["```", "", f"{played}, {share} of {advice_words.days(history['days'])} days."]
    unknown = [one for line in data["unknown"] for one in wrapped(line, "- ", "  ")]
    return [*lines, "", "What the data cannot tell:", "", *unknown, ""]


def wrapped(line: str, first: str, later: str | None = None) -> list[str]:
    """A sentence on lines of the page's width, each after what begins it."""
    begun = textwrap.wrap(
        line, 128, initial_indent=first, subsequent_indent=first if later is None else later, break_on_hyphens=False
    )
    return begun or [first.rstrip()]


def traces(folder: Path, docs: Path) -> list[str]:
    """The section of a folder of traces, made anew or as it stands on the page."""
    if (folder / "advice.json").exists():
        data = json.loads((folder / "advice.json").read_text(encoding="utf-8"))
        commands = [line.format(ram=round(1024 * data["host_ram_gib"])) for line in TRACES]
        said = [
            "## Bitbrains (GWA-T-12)",
            "",
            f"A folder of the archive's files, a CSV a VM; here {data['history']['vms']} VMs of 2013-8, whose names are numbers, "
            f"on one host of {data['host_ram_gib']:.0f} GiB.",
            "",
            "```",
            *commands,
            "```",
        ]
        return [*said, *part(folder, docs, "bitbrains", pictures=True)]
    old = (docs / "advise.md").read_text(encoding="utf-8") if (docs / "advise.md").exists() else ""
    found = re.search(r"^## Bitbrains.*?(?=^## How to read it)", old, re.M | re.S)
    return [found.group().rstrip(), ""] if found else []


def main(arguments: Sequence[str]) -> None:
    """Write the page."""
    advice, docs = Path(arguments[0]) / "advice", Path(__file__).parent
    lines = [HEAD, *part(advice / "shop", docs, "shop", pictures=True)]
    lines += ["## Three hosts", "", "The same VMs over three hosts of 56 GiB under ESXi:", "", "```", SPREAD, "```"]
    lines += part(advice / "shop-esxi", docs, "shop_esxi", pictures=False)
    lines += traces(advice / "bitbrains", docs)
    text = "\n".join([*lines, READING]) + "\n"
    (docs / "advise.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
