"""The time line of one episode, kept when it is played, so that pictures need neither the policy nor the model."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hvgym.bench.cluster_timeline import ClusterLine, ClusterRecorder
from hvgym.envs.backends import AnySimulator
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Telemetry

POINTS = 720
"""Most points that are kept: an hour of control intervals, more than a picture has pixels for."""


@dataclass(frozen=True)
class Timeline:
    """Time in minutes ``[time]``, memory sizes in MiB and progress ``[time, vm]``, float32; RAM of the host, or of the first one,
    in MiB; cluster: who was where, None of a host alone."""

    minutes: np.ndarray
    sizes_mib: np.ndarray
    progress: np.ndarray
    ram_mib: float
    cluster: ClusterLine | None = None

    def pack(self) -> dict[str, Any]:
        """As JSON: the arrays side by side, compressed."""
        table = np.column_stack([self.minutes, self.sizes_mib, self.progress]).astype("<f4")
        data = base64.b64encode(zlib.compress(table.tobytes(), 9)).decode()
        packed = {"ram_mib": self.ram_mib, "points": len(table), "vms": self.sizes_mib.shape[1], "float32": data}
        return packed if self.cluster is None else packed | {"cluster": self.cluster.pack()}

    @staticmethod
    def unpack(data: dict[str, Any]) -> "Timeline":
        """The inverse of `pack`. Raises `InputError` when the data are not what `pack` made."""
        try:
            points, vms = int(data["points"]), int(data["vms"])
            size = points * (1 + 2 * vms) * 4
            packed = base64.b64decode(data["float32"], validate=True)
            table = np.frombuffer(zlib.decompressobj().decompress(packed, size), "<f4").reshape(points, 1 + 2 * vms)
            cluster = ClusterLine.unpack(data["cluster"], points, vms) if "cluster" in data else None
            return Timeline(table[:, 0], table[:, 1 : 1 + vms], table[:, 1 + vms :], float(data["ram_mib"]), cluster)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise InputError(f"its time line is damaged ({error})") from None


@dataclass
class Recorder:
    """Watches a rollout and keeps the time line of its first lane."""

    minutes: list[float] = field(default_factory=list)
    sizes_mib: list[np.ndarray] = field(default_factory=list)
    progress: list[np.ndarray] = field(default_factory=list)
    ram_mib: float = 0.0
    cluster: ClusterRecorder | None = None

    def watch(self, telemetry: Telemetry, sim: AnySimulator) -> None:
        """See ``rollout.Watcher``."""
        self.minutes.append(float(telemetry.time_s[0]) / 60.0)
        self.sizes_mib.append(telemetry.vm["size_mib"][0].copy())
        self.progress.append(sim.vms["progress"][0].copy())
        self.ram_mib = float(telemetry.host["total_mib"][0, 0])
        if isinstance(sim, ClusterSimulator):
            self.cluster = self.cluster or ClusterRecorder()
            self.cluster.watch(sim)

    def timeline(self) -> Timeline:
        """What was seen, thinned where there are too many points."""
        every = slice(None, None, max(1, -(-len(self.minutes) // POINTS)))

        def kept(series: Sequence[Any]) -> np.ndarray:
            return np.array(series, np.float32)[every]

        cluster = None if self.cluster is None else self.cluster.line(every)
        return Timeline(kept(self.minutes), kept(self.sizes_mib), kept(self.progress), self.ram_mib, cluster)
