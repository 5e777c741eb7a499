"""A process beside the one that drives: when that one dies, or says nothing for too long, it gives the VMs their sizes back.

The driver writes a line each time it has decided. A line ``done`` means that it has handed everything back itself; the end of the
pipe without it (kill -9, a crash, a machine out of memory) or `silent_s` without a line mean that it has not. What was to be
restored stands in a file too, so that a host whose watchdog was killed as well is put right by ``hvgym drive restore=true``, or by
the next command that drives it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.real.host import open_host
from hvgym.envs.real.settings import RealHostSettings, read_host

TRIES = 5
"""Of a VM that does not take its size back, a second apart (a guess)."""


class Watchdog:
    """Seen from the driver. file: the host's; kept: where what is to be restored is written; silent_s: as of the module."""

    def __init__(self, file: Path, kept: Path, sizes_mib: Mapping[str, float], silent_s: float) -> None:
        self._kept = kept
        write_atomically(kept, json.dumps({"host": str(file), "sizes_mib": dict(sizes_mib)}, indent=1) + "\n")
        command = [sys.executable, "-m", "hvgym.envs.real.watchdog", str(kept), str(silent_s)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, text=True, start_new_session=True
        )  # no Ctrl-C for it

    @property
    def pid(self) -> int:
        """Of the process that watches."""
        return self._process.pid

    def alive(self) -> bool:
        """Say that the driver goes on; whether somebody still listens."""
        return self._told("on")

    def done(self) -> None:
        """Everything is handed back: nothing is left to watch."""
        self._told("done")
        self._kept.unlink(missing_ok=True)
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def _told(self, word: str) -> bool:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return self._process.poll() is None


def restore(settings: RealHostSettings, sizes_mib: Mapping[str, float]) -> list[str]:
    """Give VMs these sizes; names of those that did not take them (they are off, or there no more)."""
    host = open_host(settings)
    left = dict(sizes_mib)
    for _ in range(TRIES):
        for name, mib in list(left.items()):
            try:
                host.ask(name, mib)
            except InputError:
                continue
            del left[name]
        if not left:
            break
        time.sleep(1.0)
    host.close()
    return list(left)


def restore_kept(kept: Path) -> tuple[list[str], list[str]]:
    """Restore what a file says, and delete it: names of VMs that took their size, and of those that did not. Raises `InputError`
    where the file or the host cannot be read."""
    try:
        told = json.loads(kept.read_bytes())
        file, sizes = Path(told["host"]), {str(name): float(mib) for name, mib in told["sizes_mib"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{kept}: does not say what to restore ({error})") from None
    left = restore(read_host(file), sizes)
    kept.unlink(missing_ok=True)
    return [name for name in sizes if name not in left], left


def _watch(kept: Path, silent_s: float) -> None:
    """Until the driver is done, dies or says nothing."""
    rest = b""
    while True:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], silent_s)
        got = os.read(sys.stdin.fileno(), 4096) if ready else b""
        if not got:
            break
        rest = (rest + got)[-64:]
        if b"done\n" in rest:
            return
    if kept.exists():
        done, left = restore_kept(kept)
        words = f"gave {', '.join(done) or 'nobody'} the size back" + (
            f"; {', '.join(left)} did not take it" if left else ""
        )
        print(f"hvgym watchdog: the driver is gone; {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    for ended in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ended, signal.SIG_IGN)
    _watch(Path(sys.argv[1]), float(sys.argv[2]))
