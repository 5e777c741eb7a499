"""Logs of domstats and dommemstat as rows of VMs; what a cut or foreign log says."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.virsh import SOURCE

DOMSTATS = """1767571200
Domain: 'web'
  state.state=1
  state.reason=1
  cpu.time=640842567464
  balloon.current=4194304
  balloon.maximum=8388608
  balloon.swap_in=12
  balloon.unused=3310832
  balloon.available=8011636
  balloon.usable=3192772
  balloon.last-update=1767571195
  balloon.rss=3233044
  vcpu.current=2
  vcpu.0.time=1
  vcpu.0.delay=300
  vcpu.1.delay=40
  net.count=2
  net.0.name=tap0
  net.0.rx.bytes=1000
  net.1.rx.bytes=24
  block.0.rd.bytes=7
  block.0.wr.bytes=8

Domain: 'old'
  state.state=5

1767571260
Domain: 'web'
  state.state=1
  balloon.current=4194304
  balloon.last-update=0
"""


def written(folder, content, name="kvm1.log"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def only(path, **options):
    (batch,) = SOURCE.read([path], Options(**options))
    return batch


def wrong(path, **options):
    with pytest.raises(InputError) as error:
        list(SOURCE.read([path], Options(**options)))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_blocks_become_rows_in_libvirts_units(tmp_path):
    batch = only(written(tmp_path, DOMSTATS))
    frame = batch.frame
    assert frame["vm"].tolist() == ["web", "old", "web"]
    assert frame["time"].tolist() == [1767571200, 1767571200, 1767571260]
    assert frame["power"].tolist() == ["on", "off", "on"]
    assert frame["host"].tolist() == ["kvm1"] * 3
    assert frame["line"].tolist() == [2, 25, 29]
    first = frame.iloc[0]
    assert first[["cap", "granted", "guest_total"]].tolist() == [8388608, 4194304, 8011636]
    assert first[["guest_usable", "guest_unused", "backed"]].tolist() == [3192772, 3310832, 3233044]
    assert first[["cpu_used", "cpu_wait", "net_rx", "disk_read", "disk_write"]].tolist() == [
        640842567464,
        340,
        1024,
        7,
        8,
    ]
    units = {column.quantity: (column.unit, column.kind) for column in batch.columns}
    assert units["cap"] == ("KiB", "gauge")
    assert units["guest_swap_in"] == ("KiB", "counter")
    assert units["cpu_used"] == units["cpu_wait"] == ("ns", "counter")
    assert units["net_rx"] == ("B", "counter")


def test_cpu_is_that_of_vcpus_where_the_vms_own_is_not_logged(tmp_path):
    batch = only(written(tmp_path, DOMSTATS.replace("  cpu.time=640842567464\n", "  vcpu.1.time=40\n")))
    assert batch.frame["cpu_used"].iloc[0] == 41
    assert [column.unit for column in batch.columns if column.quantity == "cpu_used"] == ["ns"]


def test_a_guest_that_never_answered_has_no_time_of_answer(tmp_path):
    reported = only(written(tmp_path, DOMSTATS)).frame["reported_s"]
    np.testing.assert_array_equal(reported, [1767571195, np.nan, np.nan])


@pytest.mark.parametrize("named", ["Domain: 'web'", "web"])
def test_dommemstat_is_read_under_a_line_with_the_name(tmp_path, named):
    log = f"1767571200\n{named}\nactual 4194304\nswap_in 0\nunused 5\nusable 6\nlast_update 1767571199\nrss 7\n"
    batch = only(written(tmp_path, log))
    assert batch.frame[["vm", "granted", "guest_usable", "backed", "reported_s"]].to_numpy().tolist() == [
        ["web", 4194304, 6, 7, 1767571199]
    ]
    assert "cap" not in batch.frame


@pytest.mark.parametrize(
    "date", ["Mon Jan  5 00:00:00 UTC 2026", "Mo 5. Jan 01:00:00 CET 2026", "Mon Jan  5 12:00:00 AM UTC 2026"]
)
def test_a_log_with_times_in_words_is_told_how_to_write_them(tmp_path, date):
    said = wrong(written(tmp_path, f"{date}\nDomain: 'web'\n  balloon.rss=7\n"))
    assert f"line 1: {date!r} may be a time in words".replace("  ", " ") in said
    assert "log times with date +%s" in said


def test_dates_need_their_zone(tmp_path):
    log = "2026-01-05T01:00:00\nDomain: 'web'\n  balloon.rss=7\n"
    assert "zone=" in wrong(written(tmp_path, log))
    assert only(tmp_path / "kvm1.log", zone="Europe/Berlin").frame["time"].tolist() == [1767571200]
    aware = written(tmp_path, log.replace("01:00:00", "01:00:00+01:00"))
    assert only(aware).frame["time"].tolist() == [1767571200]


def test_the_block_that_is_being_written_is_left_out(tmp_path):
    cut = DOMSTATS + "1767571320\nDomain: 'web'\n  balloon.rss=32"
    assert only(written(tmp_path, cut)).frame["time"].tolist() == [1767571200, 1767571200, 1767571260]


def test_what_virsh_complains_of_is_passed_over(tmp_path):
    log = "1767571200\nerror: Failed to get domain\nDomain: 'web'\n  balloon.rss=7\n"
    assert only(written(tmp_path, log)).frame["backed"].tolist() == [7]


def test_long_logs_come_in_batches(tmp_path):
    log = "".join(f"{1767571200 + i}\nDomain: 'web'\n  balloon.rss={i}\n" for i in range(60_000))
    sizes = [len(batch.frame) for batch in SOURCE.read([written(tmp_path, log)], Options())]
    assert sizes == [50_000, 10_000]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        (b"\x7fELF\x00\x00", "binary"),
        ("1767571200\n", "no domain's statistics"),
        ("Domain: 'web'\n  balloon.rss=7\n", "line 1: 'web' has no time before it"),
        ("1767571200\n  balloon.rss=7\n", "line 2: 'balloon.rss=7' belongs to no domain"),
        ("1767571200\nDomain: 'web'\n  balloon.rss=7 GiB\n", "line 3: 'balloon.rss=7 GiB' is no number"),
        ("1767571200\nDomain: 'web'\n<p>not this file</p>\n", "line 3"),
        ("1767571200\n Id   Name   State\n", "line 2"),
    ],
)
def test_broken_logs_name_the_line(tmp_path, content, words):
    message = wrong(written(tmp_path, content))
    assert words in message
    assert "kvm1.log" in message


def test_names_are_fixed(tmp_path):
    assert "leave columns out" in wrong(written(tmp_path, DOMSTATS), columns={"guest_used": "x"})
