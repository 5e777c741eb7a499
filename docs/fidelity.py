"""Writes docs/fidelity.md: the same policies on the same stories, on real guests and in the simulator (``make fidelity``).

    python docs/fidelity.py FOLDER [scenarios=a,b] [policies=a,b] [seeds=2] [play=false]

plays what is not in FOLDER yet, then writes the page from all that was asked for and is there; play=false only writes it. Figures
are ``bench.fidelity_figures``'s, moves ``bench.fidelity_moves``'s.
"""

import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fidelity_pictures as pictures
import numpy as np

from hvgym.bench import fidelity, fidelity_figures, fidelity_moves
from hvgym.bench.real_episode import folder_of_guests
from hvgym.envs.errors import InputError
from hvgym.envs.real.guests import crowding, moving
from hvgym.envs.real.guests.image import built
from hvgym.envs.real.guests.machines import accelerator
from hvgym.envs.scenario import load

DOCS = Path(__file__).resolve().parent
RUNS = DOCS.parent / "runs"
PICTURES = DOCS / "fidelity"
WIDTH = 118

SETTINGS = textwrap.fill(
    "- **Policies** have the settings of their YAML, but for periods that are too long for two minutes and sizes made for larger "
    "hosts: "
    + "; ".join(
        f"{name} {', '.join(f'{key}={value:g}' for key, value in settings.items())}"
        for name, settings in fidelity.POLICIES.items()
        if settings
    )
    + ". With a share of 1 every VM has all of its memory, and the host swaps.",
    WIDTH, subsequent_indent="  ",
)  # fmt: skip

WANTED_TAU = 0.8
"""Set before anything was played."""

HEAD = f"""# Fidelity

Made by `make fidelity` (`make fidelity POLICIES=a,b SCENARIOS=a,b SEEDS=2` plays less, `PLAY=false` only writes the page; it goes
on where it stopped). Real guests, booted by QEMU on one machine, and the simulator play the same stories under the same policy
objects with the same periods; [your own hosts](own-hosts.md) says how guests are made, and `hvgym real` plays one episode.
Scenarios: `hvgym describe scenario=NAME`.

- **Real**: 4 KiB pages on both sides, guests confined to the scenario's RAM by a control group, swap of guests in memory with the
  scenario's operations a second, host swap on disk with the scenario's reads a second. The limit is lowered step by step while
  guests run, then all run for three touch periods, then the story begins: warm, in the model too, whatever `settled_cold` says.
- **Model**: an ordinary rollout of the scenario. Four things are taken from the machine: how its kernel chooses what it swaps,
  which signals there are (a policy reads none in the model that the real host does not give), what a guest's process holds beside
  the guest (some 65 MiB), and which share of the guests' free memory the host backs as the story begins (guests have just booted
  and have never touched most of it). Two keys of the guests were read from these very episodes, one value for all stories:
  `boot_only_mib`, 100 MiB of kernel and process that are used only while booting, which a short host swaps first and nobody reads
  back, and `handed_out_last_mib`, 24 MiB. So that stock and best_constant agree on guests-idle-giant is no test of the model.
{SETTINGS}
- **Progress** is the mean over VMs and seconds of the share of touches that were done. **Misses** are seconds in which a critical
  VM did less than its objective allows (`slo_slowdown`); a scenario without critical VMs has none. **Kills** are guests that ended.
- **Seeds**: on real guests a seed changes the order in which pages are touched, and each run what the machine does besides. A story
  draws nothing, so the model's figures are one run's.
- **Older**: `learned_sizes` was played with the weights of before; those that the package brings now
  ([learned](learned.md)) have not been played on real guests.
- **A busy machine** makes guests late for reasons that are no policy's. An episode counts only if no guest waited for a
  processor for more than {crowding.MOST_WAITED:.0%} of its time and {crowding.MOST_STOLEN:.0%} of the machine's processors at most
  were stolen from it; others are played again.

"""

