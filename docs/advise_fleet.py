"""Writes the made-up fleet of docs/advise.md: twelve VMs, one week, a row a minute, in a format of nobody but its maker.

    python docs/advise_fleet.py fleet.csv

A line is a minute of a machine: when it ended (ISO 8601, UTC), name, size, memory in use and page cache in GiB, cores in use,
cores, and whose it is. Nothing here is measured: a shop with web servers that follow the day, databases that keep what they have
read, a nightly batch, builds in working hours, an old wiki that nobody reads.
"""

import sys
from dataclasses import dataclass

import numpy as np

MINUTES = 7 * 24 * 60
START = np.datetime64("2026-06-01T00:00:00")
HEADER = "when;machine;size GiB;used GiB;cache GiB;cores used;cores;team"


@dataclass(frozen=True)
class Machine:
    """GiB: size, use at rest, what the day adds, what a burst adds; minutes of a burst, and how many a day; hours in which."""

    name: str
    team: str
    size: float
    rest: float
    day: float = 0.0
    burst: float = 0.0
    length: int = 20
    a_day: float = 0.0
    hours: tuple[int, int] = (0, 24)
    cache: float = 0.3
    cores: int = 2


MACHINES = (
    Machine("web-1", "shop", 8, 1.6, 2.2, cores=4),
    Machine("web-2", "shop", 8, 1.5, 2.4, cores=4),
    Machine("web-3", "shop", 8, 1.6, 2.3, cores=4),
    Machine("shop-db", "shop", 24, 13.0, 1.5, 2.0, 45, 1.0, cache=0.35, cores=8),
    Machine("stock-db", "stock", 16, 8.0, 1.0, cache=0.3, cores=4),
    Machine("queue", "stock", 4, 0.8, 0.6, 0.9, 10, 6.0),
    Machine("nightly", "stock", 16, 0.9, 0.0, 11.0, 130, 1.0, (1, 4), 0.1, 8),
    Machine("build-1", "dev", 16, 0.8, 0.0, 9.0, 18, 9.0, (8, 18), 0.3, 8),
    Machine("build-2", "dev", 16, 0.8, 0.0, 8.0, 22, 7.0, (8, 18), 0.3, 8),
    Machine("search", "shop", 12, 5.0, 1.2, cache=0.4, cores=4),
    Machine("mail", "office", 8, 2.0, 0.9, cache=0.4),
    Machine("old wiki", "office", 4, 0.5, 0.0, cache=0.1),
)


def used_gib(machine: Machine, rng: np.random.Generator) -> np.ndarray:
    """Memory in use, ``[minute]``."""
    minute = np.arange(MINUTES)
    hour, weekend = minute / 60.0 % 24.0, minute // 1440 >= 5
    bright = np.exp(-(((hour - 15.0) / 4.0) ** 2)) * np.where(weekend, 0.6, 1.0)
    used = machine.rest + machine.day * bright
    for start in bursts(machine, rng):
        used[start : start + machine.length] += machine.burst * rng.uniform(0.6, 1.0)
    drift = np.cumsum(rng.normal(0.0, 0.002, MINUTES))
    noise = rng.normal(0.0, 0.01, MINUTES)
    used *= 1.0 + np.clip(drift - drift.mean(), -0.06, 0.06) + noise
    return np.clip(used, 0.2, 0.93 * machine.size)


def bursts(machine: Machine, rng: np.random.Generator) -> list[int]:
    """Minutes at which bursts begin."""
    first, last = machine.hours
    starts = list[int]()
    for day in range(7):
        quiet = day >= 5 and last - first < 24 and first >= 6  # nobody builds at the weekend
        for _ in range(0 if quiet else rng.poisson(machine.a_day)):
            starts.append(day * 1440 + int(rng.uniform(60 * first, 60 * last)))
    return starts


def main(path: str) -> None:
    """Write the file."""
    rng = np.random.default_rng(16)
    when = np.datetime_as_string(START + np.arange(1, MINUTES + 1) * np.timedelta64(60, "s"), unit="s")
    with open(path, "w", encoding="utf-8") as file:
        print(HEADER, file=file)
        for machine in MACHINES:
            used = used_gib(machine, rng)
            cache = np.minimum(machine.cache * machine.size, machine.size - used - 0.1)
            cpu = np.clip(0.03 + 0.5 * (used - machine.rest) / machine.size, 0.02, 0.95) * machine.cores
            for row in zip(when, used, cache, cpu, strict=True):
                now, mib, kept, cores = row
                numbers = f"{mib:.3f};{kept:.3f};{cores:.2f};{machine.cores}"
                print(f"{now}Z;{machine.name};{machine.size:g};{numbers};{machine.team}", file=file)


if __name__ == "__main__":
    main(sys.argv[1])
