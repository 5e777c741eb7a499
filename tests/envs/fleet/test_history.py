"""Tables on a grid: what is unknown stays so, who comes late has arrived, who ends early has left."""

import gzip
import os

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.fleet.history import held, read_history

START_S = 1_700_006_400
MIB = 2.0**20


def steady(rows=600, first_row=0, **more):
    return {"first_row": first_row, "cap_bytes": 4096 * MIB, "guest_used_bytes": np.full(rows, 1024 * MIB)} | more


def test_bytes_become_mib_on_one_grid(own_table):
    history = read_history(own_table({"b": steady(), "a": steady(vcpus=4, cpu_used_cores=1.5)}))
    assert [vm.name for vm in history.vms] == ["a", "b"]
    assert (history.slot_s, history.slots, history.start_s) == (60, 600, START_S)
    first = history.vms[0]
    assert (first.cap_mib, first.vcpus) == (4096, 4)
    assert (first.columns["guest_used"] == 1024).all()
    assert (first.columns["cpu"] == 1.5).all()
    assert history.vms[1].vcpus is None
    assert "backed" not in first.columns  # not known at all


def test_names_that_are_numbers_come_by_value(own_table):
    assert [vm.name for vm in read_history(own_table({"10": steady(), "9": steady(), "a": steady()})).vms] == [
        "9",
        "10",
        "a",
    ]


def test_unknown_stays_unknown(own_table):
    used = np.full(600, 1024 * MIB)
    used[100:200] = np.nan
    vm = read_history(own_table({"a": steady(guest_used_bytes=used), "b": steady()})).vms[0]
    assert np.isnan(vm.columns["guest_used"][100:200]).all()
    assert not vm.known[100:200].any()
    assert vm.known[:100].all()
    assert vm.present.all()  # it is not off
    assert held(vm.columns["guest_used"])[150] == 1024


def test_late_and_early_are_arrival_and_departure(own_table):
    history = read_history(own_table({"all": steady(600), "late": steady(400, first_row=200), "early": steady(300)}))
    by_name = {vm.name: vm for vm in history.vms}
    assert (by_name["late"].arrive_slot, by_name["late"].leave_slot) == (200, 600)
    assert (by_name["early"].arrive_slot, by_name["early"].leave_slot) == (0, 300)
    lines = "\n".join(history.lines())
    assert "came later: late" in lines
    assert "left earlier: early" in lines


def test_an_hour_late_is_no_arrival(own_table):
    by_name = {
        vm.name: vm for vm in read_history(own_table({"all": steady(600), "late": steady(540, first_row=60)})).vms
    }
    assert by_name["late"].arrive_slot == 0
    assert not by_name["late"].known[:60].any()


def test_off_is_what_power_says_or_zeros_for_three_rows(own_table):
    used = np.full(600, 1024 * MIB)
    used[10:12] = used[20:23] = 0.0
    power = np.where(np.arange(600) // 50 == 4, "off", "on")
    vm = read_history(own_table({"a": steady(guest_used_bytes=used, power=power), "b": steady()})).vms[0]
    assert np.flatnonzero(~vm.present).tolist() == [20, 21, 22, *range(200, 250)]


def test_peaks_lie_beside_the_means(own_table):
    rows = np.arange(600) // 2
    folder = own_table({"a": {"cap_bytes": 4096 * MIB, "guest_used_bytes": np.full(600, MIB)}})
    file = folder / "vm_samples.csv"
    lines = file.read_text().splitlines()
    more = [line.replace(f",{MIB}", f",{3 * MIB}") + ",max" for line in lines[1:]]
    file.write_text("\n".join([lines[0] + ",agg", *(line + ",mean" for line in lines[1:]), *more]))
    vm = read_history(folder).vms[0]
    assert (vm.columns["guest_used"] == 1).all()
    assert (vm.peaks["guest_used"] == 3).all()
    assert len(rows) == len(vm.present)


def test_coarser_rows_fill_their_slots_and_finer_ones_are_averaged(own_table):
    folder = own_table({"a": steady(600)})
    file = folder / "vm_samples.csv"
    extra = [
        f"a,{START_S + 36000 + 1800},1800,{4096 * MIB},{2048 * MIB}",
        f"a,{START_S + 36000 + 1830},30,{4096 * MIB},{100 * MIB}",
        f"a,{START_S + 36000 + 1860},30,{4096 * MIB},{300 * MIB}",
    ]
    file.write_text(file.read_text() + "\n".join(extra) + "\n")
    used = read_history(folder).vms[0].columns["guest_used"]
    assert len(used) == 631
    assert (used[600:630] == 2048).all()
    assert used[630] == 200


def test_an_edited_table_is_read_anew(own_table):
    folder = own_table({"a": steady()})
    assert len(read_history(folder).vms) == 1
    file = folder / "vm_samples.csv"
    file.write_text(file.read_text().replace("\na,", "\nother,"))
    assert [vm.name for vm in read_history(folder).vms] == ["other"]


def test_a_compressed_table_is_the_same(own_table):
    folder = own_table({"a": steady()})
    plain = read_history(folder).vms[0].columns["guest_used"].tobytes()
    text = (folder / "vm_samples.csv").read_bytes()
    (folder / "vm_samples.csv").unlink()
    (folder / "vm_samples.csv.gz").write_bytes(gzip.compress(text))
    assert read_history(folder).vms[0].columns["guest_used"].tobytes() == plain


def test_no_table_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no vm_samples in it"):
        read_history(tmp_path)


def test_sizes_that_were_assumed_are_known_by_their_source(own_table):
    folder = own_table({"a": steady()})
    for source, scaled in (("borg2019", True), ("proxmox", False)):
        (folder / "manifest.json").write_text(f'{{"format": "hvgym vm history 1", "source": "{source}"}}')
        os.utime(folder / "vm_samples.csv", (1, 1 + scaled))  # another stamp, so that it is read anew
        assert read_history(folder).vms[0].scaled is scaled