READING = f"""## How far the two agree

Kendall's tau-b of mean progress, with a 95 % interval from drawing policies and seeds again; wanted, before anything was played,
{WANTED_TAU:g} pooled. A pair of policies is *decided* where real means differ by more than twice the standard error of their
difference (and by {fidelity_figures.REPEAT:g} at least); *alike* are decided pairs that the model puts in the same order. *Near* is
a progress within {fidelity_figures.NEAR:g}.

"""

PARTING = f"""## Where they part

VMs whose progress differs by more than {fidelity_figures.NEAR:g}: major faults in the guest over the episode, MiB that it wrote to
its swap, MiB that the host read back for it, and its mean size, measured / model.

"""

WHY: Mapping[str, str] = {
    "real-guests": (
        "under best_constant the host has swapped 85, 32 and 17 MiB of the three guests at the end, in the model 44, 43 and 48: "
        "there what only booting used goes of each guest alike. Nobody reads it back in either, so progress does not show it."
    ),
    "guests-idle-giant": (
        "under mom_vdsm the real guests are squeezed further, to 351, 164 and 152 MiB, for 370, 186 and 155. MOM shrinks "
        "guests while less than 5 % of the host is free, and the real host counts pages as used that its swap read ahead and "
        "nobody has mapped: played again with a look at the control group, 632 MiB were in use at the end and 604 of them held by "
        "processes. The model has no such pages. Guests squeezed hard lose some hot pages in reality (the giant's faults, progress "
        "0.90 to 0.94): pages that were never looked at look all alike to their kernel at first, and in the model it has known "
        "their ages for long. What the host read back is counted by faults in reality and by pages, read-ahead included, in the "
        "model."
    ),
}
"""What the partings of a scenario come from, in words, once it has been looked into."""

MOVING = """## Live migration

A guest of 512 MiB is copied between two QEMU processes on this machine over a Unix socket, at most 64 MB/s, downtime limit 300 ms,
while its workload writes into 128 MiB at a paced rate, against `hvgym lab migrate=precopy`. What it holds beside these
({idle:.0f} MiB) is measured on one that rests and given to the model; nothing else is. QEMU lifts the cap for the last round, a
real link does not ([validation](validation.md), migrations), so downtimes are not alike by construction. *Never* was watched for
60 s.
"""

Kept = dict[str, dict[str, list[dict[str, Any]]]]
"""Episodes that count, by scenario and policy."""


def main(words: Sequence[str]) -> int:
    """Play, then write."""
    folder, keys = Path(words[0]), dict(word.partition("=")[::2] for word in words[1:])
    if unknown := keys.keys() - {"scenarios", "policies", "seeds", "play"}:
        raise InputError(f"{min(unknown)}: unknown key; known: scenarios, policies, seeds, play")
    scenarios = _names(keys.get("scenarios"), fidelity.SCENARIOS)
    policies = _names(keys.get("policies"), tuple(fidelity.POLICIES))
    if not (seeds := keys.get("seeds", str(fidelity.SEEDS))).isdigit() or seeds == "0":
        raise InputError(f"seeds={seeds}: expected a whole number above 0")
    jobs = fidelity.jobs(scenarios, policies, int(seeds))
    for job in jobs:
        job.identity()  # a name that is wrong ends it here, not after hours
        fidelity.policy_of(job.policy)
    missing = [] if keys.get("play") == "false" else _played(jobs, folder)
    write(jobs, folder)
    if missing:
        print(f"{len(missing)} of them did not count ({', '.join(missing[:3])} …); make fidelity again plays them")
    return 1 if missing else 0


def _names(given: str | None, default: Sequence[str]) -> list[str]:
    return [name for name in (given or "").split(",") if name] or list(default)


def _played(jobs: Sequence[fidelity.Job], folder: Path) -> list[str]:
    """What is still missing afterwards."""
    kernel, initrd = built(folder_of_guests(RUNS))
    kind, run = accelerator(kernel, initrd), folder_of_guests(RUNS) / "run"
    print(f"guests run by {kind}", flush=True)
    missing = fidelity.play_all(jobs, folder, fidelity.on_guests(kernel, initrd, run, kind), _say)
    moves = fidelity_moves.move_all(folder, lambda move: moving.moved(move, kernel, initrd, run, kind), _say)
    return [f"{job.scenario} {job.policy} {job.seed}" for job in missing] + [f"move {name}" for name in moves]


