"""Files of every kind of brokenness end in one line, in bounded memory and time; whole ones give their cells, numbers, times."""

import gzip
import json
import os
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports import reading
from hvgym.envs.imports.reading import dates_s, decimal_of, documents, files_of, frames, numbers, text
from hvgym.envs.imports.registry import source_of
from hvgym.envs.imports.source import Options


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(file, **options):
    return pd.concat(list(frames(file, **options)))


def cells(*words, start=2):
    return pd.Series(list(words), index=range(start, start + len(words)), dtype=object)


@pytest.fixture
def bomb(tmp_path):
    """4 GiB of rows in 4 MB."""
    piece = gzip.compress(b"0,0\n" * 2**24, 9, mtime=0)
    return written(tmp_path / "bomb.csv.gz", gzip.compress(b"a,b\n", mtime=0) + piece * 64)


def test_a_gzip_that_unpacks_to_gigabytes_is_refused_before_it_has(bomb):
    tracemalloc.start()
    before = time.process_time()
    with pytest.raises(InputError, match="unpacks to more than 250 times its size"), text(bomb) as stream:
        for _ in iter(lambda: stream.read(2**16), ""):
            pass
    assert time.process_time() - before < 10
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_gzip_is_told_by_its_content_not_its_name(tmp_path):
    file = written(tmp_path / "named.csv", gzip.compress(b"vm,mem\na,1\n", mtime=0))
    assert rows(file).to_dict("list") == {"vm": ["a"], "mem": ["1"]}


