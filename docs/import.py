"""Writes docs/import.md: what each source reads and the command that makes its files, the plain table, the checks:
``make import-docs``."""

import sys
from pathlib import Path

from hvgym.envs.imports import sanity, trials
from hvgym.envs.imports.lifetimes import MOST_CARRIED
from hvgym.envs.imports.registry import sources
from hvgym.envs.imports.source import MEMORY_UNITS, QUANTITIES, SHARE_UNITS, Column, Source
from hvgym.envs.imports.table import FLAGS, MEMORY, META, SAMPLES
from hvgym.envs.imports.tally import MOST_WRONG

INTRODUCTION = """\
# Your own VMs

Written by `make import-docs`, sources and columns from the code.

Export what your tools know of your VMs (two weeks or more; each source below has the one command that does it), and then

```
hvgym import SOURCE FILES… check=true        # what would be read as what, and why; nothing is written
hvgym import SOURCE FILES… out=DIR           # one plain table
hvgym advise workload=DIR host.ram_mib=… hypervisor=…
```

FILES are files, packed (gzip) or not, or folders. Rows wait on the disk beside `out`, sorted by VM, and are converted
some VMs at a time: 2,000 VMs in plain files of 96 MB and of 482 MB took 0.6 and 0.65 GiB of memory (24 s and 2.5 minutes
on a busy machine). All rows of one VM are in memory at once: three VMs in a file of 474 MB, every second, took 1.5 GiB.
While an import runs nothing is at `out`, or the import before it; what fails or is interrupted leaves nothing. The same
files in the same order give the same bytes. Put paths with spaces or brackets in quotes, as for any command; `columns=`
and `units=` too, for the shell: `'columns={vm: name, cap: Memory [KB]}'`.

Units and clocks are not believed but tested, and exactly one reading has to pass. Where two do, or where the data
contradict what the documentation of a source says, the import stops with both, what each means for one of your VMs, and the
key that decides: `units={cap: KiB}`, `units={time: ms}`, `zone=Europe/Berlin`.

| key | |
|---|---|
| `columns={vm: NAME, time: NAME, cap: NAME, …}` | names in the file, of any quantity below; `plain` needs them |
| `units={cap: KiB, net_rx: B/s, time: ms}` | decides a unit, see below |
| `zone=Europe/Berlin` | of dates that name none; an hour that clocks repeat or skip is refused |
| `caps={vm-1: 4096}` or `caps=FILE.csv` (`vm,mib`) | configured memory in MiB, where the files do not say it |
| `groups=FILE.csv` (`vm,group`) | which application or tenant a VM belongs to: its VMs stay together when VMs are divided |
| `anonymise=true` | ten digits of SHA-256 in place of the names of VMs, hosts and groups; no file names. Two imports agree |

Units of memory are {memory}, and {shares} of configured memory; with `/s` a rate, without a level or a counter. Those of CPU are
cores, share, percent, percent_of_core and MHz, of CPU time s, ms, us and ns.

"""

CHECKS = """\
## What is tested

**Clock.** Times are seconds, ms, us or ns since 1970 by their size, whatever a header says, or count from a start of their own; the
step has to be 1 s to a day, and the end not yet to come. From a start of their own they may be min, h or d: where seconds would be
a second apart or an hour in all, the import stops and `units={{time: min}}` decides. A missing or doubled hour on a Sunday night in
March, October or November, in most VMs, is local time: it asks for the zone.

**Configured memory.** {enough:g} % of VMs have 64 MiB to 32 TiB and the one in the middle 256 MiB to 256 GiB, which one of B, KiB,
MiB and GiB does. {grain:.0f} % of sizes have to be multiples of 128 MiB, or else of 1 MiB (KiB) or 4 MiB (MiB, GiB), to tell KiB
from KB.

**Memory in use**, in {enough:g} % of rows: {bounds} of configured memory ({more} more for backed). Not less than 128 MiB
(32 MiB in numbers over 102, which are no per cent) or 10 % of its size, whichever is less, at the peak of the VM in the
middle, for what a running VM always has. Per cent are told from shares by passing 1 %.

**CPU and counters.** CPU passes neither the VM's CPUs nor 1,024. How little a VM waits for CPU tells no unit:
documentation decides, or you do. What falls in under 10 % of its changes is a counter whatever documentation says, in
over 35 % a gauge; between these, or in fewer than 20 changes, it is what the documented unit says. A counter that falls
began anew. Rates end at 1e12 bytes a second. A unit that you say is believed but where 200 changes or more contradict
it: a rate that falls in under 1 % of them, a counter of bytes that falls in over 35 %. What disk, network, swap and
faults are in no test can tell: it is what the documentation says, and the manifest says so.

**What columns are.** One that never changes in {allotted:.0f} % of VMs is what they were allotted, not what they use. What a guest
could still use that never changes in as many was told once.
25 values or more of a VM on a grid of 1/100 or 1/1500 of its size are sampled active memory. Used memory that rises with
free memory is one of them under a wrong name. Virtual CPUs are whole numbers from 1 to 1,024. A VM that stays below 1.01 per
cent of memory where most others pass 5 is a share. These end the import. A column of nothing but 0 is unknown.

**Rows.** Impossible values become unknown and are counted (guests that use, or hosts that hold, less than 1/512 of a
VM's size and 64 MiB among them: a unit that only some rows are in); more than {wrong:g} % of them end the import.
Guests whose numbers stand still for two hours while CPU or network move (where a file has neither, for a day), or whose
last answer is older than five minutes (or three steps), are unknown there, their swap and faults too; numbers in whole MiB
may for a day, in whole per cent or hundredths of GiB they may stand still. 0 is unknown for what a running VM always has. A
row that two exports have counts once; of a VM that two hosts report the running one counts. But where use is known on both at once
for an hour and 20 rows, and their sizes differ by 2 % or what they use by 10 %, they are two VMs of one name, `NAME@HOST`; `caps=`
and `groups=` may call them so, or both by their name.

**Lives.** A gap of up to {carried} steps is carried forward. A longer one is *off* where counters began anew, *not looked
at* where they went on or most VMs are missing, and else not known. A VM arrives or leaves where its rows begin or end three
steps and an hour from the ends of the history; where a third of all do at once, the collector did. The same name with
another UUID, or with another size after an hour's gap in which counters began anew, is another VM: `name#2`.

**Steps.** Over 5 minutes: policies that act within minutes cannot be judged. Over 30 minutes: planning of occupancy only.

These limits are guesses at what fleets look like, each named in `envs/imports`. Not tested: host
memory behind VMs against the host's RAM, which no file says, and daily profiles that shift by an hour, which UTC has too.

## When something is wrong

One line names file, line, column, value and what would be right, the exit code is 2, and nothing is written. Empty, binary
and cut off files are such lines, and so are a gzip that unpacks to more than 250 times its size, rows of another width than
the header, more than 262,144 columns, separators of thousands (in `plain` a column in which three digits follow each comma,
which may be either), and decimal commas beside points. UTF-16 with its mark, decimal commas (of `plain`, in quotes too), and
JSON in one document or one a line are read. A unit that the data contradict looks like this (a line, folded here):

```
hvgym: 'guest_used_bytes' (guest_used): documentation says B, which the data contradict. vm-0 has 980512: as B 958 KiB (100
% of rows within what a VM can have, peaks 0.059 % of it); as KiB 958 MiB (100 % of rows within what a VM can have, peaks 61
% of it); as KB 935 MiB (100 % of rows within what a VM can have, peaks 59 % of it). Say which it is: units={{guest_used:
KiB}}
```
"""


