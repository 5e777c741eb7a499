"""A policy on a real host: it reads, it decides, and what it may do it does (drive), or only says (shadow).

The same policy objects as in the simulator, at their own period, with the signals that they declare. Every decision is a row a VM
of ``decisions.csv``. Nothing is asked for that ``envs.real.rails`` has not passed; however driving ends, VMs are handed back the
sizes that they had: by the driver itself, or by the watchdog when there is no driver any more.
"""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.real.fitting import granted, seen, unfit
from hvgym.envs.real.host import RealHost
from hvgym.envs.real.rails import Rails, RailSettings
from hvgym.envs.real.watchdog import Watchdog
from hvgym.envs.telemetry import SIGNAL_GROUPS, Targets, Telemetry

SHOWN = (
    "running", "memory_mib", "size_mib", "target_mib", "resident_mib", "host_swap_mib", "host_psi_some10", "guest_free_mib",
    "guest_available_mib", "guest_swap_in_mib", "guest_major_faults", "stats_age_s",
)  # fmt: skip
"""Signals of a VM in a row."""

OF_HOST = ("available_mib", "swap_used_mib", "swap_in_mib", "psi_some10")

COLUMNS = ("time_s", "vm", *SHOWN, "asked_mib", "sent_mib", "held_by", *(f"host_{name}" for name in OF_HOST))


@dataclass(frozen=True)
class Decision:
    """One. asked: by the policy; sent: what passed the rails; why: for each VM, what held it."""

    now: Telemetry
    asked: Targets
    sent: Targets
    why: Sequence[str]

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A row a VM, of `COLUMNS`."""
        vm, host = self.now.vm[0], self.now.host[0, 0]
        of_host = {f"host_{name}": _figure(host[name]) for name in OF_HOST}
        asked, sent = (_column(targets.memory_mib, len(names)) for targets in (self.asked, self.sent))
        for index, name in enumerate(names):
            yield {
                "time_s": f"{self.now.time_s[0]:.1f}", "vm": name,
                **{signal: _figure(vm[index][signal]) for signal in SHOWN},
                "asked_mib": _figure(asked[index]), "sent_mib": _figure(sent[index]), "held_by": self.why[index], **of_host,
            }  # fmt: skip


def _column(sizes: np.ndarray | None, vms: int) -> np.ndarray:
    return np.full(vms, np.nan) if sizes is None else np.asarray(sizes, np.float64).reshape(-1)


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".")


class Session:
    """A policy beside a host. acts: whether it drives."""

    def __init__(self, host: RealHost, policy: Policy, rails: RailSettings, agent: str, acts: bool) -> None:
        self.host, self.acts, self._agent = host, acts, agent
        self._policy, self._settings = policy, rails
        self.first = self._first_reading()
        if reason := unfit(policy.declaration, host, self.first):
            raise InputError(f"agent {agent} on host {host.settings.name}: {reason}")
        needed = policy.declaration.signals or frozenset()
        self.rails = Rails(rails, self.first, bool(needed & set(SIGNAL_GROUPS["guest_stats"])))

    def _first_reading(self) -> Telemetry:
        """Once guests have had the time to report."""
        self.host.reset([0])
        return self.host.advance(self.host.settings.stats_every_s + 1.0)

    def decisions(self, seconds: float) -> Iterator[Decision]:
        """Decide every period until `seconds` have passed; infinite is for ever."""
        self._policy.granted(granted(self._policy.declaration, self.host))
        self._policy.reset(self._seen(self.first), seed=0)
        now = self.first
        while True:
            asked = self._decided(now)
            sent, why = self.rails.held(asked, now)
            if self.acts:
                self.host.apply(sent)
            yield Decision(now, asked, sent, why)
            if now.time_s[0] + self._policy.period_s > seconds:
                return
            now = self.host.advance(self._policy.period_s)

    def _seen(self, telemetry: Telemetry) -> Telemetry:
        return seen(self._policy.declaration, self._policy.visibility, telemetry)

    def _decided(self, now: Telemetry) -> Targets:
        where = f"agent {self._agent} on host {self.host.settings.name}, second {now.time_s[0]:.0f}"
        try:
            asked = self._policy.decide(self._seen(now))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit too: however it fails, VMs are handed back and the user is told where
            raise InputError(f"{where}: {in_words(error)}") from error
        if not isinstance(asked, Targets):
            raise InputError(f"{where}: answered with {type(asked).__name__}, not Targets")
        return asked

    def hand_back(self) -> list[str]:
        """Give every VM the size it had; names of those that did not take it."""
        left = []
        for name, mib in self.to_restore().items():
            try:
                self.host.ask(name, mib)
            except InputError:
                left.append(name)
        return left

    def to_restore(self) -> dict[str, float]:
        """Sizes that VMs had when driving began."""
        sizes = zip(self.host.names, self.rails.restored_mib.tolist(), strict=True)
        return {name: mib for name, mib in sizes if not math.isnan(mib)}


@contextmanager
def watched(session: Session, file: Path, kept: Path, silent_s: float) -> Iterator[Callable[[], bool]]:
    """Drive under a watchdog: gives what to call after each decision. However it ends, VMs are handed back."""
    dog = Watchdog(file, kept, session.to_restore(), silent_s)
    try:
        yield dog.alive
    finally:
        if left := session.hand_back():
            print(f"hvgym drive: {', '.join(left)} did not take the size back", flush=True)
        dog.done()


@contextmanager
def logged(file: Path, names: Sequence[str]) -> Iterator[Callable[[Decision], None]]:
    """Rows of decisions, each on disk when it is made. Raises `InputError` where an earlier session's are there."""
    if file.exists():
        raise InputError(f"study={file.parent.name}: holds an earlier session; choose another name")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()

        def write(decision: Decision) -> None:
            writer.writerows(decision.rows(names))
            out.flush()

        yield write
