"""Columns that may be near nothing on a sound host (CPU wait, disk, network), and CPU in MHz: what documentation says of them holds
where the data do not contradict it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.page import page_of

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_fleet import COLUMNS, STEP, declaring, fleet, imported, without

sys.path.pop(0)

WAITING = COLUMNS | {"cpu_wait": "wait"}
UNCONTENDED, CONTENDED = 1e-4, 0.2
"""Cores that a VM waits for."""


def waiting(cores, per_second, counter):
    frame = fleet()
    noise = np.random.default_rng(1).gamma(2.0, 0.5, len(frame))
    frame["wait"] = cores * STEP * per_second * noise
    if counter:
        frame["wait"] = frame.groupby("name")["wait"].cumsum()
    return frame


@pytest.mark.parametrize("cores", [UNCONTENDED, CONTENDED])
@pytest.mark.parametrize(
    ("unit", "kind", "per_second"), [("ns", "counter", 1e9), ("s", "counter", 1.0), ("ms", "gauge", 1e3)]
)
def test_cpu_wait_is_in_the_unit_of_its_documentation_however_little_it_is(tmp_path, cores, unit, kind, per_second):
    frame = waiting(cores, per_second, kind == "counter")
    result, table = imported(tmp_path, frame, WAITING, source=declaring(cpu_wait=(unit, kind)))
    reading = result.readings["cpu_wait"]
    assert (reading.unit, reading.kind) == (unit, kind)
    rows = np.concatenate([rows["cpu_wait_cores"].dropna() for _, rows in table.vms()])
    assert np.mean(rows) == pytest.approx(cores, rel=0.1)


@pytest.mark.parametrize(("kind", "per_second"), [("counter", 1e9), ("gauge", 1e6)])
def test_more_wait_than_a_vm_has_cpus_contradicts_its_documentation(tmp_path, kind, per_second):
    frame = waiting(CONTENDED, per_second, kind == "counter")
    with pytest.raises(InputError, match=r"'wait' \(cpu_wait\): documentation says ms, which the data contradict"):
        imported(tmp_path, frame, WAITING, source=declaring(cpu_wait=("ms", kind)))


def test_cpu_wait_without_a_documented_unit_is_asked_for(tmp_path):
    """Little of a large unit is as likely as much of a small one."""
    with pytest.raises(InputError, match=r"'wait' \(cpu_wait\): several readings pass.* as us .* as ns "):
        imported(tmp_path, waiting(UNCONTENDED, 1e9, counter=True), WAITING)


READING = without(COLUMNS, "net_rx") | {"disk_read": "read"}


def reading(rows):
    """Each VM reads once after so many rows, and nothing in between."""
    frame = fleet()
    place = frame.groupby("name").cumcount()
    frame["read"] = np.where(place % rows == rows - 1, 100.0, 0.0)
    return frame[frame["name"] == "vm-0"].reset_index(drop=True)


@pytest.mark.parametrize("rows", [100, 5])
@pytest.mark.parametrize("unit", ["B/s", "KiB/s"])
def test_a_documented_rate_is_a_rate_however_seldom_it_changes(tmp_path, rows, unit):
    result, table = imported(tmp_path, reading(rows), READING, units={}, source=declaring(disk_read=unit))
    assert (result.readings["disk_read"].unit, result.readings["disk_read"].kind) == (unit.removesuffix("/s"), "gauge")
    ((_, found),) = table.vms()
    assert found["disk_read_bytes_per_s"].max() == 100 * (1024 if unit == "KiB/s" else 1)


def test_a_documented_rate_may_be_the_same_throughout(tmp_path):
    frame = reading(5).assign(read=8.0)
    result, _ = imported(tmp_path, frame, READING, units={}, source=declaring(disk_read="KiB/s"))
    assert result.readings["disk_read"].kind == "gauge"


def test_an_amount_that_seldom_changes_is_asked_for_in_its_documented_unit(tmp_path):
    with pytest.raises(InputError, match=r"disk_read: KiB\} for a counter or units=\{disk_read: KiB/s\} for a rate"):
        imported(tmp_path, reading(100), READING, units={}, source=declaring(disk_read="KiB"))


def in_mhz():
    """2,400 MHz a core, and what the VM may have of them."""
    frame = fleet()
    cores = 0.5 * frame["vcpu"] * np.random.default_rng(2).random(len(frame))
    return frame.assign(mhz=2400 * cores, share=100 * cores / frame["vcpu"], cap=2400.0 * frame["vcpu"], cores=cores)


MHZ = without(COLUMNS, "cpu_used") | {"cpu_used": "mhz"}


@pytest.mark.parametrize("by", ["documentation", "user"])
def test_mhz_of_vms_of_which_nothing_says_what_they_may_have_leave_cpu_unknown_and_say_so(tmp_path, by):
    source, units = (declaring(cpu_used="MHz"), {}) if by == "documentation" else (None, {"cpu_used": "MHz"})
    result, table = imported(tmp_path, in_mhz(), MHZ, units={"net_rx": "B"} | units, source=source)
    assert (result.readings["cpu_used"].unit, result.readings["cpu_used"].by) == ("MHz", by)
    (line,) = (line for line in page_of(result).splitlines() if "cpu_used from 'mhz'" in line)
    assert "MHz" in line
    assert "unknown in the table" in line
    assert "percent" in line
    for _, rows in table.vms():
        assert rows["guest_used_bytes"].notna().all()
        assert "cpu_used_cores" not in rows or rows["cpu_used_cores"].isna().all()


def test_mhz_of_vms_of_which_something_says_it_are_cores(tmp_path):
    source, columns = declaring(cpu_used="MHz", cpu_cap=("MHz", "gauge")), MHZ | {"cpu_cap": "cap"}
    _, table = imported(tmp_path, in_mhz(), columns, source=source)
    said = in_mhz()
    for vm, rows in table.vms():
        np.testing.assert_allclose(rows["cpu_used_cores"], said["cores"][said["name"] == vm])


def test_percent_beside_them_are_read(tmp_path):
    _, table = imported(tmp_path, in_mhz(), MHZ | {"cpu_used": "share"}, source=declaring(cpu_used="percent"))
    assert all(rows["cpu_used_cores"].notna().all() for _, rows in table.vms())


@pytest.mark.parametrize(("unit", "kind"), [("B/s", "gauge"), ("B", "counter")])
def test_a_documented_rate_that_rises_nine_times_of_ten_is_none_the_less_a_rate(tmp_path, unit, kind):
    """Where no documentation calls it a rate such a saw-tooth counts up, and begins anew now and then."""
    frame = fleet()
    frame["swapped"] = 1e5 * (frame.groupby("name").cumcount() % 11)
    columns = COLUMNS | {"guest_swap_in": "swapped"}
    result, _ = imported(tmp_path, frame, columns, source=declaring(guest_swap_in=unit))
    assert result.readings["guest_swap_in"].kind == kind
