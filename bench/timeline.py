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
    in MiB; cluster: who was where, None of a host alone; killed, failed: kills and failed starts so far ``[time, vm]``, None in
    time lines of before they were kept."""

    minutes: np.ndarray
    sizes_mib: np.ndarray
    progress: np.ndarray
    ram_mib: float
    cluster: ClusterLine | None = None
    killed: np.ndarray | None = None
    failed: np.ndarray | None = None

    def pack(self) -> dict[str, Any]:
        """As JSON: the arrays side by side, compressed."""
        table = np.column_stack([self.minutes, self.sizes_mib, self.progress]).astype("<f4")
        data = base64.b64encode(zlib.compress(table.tobytes(), 9)).decode()
        packed = {"ram_mib": self.ram_mib, "points": len(table), "vms": self.sizes_mib.shape[1], "float32": data}
        if self.killed is not None and self.failed is not None:
            counts = np.stack([self.killed, self.failed]).astype("<u4")
            packed["counts"] = base64.b64encode(zlib.compress(counts.tobytes(), 9)).decode()
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
            killed, failed = _counts(data["counts"], points, vms) if "counts" in data else (None, None)
            sizes_mib, progress = table[:, 1 : 1 + vms], table[:, 1 + vms :]
            return Timeline(table[:, 0], sizes_mib, progress, float(data["ram_mib"]), cluster, killed, failed)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise InputError(f"its time line is damaged ({error})") from None


def _counts(packed: str, points: int, vms: int) -> tuple[np.ndarray, np.ndarray]:
    """Kills and failed starts, each ``[time, vm]``."""
    raw = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), 2 * points * vms * 4)
    killed, failed = np.frombuffer(raw, "<u4").reshape(2, points, vms)
    return killed, failed


@dataclass
class Recorder:
    """Watches a rollout and keeps the time line of its first lane."""

    minutes: list[float] = field(default_factory=list)
    sizes_mib: list[np.ndarray] = field(default_factory=list)
    progress: list[np.ndarray] = field(default_factory=list)
    killed: list[np.ndarray] = field(default_factory=list)
    failed: list[np.ndarray] = field(default_factory=list)
    ram_mib: float = 0.0
    cluster: ClusterRecorder | None = None

    def watch(self, telemetry: Telemetry, sim: AnySimulator) -> None:
        """See ``rollout.Watcher``."""
        self.minutes.append(float(telemetry.time_s[0]) / 60.0)
        self.sizes_mib.append(telemetry.vm["size_mib"][0].copy())
        vms = sim.vms[0]
        self.progress.append(vms["progress"].copy())
        self.killed.append(vms["oom_kills"].copy())
        self.failed.append(vms["failed_starts"].copy())
        self.ram_mib = float(telemetry.host["total_mib"][0, 0])
        if isinstance(sim, ClusterSimulator):
            self.cluster = self.cluster or ClusterRecorder()
            self.cluster.watch(sim)

    def timeline(self) -> Timeline:
        """What was seen, thinned where there are too many points."""
        every = slice(None, None, max(1, -(-len(self.minutes) // POINTS)))

        def kept(series: Sequence[Any], kind: type = np.float32) -> np.ndarray:
            return np.array(series, kind)[every]

        cluster = None if self.cluster is None else self.cluster.line(every)
        counts = kept(self.killed, np.uint32), kept(self.failed, np.uint32)
        sizes_mib, progress = kept(self.sizes_mib), kept(self.progress)
        return Timeline(kept(self.minutes), sizes_mib, progress, self.ram_mib, cluster, *counts)
