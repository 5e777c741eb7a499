"""Files that are broken in every way end in one line that names them, in bounded memory and time; their clean twins pass."""

import gzip
import json
import re
import resource
import time
from importlib import import_module
from pathlib import Path

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options, Source

GWA = (
    "Timestamp [ms];CPU cores;CPU usage [%];Memory capacity provisioned [KB];Memory usage [KB];Disk read throughput [KB/s];"
    "Disk write throughput [KB/s];Network received throughput [KB/s];Network transmitted throughput [KB/s]\n"
)
GROUP = "\\\\esx\\Group Memory(7:web)\\"
DYNAMIC = "\\\\hv\\Hyper-V Dynamic Memory VM(web)\\"
GOVC = {
    "entity": {"type": "VirtualMachine", "value": "vm-1"},
    "sampleInfo": [{"timestamp": "2024-05-01T00:00:00Z", "interval": 300}],
    "value": [{"name": "mem.active.average", "instance": "", "value": [1024]}],
}

CLEAN = {
    "powercli": (
        "stats.csv",
        "Entity,MetricId,Timestamp,Value,Unit\nweb,mem.active.average,2024-05-01T00:00:00Z,1024,KB\n",
    ),
    "esxtop": ("top.csv", f'"(PDH-CSV 4.0) (UTC)(0)","{GROUP}Memory Size MBytes"\n"05/01/2024 00:00:00","2048"\n'),
    "govc": ("stats.json", json.dumps({"sample": [GOVC]}, indent=1)),
    "hyperv": ("vm.csv", f'"(PDH-CSV 4.0) (UTC)(0)","{DYNAMIC}Physical Memory"\n"05/01/2024 00:00:00.000","2048"\n'),
    "bitbrains": ("1.csv", GWA + "1375315200;2;12.5;4000000;524288;0;0;0;0\n"),
    "materna": ("1.csv", GWA.replace(" [ms]", "") + "04.11.2015 00:05:00;2;12,5;4000000;524288;0;0;0;0\n"),
    "borg2019": (
        "usage.csv",
        "time,collection_id,instance_index,avg_memory_usage,memory_limit\n300000000,1,1,0.25,0.5\n",
    ),
    "google2011": ("jobs.csv", "job_id,day,slot,cpu_pct,mem_pct\n1,1,0,5,5\n"),
    "smd": ("machine-1-1.csv", "minute,mem_u\n0,0.5\n"),
    "azure_v1": ("vmtable.csv", "aa==,s1,d1,300,900,99.5,3.25,80,Interactive,2,3.5\n"),
    "ufcg": ("servers_utilization.csv", "timestamp,server_id,ram_utilization\n1714521600,aa,40\n"),
}
OPTIONS = Options(zone="UTC", caps_mib={"all": 16384, "machine": 524288})

SECONDS, MIB = 20, 700


def source_of(name: str) -> Source:
    return import_module(f"hvgym.envs.imports.sources.{name}").SOURCE


def rows(name: str, *paths: Path) -> int:
    return sum(len(batch.frame) for batch in source_of(name).read(list(paths), OPTIONS))


def refused(name: str, *paths: Path) -> str:
    with pytest.raises(InputError) as error:
        rows(name, *paths)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(params=sorted(CLEAN))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clean(name: str, tmp_path: Path) -> Path:
    file, text = CLEAN[name]
    (tmp_path / file).write_text(text)
    return tmp_path / file


def test_the_clean_twin_passes(name: str, clean: Path) -> None:
    assert rows(name, clean) == 1


def test_packed_and_in_utf_16_it_is_the_same(name: str, clean: Path) -> None:
    packed = clean.with_name(clean.name + ".gz")
    packed.write_bytes(gzip.compress(clean.read_text().encode("utf-16"), mtime=0))
    clean.unlink()
    assert rows(name, packed) == 1
    assert rows(name, packed.parent) == 1


