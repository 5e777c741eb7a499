"""A policy's parameters and the VMs' floors in the words of the stack that runs them: commands to copy, files to edit.

Units are those of each tool: `qm` and `VBoxManage` take MiB, `virsh` and `xe` a suffix, PowerShell's MB is 2**20 bytes. Names
are quoted for the shell that reads them, whatever characters they have; PowerShell takes wildcards in names, so VMs are found by
comparison there. Sources: the manuals of qm, virsh, xe and VBoxManage, PowerCLI's and Hyper-V's references of
cmdlets, vdsm's mom.d, ksmtuned.conf, libvirt's domain XML. What was recalled and not looked up says so beside the lines.

Left out: how an agent that no stack ships is run; its parameters are listed as hvgym calls them, and what sets its targets.
"""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

META = (
    "name",
    "description",
    "_target_",
    "seat",
    "channels",
    "signals",
    "interfaces",
    "tune",
    "needs",
    "train",
    "parts",
)
"""Keys of an agent that are no parameters of its policy."""

POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")
"""What ends a text between single quotes there, typographic ones too."""

XEN_FLOOR_SHARE = 0.25
"""Least dynamic minimum of a VM's static maximum that XenServer's manual supports."""


WORKSTATION_CHOICES = (25, 50, 100)
"""Per cent of VMs' memory kept in RAM that Workstation's preferences offer (recalled)."""


@dataclass(frozen=True)
class OwnVm:
    """What is set of a VM. floor_mib: the size below which no policy went; shares: 1000 is usual."""

    name: str
    memory_mib: float
    floor_mib: float
    shares: float = 1000.0


@dataclass(frozen=True)
class Block:
    """Lines of one place: where they go, in which language, and what to know."""

    where: str
    lines: tuple[str, ...]
    note: str = ""


Writer = Callable[[Mapping[str, Any], Sequence[OwnVm]], list[Block]]


def settings(agent: Mapping[str, Any], hypervisor: str, vms: Sequence[OwnVm]) -> list[Block]:
    """What to set where, host first; nothing where the policy asks for nothing and the hypervisor keeps no floors."""
    if agent.get("parts"):
        return [block for part in agent["parts"] for block in settings(part, hypervisor, vms)]
    policy = str(agent.get("_target_", "")).rpartition(".")[2]
    writer = _OF_POLICY.get((hypervisor, policy)) or _OF_HYPERVISOR.get(hypervisor, _parameters)
    return writer(agent, vms)


def in_shell(text: str) -> str:
    """As one word of a POSIX shell."""
    return shlex.quote(text)


def in_powershell(text: str) -> str:
    """As a text of PowerShell in which nothing is replaced."""
    return "'" + POWERSHELL_QUOTES.sub(r"\1\1", text) + "'"


def whole_mib(mib: float, step: int = 1) -> int:
    """Rounded up to whole steps, so that no floor shrinks."""
    return math.ceil(round(mib / step, 6)) * step


def parameters(agent: Mapping[str, Any]) -> dict[str, Any]:
    """Of a policy, as its YAML names them."""
    return {key: value for key, value in agent.items() if key not in META}


