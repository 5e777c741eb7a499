"""A real host as a YAML file: which VMs there are, by what they are reached, and what counts as its RAM.

name: rack7
backend: libvirt            # or qemu
uri: qemu:///system         # of libvirt
vms:
  web-1: {min_mib: 1024}    # by libvirt's name; with qemu also qmp: /run/web-1.qmp
  db-1: {min_mib: 4096, critical: true, weight: 2}
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hvgym.envs import yaml_file
from hvgym.envs.errors import InputError
from hvgym.envs.schema import build, number


@dataclasses.dataclass(frozen=True)
class VmSettings:
    """A VM that may be touched. min_mib: below which it is never asked to go; qmp: socket of its monitor, of QEMU; memory_mib:
    what it was configured with, None is what the backend says; weight, critical, shares: what it is worth, as in a scenario;
    overhead_mib: of its QEMU process beside guest memory (58 MiB were measured of QEMU 7.2 without a screen)."""

    min_mib: float = number(above=0)
    qmp: str | None = None
    memory_mib: float | None = number(None, above=0)
    weight: float = number(1.0, above=0)
    critical: bool = False
    shares: float = number(1000.0, least=0)
    overhead_mib: float = number(58.0, least=0)


@dataclasses.dataclass(frozen=True)
class RealHostSettings:
    """A host. ram_mib: what counts as its RAM, of which nobody but its VMs takes, None all that there is; confined_to: folder of
    a control group in which all VMs run, whose limit is the RAM; disk: device of the host's swap, whose utilisation is read;
    stats_every_s: how often guests are to report; timeout_s: for an answer of a VM's monitor, after which it counts as hung."""

    name: str
    backend: Literal["qemu", "libvirt"]
    vms: Mapping[str, VmSettings]
    uri: str = "qemu:///system"
    ram_mib: float | None = number(None, above=0)
    confined_to: str | None = None
    disk: str | None = None
    stats_every_s: int = number(2, least=1, most=3600)
    timeout_s: float = number(2.0, above=0, most=60)

    def __post_init__(self) -> None:
        if not self.vms:
            raise InputError("vms: name at least one")
        if self.backend == "qemu" and (lacking := [name for name, vm in self.vms.items() if not vm.qmp]):
            raise InputError(
                f"vms.{lacking[0]}.qmp: missing; name the socket of its monitor (-qmp unix:PATH,server=on,wait=off)"
            )


def read_host(file: str | Path) -> RealHostSettings:
    """Raises `InputError` that names the file, the key and what would be right."""
    try:
        data = yaml_file.read(file)
        vms = data.get("vms")
        if isinstance(vms, Mapping):
            data = data | {"vms": {name: one or {} for name, one in vms.items()}}
        return build(RealHostSettings, {"name": Path(file).stem} | data, "host")
    except InputError as error:
        raise InputError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