def _say(text: str) -> None:
    print(text, flush=True)


def write(jobs: Sequence[fidelity.Job], folder: Path) -> None:
    """The page and its pictures."""
    kept, refused, model = _kept(jobs, folder), _refused(jobs, folder), dict[str, dict[str, dict[str, Any]]]()
    for scenario, by_policy in kept.items():
        model[scenario] = {name: fidelity.model_of(load(scenario), name, found[0]) for name, found in by_policy.items()}
    PICTURES.mkdir(exist_ok=True)
    lines = [*HEAD.splitlines(), *_machine(kept, len(jobs)), *_cannot(refused), ""]
    if kept:
        lines += ["![progress of policies, measured and modelled](fidelity/progress.png)", ""]
        pictures.progress(PICTURES / "progress.png", kept, model)
        lines += _agreement(kept, model)
    for scenario in kept:
        lines += _scenario(scenario, kept[scenario], model[scenario])
    lines += _parting(kept, model) if kept else []
    lines += _moves(folder)
    (DOCS / "fidelity.md").write_text("\n".join(lines).rstrip() + "\n")
    print(DOCS / "fidelity.md")


def _kept(jobs: Sequence[fidelity.Job], folder: Path) -> Kept:
    kept: Kept = {}
    for job in jobs:
        found = fidelity.read(job, folder)
        if found is not None and fidelity.counts(found):
            kept.setdefault(job.scenario, {}).setdefault(job.policy, []).append(found)
    return kept


def _refused(jobs: Sequence[fidelity.Job], folder: Path) -> dict[str, str]:
    found = [(job.policy, fidelity.read(job, folder)) for job in jobs]
    return {name: one["refused"] for name, one in found if one and "refused" in one}


def _machine(kept: Kept, asked: int) -> list[str]:
    """What was played, and on what."""
    all_of = [one for by_policy in kept.values() for found in by_policy.values() for one in found]
    if not all_of:
        return [f"**Nothing has been played yet** of {asked} episodes: `make fidelity`."]
    waited, guests, others = ([one["machine"][key] for one in all_of] for key in ("waited", "guests", "others"))
    begun, minutes = sorted(one["begun_at"] for one in all_of), np.mean([one["wall_s"] for one in all_of]) / 60.0
    victims = " and ".join(sorted({one["victims"] for one in all_of}))
    text = (
        f"{len(all_of)} of {asked} episodes count here ({begun[0]} to {begun[-1]}, UTC); `{victims}` chose what the host swapped. "
        f"Guests of an episode used {np.mean(guests):.2f} processors, others {np.mean(others):.2f}; the guest that waited most "
        f"waited {np.mean(waited):.1%} of the time on average and {max(waited):.1%} at most. An episode took {minutes:.1f} minutes "
        "with boot and warm-up."
    )
    return textwrap.wrap(text, WIDTH)


def _cannot(refused: Mapping[str, str]) -> list[str]:
    """Policies that were refused, and why."""
    items = (f"- `{name}` cannot run on these guests: {reason.partition(': ')[2]}." for name, reason in refused.items())
    return ["", *(line for item in items for line in textwrap.wrap(item, WIDTH, subsequent_indent="  "))]