def _source(source: Source) -> list[str]:
    files = ", ".join(f"`{pattern}`" for pattern in source.patterns)
    lines = [
        f"### {source.name}: {source.title}",
        "",
        "```",
        source.command,
        "```",
        "",
        f"Of a folder {files} are read.",
        "",
    ]
    if source.notes:
        lines += [*(f"- {note}" for note in source.notes), ""]
    if source.licence:
        lines += [f"Licence: {source.licence}", ""]
    lines += ["| column | is read as | documented unit |", "|---|---|---|"]
    return [*lines, *map(_column, source.columns), ""]


def _column(column: Column) -> str:
    unit = column.unit or "told by tests"
    zero = ", 0 is unknown" if column.zero == "unknown" else ""
    return f"| `{column.title}` | {column.quantity} | {unit}{', a counter' if column.kind == 'counter' else ''}{zero} |".replace(
        "||", "| |"
    )


def _fields(title: str, fields: object) -> list[str]:
    lines = [title, "", "| column | unit | |", "|---|---|---|"]
    return [*lines, *(f"| `{name}` | {field.unit} | {field.title} |" for name, field in fields.items()), ""]  # type: ignore[attr-defined]


TABLE = """\
## The plain table

`DIR/vm_samples/part-NNN.parquet`, `DIR/vm_meta.parquet`, `DIR/manifest.json` (source, command, clock, every column with
unit and evidence, checks and what they found, SHA-256 of each file) and `DIR/import.txt`, which is what `check=true`
prints. Null is unknown, never 0. It may be written by hand, as `vm_samples.csv` and `vm_meta.csv` (or `.csv.gz`): the first
three columns, `cap_bytes` and one of {memory} have to be there; without vm_meta lives are those of the rows.

A row covers the time from its end less its interval to its end. Rows of maxima (`agg` max) stand beside those of means. A
gap of more than three steps is one row that covers it: `power` off where the VM was off, else `power` unknown with flag
`gap` and the values before it, which nobody should score.
"""


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION.replace("{memory}", ", ".join(MEMORY_UNITS)).replace("{shares}", ", ".join(SHARE_UNITS))]
    lines += ["## Sources", ""]
    for source in sources().values():
        lines += _source(source)
    lines += ["## Quantities", "", "| name in `columns=` and `units=` | |", "|---|---|"]
    lines += [*(f"| {name} | {meaning} |" for name, meaning in QUANTITIES.items()), ""]
    lines += [TABLE.format(memory=", ".join(f"`{name}`" for name in MEMORY))]
    lines += _fields("### vm_samples", SAMPLES) + _fields("### vm_meta", META)
    lines += ["### flags", "", "| bit | |", "|---|---|", *(f"| {bit} | {name} |" for name, bit in FLAGS.items()), ""]
    bounds = ", ".join(f"{name} {100 * most:g} %" for name, most in trials.MOST.items())
    lines += [
        CHECKS.format(
            enough=100 * trials.ENOUGH, grain=100 * trials.CAPS_ON_GRAIN, bounds=bounds, more=trials.human(trials.BACKED_MORE),
            allotted=100 * sanity.ALLOTTED, wrong=100 * MOST_WRONG, carried=MOST_CARRIED,
        ).rstrip()
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write it."""
    path = Path(__file__).with_suffix(".md")
    path.write_text(page())
    print(path, file=sys.stdout)


if __name__ == "__main__":
    main()
