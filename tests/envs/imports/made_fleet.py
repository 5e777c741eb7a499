"""A small fleet of made-up VMs as a frame of files' columns, sound in every respect; tests plant a trap in it."""

from dataclasses import replace

import numpy as np
import pandas as pd

from hvgym.envs.imports.importing import Request, import_files
from hvgym.envs.imports.registry import source_of
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.table import read_table

START, STEP, DAYS, VMS = 1_710_028_800, 300, 1.5, 12  # Sunday, 10 March 2024, 0 h UTC

KIB, MIB, GIB = 2.0**10, 2.0**20, 2.0**30

COLUMNS = {"vm": "name", "time": "ts", "host": "host", "cap": "size", "guest_used": "used", "backed": "rss", "cpu_used": "cpu",
           "vcpus": "vcpu", "net_rx": "rx"}  # fmt: skip

UNITS = {"net_rx": "B"}


def fleet(vms=VMS, days=DAYS, step=STEP, seed=0):
    """Long rows sorted by time: bytes, counters of CPU seconds and of received bytes."""
    rng = np.random.default_rng(seed)
    count = int(days * 86_400 / step)
    ends = START + step * np.arange(1, count + 1)
    frames = []
    for vm in range(vms):
        cap, vcpu = GIB * 2 ** (1 + vm % 4), 1 + vm % 4
        walk = np.cumsum(rng.normal(0, 0.01, count))
        used = cap * np.clip(0.45 + walk - walk.mean() + rng.normal(0, 0.01, count), 0.05, 0.95)
        cores = vcpu * np.clip(rng.gamma(1.0, 0.1, count), 0.001, 0.95)
        frames.append(
            pd.DataFrame(
                {
                    "ts": ends, "name": f"vm-{vm}", "host": f"host-{vm % 2}", "size": cap, "used": np.round(used),
                    "rss": np.round(np.minimum(np.maximum.accumulate(used) * 1.05, cap)), "vcpu": vcpu,
                    "cpu": 1000.0 * vm + np.cumsum(cores * step),
                    "rx": 1e6 * vm + np.cumsum(np.round(rng.gamma(1.0, 1e5, count) * step)),
                }
            )
        )  # fmt: skip
    return pd.concat(frames).sort_values(["ts", "name"], ignore_index=True)


def write(folder, frame, **how):
    file = folder / "fleet.csv"
    frame.to_csv(file, index=False, **how)
    return file


def declaring(**units):
    """A source like plain whose documentation says these units: quantity to unit, or to unit and kind."""

    def read(files, options):
        for batch in source_of("plain").read(files, options):
            yield replace(batch, columns=tuple(map(said, batch.columns)))

    def said(column):
        given = units.get(column.quantity)
        unit, kind = given if isinstance(given, tuple) else (given, column.kind)
        return replace(column, unit=unit, kind=kind) if given else column

    return replace(source_of("plain"), name="declaring", read=read)


def imported(folder, frame=None, columns=COLUMNS, units=UNITS, file=None, source=None, **options):
    """Import a frame; returns what came of it and the table."""
    file = write(folder, frame) if file is None else file
    request = {name: options.pop(name) for name in ("groups", "anonymise") if name in options}
    made = Request(source or source_of("plain"), [file], folder / "out", Options(columns, units, **options), **request)
    return import_files(made), read_table(folder / "out")


def without(columns, *names):
    return {quantity: name for quantity, name in columns.items() if quantity not in names}