def _progress(kept: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    return {name: [one["progress"] for one in found] for name, found in kept.items()}


def _agreement(kept: Kept, model: Mapping[str, Mapping[str, Any]]) -> list[str]:
    worlds = {
        scenario: (_progress(kept[scenario]), {name: one["progress"] for name, one in model[scenario].items()})
        for scenario in kept
    }
    rows = []
    for name, some in [*((name, [world]) for name, world in worlds.items()), ("**pooled**", list(worlds.values()))]:
        found = fidelity_figures.agreement(some)
        tau = "–" if math.isnan(found.tau) else f"{found.tau:.2f} [{found.low:.2f}, {found.high:.2f}]"
        rows.append(
            (name, tau, f"{found.alike} of {found.decided}", f"{found.pairs}", f"{found.near} of {found.policies}")
        )
    return [*READING.splitlines(), *table(("scenario", "tau", "decided pairs alike", "pairs", "near"), rows), ""]


def _scenario(name: str, kept: Mapping[str, list[dict[str, Any]]], model: Mapping[str, Any]) -> list[str]:
    """Figures of one scenario side by side, and its time lines."""
    rows = []
    critical = any(group.critical for group in load(name).groups)
    for policy in sorted(kept, key=lambda policy: -np.mean(_progress(kept)[policy])):
        found, one = kept[policy], model[policy]
        runs, missed = _progress(kept)[policy], [each["misses"] for each in found]
        rows.append(
            (policy, _runs(runs, ".3f"), f"{one['progress']:.3f}", f"{one['progress'] - np.mean(runs):+.3f}",
             _runs(missed, ".0f") if critical else "–", f"{one['misses']:.0f}" if critical else "–",
             _runs([each["kills"] for each in found], ".0f"), f"{one['kills']:.0f}")
        )  # fmt: skip
    pictures.timelines(PICTURES / f"{name}.png", kept, model)
    head = ("policy", "progress, real", "model", "difference", "misses, real", "model", "kills, real", "model")
    picture = f"![{name}: progress and sizes, real and modelled](fidelity/{name}.png)"
    return [f"## {name}", "", f"{load(name).description}", "", *table(head, rows), "", picture, ""]


def _runs(values: Sequence[float], form: str) -> str:
    """The mean, and each run where there are several."""
    each = f" ({', '.join(f'{value:{form}}' for value in values)})" if len(set(values)) > 1 else ""
    return f"{np.mean(values):{form}}{each}"


def _parting(kept: Kept, model: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for scenario, by_policy in kept.items():
        for policy, found in by_policy.items():
            one = model[scenario][policy]
            for vm, got in one["by_vm"].items():
                real = float(np.mean([each["by_vm"][vm] for each in found]))
                if abs(got - real) > fidelity_figures.NEAR:
                    rows.append(
                        (
                            abs(got - real),
                            (scenario, policy, vm, f"{real:.3f} / {got:.3f}", *_causes(found[0], one, vm)),
                        )
                    )
    rows.sort(key=lambda row: -row[0])
    head = (
        "scenario",
        "policy",
        "VM",
        "progress",
        "faults",
        "swapped out, MiB",
        "read back by the host, MiB",
        "mean size, MiB",
    )
    why = [line for name in kept if name in WHY for line in ("", *textwrap.wrap(f"**{name}**: {WHY[name]}", WIDTH))]
    return [*PARTING.splitlines(), *(table(head, [row for _, row in rows]) if rows else ["Nowhere."]), *why, ""]


def _causes(real: Mapping[str, Any], one: Mapping[str, Any], vm: str) -> tuple[str, ...]:
    worlds = [[row for row in world["rows"] if row["vm"] == vm] for world in (real, one)]
    faults = [world["faults"][vm] for world in (real, one)]
    out, back = ([_rise(rows, name) for rows in worlds] for name in ("guest_swap_out_mib", "host_swap_in_mib"))
    sizes = [float(np.mean([row["size_mib"] for row in rows if row["size_mib"] is not None])) for rows in worlds]
    return tuple(
        " / ".join("–" if value is None else f"{value:,.0f}" for value in pair) for pair in (faults, out, back, sizes)
    )


def _rise(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Of a counter over an episode; None where it is not known."""
    first, last = rows[0].get(name), rows[-1].get(name)
    return None if first is None or last is None else float(last - first)


def _moves(folder: Path) -> list[str]:
    rows = fidelity_moves.rows(folder)
    if not rows:
        return ["## Live migration", "", "Not measured yet."]
    head = ("guest", "result", "model", "total s", "model", "off", "MB", "model", "off", "downtime ms", "model")
    return [*MOVING.format(idle=fidelity_moves.idle_mib(folder)).splitlines(), "", *table(head, rows)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"make fidelity: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; guests are gone, what was played stays, and make fidelity goes on from there")
