"""The GWA-T-12 reader on small files with numbers to check by hand, and on the published month where it is present."""

import csv
import gzip
import hashlib
import os
import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.traces.bitbrains import FileReport, TraceSet, TraceVm, read_bitbrains, split_clusters
from hvgym.envs.traces.rows import MOST_BYTES

HEADER = (
    "Timestamp [ms];\tCPU cores;\tCPU capacity provisioned [MHZ];\tCPU usage [MHZ];\tCPU usage [%];\t"
    "Memory capacity provisioned [KB];\tMemory usage [KB];\tDisk read throughput [KB/s];\t"
    "Disk write throughput [KB/s];\tNetwork received throughput [KB/s];\tNetwork transmitted throughput [KB/s]"
)
START_S = 1_375_308_000  # a whole multiple of 300 s
TRACES = Path(__file__).resolve().parents[3] / "shared/traces"
MONTH = TRACES / "bitbrains_rnd_2013-8"
NATIVE_FILE = TRACES / "bitbrains_fastStorage_sample_vm.csv.gz"


def row(slot: float, usage_kb: float = 1024, capacity_kb: float = 4096, cores: int = 2, cpu_percent: float = 50) -> str:
    """One row in the native column order: disk 100 + 412 KB/s (0.5 MiB/s), network 256 + 768 KB/s (1 MiB/s)."""
    values = (START_S + 300 * slot, cores, 5200, 2600, cpu_percent, capacity_kb, usage_kb, 100, 412, 256, 768)
    return ";\t".join(f"{value:.10g}" for value in values)


def rows(slots: int, usage_kb: float = 1024) -> list[str]:
    return [row(slot, usage_kb) for slot in range(slots)]


def write(file: Path, lines: list[str], header: str = HEADER) -> Path:
    content = "\n".join([header, *lines, ""]).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file.parent


def read_one(folder: Path, lines: list[str], header: str = HEADER) -> tuple[TraceVm, FileReport]:
    traces = read_bitbrains(write(folder / "7.csv", lines, header))
    return traces.vms[0], traces.report.files[0]


