"""Writes docs/tour.md, its pictures in docs/tour/, and docs/tour.ipynb: ten experiments for half an hour (``make tour``).

Each is one command of hvgym, run here as a reader would; its picture is the one that the command leaves, and the sentence that
answers its question takes the figures from what the command wrote or printed. tests/test_tour.py runs the notebook and holds the
page to the figures that come out.
"""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvgym.scripts import cli

FOLDER = Path(__file__).resolve().parent
PICTURES = "tour"
"""Folder of the pictures, beside the page."""

WIDTH = 120
"""Characters of a line of the commands' own tables here."""

LINE = 120
"""Characters of a line of code."""

HEAD = """# A tour in ten experiments

For half an hour at a terminal: ten commands, each with one question, its picture, and a sentence that answers it. Figures and
pictures are the commands' own (`make tour` writes this page), and a test runs every command. The same is a notebook,
[tour.ipynb](tour.ipynb).

Each command writes into a folder of its own below the current one. `hvgym lab --help`, `hvgym demo --help` and
`hvgym capacity --help` name the keys to play with: the best way to learn is to change one number and to guess first.
"""

CELL = """import contextlib
from pathlib import Path

from hvgym.scripts import cli


def run(*words, picture):
    \"\"\"Run a command of hvgym, and show the picture that it leaves.\"\"\"
    if cli.main([*words]) != 0:
        raise RuntimeError(f"hvgym {' '.join(words)} has failed")
    with contextlib.suppress(ImportError):  # not in a notebook
        from IPython.display import Image, display

        display(Image(Path(picture).read_bytes()))
"""


def rows(file: Path) -> list[dict[str, str]]:
    """Lines of a CSV file by the names of its columns."""
    with file.open() as opened:
        return list(csv.DictReader(opened))


