"""The plain table is written whole or not at all, and read back as it was, from Parquet or from CSV written by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.table import META, SAMPLES, read_table
from hvgym.envs.imports.writing import Writer, beside, check_out, put_in_place

GIB = 2.0**30


def samples(vm, count, **columns):
    ends = 1_700_000_000 + 60 * np.arange(1, count + 1)
    known = {"vm_id": vm, "t_end_utc_s": ends, "interval_s": 60, "agg": "mean", "power": "on", "cap_bytes": 4 * GIB}
    return pd.DataFrame(known | {"guest_used_bytes": np.linspace(GIB, 2 * GIB, count), "flags": 0} | columns)


def write(out, *vms, source="plain"):
    check_out(out, source)
    with beside(out) as folder:
        (folder / "table").mkdir()
        writer = Writer(folder / "table")
        for rows in vms:
            writer.add(rows)
        meta = pd.DataFrame({"vm_id": [rows["vm_id"].iloc[0] for rows in vms], "arrive_s": 1_700_000_000.0})
        writer.finish(meta, {"source": source}, "page\n")
        put_in_place(folder, out)


def test_what_is_written_is_read_back(tmp_path):
    a, b = samples("a", 3), samples("b", 2, backed_bytes=[np.nan, 3 * GIB], flags=[0, 1])
    write(tmp_path / "out", a, b)
    table = read_table(tmp_path / "out")
    found = dict(table.vms())
    assert list(found) == ["a", "b"]
    assert list(found["a"].columns) == list(SAMPLES)
    pd.testing.assert_frame_equal(found["a"][list(a.columns)], a, check_dtype=False)
    np.testing.assert_array_equal(found["b"]["backed_bytes"], [np.nan, 3 * GIB])
    assert found["a"]["backed_bytes"].isna().all()
    assert found["b"]["flags"].tolist() == [0, 1]
    assert table.meta["vm_id"].tolist() == ["a", "b"]
    assert list(table.meta.columns) == list(META)
    assert table.manifest == {"format": "hvgym vm history 1", "source": "plain"}
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_two_writings_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, samples("a", 300), samples("ä", 20, host_id="h"))
    files = [sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())]
    assert len(files[0]) == 4
    for file in files[0]:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_parts_keep_a_vm_whole_and_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr("hvgym.envs.imports.writing.ROWS_A_PART", 5)
    write(tmp_path / "out", *(samples(f"vm-{i}", 4) for i in range(25)))
    assert len(list((tmp_path / "out" / "vm_samples").iterdir())) == 13
    assert [(name, len(rows)) for name, rows in read_table(tmp_path / "out").vms()] == [
        (f"vm-{i}", 4) for i in range(25)
    ]


def test_what_fails_leaves_nothing_and_the_earlier_import_as_it_was(tmp_path):
    out = tmp_path / "out"
    write(out, samples("a", 3))
    with pytest.raises(TypeError, match="'int' has no len"):
        write(out, samples("b", 3), 42)
    assert [name for name, _ in read_table(out).vms()] == ["a"]
    with pytest.raises(TypeError):
        write(tmp_path / "new" / "deep" / "out", 42)
    assert list(tmp_path.iterdir()) == [out]
    write(tmp_path / "new" / "deep" / "out", samples("b", 3))
    assert (tmp_path / "new" / "deep" / "out" / "manifest.json").exists()


def test_only_an_import_of_the_same_source_is_written_over(tmp_path):
    out = tmp_path / "out"
    write(out, samples("a", 3))
    write(out, samples("b", 3))
    assert [name for name, _ in read_table(out).vms()] == ["b"]
    with pytest.raises(InputError, match="holds an import of plain, not of proxmox"):
        check_out(out, "proxmox")
    (tmp_path / "mine").mkdir()
    check_out(tmp_path / "mine", "plain")
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        check_out(tmp_path / "mine", "plain")
    with pytest.raises(InputError, match="is a file"):
        check_out(tmp_path / "mine" / "thesis.tex", "plain")


def test_a_table_written_by_hand_is_read_in_any_order(tmp_path):
    (tmp_path / "vm_samples.csv").write_text(
        "vm_id,t_end_utc_s,interval_s,cap_bytes,guest_used_bytes\n"
        "web,1700000120,60,4294967296,\ndb,1700000060,60,8589934592,2e9\nweb,1700000060,60,4294967296,1073741824\n"
    )
    table = read_table(tmp_path)
    found = dict(table.vms())
    assert list(found) == ["db", "web"]
    np.testing.assert_array_equal(found["web"]["guest_used_bytes"], [GIB, np.nan])
    assert found["db"]["agg"].tolist() == ["mean"]
    assert table.meta["arrive_s"].tolist() == [1700000000.0] * 2
    assert table.meta["depart_s"].tolist() == [1700000060.0, 1700000120.0]


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("vm_id,t_end_utc_s,interval_s,cap_bytes,guest_usedbytes", "a,1,2,3,4", "did you mean 'guest_used_bytes'"),
        ("vm_id,t_end_utc_s,interval_s,cap_bytes,backed_bytes", "a,1,2,,4", "line 2: column 'cap_bytes' says nothing"),
        ("vm_id,t_end_utc_s,interval_s,cap_bytes,granted_bytes", "a,1,2,3,4", "no column says what VMs use"),
        (
            "vm_id,t_end_utc_s,interval_s,cap_bytes,backed_bytes",
            "a,1,2,3,x",
            "line 2: column 'backed_bytes': 'x' is no",
        ),
    ],
)
def test_faults_of_a_table_by_hand_are_told(tmp_path, header, row, says):
    (tmp_path / "vm_samples.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(InputError, match=says):
        list(read_table(tmp_path).vms())


def test_what_is_no_table_is_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_table(tmp_path / "none")
    with pytest.raises(InputError, match="no vm_samples in it"):
        read_table(tmp_path)
    write(tmp_path / "out", samples("a", 3))
    part = tmp_path / "out" / "vm_samples" / "part-000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(InputError, match="no whole Parquet file"):
        list(read_table(tmp_path / "out").vms())
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"format": "hvgym vm history 9"}))
    with pytest.raises(InputError, match="format 'hvgym vm history 9', expected"):
        read_table(tmp_path / "out")
