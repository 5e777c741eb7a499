"""Ten questions that operators ask, each with the number that answers it, or why her data has none and what to record for it."""

from collections.abc import Mapping
from typing import Any

from hvgym.bench import advice_words

MOST_NAMES = 3

UNMEASURABLE_GIB = 0.0005
"""Of swap an hour, below which nothing is read back."""

Summary = Mapping[str, Any]


def questions(summary: Summary) -> list[dict[str, str]]:
    """In the order of how much hangs on them."""
    asked = (
        ("What if every VM uses all its memory at once?", _all_at_once),
        ("Which ratio is good, and which is bad?", _which_ratio),
        ("Host swap is full though RAM is free: is that bad?", _swap),
        ("Turn ballooning off for some VMs?", _no_balloon),
        ("Balance hosts by assigned or by used memory?", _balance),
        ("How to keep a balancer from filling a host?", _filling),
        ("Hosts of unequal size: bytes or per cent?", _unequal),
        ("How much must be reserved for the host itself?", _reserve),
        ("How much memory does a VM really need?", _needs),
        ("Does a guest give its cache back?", _cache),
    )
    return [{"question": question, "answer": answer(summary)} for question, answer in asked]


def _all_at_once(summary: Summary) -> str:
    peak = summary["shortage"]["high"]["peak_gib"]
    return (
        f"{advice_words.at_once(summary)[0]} Your history came no nearer to that than {peak:.0f} GiB on a host "
        "(high reading)."
    )


def _which_ratio(summary: Summary) -> str:
    best = summary["best"]
    levels = summary["policies"][best]["levels"]
    found = ", ".join(levels[level]["shown"] for level in ("low", "mid", "high"))
    return (
        f"Good up to {found} under {best} (low, middle, high reading); bad where that ends: {levels['mid']['then']} "
        "(middle). The ratio itself does no harm, the peak of what is used does."
    )


def _swap(summary: Summary) -> str:
    name, found = next(iter(summary["suffering"].items()))
    rows = sorted(found["today"], key=lambda row: -row["host_swap_gib_an_hour"])
    worst = [row for row in rows[:MOST_NAMES] if row["host_swap_gib_an_hour"] > UNMEASURABLE_GIB]
    read = ", ".join(f"{row['name']} {row['host_swap_gib_an_hour']:.2f}" for row in worst)
    said = f"{read} GiB an hour" if worst else "nothing"
    return (
        f"What counts is what is read back, not what is used. On your hosts as they are, under {name} ({found['level']} "
        f"reading): {said}."
    )


def _no_balloon(summary: Summary) -> str:
    whole = [vm["name"] for vm in summary["vms"] if vm["floor_mib"] >= 1024 * vm["configured_gib"] - 1]
    said = f"Floor and size are one for {', '.join(whole)}: nothing is taken from them." if whole else ""
    return (
        f"{said} A balloon does no harm above a VM's floor (below, your VMs). Whether one helps, the two tables of who "
        "suffers say: without it the host swaps, and what the host swaps it chooses blindly."
    ).strip()


def _balance(summary: Summary) -> str:
    return "Not answered here, for no VM is moved. hvgym bench suite=cluster compares balancers on scenarios."


def _filling(summary: Summary) -> str:
    high, mid = (summary["shortage"][level]["p999_gib"] for level in ("high", "mid"))
    return (
        f"In 999 of 1,000 rows a host needs less than {high:.0f} GiB (high reading; {mid:.0f} at the middle one). A move "
        "does no harm where that and the p99 of the VM that comes fit into its RAM."
    )


def _unequal(summary: Summary) -> str:
    ram = summary["host_ram_gib"]
    mid, high = (ram - summary["shortage"][level]["p99_gib"] for level in ("mid", "high"))
    return (
        f"Bytes: a host of {ram:.0f} GiB has {mid:.0f} GiB to spare in 99 of 100 rows (middle reading; {high:.0f} at the "
        "high one). Your hosts were taken to be alike."
    )


def _reserve(summary: Summary) -> str:
    return (
        "Your data says nothing of the host's own memory (a ZFS cache, say), so the hypervisor's figure was taken. Record "
        "MemTotal less MemAvailable less what the VMs' processes hold, and give its p99.9 as host.own_mib."
    )


def _needs(summary: Summary) -> str:
    by_room = sorted(summary["vms"], key=lambda vm: vm["p99_gib"]["high"] - vm["configured_gib"])
    most = ", ".join(
        f"{vm['name']} ({vm['p99_gib']['high']:.1f} of {vm['configured_gib']:.0f} GiB)" for vm in by_room[:MOST_NAMES]
    )
    return f"The p99 of its working set, below for each VM. Most to spare even at the high reading: {most}."


def _cache(summary: Summary) -> str:
    idle = [vm["idle_backed_gib"] for vm in summary["vms"] if vm["idle_backed_gib"] is not None]
    if not idle:
        return (
            "Your data does not have both what the host backs and what the guest uses; record `rss` (consumed) beside "
            "`usable`."
        )
    return (
        f"On average the hosts back {sum(idle):.0f} GiB that {len(idle)} guests do not use. A balloon or free page "
        "reporting takes that; by itself it does not come back."
    )
