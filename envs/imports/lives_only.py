"""Histories without memory: when VMs of which size came and went, and nothing of what they used (Azure's public traces).

Each VM becomes one row that covers its life, with its size and without any use. Memory that anyone plays for such VMs is
synthetic, and the table says so: no policy of memory can be judged on it alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.imports.clocks import Clock
from hvgym.envs.imports.source import MEMORY_UNITS
from hvgym.envs.imports.spool import Spool
from hvgym.envs.imports.tally import Tally
from hvgym.envs.imports.trials import MOST
from hvgym.envs.imports.units import Reading

if TYPE_CHECKING:
    import pandas as pd

SYNTHETIC = "VMs of which only size and life are known: memory that is played for them is synthetic"

MOST_INTERVAL_S = 2**31 - 1


def has_no_use(spool: Spool) -> bool:
    """Whether files say lives, but no memory in use."""
    return "arrive_s" in spool.seen and not any(quantity in spool.columns for quantity in MOST)


def clock_of_lives(spool: Spool) -> Clock:
    """In seconds from a start of its own; the step is the smallest between two arrivals."""
    arrive = np.unique(np.concatenate([frame["arrive_s"].to_numpy() for frame in spool.partitions()]))
    if len(arrive) < 2:
        raise InputError("time: all VMs arrive at once; is this the whole file?")
    end_s = max(spool.seen["arrive_s"].most, spool.seen["depart_s"].most if "depart_s" in spool.seen else 0.0)
    step_s = float(np.diff(arrive).min())
    return Clock(
        "s",
        True,
        "of arrivals and departures, from a start of its own",
        step_s,
        float(arrive[0]),
        end_s,
        np.empty((0, 2)),
        {},
    )


def lives(
    raw: "pd.DataFrame", readings: Mapping[str, Reading], clock: Clock, tally: Tally
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Rows of samples and of vm_meta."""
    import pandas as pd

    arrive, depart = raw["arrive_s"], raw["depart_s"] if "depart_s" in raw else raw["arrive_s"] * np.nan
    end = depart.fillna(clock.end_s)
    wrong = end < arrive
    tally.add("VMs that leave before they come, left out", int(wrong.sum()), len(raw), strict=True)
    tally.add(SYNTHETIC, int((~wrong).sum()), len(raw))
    samples = pd.DataFrame(
        {
            "vm_id": raw["vm"].astype(str),
            "t_end_utc_s": np.round(end).astype(np.int64),
            "interval_s": np.clip(np.round(end - arrive), 1, MOST_INTERVAL_S).astype(np.int32),
            "agg": "last",
            "power": "on",
            "cap_bytes": raw["cap"] * MEMORY_UNITS[readings["cap"].unit],
            "vcpus": raw.get("vcpus", np.nan),
            "flags": np.int32(0),
        }
    )
    meta = pd.DataFrame(
        {"vm_id": samples["vm_id"], "arrive_s": arrive, "depart_s": end, "arrive_s_said": True, "depart_s_said": True}
    )
    meta = meta.assign(group=raw["group"].astype(object) if "group" in raw else None, guest_stats="no")
    return samples[~wrong], meta[~wrong]
