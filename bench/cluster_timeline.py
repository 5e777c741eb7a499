"""Where VMs were, and how hosts fared, in one episode of a cluster: kept beside sizes and progress (``timeline``)."""

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.model.placement import ABSENT, DEAD, ISOLATED, LOST, MOVING, REFUSED, RESTARTING, RETURNING, WAITING

AWAY, WORKS, COPIED, DOWN, WAITS, GIVEN_UP = range(6)
"""What a VM is: not there, at work, copied at that time or since the time before, without service (its boot after a failure
or a kill included), not yet started, given up."""

_OF_STATE = {ABSENT: AWAY, MOVING: COPIED, LOST: DOWN, RESTARTING: DOWN, WAITING: WAITS, REFUSED: GIVEN_UP}

MAINTENANCE = 8
"""Added to the state of a host (`placement.MACHINE_STATES`) that is to be emptied, or is serviced."""

_FIELDS = (("host_of", "<i2", "vms"), ("mode", "u1", "vms"), ("machine", "u1", "hosts"), ("used_mib", "<f4", "hosts"))


@dataclass(frozen=True)
class ClusterLine:
    """host_of ``[time, vm]``: index, below 0 for none; mode ``[time, vm]`` of `AWAY` to `GIVEN_UP`; machine ``[time, host]``: state
    and `MAINTENANCE`; used_mib ``[time, host]``: what is held for copies included, NaN where a host is off; ram_mib ``[host]``."""

    host_of: np.ndarray
    mode: np.ndarray
    machine: np.ndarray
    used_mib: np.ndarray
    ram_mib: np.ndarray

    def pack(self) -> dict[str, Any]:
        """As JSON: the arrays one after the other, compressed."""
        raw = b"".join(getattr(self, name).astype(kind).tobytes() for name, kind, _ in _FIELDS)
        return {"ram_mib": self.ram_mib.tolist(), "packed": base64.b64encode(zlib.compress(raw, 9)).decode()}

    @staticmethod
    def unpack(data: dict[str, Any], points: int, vms: int) -> "ClusterLine":
        """The inverse. Raises `KeyError`, `TypeError`, `ValueError` or `zlib.error` for what `pack` did not make."""
        ram_mib = np.array(data["ram_mib"], np.float64)
        columns = {"vms": vms, "hosts": len(ram_mib)}
        sizes = [points * columns[of] * np.dtype(kind).itemsize for _, kind, of in _FIELDS]
        packed = base64.b64decode(data["packed"], validate=True)
        raw = zlib.decompressobj().decompress(packed, sum(sizes) + 1)
        if len(raw) != sum(sizes):
            raise ValueError("of a cluster of another size")
        ends = np.cumsum([0, *sizes])
        arrays = {
            name: np.frombuffer(raw[a:b], kind).reshape(points, columns[of])
            for (name, kind, of), a, b in zip(_FIELDS, ends[:-1], ends[1:], strict=True)
        }
        return ClusterLine(**arrays, ram_mib=ram_mib)


@dataclass
class ClusterRecorder:
    """Looks at the first lane of a cluster."""

    rows: list[dict[str, np.ndarray]] = field(default_factory=list)
    ram_mib: np.ndarray = field(default_factory=lambda: np.zeros(0))
    _moves: np.ndarray | None = None

    def watch(self, sim: ClusterSimulator) -> None:
        """Note where all are now."""
        residents, machines, signals = sim.arrays.residents[0], sim.arrays.machines[0], sim.host_signals[0]
        off = np.isin(machines["state"], (DEAD, RETURNING))
        used_mib = np.where(off, np.nan, signals["total_mib"] - signals["available_mib"])
        self.ram_mib = signals["total_mib"].copy()
        self.rows.append({
            "host_of": residents["host"].copy(), "mode": self._mode(sim), "used_mib": used_mib,
            "machine": machines["state"] + MAINTENANCE * (machines["maintenance"] > 0.0),
        })  # fmt: skip

    def _mode(self, sim: ClusterSimulator) -> np.ndarray:
        residents, machines = sim.arrays.residents[0], sim.arrays.machines[0]
        mode = np.array([_OF_STATE.get(int(state), WORKS) for state in residents["state"]])
        cut_off = (residents["host"] >= 0) & (machines["state"][residents["host"]] == ISOLATED)
        vms = sim.vms[0]
        boots_first = (vms["down_s"] > 0.0) & (vms["progress_s"] == 0.0)
        mode[(mode == WORKS) & boots_first] = WAITS
        mode[(mode == WORKS) & (cut_off | (vms["down_s"] > 0.0))] = DOWN
        if self._moves is not None:
            mode[(mode == WORKS) & (residents["moves"] > self._moves)] = COPIED
        self._moves = residents["moves"].copy()
        return mode

    def line(self, every: slice) -> ClusterLine:
        """What was seen at the times that are kept."""
        arrays = {name: np.array([row[name] for row in self.rows]).astype(kind)[every] for name, kind, _ in _FIELDS}
        return ClusterLine(**arrays, ram_mib=self.ram_mib)
