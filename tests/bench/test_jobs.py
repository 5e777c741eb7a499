"""Files of a study are checked against what they should hold."""

import json

import numpy as np
import pytest

from hvgym.bench import jobs
from hvgym.bench.jobs import Job, job_file, read_job, run_job
from hvgym.bench.protocol import Protocol, check
from hvgym.bench.study import read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.bench.summary import doubts
from hvgym.bench.timeline import POINTS, Recorder, Timeline
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import load, load_group

SCENARIO = load("no-guest-swap-short").to_dict()
JOB, OTHER = (Job(load_group("agent", name), SCENARIO, 0, 2, 2) for name in ("stock", "proportional"))


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, {job.key: (run_job(job, folder), job_file(folder, job).read_text()) for job in (JOB, OTHER)}


@pytest.fixture
def file(played):
    folder, done = played
    path = job_file(folder, JOB)
    yield path
    path.write_text(done[JOB.key][1])


def forged(path, change):
    """The file changed by someone who knows how the digest is made."""
    data = json.loads(path.read_text())
    data.pop("digest")
    change(data)
    path.write_text(json.dumps(data | {"digest": jobs.digest(data)}))


def test_a_job_is_read_as_it_was_written(played):
    folder, done = played
    assert read_job(folder, JOB) == done[JOB.key][0]


def test_an_edited_row_is_refused_by_the_name_of_its_file(played, file):
    data = json.loads(file.read_text())
    data["rows"][0]["goodput"] = 1.0
    file.write_text(json.dumps(data, indent=1))
    with pytest.raises(InputError, match=rf"{file.name}: was changed after it was written .*; delete it and run"):
        read_job(played[0], JOB)


def test_rows_of_other_code_or_traces_are_never_taken_for_those_of_today(tmp_path):
    """Even when the protocol, which names the code, is deleted as its error advises."""
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock",), eval_seeds=2)
    old, new = (
        Protocol(suite, (load_group("agent", "stock"),), (SCENARIO,), {"code": code}) for code in ("old", "new")
    )
    run_study(old, tmp_path, 1)
    with pytest.raises(InputError, match="choose study=NAME"):
        run_study(new, tmp_path, 1)
    (tmp_path / "protocol.json").unlink()
    run_study(new, tmp_path, 1)
    assert len(list((tmp_path / "jobs").glob("*.json"))) == 2


def test_an_edited_protocol_is_refused_whatever_was_edited(tmp_path):
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock",), eval_seeds=2)
    run_study(Protocol(suite, (load_group("agent", "stock"),), (SCENARIO,), {"code": "x"}), tmp_path, 1)
    path = tmp_path / "protocol.json"
    whole = json.loads(path.read_text())
    for change in (
        {"codes": {"stock": "other"}},
        {"agents": [*whole["agents"]] * 2},
        {"identity": {**whole["identity"], "format": 2, "sources": {}}},
    ):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(InputError, match=r"protocol\.json: was changed after it was written"):
            read_study(tmp_path)


def test_a_swapped_file_is_refused(played, file):
    file.write_text(played[1][OTHER.key][1])
    with pytest.raises(InputError, match=rf"{file.name}: holds another job .proportional on .*not stock on"):
        read_job(played[0], JOB)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.pop("rows"), "lacks a key .*'rows'"),
        (lambda data: data["job"].pop("agent"), "lacks a key"),
        (lambda data: data["job"].update(more=1), "lacks a key or has one too many"),
        (lambda data: data["rows"].pop(), "its rows are not those of 2 evaluation seeds"),
        (lambda data: data["rows"][0].pop("cost"), "its rows are not those of 2 evaluation seeds"),
        (lambda data: data["job"].update(eval_seeds=3), "holds another job"),
    ],
)
def test_a_file_that_lacks_something_is_named(played, file, change, reason):
    forged(file, change)
    with pytest.raises(InputError, match=rf"{file.name}: {reason}"):
        read_job(played[0], JOB)


@pytest.mark.parametrize("text", ["", "[]", "{" * 100_000, "\x00", "3"])
def test_what_is_no_job_at_all_is_named(played, file, text):
    file.write_text(text)
    with pytest.raises(InputError, match=rf"{file.name}: "):
        read_job(played[0], JOB)


