"""Settings in the words of each stack: right units, and names that no shell misreads."""

import json
import re
import shutil
import subprocess

import pytest

from hvgym.bench.advice_settings import OwnVm, in_powershell, in_shell, parameters, settings, whole_mib
from hvgym.envs.scenario import group_files, load_group

NASTY = (
    "web 01",
    "it's",
    'say "hi"',
    "$(touch gone)",
    "a;b|c&d",
    "-rf",
    "tab\there",
    "ünï",
    "100%",
    "{x}",
    "`id`",
    "#1",
)
"""Names that a shell would take apart."""


def own(name, memory_mib=8192.0, floor_mib=2050.5, shares=1000.0):
    return OwnVm(name, memory_mib, floor_mib, shares)


def lines(agent, hypervisor, vms):
    return [line for block in settings(load_group("agent", agent), hypervisor, vms) for line in block.lines]


def run_in_bash(commands, *programs):
    """What each command would have called, as lists of words; programs are functions that print their arguments."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    printing = "printf '%s' \"$p\"; printf '\\0%s' \"$@\"; printf '\\0\\0'"
    stubs = "".join(f"{name}() {{ local p={name}; {printing}; }}\n" for name in programs)
    done = subprocess.run(["bash", "-c", stubs + "\n".join(commands)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [call.split("\0") for call in done.stdout.split("\0\0") if call]


def test_virsh_gets_every_name_as_one_word_and_sizes_in_mib():
    calls = run_in_bash(lines("static", "kvm", [own(name) for name in NASTY]), "virsh")
    assert calls == [["virsh", "setmem", "--domain", name, "--size", "8192MiB", "--config"] for name in NASTY]


def test_virtualbox_gets_the_size_of_the_balloon_not_of_the_vm():
    calls = run_in_bash(lines("hypeman", "virtualbox", [own(name) for name in NASTY])[-len(NASTY) :], "VBoxManage")
    assert calls == [["VBoxManage", "controlvm", name, "guestmemoryballoon", str(8192 - 2051)] for name in NASTY]


def test_xe_finds_the_vm_by_its_name_and_keeps_a_quarter():
    commands = lines("squeezed", "xen", [own(name, floor_mib=100.0) for name in NASTY])
    find = 'vm-list() { printf uuid; }\nxe() { if [ "$1" = vm-list ]; then printf \'%s\' "$2"; else printf \'\\0%s\' "$@"; fi; }\n'
    done = subprocess.run(["bash", "-c", find + "\n".join(commands)], capture_output=True, text=True, check=True)
    words = done.stdout.split("\0")[1:]
    assert words == [
        word
        for name in NASTY
        for word in ("vm-memory-dynamic-range-set", f"uuid=name-label={name}", "min=2048MiB", "max=8192MiB")
    ]


def test_proxmox_is_told_in_mib_by_number_or_by_name():
    node, vmid, by_name, by_number = lines("proxmox", "kvm", [own("it's", shares=2000.0), own("104", floor_mib=8192.0)])
    assert node == "pvenode config set --ballooning-target 80"
    assert by_number == "qm set 104 --memory 8192 --balloon 8192 --shares 1000"
    listing = "qm() { if [ $1 = list ]; then printf 'VMID NAME STATUS\\n 7 other running\\n 9 it'\"'\"'s stopped\\n'; "
    called = f'{listing}else echo "$@"; fi; }}\n{vmid}\n{by_name}'
    done = subprocess.run(["bash", "-c", called], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set", "9", "--memory", "8192", "--balloon", "2051", "--shares", "2000"]


def test_a_change_that_proxmox_has_no_option_for_is_said():
    changed = load_group("agent", "proxmox") | {"target_share": 0.9726, "max_change_mib": 239}
    blocks = settings(changed, "kvm", [own("104")])
    assert blocks[0].lines == ("pvenode config set --ballooning-target 97",)
    assert "at most 239 MiB a cycle is a constant of PVE/AutoBalloon.pm (100)" in blocks[0].note


def test_powershell_doubles_every_sign_that_ends_a_text_and_finds_names_without_wildcards():
    assert in_powershell("it's") == "'it''s'"
    assert in_powershell("a\u2019b\u201bc") == "'a\u2019\u2019b\u201b\u201bc'"
    assert in_powershell("db[1]*$x") == "'db[1]*$x'"
    for agent, hypervisor in (("esx", "esxi"), ("hyperv_like", "hyperv"), ("static", "hyperv"), ("static", "esxi")):
        (line,) = [one for one in lines(agent, hypervisor, [own("db[1]'s")]) if "db" in one]
        assert line.startswith("Get-VM | Where-Object Name -CEQ 'db[1]''s' | ")


def test_hyper_v_takes_pieces_of_two_mib_and_a_buffer_within_its_range():
    (line,) = lines("hyperv_like", "hyperv", [own("a", floor_mib=2049.0)])
    assert line.endswith("-MinimumBytes 2050MB -StartupBytes 2050MB -MaximumBytes 8192MB -Buffer 20")
    (small,) = lines("hyperv_like", "hyperv", [own("a", memory_mib=512.0, floor_mib=300.0)])
    assert "-MinimumBytes 300MB -StartupBytes 512MB -MaximumBytes 512MB" in small
    agent = load_group("agent", "hyperv_like") | {"buffer_share": 0.01}
    assert settings(agent, "hyperv", [own("a")])[0].lines[0].endswith("-Buffer 5")


def test_esxi_gets_percent_and_reservations_in_mib():
    found = lines("esx", "esxi", [own("a")])
    assert [re.search(r"-Name (\S+) \| Set-AdvancedSetting -Value (\d+)", one).groups() for one in found[:3]] == [
        ("Mem.IdleTax", "75"),
        ("Mem.CtlMaxPercent", "65"),
        ("Mem.BalancePeriod", "15"),
    ]
    assert "-MemReservationMB 2051 -MemLimitMB $null -MemSharesLevel Normal" in found[3]


def test_mom_has_its_rules_by_their_own_names():
    found = lines("mom_vdsm", "kvm", [own("a<b & --c")])
    assert "(defvar pressure_threshold 0.2)" in found
    assert "(defvar max_balloon_change_percent 0.05)" in found
    for loop in (
        "main-loop",
        "host-monitor",
        "guest-monitor",
    ):  # samples are taken in loops of their own, every 5 s unless told
        assert f"{loop}-interval: 15" in found
    assert found[-1] == "a<b & --c: 2051 MiB"


def test_a_name_of_digits_is_an_id_to_virsh():
    for agent in ("static", "greedy"):
        of_digits, plain = (settings(load_group("agent", agent), "kvm", [own(name)]) for name in ("101", "web"))
        assert any("takes names of digits alone for IDs of running VMs" in block.note for block in of_digits)
        assert not any("IDs of running VMs" in block.note for block in plain)


def test_of_two_that_run_together_both_are_set():
    found = lines("proxmox_ksmtuned", "kvm", [own("104")])
    assert "pvenode config set --ballooning-target 80" in found
    assert "KSM_NPAGES_DECAY=-50" in found


def test_damon_gets_microseconds_and_bytes():
    found = lines("damon_reclaim", "kvm", [])
    assert "echo 120000000 > /sys/module/damon_reclaim/parameters/min_age" in found
    assert "echo 134217728 > /sys/module/damon_reclaim/parameters/quota_sz" in found


def test_floors_are_rounded_up():
    assert (whole_mib(2048.0), whole_mib(2048.2), whole_mib(2049.0, 2), whole_mib(0.1 + 0.2, 1)) == (
        2048,
        2049,
        2050,
        1,
    )
    assert whole_mib(3 * 0.1 * 10) == 3  # 3.0000000000000004


def test_every_agent_has_settings_on_every_hypervisor_without_an_error():
    vms = [own(name) for name in NASTY]
    for agent in group_files("agent"):
        for hypervisor in group_files("hypervisor"):
            blocks = settings(load_group("agent", agent), hypervisor, vms)
            assert all(block.where and all(isinstance(line, str) for line in block.lines) for block in blocks)


def test_who_has_no_words_on_a_stack_is_listed_with_its_parameters():
    agent = load_group("agent", "pressure_pi")
    blocks = settings(agent, "kvm", [own("a")])
    assert blocks[0].where == "pressure_pi, a program of your own"
    assert {line.partition(": ")[0] for line in blocks[0].lines} == set(parameters(agent))
    assert json.dumps(parameters(agent))
    assert in_shell("a b") == "'a b'"


def test_no_command_shrinks_a_vm_to_its_floor():
    """Floors are for the agent to keep; as commands they would take all that they may at once."""
    blocks = settings(load_group("agent", "greedy"), "kvm", [own("web 01"), own("db", floor_mib=1024.0)])
    *_, floors = blocks
    assert floors.lines == ("'web 01' 2051", "db 1024")
    assert not any("--live" in line and "setmem" in line for block in blocks for line in block.lines)


@pytest.mark.parametrize(("keep", "choice"), [(0.75, 100), (0.5, 50), (0.3, 50), (0.1, 25)])
def test_workstation_gets_one_of_its_choices_and_is_told_what_was_played(keep, choice):
    agent = load_group("agent", "workstation_trim") | {"keep_share": keep}
    (block,) = settings(agent, "workstation", [own("vm")])
    assert block.lines == (f'prefvmx.minVmMemPct = "{choice}"',)
    assert (f"{100 * keep:.0f} was played" in block.note) == (round(100 * keep) != choice)
