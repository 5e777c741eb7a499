"""Whether guests had the processors: how long their threads waited for one while they could have run, and what others used.

Waited is the run delay of a QEMU's main thread and vCPUs (the second figure of schedstat; threads that come and go are not
counted), of the guest that waited most, as a share of the time watched. Stolen is what the machine, where it is a VM itself,
did not get of the processors that it asked for. A guest that is runnable for all of a second does no less of its work than
what is left of it, so an episode within the bounds owes at most their sum to the machine.

Left out: caches and memory bandwidth that others use, and disks.

Source: Linux Documentation/scheduler/sched-stats.rst, proc(5).
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_WAITED, MOST_STOLEN = 0.10, 0.03
"""Shares above which an episode says nothing; guesses: what is waited is rarely work lost, for guests rest between touches. Three
that page on two processors wait for one another for 6 to 8 % of the time, and repeats of such an episode differ by 0.01."""


@dataclass(frozen=True)
class Crowding:
    """seconds watched; waited, stolen: shares as above; others: processors that all but the guests used; guests: processors that
    they used."""

    seconds: float
    waited: float
    stolen: float
    others: float
    guests: float

    @property
    def busy(self) -> str | None:
        """Why nothing can be read from such an episode; None where it can."""
        if self.waited > MOST_WAITED:
            return f"a guest waited {self.waited:.1%} of the time for a processor (at most {MOST_WAITED:.0%})"
        if self.stolen > MOST_STOLEN:
            return f"{self.stolen:.1%} of the machine's processors were stolen from it (at most {MOST_STOLEN:.0%})"
        return None


@dataclass(frozen=True)
class _Seen:
    at_s: float
    delays_s: dict[str, float]
    guests_s: float
    busy_s: float
    stolen_s: float


class Watch:
    """Begins as it is made. pids: of QEMU processes; root: of the files, elsewhere in tests."""

    def __init__(
        self, pids: Sequence[int], root: Path = Path("/"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pids, self._root, self._clock = pids, root, clock
        self._first = self._seen()

    def told(self) -> Crowding:
        """Of the time since."""
        first, now = self._first, self._seen()
        seconds = max(now.at_s - first.at_s, 1e-9)
        waited = dict.fromkeys(self._pids, 0.0)
        for thread in first.delays_s.keys() & now.delays_s.keys():
            waited[int(thread.split("/")[0])] += now.delays_s[thread] - first.delays_s[thread]
        busy_s, stolen_s = now.busy_s - first.busy_s, now.stolen_s - first.stolen_s
        guests_s = max(now.guests_s - first.guests_s, 0.0)
        return Crowding(
            seconds,
            max(waited.values(), default=0.0) / seconds,
            stolen_s / max(busy_s + stolen_s, 1e-9),
            max(busy_s - guests_s, 0.0) / seconds,
            guests_s / seconds,
        )

    def _seen(self) -> _Seen:
        delays, guests_s = dict[str, float](), 0.0
        tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        for pid in self._pids:
            for thread in self._root.glob(f"proc/{pid}/task/*/schedstat"):
                words = self._read(thread).split()
                if len(words) == 3:
                    delays[f"{pid}/{thread.parent.name}"] = float(words[1]) * 1e-9
            fields = self._read(self._root / f"proc/{pid}/stat").rpartition(")")[2].split()
            guests_s += sum(map(float, fields[11:13])) * tick_s
        spent = [float(word) * tick_s for word in self._read(self._root / "proc/stat").partition("\n")[0].split()[1:9]]
        user, nice, system, _idle, _waits, irq, softirq, stolen = spent
        return _Seen(self._clock(), delays, guests_s, user + nice + system + irq + softirq, stolen)

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text()
        except OSError:
            return ""  # a thread or process that has ended
