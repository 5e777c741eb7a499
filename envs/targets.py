"""What a decision may ask for: shapes and ranges of `Targets`, checked before any of it reaches the model."""

import dataclasses

import numpy as np

from hvgym.envs.capabilities import no_limits
from hvgym.envs.errors import InputError, shown
from hvgym.envs.machine import Hypervisor
from hvgym.envs.telemetry import MOST_SCANNED_PER_S, MOST_SHARES, Targets

_OF_A_HOST = ("scan_pages_per_s", "maintenance")

_RANGES: dict[str, tuple[float, float]] = {
    "memory_mib": (-np.inf, np.inf),
    "reclaim_mib": (0.0, np.inf),
    "reclaim_age_s": (0.0, np.inf),
    "scan_pages_per_s": (0.0, MOST_SCANNED_PER_S),
    "disk_shares": (0.0, MOST_SHARES),
    "net_shares": (0.0, MOST_SHARES),
    "limit_mib": (0.0, np.inf),
    "restart_priority": (0.0, 1e6),
}
"""Least and most that is meant; sizes of memory are held within what a VM can have, as a balloon driver holds them."""

_SWITCHES = ("report_free_pages", "admit", "maintenance")


class TargetsError(InputError):
    """A decision that cannot be carried out. `lane`: the first one concerned, None where it is all of them."""

    def __init__(self, text: str, lane: int | None = None) -> None:
        super().__init__(text)
        self.lane = lane


def checked(targets: Targets, lanes: int, vms: int, hosts: int) -> dict[str, np.ndarray]:
    """The channels that are answered, as float64 ``[env, vm]`` (those of hosts ``[env, host]``); NaN leaves a thing.

    Raises:
        TargetsError: naming the channel, where in it, the value and what would be right.
    """
    if not isinstance(targets, Targets):
        raise TargetsError(f"a decision of {type(targets).__name__}; expected Targets")
    channels = {}
    for field in dataclasses.fields(targets):
        if (given := getattr(targets, field.name)) is not None:
            shape = (lanes, hosts if field.name in _OF_A_HOST else vms)
            channels[field.name] = _channel(field.name, given, shape, hosts)
    return channels


def check_limits(asked: dict[str, np.ndarray], hypervisor: Hypervisor) -> None:
    """Raise `TargetsError` where a limit is asked for of a hypervisor that has none (``capabilities``)."""
    given = ~np.isnan(asked.get("limit_mib", np.full((1, 1), np.nan)))
    if hypervisor.limits == "none" and given.any():
        lane = int(np.argwhere(given)[0, 0])
        raise TargetsError(f"targets.limit_mib: {no_limits(hypervisor)}; leave it at None", lane)


def _channel(name: str, given: object, shape: tuple[int, int], hosts: int) -> np.ndarray:
    try:
        asked = np.asarray(given)
        if np.ma.isMaskedArray(given) or asked.dtype.kind not in "biuf":
            raise TypeError
        asked = asked.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TargetsError(
            f"targets.{name}={shown(given)}: expected an array of numbers of shape {shape}, NaN where a thing is to be left"
        ) from None
    if asked.shape != shape:
        raise TargetsError(f"targets.{name} of shape {asked.shape}, expected {shape}")
    wrong = _wrong(name, asked) if name != "move_to" else _no_host(asked, hosts)
    if wrong.any():
        lane, column = np.argwhere(wrong)[0].tolist()
        raise TargetsError(f"targets.{name}[{lane}, {column}]={asked[lane, column]:g}: {_right(name, hosts)}", lane)
    return asked


def _wrong(name: str, asked: np.ndarray) -> np.ndarray:
    if name in _SWITCHES:
        return ~((asked == 0.0) | (asked == 1.0) | np.isnan(asked))
    least, most = _RANGES[name]
    return np.isinf(asked) | (asked < least) | (asked > most)


def _no_host(asked: np.ndarray, hosts: int) -> np.ndarray:
    """Entries that name no host."""
    return ~(np.isnan(asked) | ((asked >= 0.0) & (asked < hosts) & (asked == np.floor(asked))))


def _right(name: str, hosts: int) -> str:
    if name == "move_to":
        return f"must be the index of a host, 0 to {hosts - 1}, or NaN to leave it"
    if name in _SWITCHES:
        return "must be 0 or 1, or NaN to leave it"
    least, most = _RANGES[name]
    bounds = [f"at least {least:g}" if least > -np.inf else "", f"at most {most:g}" if most < np.inf else ""]
    return " and ".join(["must be finite", *filter(None, bounds)]) + ", or NaN to leave it"
