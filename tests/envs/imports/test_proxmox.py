"""rrddata as rows of a VM: what mem means, what off looks like, steps that change within a reply; broken files in one line."""

import json

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.proxmox import SOURCE

START_S = 1_767_571_200
GIB = 2**30

RUNNING = {"maxmem": 4 * GIB, "maxcpu": 2, "mem": GIB, "memhost": 2 * GIB, "cpu": 0.25, "netin": 5.5, "diskwrite": 7}


def row(at, **said):
    return {"time": START_S + at, **said}


def written(folder, rows, name="qemu-100-web.json"):
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path


def only(path, **options):
    (batch,) = SOURCE.read([path], Options(**options))
    return batch


def wrong(path, **options):
    with pytest.raises(InputError) as error:
        list(SOURCE.read([path], Options(**options)))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fields_become_quantities_with_their_units(tmp_path):
    batch = only(written(tmp_path, [row(60 * i, **RUNNING, pressurememorysome="0.50") for i in range(3)]))
    first = batch.frame.iloc[0]
    assert (first["vm"], first["uuid"], first["agg"], first["power"]) == ("web", "qemu/100", "mean", "on")
    assert first[["cap", "guest_notfree", "backed"]].tolist() == [4 * GIB, GIB, 2 * GIB]
    assert first[["vcpus", "cpu_used", "net_rx", "disk_write", "psi_mem_some"]].tolist() == [2, 0.25, 5.5, 7, 0.5]
    units = {column.quantity: (column.unit, column.kind) for column in batch.columns}
    assert units["cpu_used"] == ("share", "gauge")
    assert units["net_rx"] == ("B/s", "gauge")
    assert units["psi_mem_some"] == ("percent", "gauge")


@pytest.mark.parametrize(
    ("name", "vm", "uuid", "agg"),
    [
        ("100.json", "100", "qemu/100", "mean"),
        ("qemu-100-web.MAX.json", "web", "qemu/100", "max"),
        ("qemu-100-web-2.AVERAGE.json", "web-2", "qemu/100", "mean"),
        ("vm-7-max.json", "7", "qemu/7", "max"),
        ("database.json", "database", None, "mean"),
    ],
)
def test_the_files_name_says_whose_it_is(tmp_path, name, vm, uuid, agg):
    first = only(written(tmp_path, [row(0, **RUNNING), row(60, **RUNNING)], name)).frame.iloc[0]
    assert (first["vm"], first.get("uuid"), first["agg"]) == (vm, uuid, agg)


def test_the_user_may_name_the_vm_of_a_file_but_not_of_two(tmp_path):
    file = written(tmp_path, [row(0, **RUNNING)])
    assert only(file, columns={"vm": "shop"}).frame["vm"].tolist() == ["shop"]
    written(tmp_path, [row(0, **RUNNING)], "101.json")
    assert "there are 2 files" in wrong(tmp_path, columns={"vm": "shop"})


def test_mem_that_is_the_hosts_number_says_nothing_of_the_guest(tmp_path):
    host_only = [row(60 * i, maxmem=4 * GIB, mem=GIB + i, memhost=GIB + i) for i in range(3)]
    frame = only(written(tmp_path, host_only)).frame
    assert "guest_notfree" not in frame
    assert frame["backed"].tolist() == [GIB, GIB + 1, GIB + 2]


def test_one_sample_without_the_balloons_answer_is_left_out(tmp_path):
    rows = [row(0, maxmem=4 * GIB, mem=GIB, memhost=3 * GIB), row(60, maxmem=4 * GIB, mem=3 * GIB, memhost=3 * GIB)]
    np.testing.assert_array_equal(only(written(tmp_path, rows)).frame["guest_notfree"], [GIB, np.nan])


def test_before_memhost_the_user_may_say_that_mem_is_the_hosts(tmp_path):
    file = written(tmp_path, [row(60 * i, maxmem=4 * GIB, mem=GIB) for i in range(2)])
    assert only(file).frame["guest_notfree"].tolist() == [GIB, GIB]
    batch = only(file, columns={"backed": "mem"})
    assert batch.frame["backed"].tolist() == [GIB, GIB]
    assert "guest_notfree" not in batch.frame


def test_off_has_a_size_and_no_use_and_before_its_birth_a_vm_has_nothing(tmp_path):
    rows = [row(0), row(60), row(120, **RUNNING), row(180, maxmem=4 * GIB, maxcpu=2), row(240, **RUNNING)]
    frame = only(written(tmp_path, rows)).frame
    assert frame["time"].tolist() == [START_S + 120, START_S + 180, START_S + 240]
    assert frame["power"].tolist() == ["on", "off", "on"]
    assert np.isnan(frame["cpu_used"][1])


def test_the_apis_answer_is_the_list_under_data(tmp_path):
    assert only(written(tmp_path, {"data": [row(0, **RUNNING)]})).frame["vm"].tolist() == ["web"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ('[{"time":17675712', "no JSON"),
        ("\x00\x01", "binary"),
        ("<html>login</html>", "no JSON"),
        ("[]", "no list of rows"),
        ({"errors": {"cf": "wrong"}, "data": None}, "no list of rows"),
        ([row(0, **RUNNING), {"mem": 1}], "row 2"),
        ([row(0, **RUNNING), {"time": None, "mem": 1}], "row 2: field 'time': None is no time"),
        ('[{"time":1e400,"mem":1}]', "row 1: field 'time': inf is no time"),
        ('[{"time":1}' + ',{"time":1}' * 100_000 + "]", "more than 100,000 rows"),
        ([row(0, **RUNNING), row(60, mem="1 GiB")], "row 2: field 'mem': '1 GiB'"),
    ],
)
def test_broken_files_end_in_one_line(tmp_path, content, words):
    message = wrong(written(tmp_path, content))
    assert words in message
    assert "qemu-100-web.json" in message


def test_a_field_that_is_not_there_is_told_with_the_nearest(tmp_path):
    assert "did you mean 'memhost'" in wrong(written(tmp_path, [row(0, **RUNNING)]), columns={"backed": "memhosts"})