def _parameters(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    found = tuple(f"{key}: {value}" for key, value in parameters(agent).items())
    return [Block(f"{agent['name']}, a program of your own", found, "as hvgym names them")] if found else []


def _proxmox(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    changed = float(agent["max_change_mib"])
    note = "" if changed == 100.0 else f"at most {changed:g} MiB a cycle is a constant of PVE/AutoBalloon.pm (100)"
    node = Block(
        "Proxmox node, shell", (f"pvenode config set --ballooning-target {round(100 * agent['target_share'])}",), note
    )
    own = [
        f"qm set {_vmid(vm.name)} --memory {whole_mib(vm.memory_mib)} --balloon {whole_mib(vm.floor_mib)} "
        f"--shares {round(vm.shares)}"
        for vm in vms
    ]
    if any(not vm.name.isdigit() for vm in vms):
        own.insert(0, 'vmid() { qm list | NAME="$1" awk \'$2 == ENVIRON["NAME"] { print $1 }\'; }')
    return [node, Block("Proxmox node, each VM, shell", tuple(own), "MiB; Proxmox starts a VM at its minimum")]


def _vmid(name: str) -> str:
    return name if name.isdigit() else f'"$(vmid {in_shell(name)})"'


def _mom(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    names = {
        "pressure_threshold": "pressure_threshold",
        "pressure_critical": "pressure_critical",
        "min_guest_free_percent": "min_guest_free",
        "max_balloon_change_percent": "max_change",
        "min_balloon_change_percent": "min_change",
    }
    rules = tuple(f"(defvar {theirs} {agent[ours]:g})" for theirs, ours in names.items())
    loop = (
        "[main]",
        *(f"{loop}-interval: {agent['monitor_s']}" for loop in ("main-loop", "host-monitor", "guest-monitor")),
        f"sample-history-length: {agent['history']}",
        f"policy-engine-interval: {agent['engine_s']}",
    )
    floors = tuple(f"{vm.name}: {whole_mib(vm.floor_mib)} MiB" for vm in vms)
    return [
        Block("host, /etc/vdsm/mom.d/02-balloon.policy (MOM alone: its rules file)", rules),
        Block("host, mom.conf", loop, "oVirt: turn on memory balloon optimisation of the cluster, too"),
        Block(
            "each VM, oVirt: Physical Memory Guaranteed",
            floors,
            "MOM alone has none: QEMU refuses libvirt's min_guarantee",
        ),
    ]


def _libvirt(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    """Policies that set targets through libvirt or QMP: what they may not go below, and statistics that they need. The floors are
    no commands, for these would shrink every VM to its floor at once."""
    sizes = tuple(
        f"virsh setmem --domain {in_shell(vm.name)} --size {whole_mib(vm.memory_mib)}MiB --config" for vm in vms
    )
    polled = tuple(f"virsh dommemstat --domain {in_shell(vm.name)} --period 2 --live --config" for vm in vms)
    floors = tuple(f"{in_shell(vm.name)} {whole_mib(vm.floor_mib)}" for vm in vms)
    return [
        *_parameters(agent, vms),
        Block("KVM host, size at start, shell", sizes, _ids(vms)),
        Block("KVM host, guest statistics each 2 s, shell", polled, _ids(vms)),
        Block("the agent, smallest target of each VM in MiB", floors, "it asks virsh setmem for no less"),
    ]


def _as_shipped(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    """KVM moves no balloon by itself: sizes stay."""
    lines = tuple(
        f"virsh setmem --domain {in_shell(vm.name)} --size {whole_mib(vm.memory_mib)}MiB --config" for vm in vms
    )
    kept = "every VM keeps its whole size; the host's swap is the last resort"
    return [Block("KVM host, shell", lines, "; ".join(filter(None, (kept, _ids(vms)))))]


def _ids(vms: Sequence[OwnVm]) -> str:
    """virsh tries a number as the ID of a running VM first."""
    return (
        "virsh takes names of digits alone for IDs of running VMs: put their UUIDs in place (virsh list --all --uuid --name)"
        if any(vm.name.isdecimal() for vm in vms)
        else ""
    )


def _reporting(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    line = "<memballoon model='virtio' freePageReporting='on'><stats period='2'/></memballoon>"
    return [Block("each VM, libvirt XML (virsh edit, then a restart of the VM)", (line,), "Linux guests only")]


def _ksmtuned(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    names = {
        "KSM_NPAGES_BOOST": "boost_pages",
        "KSM_NPAGES_DECAY": "decay_pages",
        "KSM_NPAGES_MIN": "least_pages",
        "KSM_NPAGES_MAX": "most_pages",
        "KSM_SLEEP_MSEC": "sleep_ms",
        "KSM_THRES_COEF": "threshold_percent",
        "KSM_THRES_CONST": "least_threshold_kib",
    }
    negative = ("KSM_NPAGES_DECAY",)
    lines = tuple(f"{key}={'-' if key in negative else ''}{agent[ours]}" for key, ours in names.items())
    return [Block("KVM host, /etc/ksmtuned.conf, then systemctl restart ksmtuned", lines)]


def _cgroups(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    """Reclaim through a VM's cgroup: by a daemon."""
    line = "echo BYTES > /sys/fs/cgroup/machine.slice/MACHINE.scope/memory.reclaim"
    return [*_parameters(agent, vms), Block("KVM host, what the daemon writes for each VM", (line,), "Linux 5.19 on")]


def _damon(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    values = {
        "min_age": round(1e6 * agent["min_age_s"]),
        "quota_ms": round(agent["quota_ms"]),
        "quota_sz": round(2.0**20 * agent["quota_mib"]),
        "quota_mem_pressure_us": round(agent["mem_pressure_us"]),
        "wmarks_high": round(agent["high_per_mille"]),
        "wmarks_mid": round(agent["mid_per_mille"]),
        "wmarks_low": round(agent["low_per_mille"]),
        "wmarks_interval": round(1e6 * agent["check_s"]),
        "enabled": "Y",
    }
    lines = tuple(f"echo {value} > /sys/module/damon_reclaim/parameters/{name}" for name, value in values.items())
    return [
        Block(
            "KVM host, shell as root", lines, "microseconds and bytes; quota_mem_pressure_us: Linux 6.9 on (recalled)"
        )
    ]


def _esxi(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    host = {
        "Mem.IdleTax": round(100 * agent.get("idle_tax", 0.75)),
        "Mem.CtlMaxPercent": round(100 * agent.get("cap_share", 0.65)),
        "Mem.BalancePeriod": round(agent.get("balance_s", 15)),
    }
    lines = tuple(
        f"Get-VMHost | Get-AdvancedSetting -Name {name} | Set-AdvancedSetting -Value {value} -Confirm:$false"
        for name, value in host.items()
    )
    by_size = agent.get("shares_by_size", True)
    own = tuple(
        f"Get-VM | Where-Object Name -CEQ {in_powershell(vm.name)} | Get-VMResourceConfiguration | "
        f"Set-VMResourceConfiguration -MemReservationMB {whole_mib(vm.floor_mib)} -MemLimitMB $null "
        + ("-MemSharesLevel Normal" if by_size else f"-MemSharesLevel Custom -NumMemShares {round(vm.shares)}")
        for vm in vms
    )
    return [Block("vSphere, PowerCLI, each host", lines), Block("vSphere, PowerCLI, each VM", own, "MiB")]


def _esxi_kept_still(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    """No balloon: what `static` is on ESXi."""
    lines = tuple(
        f"Get-VM | Where-Object Name -CEQ {in_powershell(vm.name)} | "
        "New-AdvancedSetting -Name sched.mem.maxmemctl -Value 0 -Force -Confirm:$false"
        for vm in vms
    )
    return [Block("vSphere, PowerCLI, each VM, then a restart of the VM", lines, "no balloon; the host swaps at once")]


def _hyperv(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    buffer = round(100 * agent.get("buffer_share", 0.20))
    buffer = min(max(buffer, 5), 2000)
    lines = tuple(
        f"Get-VM | Where-Object Name -CEQ {in_powershell(vm.name)} | Set-VMMemory -DynamicMemoryEnabled $true "
        f"-MinimumBytes {whole_mib(vm.floor_mib, 2)}MB -StartupBytes {_startup_mib(vm)}MB "
        f"-MaximumBytes {whole_mib(vm.memory_mib, 2)}MB -Buffer {buffer}"
        for vm in vms
    )
    note = "PowerShell's MB is 2**20 bytes, in steps of 2; turning Dynamic Memory on needs the VM off"
    return [Block("Hyper-V, PowerShell as administrator, each VM", lines, note)]


def _startup_mib(vm: OwnVm) -> int:
    """As much as its floor, and what a system boots with at the least (1 GiB, a guess)."""
    return whole_mib(min(max(vm.floor_mib, 1024.0), vm.memory_mib), 2)


HAVE_TO_FIT = "these sizes have to fit together, or the last VMs do not start; what was played began smaller then"
"""Hosts that do not overcommit have no fixed size for a VM that does not fit."""


def _fixed_hyperv(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    lines = tuple(
        f"Get-VM | Where-Object Name -CEQ {in_powershell(vm.name)} | Set-VMMemory -DynamicMemoryEnabled $false "
        f"-StartupBytes {whole_mib(vm.memory_mib, 2)}MB"
        for vm in vms
    )
    return [Block("Hyper-V, PowerShell as administrator, each VM that is off", lines, HAVE_TO_FIT)]


def _xen(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    lines = tuple(
        f'xe vm-memory-dynamic-range-set uuid="$(xe vm-list name-label={in_shell(vm.name)} --minimal)" '
        f"min={whole_mib(max(vm.floor_mib, XEN_FLOOR_SHARE * vm.memory_mib))}MiB max={whole_mib(vm.memory_mib)}MiB"
        for vm in vms
    )
    note = "a dynamic minimum below a quarter of the static maximum is not supported, so none is written"
    return [Block("XenServer, dom0, shell", lines, note)]


def _fixed_xen(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    lines = tuple(
        f'xe vm-memory-dynamic-range-set uuid="$(xe vm-list name-label={in_shell(vm.name)} --minimal)" '
        f"min={whole_mib(vm.memory_mib)}MiB max={whole_mib(vm.memory_mib)}MiB"
        for vm in vms
    )
    return [Block("XenServer, dom0, shell", lines, HAVE_TO_FIT)]


def _selfballoon(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    root = "/sys/devices/system/xen_memory/xen_memory0/selfballoon"
    lines = (
        f"echo 1 > {root}/selfballooning",
        f"echo {round(agent['down_hysteresis'])} > {root}/selfballoon_downhysteresis",
        f"echo {round(agent['up_hysteresis'])} > {root}/selfballoon_uphysteresis",
    )
    floors = [f"echo {whole_mib(vm.floor_mib)} > {root}/selfballoon_min_usable_mb # {vm.name!r}" for vm in vms]
    note = "kernels before 5.3 (recalled); each guest sets its own balloon"
    return [Block("each Linux guest, shell", (*lines, *floors), note)]


def _virtualbox(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    most = {vm.name: whole_mib(vm.memory_mib) - whole_mib(vm.floor_mib) for vm in vms}
    watch = tuple(
        f"VBoxManage setextradata {in_shell(name)} VBoxInternal2/Watchdog/BalloonCtrl/BalloonSizeMax {mib}"
        for name, mib in most.items()
    )
    now = tuple(f"VBoxManage controlvm {in_shell(name)} guestmemoryballoon {mib}" for name, mib in most.items())
    note = "MiB that are taken out of the guest: its size less its floor"
    return [
        *_parameters(agent, vms),
        Block("VirtualBox host, largest balloon of each VM (vboxwatchdog), shell", watch, note),
        Block("VirtualBox host, or by hand now, shell", now, note),
    ]


def _fixed_virtualbox(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    lines = tuple(f"VBoxManage controlvm {in_shell(vm.name)} guestmemoryballoon 0" for vm in vms)
    return [Block("VirtualBox host, shell", lines)]


def _workstation(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    wanted = 100 * agent["keep_share"]
    share = min(choice for choice in WORKSTATION_CHOICES if choice >= min(wanted, 100))
    lines = (f'prefvmx.minVmMemPct = "{share}"',)
    played = "" if share == round(wanted) else f"; {wanted:.0f} was played, and this is the next larger"
    note = f"recalled: the choices of the preferences are 100, 50 and 25{played}"
    return [Block("Workstation host, /etc/vmware/config or config.ini", lines, note)]


def _fixed_workstation(agent: Mapping[str, Any], vms: Sequence[OwnVm]) -> list[Block]:
    lines = ('prefvmx.minVmMemPct = "100"', 'MemTrimRate = "0"')
    return [Block("Workstation host, config; MemTrimRate in each .vmx", lines, "recalled")]


_OF_HYPERVISOR: dict[str, Writer] = {
    "kvm": _libvirt,
    "esxi": _esxi,
    "hyperv": _hyperv,
    "xen": _xen,
    "virtualbox": _virtualbox,
    "workstation": _parameters,
}
"""Of policies that have no words of their own there."""

_OF_POLICY: dict[tuple[str, str], Writer] = {
    ("kvm", "Proxmox"): _proxmox,
    ("kvm", "Mom"): _mom,
    ("kvm", "Static"): _as_shipped,
    ("kvm", "FreePageReporting"): _reporting,
    ("kvm", "Ksmtuned"): _ksmtuned,
    **{
        ("kvm", name): _cgroups
        for name in ("Tmo", "Senpai", "OomdSenpai", "OomdImmediate", "GSwap", "Katalyst", "ColdestFirst")
    },
    ("kvm", "DamonReclaim"): _damon,
    ("esxi", "Static"): _esxi_kept_still,
    ("hyperv", "Static"): _fixed_hyperv,
    ("xen", "Static"): _fixed_xen,
    ("xen", "SelfBalloon"): _selfballoon,
    ("virtualbox", "Static"): _fixed_virtualbox,
    ("workstation", "WorkstationTrim"): _workstation,
    ("workstation", "Static"): _fixed_workstation,
}
"""By the class of a policy. Where the hypervisor ships with a policy, `stock` is that (``of_stock``)."""
