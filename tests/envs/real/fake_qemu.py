"""A QEMU for tests: the monitor's side of a conversation, as QEMU 7.2 has it, with guests that answer as they are told."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}

MIB = 2**20
UNSET = 2**64 - 1


class FakeQemu:
    """memory_mib: configured; the balloon takes what it is asked for at once, unless `stuck`. answers: by command, in place of the
    usual reply: plain data, an exception class to hang up, or a number of seconds to say nothing."""

    def __init__(self, path: Path, memory_mib: int = 1024, device: bool = True) -> None:
        self.path, self.memory_mib, self.device = path, memory_mib, device
        self.size_mib, self.status, self.stuck = float(memory_mib), "running", False
        self.stats: dict[str, int] = {
            "stat-swap-in": 0, "stat-swap-out": 0, "stat-major-faults": 3, "stat-minor-faults": 9, "stat-free-memory": 600 * MIB,
            "stat-total-memory": 980 * MIB, "stat-available-memory": 700 * MIB, "stat-disk-caches": 120 * MIB,
            "stat-htlb-pgalloc": 0, "stat-htlb-pgfail": 0,
        }  # fmt: skip
        self.last_update_s = 0
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.before: bytes = b""
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []

    def start(self) -> "FakeQemu":
        """Listen; a second start after `stop` is a new process behind the same path."""
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """End as a process that was killed: the socket stays on disk, nobody listens."""
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            self._open.append(peer)
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        try:
            peer.sendall(json.dumps(GREETING).encode() + b"\r\n")
            for line in peer.makefile("rb"):
                told = json.loads(line)
                if not self._reply(peer, told):
                    peer.shutdown(socket.SHUT_RDWR)
                    return
        except (OSError, ValueError):
            return

    def _reply(self, peer: socket.socket, told: dict[str, Any]) -> bool:
        name, arguments = told["execute"], told.get("arguments", {})
        self.asked.append((name, arguments))
        peer.sendall(
            b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BALLOON_CHANGE", "data": {"actual": 1}}\r\n'
        )
        special = self.answers.get(name)
        if isinstance(special, bytes):
            peer.sendall(special)
            return False
        if isinstance(special, float):
            time.sleep(special)
        if isinstance(special, dict):
            answer = special
        else:
            answer = self._usual(name, arguments)
        peer.sendall(json.dumps(answer | {"id": told.get("id")}).encode() + b"\r\n")
        return True

    def _usual(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Callable[[], Any]] = {
            "qmp_capabilities": dict, "query-status": lambda: {"status": self.status, "running": self.status == "running"},
            "query-memory-size-summary": lambda: {"base-memory": self.memory_mib * MIB, "plugged-memory": 0},
            "query-cpus-fast": lambda: [{"cpu-index": 0, "thread-id": 1}, {"cpu-index": 1, "thread-id": 2}],
            "query-blockstats": lambda: [{"device": "d", "stats": {"rd_bytes": 3 * MIB, "wr_bytes": 2 * MIB}}],
            "qom-list": lambda: self._devices(arguments["path"]), "qom-set": dict,
            "qom-get": lambda: {"last-update": self.last_update_s, "stats": self.stats},
        }  # fmt: skip
        if name == "query-balloon":
            if not self.device:
                return {"error": {"class": "DeviceNotActive", "desc": "No balloon device has been activated"}}
            return {"return": {"actual": int(self.size_mib * MIB)}}
        if name == "balloon":
            if not self.stuck:
                self.size_mib = arguments["value"] / MIB
            return {"return": {}}
        if name not in known:
            return {"error": {"class": "CommandNotFound", "desc": f"The command {name} has not been found"}}
        return {"return": known[name]()}

    def _devices(self, path: str) -> list[dict[str, str]]:
        device = [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}] if self.device else []
        return [{"name": "type", "type": "string"}, *(device if path == "/machine/peripheral" else [])]


@contextmanager
def running(*machines: FakeQemu) -> Iterator[None]:
    """As long as the test runs."""
    for one in machines:
        one.start()
    try:
        yield
    finally:
        for one in machines:
            with suppress(OSError):
                one.stop()
