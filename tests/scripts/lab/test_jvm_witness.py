"""The witness of the heap curve: records survive writing, errors are told honestly, and the program runs where it can."""

import pathlib
import shutil

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.lab.jvm import Curve
from hvgym.scripts.lab import witness as jvm_witness
from hvgym.scripts.lab.witness import Record, Run

CURVE = Curve(0.9, 0.3, 0.8)
HEAPS = (100, 110, 150, 200, 400, 1000)


def record(spread=0.0):
    """Three runs a heap that follow a curve; the middle one exactly, however far the others are off."""
    runs = [
        Run(mib, 9.0, CURVE.at(mib / 100) * scale, 4, 0.5, 8, 0.25)
        for mib in HEAPS
        for scale in (1 - spread, 1, 1 + 5 * spread)
    ]
    return Record(("a JVM", "a machine"), tuple(runs))


def test_what_is_written_is_read(tmp_path):
    jvm_witness.write(record(0.1), tmp_path / "x.csv")
    assert jvm_witness.read(tmp_path / "x.csv") == record(0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("text", ["# only a note\n", "heap_mib,wall_s\n1,2\n", "heap_mib\nx\n"])
def test_a_broken_record_is_named(text, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match="make jvm-witness writes it"):
        jvm_witness.read(tmp_path / "x.csv")


def test_medians_ignore_a_stray_run_and_times_end_in_one():
    heap_times, times = record(0.2).times()
    assert heap_times == pytest.approx([1.0, 1.1, 1.5, 2.0, 4.0, 10.0])
    assert times == pytest.approx([CURVE.at(h) / CURVE.at(10.0) for h in heap_times])
    assert record(0.2).medians()[1] == pytest.approx([CURVE.at(h) for h in heap_times])


def test_the_error_of_a_fit_is_relative():
    assert jvm_witness.fit_error(Curve(1.0, 0.0, 0.5), np.array([1.0, 2.0]), np.array([1.0, 0.8])) == pytest.approx(
        (0.25 / 2**0.5, 0.25)
    )


def test_points_on_a_curve_predict_each_other_and_a_bent_one_does_not():
    heap_times, times = record().times()
    assert jvm_witness.left_out_error(heap_times, times) < 0.01
    times[2] *= 1.5  # predicted by the others a third too low, and one of four that are predicted
    assert jvm_witness.left_out_error(heap_times, times) >= (1 / 9 / 4) ** 0.5 - 0.001


def test_collection_speed_charges_full_collections_with_what_they_cost_beyond_the_largest_heap():
    runs = (
        Run(100, 9.0, 5.0, 0, 0.0, 50, 4.0),
        Run(200, 9.0, 3.0, 5, 0.1, 20, 2.0),
        Run(1000, 9.0, 1.0, 5, 0.1, 10, 1.0),
    )
    assert jvm_witness.collected_mib_per_s(Record((), runs)) == pytest.approx(64 * 40 / 4.0)


def test_roomy_heaps_start_at_the_limit():
    heap_times, times = jvm_witness.roomy(np.array([1.0, 1.29, 1.3, 2.0]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert heap_times.tolist() == [1.3, 2.0]
    assert times.tolist() == [2.0, 1.0]


@pytest.mark.parametrize("least", [33, 90, 91, 92, 255, 256])
def test_bisection_finds_the_least_heap(least):
    asked = []
    assert jvm_witness.smallest_heap_mib(lambda mib: asked.append(mib) or mib >= least, 32, 256) == least
    assert len(asked) <= 8


def test_it_is_skipped_where_there_is_no_jdk(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jvm_witness.main([str(tmp_path)]) == 0
    assert "skipped; no java and no javac on PATH: install a JDK" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(jvm_witness.missing()), reason="no JDK")
def test_the_program_runs_and_a_heap_that_is_too_small_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(jvm_witness, "VOLUME_MIB", 256)
    jvm_witness.compile_program(tmp_path)
    run = jvm_witness.run_once(tmp_path, 400, 100)
    assert run is not None
    assert run.heap_mib == 400
    assert run.cpu_s > 0.0 < run.wall_s
    assert run.young >= 1
    assert jvm_witness.run_once(tmp_path, 40, 100) is None


@pytest.mark.skipif(shutil.which("java") is None, reason="no java")
def test_a_java_that_fails_otherwise_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="JvmWitness"):
        jvm_witness.run_once(tmp_path, 100, 1)


def test_the_recorded_run_can_be_read_and_drawn():
    from matplotlib.figure import Figure

    path = pathlib.Path(__file__).resolve().parents[3] / "docs" / "validation" / "jvm_witness.csv"
    recorded = jvm_witness.read(path)
    axes = Figure().subplots()
    jvm_witness.plot(axes, recorded)
    assert axes.has_data()
    assert "misses the medians of CPU time by" in jvm_witness.in_words(recorded)