def error_of(call: Callable[[], object]) -> str:
    """The message of the InputError that a call must raise; always one line."""
    with pytest.raises(InputError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("name", ["7.csv", "7.csv.gz"])
def test_columns_become_mib_and_shares(tmp_path: Path, name: str) -> None:
    traces = read_bitbrains(write(tmp_path / name, [row(0), row(1, usage_kb=2048, capacity_kb=8192, cpu_percent=12.5)]))
    vm = traces.vms[0]
    assert (traces.slot_s, traces.start_unix_s) == (300.0, START_S)
    assert (vm.name, vm.cores, vm.configured_mib) == ("7", 2, 256)
    assert vm.backed_mib.tolist() == [4, 8]
    assert vm.hot_mib.tolist() == [1, 2]
    assert vm.cpu_share.tolist() == [0.5, 0.125]
    assert vm.disk_mib_per_s.tolist() == [0.5, 0.5]
    assert vm.net_mib_per_s.tolist() == [1, 1]


def test_reading_writes_nothing_and_skips_what_is_not_a_trace(tmp_path: Path) -> None:
    for name in ("INDEX.csv", "._7.csv", "README.md", "notes.csv.txt"):
        (tmp_path / name).write_text("vm,corr_cluster\n7,3\n")
    write(tmp_path / "7.csv", rows(2))
    before = sorted(tmp_path.iterdir())
    assert [vm.name for vm in read_bitbrains(str(tmp_path)).vms] == ["7"]
    assert sorted(tmp_path.iterdir()) == before


def test_vms_are_ordered_by_number_and_then_by_name(tmp_path: Path) -> None:
    for name in ("10.csv", "db.csv", "9.csv.gz", "2.csv", "app.csv"):
        write(tmp_path / name, rows(2))
    traces = read_bitbrains(tmp_path)
    assert [vm.name for vm in traces.vms] == ["2", "9", "10", "app", "db"]
    assert [file.file for file in traces.report.files] == ["2.csv", "9.csv.gz", "10.csv", "app.csv", "db.csv"]


@pytest.mark.parametrize("separator", [";", "; ", ";\t", " ;\t "])
def test_header_may_vary_in_white_space_order_and_extra_columns(tmp_path: Path, separator: str) -> None:
    def variant(line: str, extra: str) -> str:
        fields = line.split(";\t")
        return separator.join([extra, *reversed(fields)])

    plain, _ = read_one(tmp_path, [row(0), row(1, usage_kb=512)])
    lines = [variant(row(0), "text"), variant(row(1, usage_kb=512), "more text")]
    varied, report = read_one(tmp_path, lines, "\ufeff" + variant(HEADER.replace("CPU cores", "CPU  cores"), "Note"))
    assert report.bad_rows == 0
    assert varied.hot_mib.tolist() == plain.hot_mib.tolist() == [1, 0.5]
    assert varied.net_mib_per_s.tolist() == plain.net_mib_per_s.tolist()


def test_real_milliseconds_are_recognised_row_by_row(tmp_path: Path) -> None:
    in_ms = [
        line.replace(str(START_S + 300 * slot), str(1000 * (START_S + 300 * slot))) for slot, line in enumerate(rows(3))
    ]
    traces = read_bitbrains(write(tmp_path / "7.csv", [*in_ms, row(3)]))
    assert (traces.slot_s, traces.start_unix_s, len(traces.vms[0].hot_mib)) == (300.0, START_S, 4)
    assert traces.report.files[0].millisecond_rows == 3


def test_rows_without_capacity_or_cores_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = [row(0), row(1, capacity_kb=0, usage_kb=0), row(2), row(3, cores=0), row(4)]
    vm, report = read_one(tmp_path, lines)
    assert (report.zero_capacity_rows, report.filled_slots) == (2, 2)
    assert vm.backed_mib.tolist() == [4] * 5


def test_the_first_row_of_a_slot_wins(tmp_path: Path) -> None:
    late_in_slot_0, again_slot_1 = row(0.5, usage_kb=2048), row(1, usage_kb=0)
    lines = [row(0), late_in_slot_0, row(1, usage_kb=3072), again_slot_1, row(2), row(3), row(4)]
    vm, report = read_one(tmp_path, lines)
    assert vm.hot_mib.tolist() == [1, 3, 1, 1, 1]
    assert (report.duplicate_slots, report.filled_slots) == (2, 0)


def test_a_row_without_capacity_does_not_hide_the_next_row_of_its_slot(tmp_path: Path) -> None:
    vm, report = read_one(tmp_path, [row(0), row(1, capacity_kb=0), row(1, usage_kb=2048), row(2)])
    assert vm.hot_mib.tolist() == [1, 2, 1]
    assert (report.zero_capacity_rows, report.duplicate_slots) == (1, 0)


def test_rows_out_of_order_are_sorted_by_time(tmp_path: Path) -> None:
    vm, report = read_one(tmp_path, [row(slot, usage_kb=1024 * slot) for slot in (0, 2, 1, 3, 4)])
    assert vm.hot_mib.tolist() == [0, 1, 2, 3, 4]
    assert report.out_of_order_rows == 1


def test_usage_above_capacity_and_cpu_above_100_percent_are_clipped(tmp_path: Path) -> None:
    vm, report = read_one(tmp_path, [row(0, usage_kb=5000, capacity_kb=4096, cpu_percent=130), row(1, cpu_percent=100)])
    assert vm.hot_mib.tolist() == [4, 1]
    assert vm.cpu_share.tolist() == [1, 1]
    assert (report.usage_above_capacity, report.cpu_above_100_percent) == (1, 1)


def test_gaps_hold_the_last_value_and_a_late_start_holds_the_first(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", [row(slot, usage_kb=0) for slot in range(8)])
    write(tmp_path / "2.csv", [row(slot, usage_kb=1024 * slot) for slot in (2, 3, 4, 6)])
    traces = read_bitbrains(tmp_path)
    assert traces.vms[1].hot_mib.tolist() == [2, 2, 2, 3, 4, 4, 4, 4]  # backed is 4 MiB, so slot 6 is clipped
    assert [file.filled_slots for file in traces.report.files] == [0, 4]
    assert traces.report.total("filled_slots") == 4


def test_a_vm_that_covers_less_than_half_of_the_window_is_left_out_and_reported(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", rows(10))
    write(tmp_path / "2.csv", rows(4))
    write(tmp_path / "3.csv", rows(5))
    traces = read_bitbrains(tmp_path)
    assert [vm.name for vm in traces.vms] == ["1", "3"]
    assert [(file.left_out, file.coverage) for file in traces.report.files] == [(False, 1.0), (True, 0.4), (False, 0.5)]
    assert "2.csv: LEFT OUT, covers only 40.0% of the common window, 4 rows" in traces.report.lines()


def test_a_vm_left_out_does_not_stretch_the_grid(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", [row(slot) for slot in range(4, 20)])
    write(tmp_path / "2.csv", rows(4))
    traces = read_bitbrains(tmp_path)
    assert traces.start_unix_s == START_S + 4 * 300
    assert len(traces.vms[0].hot_mib) == 16
    assert traces.report.total("filled_slots") == 0


def test_periods_within_ten_percent_are_one_sampling(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", rows(40))
    write(tmp_path / "2.csv", rows(40))
    write(tmp_path / "3.csv", [row(slot * 1.05) for slot in range(38)])  # every 315 s
    assert read_bitbrains(tmp_path).slot_s == 300.0


def test_report_lines_start_with_the_totals(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", [*rows(3), row(2)])
    write(tmp_path / "2.csv", [row(0), "broken", row(1)])
    assert read_bitbrains(tmp_path).report.lines() == [
        f"{tmp_path}: 2 files: 7 rows, 1 bad rows, 1 duplicate slots, 1 filled slots",
        "1.csv: 4 rows, 1 duplicate slots",
        "2.csv: 3 rows, 1 bad rows, 1 filled slots; first bad row, line 3: 1 field ('broken'), expected 11 as in the header, "
        "separated by ';'",
    ]


SPOILERS: list[Callable[[str], str]] = [
    lambda line: line + ";\t1",  # a field too many
    lambda line: line.rpartition(";")[0],  # a field too few
    lambda line: line[: len(line) // 2],
    lambda line: line.replace(";", ","),
    lambda line: line.replace("4096", "4096 KB"),
    lambda line: line.replace("4096", ""),
    lambda line: line.replace("4096", "4_096"),
    lambda line: line.replace("4096", "nan"),
    lambda line: line.replace("4096", "inf"),
    lambda line: line.replace("4096", "-4096"),
    lambda line: line.replace("5200", "-1"),  # a column that is not used still shows a broken row
    lambda line: line.replace(str(START_S)[:4], "9" * 15),  # a time in neither s nor ms
    lambda line: "\0" * len(line),
    lambda line: '"' + line,
]


@pytest.mark.parametrize("seed", range(20))
def test_as_many_bad_rows_are_counted_as_were_injected_and_the_others_are_kept(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    good = [row(slot, usage_kb=rng.randrange(4096)) for slot in range(60)]
    clean, _ = read_one(tmp_path, good)
    spoilt = list(good)
    injected = rng.randrange(1, 30)
    for _ in range(injected):
        spoilt.insert(rng.randrange(len(spoilt) + 1), rng.choice(SPOILERS)(rng.choice(good)))
    vm, report = read_one(tmp_path, spoilt)
    assert (report.rows, report.bad_rows, report.filled_slots) == (60 + injected, injected, 0)
    assert vm.hot_mib.tolist() == clean.hot_mib.tolist()


@pytest.mark.parametrize("spoil", SPOILERS)
def test_one_bad_row_alone_is_found(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    _, report = read_one(tmp_path, [row(0), spoil(row(1)), row(2), row(3), row(4)])
    assert (report.bad_rows, report.filled_slots) == (1, 1)


def test_a_field_too_many_does_not_make_up_for_a_field_too_few(tmp_path: Path) -> None:
    _, report = read_one(tmp_path, [row(0), row(1), row(2) + ";\t1", row(3).rpartition(";")[0], row(4)])
    assert report.bad_rows == 2


def test_a_file_with_bad_rows_is_read_to_the_last_digit(tmp_path: Path) -> None:
    rng = random.Random(1)
    lines = [row(slot).replace("\t1024;", f"\t{rng.random() * 4000!r};") for slot in range(500)]
    fast, _ = read_one(tmp_path, lines)
    slow, report = read_one(tmp_path, [*lines, "broken"])
    assert report.bad_rows == 1
    assert len(set(fast.hot_mib)) == 500
    assert slow.hot_mib.tolist() == fast.hot_mib.tolist()


@pytest.mark.parametrize(
    ("largest_kb", "configured_gib"),
    [
        (1, 0.25),
        (8_388_608, 8),
        (8_388_608 * 1.0049, 8),
        (8_388_608 * 1.0051, 12),
        (702_948, 1),
        (16_713_728, 16),
        (100_431_870, 96),
        (512 * 2**20, 512),
        (513 * 2**20, 512),
        (520 * 2**20, 640),
        (1000 * 2**20, 1024),
    ],
)
def test_configured_size_is_the_next_standard_size(tmp_path: Path, largest_kb: float, configured_gib: float) -> None:
    vm, _ = read_one(tmp_path, [row(0, capacity_kb=4096), row(1, capacity_kb=largest_kb)])
    assert vm.configured_mib == 1024 * configured_gib


# --- what cannot be read -------------------------------------------------------------------------------------------


def test_missing_folder_file_and_empty_folder_say_what_to_give(tmp_path: Path) -> None:
    message = error_of(lambda: read_bitbrains(tmp_path / "nowhere"))
    assert f"{tmp_path / 'nowhere'}: no such folder; give the folder" in message
    message = error_of(lambda: read_bitbrains(tmp_path))
    assert f"{tmp_path}: no *.csv or *.csv.gz file here; give the folder" in message
    write(tmp_path / "7.csv", rows(2))
    message = error_of(lambda: read_bitbrains(tmp_path / "7.csv"))
    assert message == f"{tmp_path / '7.csv'}: this is a file; give the folder that holds it, {tmp_path}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (HEADER.replace("Memory usage [KB]", "Mem use"), "'Memory usage [KB]' 0 times (unknown columns: 'Mem use')"),
        (HEADER.replace(";\tCPU cores", ""), "'CPU cores' 0 times (unknown columns: none)"),
        (HEADER.replace(";\t", ","), "'Timestamp [ms]' 0 times (unknown columns: 'Timestamp [ms],CPU cores,"),
        (HEADER.replace("CPU usage [MHZ]", "CPU cores"), "'CPU cores' 2 times"),
        (row(0), "'Timestamp [ms]' 0 times (unknown columns: '1375308000', '2',"),
    ],
)
def test_wrong_header_names_the_first_column_that_is_wrong(tmp_path: Path, header: str, expected: str) -> None:
    message = error_of(lambda: read_one(tmp_path, rows(2), header))
    assert message.startswith(f"{tmp_path / '7.csv'}: the header has column {expected}")
    assert "expected once each, separated by ';': Timestamp [ms]; CPU cores; " in message


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "7.csv: 0 rows; it is a header alone"),
        (["broken", row(0, capacity_kb=0)], "2 rows, 1 bad rows, 1 zero capacity rows; first bad row, line 2: 1 field"),
        ([row(0, capacity_kb=0)], "1 rows, 1 zero capacity rows; in every row memory capacity or cores are 0"),
    ],
)
def test_a_file_without_a_usable_row_is_refused(tmp_path: Path, lines: list[str], expected: str) -> None:
    message = error_of(lambda: read_one(tmp_path, lines))
    assert message.startswith(f"{tmp_path / '7.csv'}: no usable row")
    assert expected in message


def iso(line: str, form: str) -> str:
    time, _, rest = line.partition(";")
    return f"{datetime.fromtimestamp(int(time), UTC).strftime(form)};{rest}"


@pytest.mark.parametrize(
    ("variant", "header"),
    [
        (lambda line: line.replace("2600", "2600,25").replace("50;", "50,0;"), HEADER),
        (lambda line: iso(line, "%Y-%m-%dT%H:%M:%SZ"), HEADER),
        (lambda line: iso(line, "%Y-%m-%d %H:%M:%S"), HEADER),
        (lambda line: iso(line, "%Y-%m-%dT%H:%M:%S.000+00:00"), HEADER),
        (lambda line: line.replace(";", "000000;", 1), HEADER),
        (lambda line: line.replace(";", "000000000;", 1), HEADER),
        (lambda line: line, HEADER + ";"),
        (lambda line: line + ";", HEADER),
        (lambda line: line + ";", HEADER + ";"),
    ],
    ids=[
        "decimal comma",
        "ISO",
        "ISO without a zone",
        "ISO with an offset",
        "us",
        "ns",
        "; in header",
        "; in rows",
        "; in both",
    ],
)
def test_what_is_unambiguous_is_read_as_the_native_form(
    tmp_path: Path, variant: Callable[[str], str], header: str
) -> None:
    native = [row(slot, usage_kb=1024 + slot) for slot in range(5)]
    expected, _ = read_one(tmp_path, native)
    for spoilt in ([], ["broken"]):  # one broken row leads through the slow reader
        traces = read_bitbrains(write(tmp_path / "7.csv", [*map(variant, native), *spoilt], header))
        vm, report = traces.vms[0], traces.report.files[0]
        assert (traces.start_unix_s, traces.slot_s, report.bad_rows) == (START_S, 300.0, len(spoilt))
        assert vm.hot_mib.tolist() == expected.hot_mib.tolist()
        assert vm.cpu_share.tolist() == expected.cpu_share.tolist()


def test_a_decimal_comma_is_no_separator_of_thousands(tmp_path: Path) -> None:
    vm, _ = read_one(tmp_path, [row(slot).replace("1024", "1024,5") for slot in range(3)])
    assert vm.hot_mib.tolist() == [1024.5 / 1024] * 3


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda line: line.replace("4096", "4,096,000"), "column 'Memory capacity provisioned [KB]': '4,096,000' is no number"),
        (lambda line: line.replace("4096", "4.096,5"), "'4.096,5' is no number; give a number, without unit, quotes or separators"),
        (lambda line: line.replace("4096", "4096 KB"), "'4096 KB' is no number; give a number, without unit"),
        (lambda line: line.replace("4096", ""), "column 'Memory capacity provisioned [KB]': '' is empty"),
        (lambda line: line.replace("4096", "-1"), "column 'Memory capacity provisioned [KB]': '-1' must be 0 or more"),
        (lambda line: iso(line, "%d.%m.%Y %H:%M"), "column 'Timestamp [ms]': '31.07.2013 22:00' is no time; give seconds"),
        (lambda line: iso(line, "%m/%d/%Y"), "is no time; give seconds since 1970, as in 1375308176, or ISO 8601"),
        (lambda line: "9" * 30 + line, "is neither in seconds nor in milliseconds, microseconds, nanoseconds since 1970"),
        (lambda line: line.replace(";", ","), "1 field ('1375308000,"),
        (lambda line: line + ";5", "12 fields ("),
        (lambda line: line.replace("4096", "4096.5").replace("1024", "1024,5"), "decimal points and commas are mixed"),
    ],
)  # fmt: skip
def test_the_first_bad_row_is_told_with_its_column_and_what_would_be_right(
    tmp_path: Path, spoil: Callable[[str], str], expected: str
) -> None:
    message = error_of(lambda: read_one(tmp_path, [spoil(line) for line in rows(3)]))
    assert "7.csv: no usable row of 7.csv: 3 rows, 3 bad rows; first bad row, line 2: " in message
    assert expected in message


def test_a_compressed_file_that_stands_for_gigabytes_is_refused_in_little_memory(tmp_path: Path) -> None:
    bombs = {"zeros": b"\0" * 2**20, "rows": ("\n".join([HEADER, *[row(0)] * 10_000]) + "\n").encode()}
    for name, block in bombs.items():
        with gzip.open(tmp_path / "7.csv.gz", "wb", compresslevel=1) as file:
            for _ in range(200):
                file.write(block)
        tracemalloc.start()
        message = error_of(lambda: read_bitbrains(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert {"zeros": "first line is longer than 65,536 bytes", "rows": "longer than 64 MiB as text"}[
            name
        ] in message
        assert peak < 3 * MOST_BYTES


def test_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "7.csv").write_text("\n".join([HEADER, *rows(3)]), encoding="utf-16")
    assert "7.csv: written as UTF-16; save it as UTF-8" in error_of(lambda: read_bitbrains(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "7.csv").write_bytes(content)
    assert (
        error_of(lambda: read_bitbrains(tmp_path))
        == f"{tmp_path / '7.csv'}: the file is empty; remove it or fetch it again"
    )


def test_a_gzip_cut_anywhere_or_damaged_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([HEADER, *rows(5)]).encode())
    damaged = whole[:-8] + bytes(4) + whole[-4:]  # the checksum
    for content in [whole[:length] for length in range(1, len(whole))] + [damaged, b"plain text", whole + b"tail"]:
        (tmp_path / "7.csv.gz").write_bytes(content)
        message = error_of(lambda: read_bitbrains(tmp_path))
        assert message.startswith(f"{tmp_path / '7.csv.gz'}: corrupt gzip (")
        assert message.endswith("fetch the file again")


def test_something_unreadable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "7.csv").mkdir()
    assert f"{tmp_path / '7.csv'}: cannot be read" in error_of(lambda: read_bitbrains(tmp_path))


def test_the_same_vm_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "7.csv", rows(2))
    write(tmp_path / "7.csv.gz", rows(2))
    assert error_of(lambda: read_bitbrains(tmp_path)).endswith("7.csv.gz: the same VM as 7.csv; remove one of the two")