def test_an_empty_file(name: str, clean: Path) -> None:
    clean.write_text("")
    assert f"{clean}: the file is empty" in refused(name, clean)


def test_a_header_alone(name: str, clean: Path) -> None:
    clean.write_text(clean.read_text().splitlines()[0] + "\n")
    if name == "azure_v1":  # has no header
        assert rows(name, clean) == 1
    else:
        assert str(clean) in refused(name, clean)


def test_a_row_that_is_cut_off(name: str, clean: Path) -> None:
    text = clean.read_text().rstrip("\n")
    last = text.splitlines()[-1]
    clean.write_text(
        text[:-3] if name == "govc" else f"{text}\n{last[: min(len(last) // 2, len(re.split('[,;]', last)[0]))]}"
    )
    assert str(clean) in refused(name, clean)


def test_binary(name: str, clean: Path) -> None:
    clean.write_bytes(bytes(range(256)) * 100)
    assert f"{clean}: binary" in refused(name, clean)


def test_a_corrupt_gzip(name: str, clean: Path) -> None:
    clean.write_bytes(gzip.compress(clean.read_bytes() * 50, mtime=0)[:-12])
    assert f"{clean}: corrupt gzip" in refused(name, clean)


def test_a_byte_that_is_no_utf_8(name: str, clean: Path) -> None:
    content = clean.read_bytes()
    clean.write_bytes(content + b"\xfc,1\n")
    line = content.count(b"\n") + 1
    assert f"{clean}: line {line}: byte 0xfc is no UTF-8" in refused(name, clean)


def test_another_kind_of_file(name: str, clean: Path) -> None:
    clean.write_text("once upon a time\nthere was a table\n")
    assert str(clean) in refused(name, clean)


def test_a_file_that_is_not_there_and_a_folder_without_any(name: str, tmp_path: Path) -> None:
    assert "there is no such file" in refused(name, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "no file in this folder" in refused(name, tmp_path / "empty")


WAYS = ("powercli", "esxtop", "govc", "azure_v1", "bitbrains")
"""One source for each way of reading."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    file, text = CLEAN[request.param]
    (tmp_path / file).write_text(text)
    return request.param, tmp_path / file


def bounded(name: str, path: Path) -> str:
    """The message, if it comes soon and without much memory."""
    start, peak_kib = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = refused(name, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < MIB * 1024
    assert time.perf_counter() - start < SECONDS
    return said


@pytest.fixture(scope="module")
def blanks() -> bytes:
    """100 MiB of blank lines, packed a thousand times smaller."""
    return gzip.compress((b" " * 2**16 + b"\n") * 1600, mtime=0)


def test_a_gzip_that_unpacks_out_of_proportion(way: tuple[str, Path], blanks: bytes) -> None:
    name, clean = way
    packed = clean.with_name("a" + clean.suffix + ".gz")
    packed.write_bytes(gzip.compress(clean.read_bytes(), mtime=0) + blanks)
    assert "unpacks to more than" in bounded(name, packed)


def test_a_million_columns(way: tuple[str, Path]) -> None:
    name, clean = way
    clean.write_text(",".join(f"c{i}" for i in range(10**6)) + "\n" + ",".join(["1"] * 10**6) + "\n")
    assert str(clean) in bounded(name, clean)


@pytest.mark.parametrize("count", [2, 200_000])
def test_a_name_that_is_there_twice_in_a_header_of_any_width(tmp_path: Path, count: int) -> None:
    file = tmp_path / "stats.csv"
    file.write_text(",".join([*(f"c{i}" for i in range(count)), f"c{count - 1}"]) + "\n")
    assert f"line 1: two columns are called 'c{count - 1}'" in bounded("powercli", file)


def test_a_line_without_end(way: tuple[str, Path]) -> None:
    name, clean = way
    clean.write_text("x" * 2**25)
    assert str(clean) in bounded(name, clean)