def test_honest_compression_passes(tmp_path):
    rng = np.random.default_rng(0)
    lines = "".join(f"vm-{i % 50},{1_700_000_000 + i // 50 * 60},{rng.integers(10**9)}\n" for i in range(20_000))
    file = written(tmp_path / "a.csv.gz", gzip.compress(b"vm,time,mem\n" + lines.encode(), mtime=0))
    assert len(rows(file)) == 20_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (gzip.compress(b"a,b\n" + bytes(range(48, 122)) * 4000)[:-200], "corrupt gzip"),
        (
            gzip.compress(np.random.default_rng(0).bytes(4000).hex().encode(), mtime=0)[:1500] + b"x" * 900,
            "corrupt gzip",
        ),
        (b"\x7fELF\x02\x01\x01\0\0\0", "binary, no text"),
        (b"a,b\n1,\xff\xfe\n", "line 2: byte 0xff is no UTF-8"),
        (b"a,b\n" + b"1,2\n" * 50_000 + b"1,\xe4\n" * 9, "line 50002: byte 0xe4 is no UTF-8"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 50_000 + b"1,\xe4\n", mtime=0), "line 50002: byte 0xe4 is no UTF-8"),
        (b"x" * (2**24 + 2**17), "a line is longer than 16 MiB"),
        (b"a,b\n1,2\n3\n", r"line 3: 1 cell \('3'\), expected 2 as in the header"),
        (b"a,b\n1,2\n\n3,4,5\n", r"line 4: 3 cells \('3;4;5'\), expected 2"),
        (b"a,b,a\n1,2,3\n", "line 1: two columns are called 'a'"),
        (b'a,b\n1,"2\n' + b"3,4\n" * 50_000, "is a quote left open"),
        (",".join(f"c{i}" for i in range(10**6)).encode() + b"\n", "1,000,000 columns; at most 262,144"),
    ],
)
def test_broken_tables_end_in_one_line_that_names_the_file(tmp_path, content, says):
    file = written(tmp_path / "broken.csv", content)
    with pytest.raises(InputError, match=says) as error:
        rows(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


def test_a_wide_table_comes_in_small_pieces(tmp_path):
    line = ",".join(["1"] * 10_000) + "\n"
    file = written(tmp_path / "wide.csv", ",".join(f"c{i}" for i in range(10_000)) + "\n" + line * 300)
    assert [len(piece) for piece in frames(file)] == [209, 91]


def test_utf_16_with_its_mark_is_read(tmp_path):
    for code in ("utf-16", "utf-8-sig"):
        file = written(tmp_path / "a.csv", "vm;Größe\nä;1\n".encode(code))
        assert rows(file).to_dict("list") == {"vm": ["ä"], "Größe": ["1"]}


def test_the_index_is_the_line_in_the_file_whatever_is_left_out(tmp_path):
    file = written(tmp_path / "a.csv", "# said\n\na\tb\n1\t2\n# more\n3\t4\t\n")
    found = rows(file, skip=lambda line: line.startswith("#"))
    assert found.index.tolist() == [4, 6]
    assert found["b"].tolist() == ["2", "4"]


def test_separators_are_told_from_the_header_and_may_end_it(tmp_path):
    assert rows(written(tmp_path / "a", "a;\tb;\tc;\n1;\t2;\t3\n")).columns.tolist() == ["a", "b", "c"]
    assert rows(written(tmp_path / "a", '"x;y",b\n1,2\n')).columns.tolist() == ["x;y", "b"]
    assert rows(written(tmp_path / "a", "1|2\n"), separator="|", header=["a", "b"])["b"].tolist() == ["2"]


def test_numbers_know_what_says_nothing(tmp_path):
    found = numbers(cells("1.5", " 2 ", "", "NaN", "null", "-", "N/A", "1e3", "-4"), tmp_path, "mem")
    np.testing.assert_array_equal(found, [1.5, 2, *[np.nan] * 5, 1000, -4])


@pytest.mark.parametrize(
    ("cell", "decimal", "says"),
    [
        ("1,234,567", ".", "may have a separator of thousands"),
        ("1.234.567", ",", "may have a separator of thousands"),
        ("1 234", ".", "may have a separator of thousands"),
        ("1.234,5", ",", "has both signs"),
        ("1,234.5", ".", "has both signs"),
        ("2,5", ".", "has another decimal sign"),
        ("2.5", ",", "has another decimal sign"),
        ("512 MB", ".", "is no number; write one without unit"),
        ("1_000", ".", "is no number"),
        ("inf", ".", "is no number"),
    ],
)
def test_what_is_no_number_is_shown_with_line_and_column(tmp_path, cell, decimal, says):
    with pytest.raises(InputError, match=says) as error:
        numbers(cells("1", "", cell), tmp_path / "a.csv", "mem", decimal)
    assert "a.csv: line 4: column 'mem': '" in str(error.value)


def test_decimal_commas_are_told_where_commas_do_not_separate():
    assert decimal_of(["1,5", "2,25", "3"], ";") == ","
    assert decimal_of(["1.5", "2.25", "3"], ";") == "."
    assert decimal_of(["1,5"] * 4 + ["x"] * 96, ";") == "."
    assert decimal_of(["1,5"], ",") == "."
    np.testing.assert_array_equal(numbers(cells("1,5", "", "-2"), None, "mem", ","), [1.5, np.nan, -2])


def test_dates_become_seconds_by_the_zone_that_they_name_or_that_is_said(tmp_path):
    known = cells("2024-07-01T12:00:00Z", "2024-07-01T14:00:00+02:00")
    assert dates_s(known, tmp_path, "time", None).tolist() == [1719835200] * 2
    summer_winter = cells("2024-07-01 14:00", "2024-12-01 13:00")
    assert dates_s(summer_winter, tmp_path, "time", "Europe/Berlin").tolist() == [1719835200, 1733054400]
    powercli = cells("1/17/2017 3:15:00 PM")
    assert dates_s(powercli, tmp_path, "t", "UTC", ["%m/%d/%Y %I:%M:%S %p"]).tolist() == [1484666100]


@pytest.mark.parametrize(
    ("word", "zone", "says"),
    [
        ("2024-07-01 14:00", None, "names no time zone; say which it is, as in zone=Europe/Berlin"),
        ("2024-10-27 02:30", "Europe/Berlin", "was twice in Europe/Berlin"),
        ("2024-03-31 02:30", "Europe/Berlin", "never was in Europe/Berlin"),
        ("soon", "UTC", "is no date"),
        ("", "UTC", "is no date"),
    ],
)
def test_times_that_can_be_read_in_no_or_two_ways_are_refused(tmp_path, word, zone, says):
    with pytest.raises(InputError, match=says) as error:
        dates_s(cells("2024-07-01T12:00:00Z", word), tmp_path / "a.csv", "time", zone)
    assert "a.csv: line 3: column 'time': " in str(error.value)


def test_an_unknown_zone_is_told(tmp_path):
    with pytest.raises(InputError, match="zone='Berlin': no time zone"):
        dates_s(cells("2024-07-01 14:00"), tmp_path, "time", "Berlin")


def test_json_comes_as_one_document_or_as_many(tmp_path):
    file = tmp_path / "a.json"
    assert list(documents(written(file, '\n{"a": [1, 2]}\n'))) == [{"a": [1, 2]}]
    assert list(documents(written(file, '{"a": 1}\n{"a": 2}\n'))) == [{"a": 1}, {"a": 2}]
    assert list(documents(written(file, '{"a": 1}{"a": 2} [3]'))) == [{"a": 1}, {"a": 2}, [3]]
    assert list(documents(written(file, gzip.compress(b"[1]", mtime=0)))) == [[1]]


def test_json_across_pieces_is_whole(tmp_path):
    long = {"values": list(range(300_000))}
    lines = [{"i": i, "text": "x" * 50} for i in range(40_000)]
    file = written(tmp_path / "a.json", "\n".join(map(json.dumps, [*lines[:5], long, *lines[5:]])))
    assert list(documents(file)) == [*lines[:5], long, *lines[5:]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"a": [1,\n 2', "line 2, column 3: no JSON"),
        ('{"a": 1}\n\n{"a": nope}', "line 3, column 7: no JSON"),
        ("<html>404</html>", "line 1, column 1: no JSON"),
        ("[" * 200_000, "line 1: nested too deep"),
        ("", "the file is empty"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(tmp_path, content, says):
    with pytest.raises(InputError, match=says):
        list(documents(written(tmp_path / "a.json", content)))


@pytest.mark.parametrize("content", ["0" * 2**23, "\n".join(["0"] * 2**22)])
@pytest.mark.parametrize("source", ["govc", "proxmox"])
def test_numbers_without_end_are_no_document(tmp_path, monkeypatch, source, content):
    read = []
    monkeypatch.setattr(
        reading._Pieces, "document", lambda pieces, whole=reading._Pieces.document: read.append(1) or whole(pieces)
    )
    with pytest.raises(InputError, match=r"zeros.json: line 1: 0 stands alone, expected a list or an object"):
        list(source_of(source).read([written(tmp_path / "zeros.json", content)], Options()))
    assert len(read) == 1
    with pytest.raises(InputError, match=r"line 3: 'x' stands alone"):
        list(documents(written(tmp_path / "a.json", '{"a": 1}\n[1]\n"x"\n')))


@pytest.mark.parametrize("source", ["govc", "proxmox"])
def test_documents_without_end_are_not_read_to_their_end(tmp_path, monkeypatch, source):
    read = []
    monkeypatch.setattr(
        reading._Pieces, "document", lambda pieces, whole=reading._Pieces.document: read.append(1) or whole(pieces)
    )
    with pytest.raises(InputError, match=r"empty.json: (neither samples nor VMs|is {}, no list of rows)"):
        list(source_of(source).read([written(tmp_path / "empty.json", "{}" * 2**20)], Options()))
    assert len(read) == 1


def test_a_fault_far_from_the_end_is_not_looked_for_in_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_JSON", 2**22)  # reading on would end there, with another message
    with pytest.raises(InputError, match="line 1, column 1: no JSON"):
        list(documents(written(tmp_path / "a.json", "oops" + " " * 2**23)))
    with pytest.raises(InputError, match="GiB of JSON"):
        list(documents(written(tmp_path / "a.json", "[" + " " * 2**23 + "]")))


def test_folders_give_their_files_by_number_and_files_come_as_given(tmp_path):
    for name in ("10.csv", "9.csv.gz", "2.csv", "note.txt", "sub/1.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path / name, "a")
    found = files_of([tmp_path / "10.csv", tmp_path], ["*.csv"])
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["10.csv", "2.csv", "9.csv.gz", "sub/1.csv"]


def test_missing_files_pipes_and_folders_without_any_are_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, says in [("none.csv", "there is no such file"), ("pipe", "is no regular file"), ("", "no file in this")]:
        with pytest.raises(InputError, match=says):
            files_of([tmp_path / path], ["*.csv"])
    with pytest.raises(InputError, match="no files are given"):
        files_of([], ["*.csv"])


def test_quoted_cells_are_one_cell_and_may_hold_separators_and_lines(tmp_path):
    file = written(tmp_path / "a.csv", 'vm,note,mem\n"a","x, ""y""",1\n"b","two\nlines",2\nc,,3\n')
    found = rows(file)
    assert found["note"].tolist() == ['x, "y"', "two\nlines", ""]
    assert found.index.tolist() == [2, 4, 5]
    quoted = rows(written(tmp_path / "a.csv", '"vm","mem"\n"a","1"\n"b","2"\n'))
    assert quoted.to_dict("list") == {"vm": ["a", "b"], "mem": ["1", "2"]}


def test_both_ways_to_read_a_table_find_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    lines = [",".join(str(rng.choice(["", "1.5", '"q,r"', "ä", " x "])) for _ in range(4)) for _ in range(500)]
    file = written(tmp_path / "a.csv", "a,b,c,d\n" + "\n\n".join(lines))
    fast = rows(file, rows=64)
    monkeypatch.setattr(reading, "_at_once", lambda *_: None)
    pd.testing.assert_frame_equal(fast, rows(file, rows=64))
