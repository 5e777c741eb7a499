"""``hvgym lab device=NAME``: device models side by side; what is played, and the table that is printed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.lab.tables import print_lines, write

if TYPE_CHECKING:
    from hvgym.envs.lab.device import Bench, Device, DeviceRow

KEYS, WRITTEN = ("device", "offered_per_s", "bench"), ("out", "runs")
"""Keys of this experiment, and those that it shares with the guest's."""

LIGHT, BUSY = 0.01, 0.8
"""Loads of the table, as shares of the most that a device serves."""


def check_keys(config: DictConfig) -> None:
    """Raises `InputError` for a key that the chosen experiment, guest or device, would ignore."""
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0]
        if config.device is None and group in KEYS and group != "device":
            raise InputError(f"{override}: only devices heed {key}; give device=NAME too, or leave it out")
        if config.device is not None and group not in (*KEYS, *WRITTEN):
            raise InputError(f"{override}: a device has no {key}; leave it out, or device={config.device}")


def run(config: DictConfig, out: Path) -> None:
    """Device models side by side."""
    from hvgym.scripts.lab import pictures

    rows = play(config)
    write(out, [cells(row) for row in rows], pictures.devices(rows))


def play(config: DictConfig) -> "list[DeviceRow]":
    """Every device at every load, with the table of what each can do."""
    from hvgym.envs.lab import device as lab_device

    devices = lab_device.chosen(_names(config), configuration.folders())
    bench = lab_device.Bench.from_dict(configuration.plain(config.bench))
    lab_device.check_bench(devices, bench)
    experiment = lab_device.DeviceExperiment.from_dict({"offered_per_s": configuration.plain(config.offered_per_s)})
    loads = experiment.offered_per_s or lab_device.default_loads(devices, bench)
    print_table(devices, bench)
    return [lab_device.play(device, bench, load) for device in devices for load in loads]


def cells(row: "DeviceRow") -> dict[str, str]:
    """A row as text."""
    return {
        name: value if isinstance(value, str) else f"{value:.6g}" for name, value in dataclasses.asdict(row).items()
    }


def print_table(devices: "Sequence[Device]", bench: "Bench") -> None:
    """A line a device: the most that it serves, and what a request costs when there are few and when there are many."""
    from hvgym.envs.lab.device import most_per_s, play

    names = (
        "\ndevice", "\nmost/s", "\nlimit", "light:\ncycles", "\nus", "busy:\ncycles", "\nus", "\nexits/s", "\nCPUs",
    )  # fmt: skip
    lines = []
    for device in devices:
        most = most_per_s(device, bench)
        light, busy, beyond = (play(device, bench, share * most) for share in (LIGHT, BUSY, 1.01))
        cost = (text for row in (light, busy) for text in (f"{row.cycles_per_request:,.0f}", f"{row.latency_us:.0f}"))
        lines.append(
            (device.model.name, f"{most:,.0f}", beyond.limit, *cost, f"{busy.exits_per_s:,.0f}", f"{busy.cpus:.2f}")
        )
    print_lines(None, names, lines)
    print(
        f"Light and busy: at {LIGHT:.0%} and {BUSY:.0%} of the most, cycles a request and mean latency; exits a second and CPUs "
        "when busy."
    )


def _names(config: DictConfig) -> list[str]:
    """``device=NAME`` or ``device=[NAME,...]``."""
    given: Any = configuration.plain(config.device)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"device={given!r}: expected a name, or a list of names")
    return names
