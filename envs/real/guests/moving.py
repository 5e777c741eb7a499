"""Live migration of a real guest: QEMU's pre-copy from one process to another on this machine, over a Unix socket.

The guest's workload touches its hot set at its pace meanwhile. The bandwidth is QEMU's cap in 10^6 bytes a second, which it lifts
for the last round, as the guest stands still. A copy that has not ended after `longest_s` is cancelled, and said never to end.

Source: QEMU's QMP reference (migrate, migrate-set-parameters, query-migrate).
"""

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hvgym.envs.errors import InputError
from hvgym.envs.real.guests.confined import Confined
from hvgym.envs.real.guests.crowding import Crowding, Watch
from hvgym.envs.real.guests.guest import Guest, Hardware, started
from hvgym.envs.real.qmp import Monitor

BOOT_S, FILL_S, WARM_S, LOOK_S = 120.0, 60.0, 5.0, 0.25
"""How long to wait for what; warm: the workload runs before the copy begins."""

MIB_PER_PAGE = 4096 / 2**20


@dataclass(frozen=True)
class Move:
    """What is moved: a guest of memory_mib that touches hot_mib of its memory touches_per_s times a second."""

    memory_mib: float
    hot_mib: float
    touches_per_s: float
    write_share: float
    bandwidth_mb_per_s: float
    downtime_limit_ms: float
    longest_s: float

    def lines(self) -> list[str]:
        """For the workload."""
        retouch_s = self.hot_mib * 256.0 / self.touches_per_s if self.touches_per_s else 1e7
        return [f"tier {retouch_s:g} {self.write_share:g}", f"step 0 {self.hot_mib:g}", "seed 0", "fill"]


@dataclass(frozen=True)
class Moved:
    """result: done or never; total_s, downtime_ms: of a copy that ended, else how long it was watched and NaN; sent_mb: in 10^6
    bytes; pages_mib: sent as whole pages; pace: share of the touches that were done meanwhile."""

    result: str
    total_s: float
    downtime_ms: float | None
    sent_mb: float
    pages_mib: float
    rounds: int
    pace: float
    crowding: Crowding


def moved(move: Move, kernel: Path, initrd: Path, folder: Path, accelerator: str) -> Moved:
    """Boot a guest, let it work, move it, end both. Raises `InputError`."""
    folder.mkdir(parents=True, exist_ok=True)
    wire, there = folder / "moving.wire", Confined(1e6, None, folder)
    guests, monitors = list[Guest](), list[Monitor]()
    try:
        swap = there.open([16.0], 0.0)[0]
        hardware = Hardware("source", move.memory_mib, kernel, initrd, folder, accelerator, swap)
        guests.append(started(hardware))
        monitors.append(Monitor(hardware.monitor, 5.0))
        _hear(guests[0], "up", BOOT_S)
        for line in move.lines():
            guests[0].tell(line)
        _hear(guests[0], "filled", FILL_S)
        guests[0].tell(f"go {WARM_S + move.longest_s + 60.0:.0f}")
        target = replace(hardware, name="target", incoming=f"unix:{wire}")
        guests.append(started(target))
        monitors.append(Monitor(target.monitor, 5.0))
        time.sleep(WARM_S)
        return _copied(move, guests[0], monitors[0], wire, Watch([guest.process.pid for guest in guests]))
    finally:
        for monitor in monitors:
            monitor.close()
        for guest in guests:
            guest.end()
            for name in (f"{guest.name}.port", f"{guest.name}.qmp", wire.name):
                (folder / name).unlink(missing_ok=True)
        there.close()


def _copied(move: Move, guest: Guest, monitor: Monitor, wire: Path, crowd: Watch) -> Moved:
    guest.seconds()
    rate = int(move.bandwidth_mb_per_s * 1e6)
    monitor.execute("migrate-set-parameters", **{"max-bandwidth": rate, "downtime-limit": int(move.downtime_limit_ms)})
    monitor.execute("migrate", uri=f"unix:{wire}")
    begun = time.monotonic()
    told: dict[str, Any] = {}
    while time.monotonic() - begun < move.longest_s:
        told = monitor.execute("query-migrate")
        if told.get("status") in ("completed", "failed"):
            break
        time.sleep(LOOK_S)
    if told.get("status") == "failed":
        raise InputError(f"the copy failed: {told.get('error-desc', 'QEMU does not say why')}")
    ended = told.get("status") == "completed"
    if not ended:
        with contextlib.suppress(InputError):
            monitor.execute("migrate_cancel")
    shares = [share for _, share in guest.seconds()]
    ram = told.get("ram", {})
    return Moved(
        "done" if ended else "never",
        told.get("total-time", 0) / 1e3,
        float(told["downtime"]) if ended else None,
        ram.get("transferred", 0) / 1e6,
        ram.get("normal", 0) * MIB_PER_PAGE,
        int(ram.get("dirty-sync-count", 0)),
        sum(shares) / max(len(shares), 1),
        crowd.told(),
    )  # fmt: skip


def _hear(guest: Guest, word: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        guest.hear()
        if guest.told(word):
            return
        if guest.process.poll() is not None or time.monotonic() > end:
            raise InputError(f"{guest.name}: not {word} within {seconds:.0f} s")
        time.sleep(0.05)
