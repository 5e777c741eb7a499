"""What Prometheus' exporters call things, as rows of a VM: names, values, units; broken replies end in one line."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.prometheus import SOURCE

START_S = 1_767_571_200
GIB = 2**30


def series(metric, values, step_s=60, **labels):
    name = {"__name__": metric} if metric else {}
    return {"metric": {**name, **labels}, "values": [[START_S + step_s * i, str(v)] for i, v in enumerate(values)]}


def reply(*result):
    return {"status": "success", "data": {"resultType": "matrix", "result": list(result)}}


def written(folder, content, name="mem.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def only(path, **options):
    (batch,) = SOURCE.read([path], Options(**options))
    return batch


def column(batch, quantity):
    return next(column for column in batch.columns if column.quantity == quantity)


def wrong(path, **options):
    with pytest.raises(InputError) as error:
        list(SOURCE.read([path], Options(**options)))
    assert "\n" not in str(error.value)
    assert str(path.name) in str(error.value)
    return str(error.value)


def test_series_of_one_vm_become_its_rows(tmp_path):
    batch = only(
        written(
            tmp_path,
            reply(
                series("libvirt_domain_info_maximum_memory_bytes", [4 * GIB] * 3, domain="web", instance="kvm1:9177"),
                series("libvirt_domain_memory_stats_usable_bytes", [GIB, "NaN", 0], domain="web", instance="kvm1:9177"),
                series("libvirt_domain_info_vstate", [1, 3, 5], domain="web", instance="kvm1:9177"),
                series(
                    "libvirt_domain_memory_stats_last_update_timestamp_seconds",
                    [7, 8, 9],
                    domain="web",
                    instance="kvm1:9177",
                ),
            ),
        )
    )
    frame = batch.frame
    assert frame["vm"].tolist() == ["web"] * 3
    assert frame["host"].tolist() == ["kvm1"] * 3
    assert frame["time"].tolist() == [START_S, START_S + 60, START_S + 120]
    assert frame["cap"].tolist() == [4 * GIB] * 3
    np.testing.assert_array_equal(frame["guest_usable"], [GIB, np.nan, 0])
    assert frame["power"].tolist() == ["on", "on", "off"]
    assert frame["reported_s"].tolist() == [7, 8, 9]
    assert (column(batch, "guest_usable").unit, column(batch, "guest_usable").zero) == ("B", "unknown")


def test_promtool_prints_the_matrix_alone(tmp_path):
    matrix = [series("libvirt_domain_memory_stats_rss_bytes", [GIB, 2 * GIB], domain="web")]
    assert only(written(tmp_path, matrix)).frame["backed"].tolist() == [GIB, 2 * GIB]


def test_replies_one_behind_the_other_are_read_in_turn(tmp_path):
    week = [reply(series("libvirt_domain_memory_stats_rss_bytes", [value], domain="web")) for value in (1, 2)]
    week[1]["data"]["result"][0]["values"][0][0] += 60
    content = "\n".join(json.dumps(document) for document in week)
    assert only(written(tmp_path, content)).frame["backed"].tolist() == [1, 2]


def test_a_reply_is_read_series_by_series(tmp_path):
    rss = "libvirt_domain_memory_stats_rss_bytes"
    file = written(tmp_path, reply(*(series(rss, range(10_000), domain=f"vm-{i}") for i in range(20))))
    tracemalloc.start()
    rows = sum(len(batch.frame) for batch in SOURCE.read([file], Options()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 200_000
    assert peak < 6 * file.stat().st_size  # all of it as Python objects is some 12 times the text


def test_victoriametrics_export_has_a_series_a_line(tmp_path):
    line = {"metric": {"__name__": "kubevirt_vmi_memory_usable_bytes", "namespace": "shop", "name": "db"}}
    file = written(tmp_path, line | {"values": [5, 6], "timestamps": [START_S * 1000, START_S * 1000 + 60_000]})
    frame = only(file).frame
    assert frame["vm"].tolist() == ["shop/db"] * 2
    assert frame["group"].tolist() == ["shop"] * 2
    assert frame["time"].tolist() == [START_S * 1000, START_S * 1000 + 60_000]


def test_disks_are_added_up_and_one_that_comes_late_is_no_restart(tmp_path):
    read = "libvirt_domain_block_stats_read_bytes_total"
    late = series(read, [5, 7], domain="web", target_device="vdb")
    late["values"] = [[START_S + 60, "5"], [START_S + 120, "7"]]
    batch = only(written(tmp_path, reply(series(read, [10, 20, 30, 40], domain="web", target_device="vda"), late)))
    assert batch.frame["disk_read"].tolist() == [10, 25, 37, 47]
    assert column(batch, "disk_read").kind == "counter"


def test_a_vm_on_two_hosts_has_rows_for_each_and_is_never_added_up(tmp_path):
    rss = "libvirt_domain_memory_stats_rss_bytes"
    result = [series(rss, [value], domain="web", instance=f"{host}:9177") for host, value in (("a", 3), ("b", 4))]
    frame = only(written(tmp_path, reply(*result))).frame
    assert frame[["host", "backed"]].to_numpy().tolist() == [["a", 3], ["b", 4]]


def test_swap_traffic_is_a_counter_whatever_its_type_and_pages_are_pages(tmp_path):
    batch = only(written(tmp_path, reply(series("libvirt_domain_memory_stats_swap_in_bytes", [1, 2], domain="web"))))
    assert (column(batch, "guest_swap_in").unit, column(batch, "guest_swap_in").kind) == ("B", "counter")
    batch = only(written(tmp_path, reply(series("node_vmstat_pswpin", [1, 2], instance="web:9100"))))
    assert (column(batch, "guest_swap_in").unit, column(batch, "guest_swap_in").kind) == ("pages", "counter")
    assert batch.frame["vm"].tolist() == ["web"] * 2


def test_what_is_sold_as_usage_is_what_is_granted(tmp_path):
    sold = series("libvirt_domain_info_memory_usage_bytes", [4 * GIB] * 2, domain="web")
    assert only(written(tmp_path, reply(sold))).frame.columns.tolist() == ["vm", "time", "agg", "granted"]


def test_a_balloon_that_is_exported_as_zero_is_not_preferred(tmp_path):
    balloon = series("libvirt_domain_memory_stats_actual_balloon_bytes", [0, 0], domain="web")
    info = series("libvirt_domain_info_memory_usage_bytes", [GIB, GIB], domain="web")
    assert only(written(tmp_path, reply(balloon, info))).frame["granted"].tolist() == [GIB, GIB]
    balloon = series("libvirt_domain_memory_stats_actual_balloon_bytes", [3, 4], domain="web")
    assert only(written(tmp_path, reply(info, balloon))).frame["granted"].tolist() == [3, 4]


def test_proxmox_names_come_from_its_info_metric_in_whatever_file(tmp_path):
    written(
        tmp_path,
        reply(series("pve_memory_usage_bytes", [5], id="qemu/100"), series("pve_up", [1], id="node/pve1")),
        "a.json",
    )
    written(tmp_path, reply(series("pve_guest_info", [1], id="qemu/100", name="web", node="pve1")), "b.json")
    frame = only(tmp_path).frame
    assert frame[["vm", "host", "uuid", "guest_notfree"]].to_numpy().tolist() == [["web", "pve1", "qemu/100", 5]]


def test_results_of_expressions_are_refused_until_the_user_says_what_they_are(tmp_path):
    file = written(tmp_path, reply(series("", [5, 6], domain="web")), "used_max.json")
    assert "columns={guest_used: used_max.json}" in wrong(file)
    batch = only(file, columns={"guest_used": "used_*.json"})
    assert batch.frame["guest_used"].tolist() == [5, 6]
    assert batch.frame["agg"].tolist() == ["max"] * 2
    assert (column(batch, "guest_used").unit, column(batch, "guest_used").kind) == (None, None)


def test_a_metric_and_a_label_of_ones_own_are_named_on_the_command_line(tmp_path):
    file = written(tmp_path, reply(series("vm:memory_used:bytes", [5], machine="web", instance="x:1")))
    assert "columns={guest_used: my:metric}" in wrong(file)
    batch = only(file, columns={"guest_used": "vm:memory_used:bytes", "vm": "machine"})
    assert batch.frame[["vm", "guest_used"]].to_numpy().tolist() == [["web", 5]]


def test_grafana_exports_a_series_a_column(tmp_path):
    usable, rss = (
        '{__name__=""libvirt_domain_memory_stats_usable_bytes"", domain=""a""}',
        'libvirt_domain_memory_stats_rss_bytes{domain=""a""}',
    )
    header = f'"Time","{usable}","{rss}"'
    file = written(tmp_path, f"sep=,\n{header}\n1704067200000,1,1.5\n1704067260000,,2\n", "g.csv")
    frame = only(file).frame
    assert frame["time"].tolist() == [1704067200000, 1704067260000]
    np.testing.assert_array_equal(frame["guest_usable"], [1, np.nan])
    assert frame["backed"].tolist() == [1.5, 2]


def test_dates_in_a_table_need_a_zone_and_decimal_commas_are_read(tmp_path):
    file = written(tmp_path, "Time;web\n2026-01-05 00:00:00;4,25\n2026-01-05 00:01:00;4,5\n", "mem.csv")
    used = {"guest_used": "mem.csv"}
    assert "zone=" in wrong(file, columns=used)
    frame = only(file, columns=used, zone="Europe/Berlin").frame
    assert frame["time"].tolist() == [START_S - 3600, START_S - 3540]
    assert frame["guest_used"].tolist() == [4.25, 4.5]


def test_a_table_with_a_value_a_line(tmp_path):
    content = "metric,domain,timestamp,value\n" + "".join(
        f"libvirt_domain_memory_stats_rss_bytes,{vm},{START_S + 60 * i},{i}\n" for i in range(2) for vm in ("a", "b")
    )
    frame = only(written(tmp_path, content, "long.csv")).frame
    assert frame[["vm", "backed"]].to_numpy().tolist() == [["a", 0], ["a", 1], ["b", 0], ["b", 1]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ('{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}', "no JSON"),
        ({"status": "error", "errorType": "bad_data", "error": "exceeded maximum resolution of 11,000 points"}, "11,000 points"),
        ("<!DOCTYPE html><title>Sign in</title>", "web page"),
        ({"status": "success", "data": {"resultType": "vector", "result": []}}, "query_range"),
        ([{"metric": {"__name__": "up"}}], "without metric and values"),
        ({"data": [1, 2]}, "no reply"),
        (reply(), "there is no series in it"),
        (reply(series("up", [1], instance="x")), "'up'"),
        (reply(series("libvirt_domain_memory_stats_rss_bytes", [1, "4 GiB"], domain="web")), "'4 GiB'] (number 2)"),
        (reply({"metric": {"__name__": "node_memory_MemTotal_bytes"}, "values": [7]}), "7 (number 1)"),
    ],
)  # fmt: skip
def test_broken_replies_end_in_one_line(tmp_path, content, words):
    assert words in wrong(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Time,web\n1767571200,4.00 GiB\n", "line 2: column 'web': '4.00 GiB'"),
        ('Time,web\n1767571200,"4,096"\n', "line 2: column 'web': '4,096'"),
        ("when,web\n1767571200,4\n", "columns={time:"),
        ("Time,web\n1767571200,4,5\n", "line 2"),
        (
            "Time" + "".join(f",vm-{i}" for i in range(10_001)) + "\n1767571200" + ",1" * 10_001 + "\n",
            "10,001 series in one table",
        ),
    ],
)
def test_broken_tables_name_line_and_column(tmp_path, content, words):
    assert words in wrong(written(tmp_path, content, "t.csv"), columns={"guest_used": "t.csv"})


def test_binary_and_cut_gzip_are_refused(tmp_path):
    for name, content in (
        ("a.json", b"\x00\x01"),
        ("b.json.gz", gzip.compress(json.dumps(reply()).encode(), mtime=0)[:-9]),
    ):
        (tmp_path / name).write_bytes(content)
        wrong(tmp_path / name)


def test_many_rows_come_in_batches(tmp_path):
    rss = "libvirt_domain_memory_stats_rss_bytes"
    file = written(tmp_path, reply(*(series(rss, range(30_000), domain=vm) for vm in "abc")))
    sizes = [len(batch.frame) for batch in SOURCE.read([file], Options())]
    assert sum(sizes) == 90_000
    assert max(sizes) <= 50_000
