"""QEMU's monitor: commands and replies as lines of JSON over a Unix socket.

One command is under way at a time. Events are skipped, and so are replies that come after their command was given up. After a
time-out or a broken line the connection is closed, and the next command opens a new one: QEMU then forgets what was under way.

Left out: out-of-band commands, file descriptors, monitors over TCP.
Source: QEMU's QMP specification (docs/interop/qmp-spec), re-implemented.
"""

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

from hvgym.envs.errors import InputError, shown

LONGEST_LINE = 2**24
"""Bytes; a reply of megabytes is none that is asked for here (a guess)."""


class MonitorError(InputError):
    """The monitor cannot be asked: no socket, no greeting, no reply in time, a broken line."""


class MonitorSilentError(MonitorError):
    """Somebody listens, but does not answer in time: QEMU hangs."""


class MonitorRefusedError(MonitorError):
    """QEMU answered with an error; what it is stands in `kind`."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class Monitor:
    """Of one QEMU process. path: its socket; timeout_s: for a reply."""

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        self.path, self._timeout_s = path, timeout_s
        self._socket: socket.socket | None = None
        self._rest, self._asked = b"", 0

    @property
    def pid(self) -> int | None:
        """Of the process that opened the socket, which is QEMU unless somebody opened it for QEMU."""
        if self._socket is None or not hasattr(socket, "SO_PEERCRED"):
            return None
        told = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", told)[0])

    def execute(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns. Raises `MonitorRefusedError` for an error reply, `MonitorError` for all else."""
        deadline = time.monotonic() + self._timeout_s
        if self._socket is None:
            self._connect(deadline)
        return self._ask(command, arguments, deadline)

    def close(self) -> None:
        """Hang up; the next command connects anew."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def _connect(self, deadline: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.connect(str(self.path))
        except OSError as error:
            self.close()
            raise MonitorError(f"{self.path}: no monitor answers ({error.strerror or error})") from None
        if "QMP" not in self._line(deadline):
            self.close()
            raise MonitorError(
                f"{self.path}: greets unlike QEMU; expected the socket of -qmp unix:PATH,server=on,wait=off"
            )
        self._ask("qmp_capabilities", {}, deadline)

    def _ask(self, command: str, arguments: dict[str, Any], deadline: float) -> Any:
        self._asked += 1
        number = self._asked
        text = json.dumps({"execute": command, "id": number} | ({"arguments": arguments} if arguments else {}))
        try:
            assert self._socket is not None
            self._socket.sendall(text.encode() + b"\n")
        except OSError as error:
            self.close()
            raise MonitorError(f"{self.path}: {command}: the connection broke ({error.strerror or error})") from None
        while True:
            reply = self._line(deadline, command)
            if reply.get("id", number) != number or not reply.keys() & {"return", "error"}:
                continue  # an event, or the answer to what was given up
            if "error" in reply:
                told = reply["error"] if isinstance(reply["error"], dict) else {}
                raise MonitorRefusedError(
                    f"{self.path}: {command}: {told.get('desc', 'refused')}", str(told.get("class"))
                )
            return reply["return"]

    def _line(self, deadline: float, command: str = "greeting") -> dict[str, Any]:
        """The next line; whatever is wrong with it, or does not come, ends the connection."""
        try:
            found = json.loads(self._bytes(deadline))
        except (OSError, ValueError) as error:
            self.close()
            silent = isinstance(error, TimeoutError)
            kind = MonitorSilentError if silent else MonitorError
            raise kind(f"{self.path}: {command}: {'no answer in time' if silent else error}") from None
        if not isinstance(found, dict):
            self.close()
            raise MonitorError(f"{self.path}: {command}: expected a JSON object, got {shown(found)}")
        return found

    def _bytes(self, deadline: float) -> bytes:
        assert self._socket is not None
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0.0:
                raise TimeoutError
            self._socket.settimeout(left)
            got = self._socket.recv(65536)
            if not got:
                raise ConnectionError("QEMU hung up")
            self._rest += got
            if len(self._rest) > LONGEST_LINE:
                raise ConnectionError(f"a line longer than {LONGEST_LINE} bytes")
        line, _, self._rest = self._rest.partition(b"\n")
        return line