def test_mixed_sampling_names_both_files_and_periods(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", rows(20))
    write(tmp_path / "2.csv", [row(slot / 5) for slot in range(100)])
    message = error_of(lambda: read_bitbrains(tmp_path))
    assert message == (
        f"{tmp_path}: mixed sampling, 2.csv has a row every 60 s but 1.csv every 300 s; "
        "keep files of one sampling period in one folder"
    )


def test_one_row_alone_has_no_sampling_period(tmp_path: Path) -> None:
    message = error_of(lambda: read_one(tmp_path, [row(0)]))
    assert message == f"{tmp_path}: no file has rows at two times, so the sampling period is unknown; add rows"


def test_a_far_away_timestamp_names_its_file_instead_of_filling_years(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", rows(20))
    write(tmp_path / "2.csv", [*rows(20), row(5_000_000)])
    message = error_of(lambda: read_bitbrains(tmp_path))
    assert (
        "no file covers half of the common window: 1.csv starts at 1375308000 s and 2.csv ends at 2875308000 s"
        in message
    )
    assert "remove rows with wrong timestamps" in message


# --- clusters and splits -------------------------------------------------------------------------------------------


def write_index(folder: Path, text: str) -> None:
    (folder / "INDEX.csv").write_text(text)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("vm,corr_cluster\n1,0\n", "'2' is missing"),
        ("vm,cluster\n1,0\n2,0\n", "'corr_cluster' is missing"),
        ("vm,corr_cluster\n1,0\n2\n", "NoneType"),
        ("", "is missing"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, index: str, expected: str) -> None:
    write(tmp_path / "1.csv", rows(2))
    write(tmp_path / "2.csv", rows(2))
    write_index(tmp_path, index)
    message = error_of(lambda: read_bitbrains(tmp_path))
    assert message.startswith(f"{tmp_path / 'INDEX.csv'}: ")
    assert expected in message
    assert message.endswith("or remove it to have clusters computed")


def hourly(pattern: list[int], noise: random.Random) -> list[str]:
    """Twelve rows an hour around the pattern, in steps of 100 KB."""
    return [
        row(12 * hour + part, usage_kb=1000 + 100 * level + noise.randrange(10))
        for hour, level in enumerate(pattern)
        for part in range(12)
    ]


def test_without_an_index_vms_whose_hours_change_together_are_one_cluster(tmp_path: Path) -> None:
    noise = random.Random(3)
    own = {name: [noise.randrange(9) for _ in range(100)] for name in "ABC"}
    sum_of_a_and_b = [a + b for a, b in zip(own["A"], own["B"], strict=True)]  # correlates 0.7 with A and with B
    for name, pattern in {"1": own["C"], "2": own["A"], "3": sum_of_a_and_b, "4": own["B"], "5": own["C"]}.items():
        write(tmp_path / f"{name}.csv", hourly(pattern, noise))
    write(tmp_path / "6.csv", [row(slot) for slot in range(1200)])  # flat: correlates with none
    traces = read_bitbrains(tmp_path)
    assert [vm.cluster for vm in traces.vms] == [0, 1, 1, 1, 0, 5]


def test_a_trace_too_short_for_correlation_makes_every_vm_its_own_cluster(tmp_path: Path) -> None:
    for name in "123":
        write(tmp_path / f"{name}.csv", rows(24))
    assert [vm.cluster for vm in read_bitbrains(tmp_path).vms] == [0, 1, 2]


def indexed(folder: Path, clusters: dict[str, int]) -> TraceSet:
    for name in clusters:
        write(folder / f"{name}.csv", rows(2))
    write_index(folder, "vm,corr_cluster\n" + "".join(f"{name},{cluster}\n" for name, cluster in clusters.items()))
    return read_bitbrains(folder)


def splits_of(traces: TraceSet) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return split_clusters(traces, "train"), split_clusters(traces, "validation"), split_clusters(traces, "test")


def test_splits_share_the_vms_50_20_30_and_keep_clusters_whole(tmp_path: Path) -> None:
    traces = indexed(tmp_path, {f"{vm}": vm // 2 for vm in range(40)})
    splits = splits_of(traces)
    assert [len(split) for split in splits] == [20, 8, 12]
    assert sorted(vm for split in splits for vm in split) == list(range(40))
    assert all(list(split) == sorted(split) for split in splits)
    assert not {vm // 2 for vm in splits[0]} & {vm // 2 for vm in (*splits[1], *splits[2])}
    assert not {vm // 2 for vm in splits[1]} & {vm // 2 for vm in splits[2]}


def test_splits_are_the_same_on_every_machine(tmp_path: Path) -> None:
    traces = indexed(tmp_path, {name: cluster for cluster, name in enumerate("abcdefghij")})
    by_hash = sorted("abcdefghij", key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert "".join(by_hash) == "jdfcbehagi"  # with 5, 2 and 3 places, the emptiest first: jdf c b e h a g i
    # train: j d f b a, validation: e g, test: c h i
    assert splits_of(traces) == ((0, 1, 3, 5, 9), (4, 6), (2, 7, 8))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (10, 1, 1), (1, 10, 1), (1, 1, 10), (5, 5, 1)])
def test_no_split_is_empty_when_there_are_three_clusters(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    clusters = [cluster for cluster, size in enumerate(sizes) for _ in range(size)]
    traces = indexed(tmp_path, {str(vm): cluster for vm, cluster in enumerate(clusters)})
    assert all(splits_of(traces))


def test_two_clusters_cannot_be_split(tmp_path: Path) -> None:
    traces = indexed(tmp_path, {"1": 0, "2": 0, "3": 1})
    message = error_of(lambda: split_clusters(traces, "train"))
    assert message.startswith(f"{tmp_path}: 3 VMs in 2 clusters cannot be split into train, validation, test;")
    assert "at least 3 VMs in 3 clusters are needed" in message


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    traces = indexed(tmp_path, {"1": 0, "2": 1, "3": 2})
    message = error_of(lambda: split_clusters(traces, "tset"))  # type: ignore[arg-type]
    assert message == "unknown split 'tset' (did you mean 'test'?); use train, validation, test"


# --- published files -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def month() -> TraceSet:
    if not MONTH.is_dir():
        pytest.skip(f"the published month is not at {MONTH}")
    return read_bitbrains(MONTH)


def test_the_published_month_agrees_with_its_index(month: TraceSet) -> None:
    with (MONTH / "INDEX.csv").open() as file:
        index = {line["vm"]: line for line in csv.DictReader(file)}
    assert [vm.name for vm in month.vms] == sorted(index, key=int)
    for vm, report in zip(month.vms, month.report.files, strict=True):
        published = index[vm.name]
        assert vm.backed_mib.max() * 1024 == pytest.approx(float(published["granted_max_kb"]))
        active_share = vm.hot_mib.mean() / vm.backed_mib.max()
        assert active_share == pytest.approx(float(published["active_frac_mean"]), abs=1e-3), vm.name
        assert (vm.cores, vm.cluster) == (int(published["cores"]), int(published["corr_cluster"]))
        assert report.coverage == pytest.approx(float(published["coverage"]), abs=1e-5)


def test_the_published_month_is_thirty_days_with_every_row_accounted_for(month: TraceSet) -> None:
    assert (month.slot_s, month.start_unix_s) == (300.0, START_S)
    assert {len(vm.hot_mib) for vm in month.vms} == {30 * 288}
    assert month.report.total("rows") == 551_942 - 64  # lines of all files without their headers
    for file in month.report.files:
        used = file.rows - file.bad_rows - file.zero_capacity_rows - file.duplicate_slots
        assert used + file.filled_slots == 30 * 288
    assert all((vm.hot_mib <= vm.backed_mib).all() and (vm.cpu_share <= 1).all() for vm in month.vms)


def test_the_splits_of_the_published_month_are_about_50_20_30_percent(month: TraceSet) -> None:
    assert [len(split) for split in splits_of(month)] == [32, 13, 19]


def test_a_byte_exact_native_file_is_read(tmp_path: Path) -> None:
    if not NATIVE_FILE.is_file():
        pytest.skip(f"the native file is not at {NATIVE_FILE}")
    (tmp_path / "sample.csv.gz").write_bytes(NATIVE_FILE.read_bytes())
    traces = read_bitbrains(tmp_path)
    vm, report = traces.vms[0], traces.report.files[0]
    assert (report.rows, report.bad_rows, vm.cores, vm.configured_mib) == (8619, 0, 1, 2048)
    assert vm.hot_mib[0] == 110448.53333333334 / 1024
    assert vm.cpu_share[0] == 0.7333333333333333 / 100
    assert vm.disk_mib_per_s[0] == 1.4666666666666666 / 1024
    assert np.isfinite(vm.hot_mib).all()


def test_clusters_may_have_names(tmp_path: Path) -> None:
    for vm in "123":
        write(tmp_path / f"{vm}.csv", rows(2))
    write_index(tmp_path, "vm,corr_cluster\n1,web\n2,db\n3,web\n")
    assert [vm.cluster for vm in read_bitbrains(tmp_path).vms] == [1, 0, 1]


def test_a_comma_before_three_digits_in_all_of_a_file_is_not_taken_for_a_decimal_one(tmp_path: Path) -> None:
    """524,288 KB is half a GiB to some and half a KB to others."""
    path = tmp_path / "7.csv"
    write(path, [row.replace("4096", "524,288") for row in rows(2)])
    assert "may be decimal or separate thousands" in error_of(lambda: read_bitbrains(tmp_path))


def test_a_file_of_many_short_lines_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    (tmp_path / "7.csv.gz").write_bytes(gzip.compress(b"1\n" * (2**20 + 2)))
    assert "lines or more; at most 1,048,576 are read" in error_of(lambda: read_bitbrains(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "7.csv")
    assert "no regular file" in error_of(lambda: read_bitbrains(tmp_path))