def test_an_edited_or_an_older_protocol_is_refused(tmp_path):
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock", "reference"), eval_seeds=2)
    protocol = Protocol(suite, tuple(load_group("agent", name) for name in ("stock", "reference")), (SCENARIO,))
    run_study(protocol, tmp_path, 1)
    path = tmp_path / "protocol.json"
    data = json.loads(path.read_text())
    data["identity"]["suite"]["eval_seeds"] = 3
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"protocol.json: was changed after it was written"):
        read_study(tmp_path)
    data["identity"]["format"] = 1
    path.write_text(json.dumps(data))
    for read in (lambda: read_study(tmp_path), lambda: run_study(protocol, tmp_path, 1)):
        with pytest.raises(InputError, match=r"a study of format 1, this hvgym reads 2; .*another name plays it anew"):
            read()


@pytest.mark.parametrize("name", ["../../x", "a/b", "", ".hidden", "a b", "ä"])
def test_a_name_that_could_lead_out_of_its_folder_is_refused(name):
    suite = Suite("one", "", ("s",), ("a",), eval_seeds=2)
    stock = load_group("agent", "stock")
    with pytest.raises(InputError, match=r"agent.name=.*: use letters, digits"):
        check(Protocol(suite, (stock | {"name": name},), (SCENARIO,)))
    with pytest.raises(InputError, match=r"scenario.name=.*: use letters, digits"):
        check(Protocol(suite, (stock,), (SCENARIO | {"name": name},)))


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


# ---- the time line


def test_a_time_line_survives_packing_and_is_thinned_where_it_is_long():
    recorder = Recorder()
    recorder.minutes = [0.25 * i for i in range(2 * POINTS)]
    recorder.sizes_mib = [np.array([4096.0, i]) for i in range(2 * POINTS)]
    recorder.progress = [np.array([1.0, 0.5])] * (2 * POINTS)
    recorder.killed = [np.array([0.0, i // 7]) for i in range(2 * POINTS)]
    recorder.failed = [np.array([float(i > 9), 0.0]) for i in range(2 * POINTS)]
    recorder.ram_mib = 8192.0
    line = Timeline.unpack(json.loads(json.dumps(recorder.timeline().pack())))
    assert len(line.minutes) == POINTS
    assert line.minutes[:3].tolist() == [0.0, 0.5, 1.0]
    assert line.sizes_mib[1].tolist() == [4096.0, 2.0]
    assert line.progress[5].tolist() == [1.0, 0.5]
    assert line.ram_mib == 8192.0
    assert line.killed[:5, 1].tolist() == [0, 0, 0, 0, 1]  # the first at the seventh, of which every second is kept
    assert line.killed[-1].tolist() == [0, (2 * POINTS - 2) // 7]
    assert line.failed[:6, 0].tolist() == [0, 0, 0, 0, 0, 1]
    assert line.failed[:, 1].sum() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"points": 3},
        {"float32": "!"},
        {"vms": -1},
        {"float32": None},
        {"points": "x"},
        {"counts": "AAAA"},
        {"counts": 1},
    ],
)
def test_a_damaged_time_line_is_an_input_error(change):
    nothing = np.zeros((2, 1))
    packed = Timeline(np.zeros(2), nothing, nothing, 1.0, killed=nothing, failed=nothing).pack()
    assert Timeline.unpack(packed).minutes.tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match="its time line is damaged"):
        Timeline.unpack(packed | change)


# ---- what so few seeds cannot show


def summary_of(seeds, smallest, needed, **tests):
    power = {"eval_seeds": seeds, "smallest_p_holm": smallest, "eval_seeds_needed": needed}
    return {"significance": power, "paired_to_best_heuristic": tests}


def test_too_few_seeds_are_called_so_with_the_number_that_could():
    """One scenario, 4 seeds, 3 comparisons: 3 x 2 / 2**4 = 0.375; 7 seeds give 3 x 2 / 2**7 = 0.047."""
    from hvgym.bench.summary import power_of

    power = power_of(demands=1, eval_seeds=4, tests=3)
    assert power == {"eval_seeds": 4, "smallest_p_holm": 0.375, "eval_seeds_needed": 7}
    (line,) = doubts(summary_of(4, 0.375, 7))
    assert "4 evaluation seeds cannot show a difference at 5%" in line
    assert "0.38" in line
    assert "suite.eval_seeds=7 could" in line


def test_an_interval_and_a_p_value_that_disagree_are_named():
    apart = {"goodput_difference": 0.1, "lo": 0.05, "hi": 0.2, "p_holm": 0.2}
    agreed = apart | {"p_holm": 0.01}
    (line,) = doubts(summary_of(8, 0.02, 7, a=apart, b=agreed, c=apart | {"lo": -0.1}))
    assert "although the interval excludes 0: a." in line
    assert doubts(summary_of(8, 0.02, 7, b=agreed)) == []
