"""Fleets of generated VMs that stand for a trace: classes in the shares of `MIX`, and groups of siblings as large as GWA-T-12's."""

import numpy as np

from hvgym.envs.generators.classes import MIX, FamilyName, Generated, Kind
from hvgym.envs.generators.draws import Array, Quantiles
from hvgym.envs.generators.fleet import Fleet, Span

SIBLINGS = (24, 24, 13, 12, 12)
"""Largest groups of VMs with correlated hourly changes among 400 of GWA-T-12."""

SIZES_GIB = Quantiles((0, 5, 25, 50, 75, 95, 100), (0.5, 0.5, 2, 4, 16, 32, 64))
"""Of memory over VMs (GWA-T-12)."""

SUBSLOTS = 3
"""Slots of 100 s, whose means are slots of five minutes."""

DAY_S = 86400.0


def fleet(family: FamilyName, vms: int, kinds: tuple[Kind, ...] = tuple(MIX)) -> Fleet:
    """So many VMs; those of a group of siblings are of one class."""
    members = _members(vms, kinds)
    # spread evenly over sizes whatever the class; siblings are of one size
    places = [
        (number if group < 0 else 3 + 2 * group) * 0.6180339887498949 % 1.0 for number, (_, group) in enumerate(members)
    ]
    return Fleet([Generated(kind, family, siblings=group) for kind, group in members], 1024.0 * SIZES_GIB.at(places))


def _members(vms: int, kinds: tuple[Kind, ...]) -> list[tuple[Kind, int]]:
    """Class and group of each VM: whoever is owed most comes next, so that shares hold for any number."""
    owed, members = dict.fromkeys(kinds, 0.0), list[tuple[Kind, int]]()
    whole = sum(MIX[kind] for kind in kinds)
    groups = [(number, max(size * vms // 400, 1)) for number, size in enumerate(SIBLINGS)]
    begins = {number * vms // len(SIBLINGS): (number, size) for number, size in groups}
    while len(members) < vms:
        number, size = begins.pop(len(members), (-1, 1))
        kind = max(owed, key=lambda one: owed[one] + MIX[one])
        size = min(size, vms - len(members))
        members += [(kind, number)] * size
        owed = {one: owed[one] + size * MIX[one] / whole - size * (one == kind) for one in kinds}
        begins = {max(at, len(members)): what for at, what in begins.items()}
    return members


def history(drawn: Fleet, seed: int, days: int) -> tuple[Array, Array]:
    """Memory in use over capacity, and disk in MiB/s, as means of five minutes, ``[vm, slot]``."""
    figures, share, disk = drawn.figures(seed), [], []
    for day in range(days):
        use = drawn.use(seed, figures, Span(day * DAY_S, 288 * SUBSLOTS, 300.0 / SUBSLOTS))
        share.append(use.share.reshape(len(drawn.vms), 288, SUBSLOTS).mean(axis=2))
        disk.append(use.disk_mib_per_s.reshape(len(drawn.vms), 288, SUBSLOTS).mean(axis=2))
    return np.concatenate(share, axis=1), np.concatenate(disk, axis=1)


def peaks_within(drawn: Fleet, seed: int) -> Array:
    """Largest over mean use within five minutes, by slots of 20 s of one day, ``[vm, slot]``."""
    share = drawn.use(seed, drawn.figures(seed), Span(0.0, 288 * 15, 20.0)).share.reshape(len(drawn.vms), 288, 15)
    return np.asarray(share.max(axis=2) / share.mean(axis=2))
