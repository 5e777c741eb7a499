"""libvirt's own test driver, where libvirt-python is installed: a VM called test, whose statistics it makes up."""

from pathlib import Path

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.real.host import RealHost, open_host
from hvgym.envs.real.linux import Machine
from hvgym.envs.real.settings import read_host
from hvgym.envs.telemetry import Targets

libvirt = pytest.importorskip("libvirt", reason="extra hvgym[libvirt] is not installed")


def host_of(folder: Path, vms: str, uri: str = "test:///default") -> RealHost:
    file = folder / "h.yaml"
    file.write_text(f"backend: libvirt\nuri: {uri}\nram_mib: 16384\nvms: {{{vms}}}\n")
    return open_host(read_host(file), Machine(folder))


def test_a_vm_of_the_test_driver_is_read_and_one_that_is_not_there_is_off(tmp_path: Path) -> None:
    host = host_of(tmp_path, "test: {min_mib: 128}, none: {min_mib: 128}")
    now = host.reset([0])
    assert now.vm["running"].tolist() == [[1.0, 0.0]]
    assert now.vm["memory_mib"][0, 0] == 8192.0  # of libvirt's own default VM
    assert now.vm["guest_free_mib"][0, 0] == 1024.0  # as this driver makes it up
    host.close()


def test_a_vm_that_is_shut_down_is_off_and_started_again_it_is_back(tmp_path: Path) -> None:
    host = host_of(tmp_path, "test: {min_mib: 128}")
    host.reset([0])
    domain = host._source._connection.lookupByName("test")  # type: ignore[attr-defined]
    domain.destroy()
    assert host.read().vm["running"][0, 0] == 0.0
    domain.create()
    assert host.read().vm["running"][0, 0] == 1.0
    host.close()


def test_what_libvirt_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="libvirt does not answer"):
        host_of(tmp_path, "a: {min_mib: 1}", uri="nosuch:///system")
    host = host_of(tmp_path, "none: {min_mib: 128}")
    with pytest.raises(InputError, match="none of its VMs answers"):
        host.reset([0])
    with pytest.raises(InputError, match="no VM of this name"):
        host.ask("none", 100.0)
    host.close()


def test_a_policy_without_its_channel_is_told_so(tmp_path: Path) -> None:
    host = host_of(tmp_path, "test: {min_mib: 128}")
    host.reset([0])
    if "memory_mib" not in host.channels():
        with pytest.raises(InputError, match="no VM has a balloon device"):
            host.apply(Targets([[100.0]]))  # type: ignore[arg-type]
    host.close()
