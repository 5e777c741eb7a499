"""Histories without memory: when VMs of which size came and went, and nothing of what they used (Azure's public traces).

Each VM becomes one row that covers its life, with its size and without any use. Memory that anyone plays for such VMs is
synthetic, and the table says so: no policy of memory can be judged on it alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError
from hvgym.envs.imports.clocks import RELATIVE, Clock
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
    """In seconds from a start of its own; the step is the smallest between two arrivals. Raises `InputError` for what no trace is:
    times before its start, or years."""
    start_s, arrivals = spool.seen["arrive_s"].least, list[npt.NDArray[np.float64]]()
    for frame in spool.partitions():
        _check_times(frame, start_s)
        arrivals.append(frame["arrive_s"].to_numpy())
    arrive = np.unique(np.concatenate(arrivals))
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


def _check_times(frame: "pd.DataFrame", start_s: float) -> None:
    for name, does in (("arrive_s", "arrives"), ("depart_s", "leaves")):
        if name in frame:
            times = frame[name].to_numpy()
            with np.errstate(invalid="ignore"):
                wrong = times < 0 if start_s < 0 else times - start_s > RELATIVE
            if wrong.any():
                at = int(np.argmax(wrong))
                raise InputError(
                    f"time: {frame['vm'].iloc[at]} {does} at {times[at]:.12g}, expected seconds from the start of the trace, 0 or "
                    f"more and at most three years; is it another unit (ms, us)? write seconds"
                )


def lives(
    raw: "pd.DataFrame", readings: Mapping[str, Reading], clock: Clock, tally: Tally
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Rows of samples and of vm_meta, of VMs with a size. Raises `InputError` where a VM has two lives."""
    import pandas as pd

    if (twice := raw["vm"].duplicated()).any():
        vm = raw["vm"][twice].iloc[0]
        raise InputError(
            f"vm: {vm} stands in {int((raw['vm'] == vm).sum())} rows, expected one of its life, as no column says memory in use; "
            "give each file once, and each VM a name of its own"
        )
    raw = raw[raw["cap"] > 0].reset_index(drop=True)
    arrive, depart = raw["arrive_s"], raw["depart_s"] if "depart_s" in raw else raw["arrive_s"] * np.nan
    end = depart.fillna(clock.end_s)
    wrong = end < arrive
    tally.add("VMs that leave before they come, left out", int(wrong.sum()), len(raw), _first(raw, wrong), strict=True)
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


def _first(raw: "pd.DataFrame", wrong: "pd.Series[bool]") -> str:
    if not wrong.any():
        return ""
    row = raw[wrong].iloc[0]
    return f"{row['vm']}, from {row['arrive_s']:.12g} to {row['depart_s']:.12g} s"