def data(file: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(file.read_text())


def missed_s(text: str) -> dict[str, float]:
    """By agent, seconds in which critical VMs missed their objective, from the last lines of a demo."""
    return {
        agent: float(seconds)
        for agent, seconds in re.findall(r"(\w+): goodput .* missed their objective for (\d+) s", text)
    }


def goodputs(text: str) -> dict[str, float]:
    """By agent, from the last lines of a demo."""
    return {agent: float(goodput) for agent, goodput in re.findall(r"^(\w+): goodput (-?\d+\.\d+)", text, re.MULTILINE)}


def balloon(text: str, folder: Path) -> str:
    """What a squeeze takes, and what is left of its cost half a minute after its end."""
    seconds = rows(folder / "lab.csv")
    sizes = [float(row["actual_mib"]) for row in seconds]
    least = min(sizes)
    taken_s = next(int(float(row["t_s"])) for row in seconds if float(row["actual_mib"]) == least) - 10
    misses = [float(row["miss"]) for row in seconds]
    return (
        f"The balloon takes {sizes[0] - least:.0f} MiB in {taken_s} s; then {misses[58]:.0%} of the workload's touches miss, and "
        f"half a minute after the memory is back still {misses[-1]:.0%}, for pages come back only as they are touched."
    )


def overcommit(text: str, folder: Path) -> str:
    """Ratios of two agents."""
    found = data(folder / "studies" / "overcommit" / "capacity" / "capacity.json")["agents"]
    static, coldest = found["static"], found["coldest_first"]
    return (
        f"Where nobody takes memory back but the host's own swap, up to {static['density']:.2f} times its RAM; where the longest "
        f"idle pages are ballooned away first, up to {coldest['density']:.2f} times: "
        f"{coldest['vms_a_host']:.0f} VMs on a host in place "
        f"of {static['vms_a_host']:.0f}."
    )


def host_swap(text: str, folder: Path) -> str:
    """Goodput with and without balloons."""
    found = goodputs(text)
    return (
        f"The balloon: goodput is {found['esx_equal']:.3f} where every VM gives the same share of its memory, and "
        f"{found['static']:.3f} where nobody is ballooned and ESXi swaps pages that it picks at random; the "
        f"guest knows which are "
        "idle, the host does not."
    )


def sharing(text: str, folder: Path) -> str:
    """What ksmtuned merges, and what it costs."""
    found, merged = goodputs(text), re.search(r"(\d+\.\d) merged away", text)
    if merged is None:
        raise RuntimeError("nothing is merged")
    return (
        f"It merges {merged[1]} GiB away after ten minutes, and its scanner costs CPU: goodput is "
        f"{found['ksmtuned']:.3f} with it "
        f"and {found['static']:.3f} without, on a host whose swap is fast: there it does not pay."
    )


def device(folder: Path) -> Callable[[str], tuple[float, float]]:
    """By a device's name, the most that it serves a second, and cycles a request when there are few."""
    lines = rows(folder / "lab.csv")

    def of(name: str) -> tuple[float, float]:
        mine = [row for row in lines if row["device"] == name]
        return max(float(row["served_per_s"]) for row in mine), float(mine[0]["cycles_per_request"])

    return of


def types(text: str, folder: Path) -> str:
    """One NIC on ESXi and on a hypervisor that is a program of another system."""
    (bare, bare_cycles), (hosted, hosted_cycles) = map(device(folder), ("vmxnet3", "vmxnet3-hosted"))
    return (
        f"The same paravirtual NIC carries {bare:,.0f} packets a second on a Type 1 hypervisor and {hosted:,.0f} where each of "
        f"them passes a second system, {bare / hosted:.0f} times fewer, at {hosted_cycles / bare_cycles:.1f} "
        f"times the CPU time each."
    )


def emulation(text: str, folder: Path) -> str:
    """e1000 against virtio and vhost."""
    (e1000, cycles), (virtio, _), (vhost, vhost_cycles) = map(device(folder), ("e1000", "virtio-net", "vhost-net"))
    return (
        f"An emulated e1000 fills its vCPU at {e1000:,.0f} packets a second, virtio serves {virtio:,.0f}, and {vhost:,.0f} with "
        f"its backend in the kernel (vhost): a packet costs {cycles:,.0f} cycles on the first and "
        f"{vhost_cycles:,.0f} on the last."
    )


def bandwidth(text: str, folder: Path) -> str:
    """Backups beside a database."""
    found, missed = goodputs(text), missed_s(text)
    return (
        f"As shipped, database and front end miss their objectives in {missed['stock']:.0f} seconds of twenty minutes, with a "
        f"latency target for them, as Linux's io.latency has it, in {missed['io_latency']:.0f}; goodput of all "
        f"VMs is {found['stock']:.3f} "
        f"and {found['io_latency']:.3f}."
    )


def java(text: str, folder: Path) -> str:
    """A fifth of the heap, taken by two balloons."""
    taken = [row for row in rows(folder / "lab.csv") if row["taken_share"] == "0.2"]
    found = {row["taken_by"]: (float(row["time"]), float(row["full_pause_s"])) for row in taken}
    blind, aware = found["sata_ssd"], found["heap-aware balloon"]
    return (
        f"Taking a fifth of an idle-looking heap makes h2 {blind[0]:.1f} times as slow and a full collection {blind[1]:.2f} s "
        f"long, for the collector touches what was swapped (to a SATA SSD); a balloon that sits in the heap "
        f"costs {aware[0]:.2f} times, "
        f"and {aware[1]:.2f} s."
    )


def migration(text: str, folder: Path) -> str:
    """Rates of writing at which a copy ends, and at which it does not."""
    copies = data(folder / "summary.json")
    done = [copy for copy in copies if copy["result"] == "done"]
    never = next(copy for copy in copies if copy["result"] != "done")
    idle, last = done[0], done[-1]
    return (
        f"As long as it writes slower than the link sends: an idle guest has moved after {idle['total_s']:.1f} s, one that "
        f"touches {last['touches_per_s']:,.0f} pages a second after {last['total_s']:.1f} s, standing still for "
        f"{last['downtime_ms']:.0f} "
        f"ms, and at {never['touches_per_s']:,.0f} a second the copy never ends."
    )


def failure(text: str, folder: Path) -> str:
    """The time line of Proxmox."""
    found = data(folder / "summary.json")
    return (
        f"{found['all_back_s']} s: for {found['noticed_s']:.0f} s nobody is sure, for as long again the host's "
        f"watchdog may still "
        f"be running (fenced after {found['fenced_s']:.0f} s), and only the rest is spent on starting the VMs elsewhere."
    )


@dataclass(frozen=True)
class Experiment:
    """One of the tour. command: as typed, without ``hvgym``; picture: the file that it leaves; answer: one sentence from what the
    command printed and left."""

    name: str
    title: str
    question: str
    command: str
    picture: str
    answer: Callable[[str, Path], str]

    @property
    def words(self) -> list[str]:
        """Of the command."""
        return shlex.split(self.command)

    @property
    def shown(self) -> str:
        """Its picture beside the page."""
        return f"{PICTURES}/{self.name}{Path(self.picture).suffix}"


DEMO = "demo scenario={} agent=[{}] speed=0 record={}/demo.gif"

EXPERIMENTS = (
    Experiment(
        "balloon", "A balloon", "How fast does a guest give memory back, and what does it pay?",
        'lab "schedule=[[0,512],[10,210],[60,512]]" out=balloon', "balloon/lab.png", balloon,
    ),
    Experiment(
        "overcommit", "Overcommit", "How much memory may be promised on a host before important VMs suffer?",
        "capacity scenario=idle-giants-short hypervisor=kvm agents=[static,coldest_first] fleets=2 step=0.25 slo=0.02 workers=1 "
        "tracking=none study=overcommit runs=overcommit",
        "overcommit/studies/overcommit/capacity/capacity.png", overcommit,
    ),
    Experiment(
        "host-swap", "Host swap against balloon",
        "When memory is short, who should choose the pages that go: the host, or the guest?",
        DEMO.format("idle-giants-short", "static,esx_equal", "host-swap"), "host-swap/demo.gif", host_swap,
    ),
    Experiment(
        "sharing", "Page sharing", "What does merging equal pages give, and what does it cost?",
        DEMO.format("idle-giants-short hypervisor=kvm", "static,ksmtuned", "sharing"), "sharing/demo.gif", sharing,
    ),
    Experiment(
        "types", "Type 1 against Type 2", "What does a second system below the hypervisor cost?",
        "lab device=[vmxnet3,vmxnet3-hosted] out=types", "types/lab.png", types,
    ),
    Experiment(
        "emulation", "Emulated against paravirtual I/O", "Why does a guest get a driver that knows that it is a guest?",
        "lab device=[e1000,virtio-net,vhost-net] out=emulation", "emulation/lab.png", emulation,
    ),
    Experiment(
        "bandwidth", "Bandwidth for a critical VM", "What becomes of a database when backups run beside it?",
        DEMO.format("backup-window seconds=1200", "stock,io_latency", "bandwidth"), "bandwidth/demo.gif", bandwidth,
    ),
    Experiment(
        "java", "A JVM under a balloon", "May one take memory from a Java heap that looks idle?",
        "lab jvm=h2 out=java", "java/lab.png", java,
    ),
    Experiment(
        "migration", "Live migration", "Until when can a guest be moved while it works?",
        "lab migrate=precopy hot_mib=128 write_share=1 sweep=dirty values=[0,5000,10000,15000,20000] out=migration",
        "migration/lab.png", migration,
    ),
    Experiment(
        "failure", "A host that dies", "How long are its VMs away, and what takes so long?",
        "lab fail=power stack=proxmox out=failure", "failure/lab.png", failure,
    ),
)  # fmt: skip


def folder_of(experiment: Experiment) -> Path:
    """In which its command leaves its files, below the current folder."""
    return Path(experiment.name)


def run(experiment: Experiment) -> tuple[str, str]:
    """Run its command in the current folder; what it printed, and the answer."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main(experiment.words)
    if code != 0:
        raise RuntimeError(f"hvgym {experiment.command}: exit code {code}")
    return printed.getvalue(), experiment.answer(printed.getvalue(), folder_of(experiment))


def page(answers: Mapping[str, str]) -> str:
    """The page, of answers by name."""
    parts = [
        f"\n## {number}. {one.title}\n\n*{one.question}*\n\n```\nhvgym {one.command}\n```\n\n"
        f"![{one.title}]({one.shown})\n\n{textwrap.fill(answers[one.name], 130)}\n"
        for number, one in enumerate(EXPERIMENTS, 1)
    ]
    return HEAD + "".join(parts)


def notebook(answers: Mapping[str, str]) -> str:
    """The same as a notebook without outputs, in the format of nbformat 4.4."""
    first = HEAD.replace(" The same is a notebook,\n[tour.ipynb](tour.ipynb).", "")
    cells = [_cell("markdown", first.strip()), _cell("code", CELL.strip())]
    for number, one in enumerate(EXPERIMENTS, 1):
        cells.append(_cell("markdown", f"## {number}. {one.title}\n\n*{one.question}*"))
        cells.append(_cell("code", _call([*map(json.dumps, one.words), f"picture={json.dumps(one.picture)}"])))
        cells.append(_cell("markdown", answers[one.name]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _call(arguments: list[str]) -> str:
    """A call of `run`, as ruff formats it."""
    line = f"run({', '.join(arguments)})"
    return line if len(line) <= LINE else "run(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _cell(kind: str, text: str) -> dict[str, Any]:
    own = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, **own, "source": text.splitlines(keepends=True)}


def main() -> None:
    """Run all, and write page, pictures and notebook."""
    os.environ["COLUMNS"] = str(WIDTH)
    answers, here = {}, Path.cwd()
    (FOLDER / PICTURES).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            for experiment in EXPERIMENTS:
                _, answers[experiment.name] = run(experiment)
                shutil.copyfile(experiment.picture, FOLDER / experiment.shown)
                print(f"{experiment.title}: {answers[experiment.name]}", flush=True)
        finally:
            os.chdir(here)
    (FOLDER / "tour.md").write_text(page(answers))
    (FOLDER / "tour.ipynb").write_text(notebook(answers))


if __name__ == "__main__":
    sys.exit(main())
