"""sadf -d as rows of a guest: three meanings of kbmemused, sections that differ, restarts, commas; broken files name the line."""

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.sysstat import SOURCE

START_S = 1_767_571_200
HEAD = "# hostname;interval;timestamp;"
OLD = HEAD + "kbmemfree;kbmemused;%memused;kbbuffers;kbcached;kbcommit;%commit"
NEW = HEAD + "kbmemfree;kbavail;kbmemused;%memused;kbbuffers;kbcached;kbcommit;%commit"
ALL = NEW + ";kbactive;kbinact;kbdirty;kbanonpg;kbslab;kbkstack;kbpgtbl;kbvmused"


def lines(header, *rows, at=START_S):
    return "\n".join([header, *(f"g1;600;{at + 600 * i};{row}" for i, row in enumerate(rows, 1))]) + "\n"


def written(folder, content, name="g1.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def frames(path, **options):
    return list(SOURCE.read([path], Options(**options)))


def only(path, **options):
    (batch,) = frames(path, **options)
    return batch


def wrong(path, **options):
    with pytest.raises(InputError) as error:
        frames(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_total_less_available_is_what_the_guest_uses(tmp_path):
    # 10,000 KiB: 2,000 free, 1,000 buffers, 3,000 cache, 500 slab, hence 3,500 used; 5,500 available
    batch = only(written(tmp_path, lines(ALL, "2000;5500;3500;35.00;1000;3000;0;0;0;0;0;0;500;0;0;0")))
    first = batch.frame.iloc[0]
    assert first[["guest_total", "guest_usable", "guest_unused", "guest_cache"]].tolist() == [
        10_000,
        5_500,
        2_000,
        3_000,
    ]
    assert "guest_used" not in batch.frame
    assert {column.unit for column in batch.columns} == {"KiB"}
    assert (first["vm"], first["time"], first["interval_s"], first["agg"], first["end"]) == (
        "g1",
        START_S + 600,
        600,
        "last",
        True,
    )


def test_an_old_kbmemused_counts_the_cache(tmp_path):
    batch = only(written(tmp_path, lines(OLD, "2000;8000;80.00;1000;3000;0;0")))
    assert batch.frame[["guest_total", "guest_unused"]].to_numpy().tolist() == [[10_000, 2_000]]
    assert "guest_used" not in batch.frame


def test_a_newer_kbmemused_with_kbavail_that_is_total_less_available(tmp_path):
    batch = only(written(tmp_path, lines(NEW, "2000;5500;4500;45.00;1000;3000;0;0")))
    assert batch.frame[["guest_total", "guest_usable"]].to_numpy().tolist() == [[10_000, 5_500]]


def test_without_slab_the_total_is_told_by_its_share(tmp_path):
    batch = only(written(tmp_path, lines(NEW, "2000;5500;3500;35.00;1000;3000;0;0")))
    assert batch.frame["guest_total"].tolist() == [10_000]


def test_where_the_kernel_knows_nothing_available_kbmemused_is_what_is_used(tmp_path):
    batch = only(written(tmp_path, lines(ALL, "2000;0;3500;35.00;1000;3000;0;0;0;0;0;0;500;0;0;0")))
    assert batch.frame["guest_used"].tolist() == [3_500]
    usable = next(column for column in batch.columns if column.quantity == "guest_usable")
    assert usable.zero == "unknown"


def test_sections_follow_each_other_with_columns_of_their_own(tmp_path):
    content = (
        "g1;-1;1767571200;LINUX-RESTART\t(4 CPU)\n"
        + lines(HEAD + "CPU;%user;%nice;%system;%iowait;%steal;%idle", "-1;10.00;1.00;5.00;1.00;0.20;82.80")
        + lines(HEAD + "pswpin/s;pswpout/s", "1.40;0.00", "0.00;256.00")
        + lines(HEAD + "pgpgin/s;pgpgout/s;fault/s;majflt/s", "1;2;3;0.25")
        + lines(HEAD + "%smem-10;%smem-60;%smem-300;%smem", "0;0;0;1.50")
    )
    batches = frames(written(tmp_path, content))
    units = {column.quantity: column.unit for batch in batches for column in batch.columns}
    assert units["guest_swap_in"] == "pages/s"
    assert units["cpu_used"] == units["psi_mem_some"] == "percent"
    table = pd.concat([batch.frame for batch in batches])
    assert table["cpu_used"].dropna().tolist() == [16.0]
    assert table["vcpus"].tolist() == [4.0] * 5
    assert table["guest_swap_out"].dropna().tolist() == [0, 256]
    assert table["guest_major_faults"].dropna().tolist() == [0.25]
    assert table["psi_mem_some"].dropna().tolist() == [1.5]


def test_interfaces_are_added_up_without_the_loop(tmp_path):
    rows = [
        f"g1;600;{START_S + 600 * t};{name};1;1;{rx};{tx}"
        for t in (1, 2)
        for name, rx, tx in (("lo", 9, 9), ("e0", 2, 3), ("e1", 4, 5))
    ]
    content = HEAD + "IFACE;rxpck/s;txpck/s;rxkB/s;txkB/s\n" + "\n".join(rows) + "\n"
    frame = only(written(tmp_path, content)).frame
    assert frame[["time", "net_rx", "net_tx"]].to_numpy().tolist() == [[START_S + 600, 6, 8], [START_S + 1200, 6, 8]]


def test_a_restart_within_a_section_brings_its_header_again(tmp_path):
    first, second = lines(OLD, "2000;8000;80.00;0;0;0;0"), lines(OLD, "9000;1000;10.00;0;0;0;0", at=START_S + 7200)
    frame = only(written(tmp_path, first + "g1;-1;1767578000;LINUX-RESTART\t(2 CPU)\n" + second)).frame
    assert frame["time"].tolist() == [START_S + 600, START_S + 7800]


def test_text_times_are_utc_where_they_say_so_and_need_a_zone_else(tmp_path):
    content = lines(OLD, "2000;8000;80.00;0;0;0;0").replace(str(START_S + 600), "2026-01-05 00:10:00 UTC")
    assert only(written(tmp_path, content)).frame["time"].tolist() == [START_S + 600]
    local = written(tmp_path, content.replace(" UTC", ""))
    assert "zone=" in wrong(local)
    assert only(local, zone="Asia/Tokyo").frame["time"].tolist() == [START_S + 600 - 9 * 3600]


def test_decimal_commas_of_a_locale(tmp_path):
    comma = lines(OLD, "2000;8000;80,00;0;0;0;0,00") + lines(HEAD + "pswpin/s;pswpout/s", "1,40;0,00")
    table = pd.concat([batch.frame for batch in frames(written(tmp_path, comma))])
    assert table["guest_total"].dropna().tolist() == [10_000]
    assert table["guest_swap_in"].dropna().tolist() == [1.4]


def test_long_sections_come_in_batches_that_keep_a_time_together(tmp_path):
    rows = "".join(f"g1;1;{START_S + i};{name};1;1;1;1\n" for i in range(30_000) for name in ("e0", "e1"))
    batches = frames(written(tmp_path, HEAD + "IFACE;rxpck/s;txpck/s;rxkB/s;txkB/s\n" + rows))
    table = pd.concat([batch.frame for batch in batches])
    assert len(batches) == 2
    assert len(table) == 30_000
    assert np.unique(table["net_rx"]).tolist() == [2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        (b"\x96\xd5\x00\x01", "binary"),
        ("g1;600;1;2\n", "line 1: 'g1;600;1;2' has no header before it"),
        ("# host;time\n", "line 1: 'host;time' is no header"),
        (lines(OLD, "2000;8000;80.00;1000"), "line 2: 7 cells"),
        (lines(OLD, "2000;8000;80.00;0;0;0;0")[:-12], "is the file cut off"),
        (lines(OLD, "2000;many;80.00;0;0;0;0"), "line 2: column 'kbmemused': 'many'"),
        (lines(HEAD + "runq-sz;plist-sz", "1;2"), "no section about memory"),
        ("<html>\n", "line 1"),
        ("# hostname;interval;timestamp;kbmemfree;kbmemused;%memused\ng1;600;soon;1;2;66.67\n", "'soon'"),
    ],
)
def test_broken_files_name_the_line(tmp_path, content, words):
    message = wrong(written(tmp_path, content))
    assert words in message
    assert "g1.csv" in message


def test_names_are_fixed(tmp_path):
    assert "leave columns out" in wrong(
        written(tmp_path, lines(OLD, "2000;8000;80.00;0;0;0;0")), columns={"guest_used": "x"}
    )
