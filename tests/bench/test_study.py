"""Studies: rows in full, interruption without a trace, nothing overwritten."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hvgym.agents.learned import ppo
from hvgym.agents.learned.training import Trained, Validation
from hvgym.agents.policy import make_policy
from hvgym.bench import jobs, suites, training
from hvgym.bench.identity import sources
from hvgym.bench.protocol import Job, Protocol, check
from hvgym.bench.recording import open_store
from hvgym.bench.report import write_report
from hvgym.bench.study import opened, read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.bench.summary import ranking, summarise, tabulate
from hvgym.bench.timeline import Timeline
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from tests.scripts.calling import COMMAND, hvgym

pytestmark = pytest.mark.usefixtures("no_pictures")

TINY_PPO = load_group("agent", "ppo") | {
    "train": {"total_steps": 2000, "envs": 8, "n_steps": 16, "batch_size": 64, "n_epochs": 1, "validations": 2}
}


def protocol(agents=("stock", "proxmox", "reference"), **changes):
    suite = replace(Suite.from_dict(load_group("suite", "micro")), train_steps=None, eval_seeds=3, **changes)
    configs = tuple(TINY_PPO if name == "ppo" else load_group("agent", name) for name in agents)
    return Protocol(suite, configs, tuple(load(name).to_dict() for name in suite.scenarios))


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The folder of that study and its finished jobs, to be read only."""
    folder = tmp_path_factory.mktemp("played") / "study"
    return folder, run_study(protocol(), folder, 1)


def outputs(folder):
    return {name: (folder / name).read_bytes() for name in ("results.csv", "summary.json")}


def test_rows_are_written_in_full_and_scores_follow_from_them(played, tmp_path):
    tmp_path = shutil.copytree(played[0], tmp_path / "study")
    summary, _ = write_report(tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        "agent", "scenario", "train_seed", "eval_seed",
        "goodput", "cost", "oom_kills", "failed_starts", "host_swap_s", "p99_slowdown", "lost_exits", "lost_page_walks",
        "lost_collections", "lost_cpu", "lost_guest_paging", "lost_host_paging", "lost_io_waits", "lost_waiting", "lost_kills",
        "outage_s", "recovery_s", "downtime_s", "moves", "failed_moves", "moved_gib", "sim_seconds", "code",
    ]  # fmt: skip
    assert len(rows) == 3 * 2 * 3

    def goodput(agent, scenario):
        return np.array([float(r["goodput"]) for r in rows if r["agent"] == agent and r["scenario"] == scenario])

    scores = []
    for scenario in suites.Suite.from_dict(load_group("suite", "micro")).scenarios:
        stock, reference, proxmox = (goodput(agent, scenario) for agent in ("stock", "reference", "proxmox"))
        scores.append((proxmox - stock).mean() / (reference - stock).mean())
    assert summary["agents"]["proxmox"]["score_iqm"] == pytest.approx(
        np.mean(scores), rel=1e-12
    )  # two: none is trimmed
    assert summary["agents"]["reference"]["score_iqm"] == pytest.approx(1.0, rel=1e-12)
    assert summary["scored_as"] == "mean over seeds of each scenario, interquartile mean over scenarios"
    assert summary["agents"]["stock"]["score_iqm"] == 0.0
    done = {d.job.key: d for d in read_study(tmp_path)[1]}
    exact = next(d for d in done.values() if d.job.agent["name"] == "proxmox").rows[0]["goodput"]
    assert exact in [float(r["goodput"]) for r in rows if r["agent"] == "proxmox"]


def test_number_of_workers_changes_nothing(played, tmp_path):
    shutil.copytree(played[0], tmp_path / "1")
    run_study(protocol(), tmp_path / "2", 2)
    for workers in (1, 2):
        write_report(tmp_path / str(workers))
    assert outputs(tmp_path / "1") == outputs(tmp_path / "2")


class KilledError(Exception):
    pass


def test_a_study_goes_on_where_it_stopped_and_runs_no_job_twice(tmp_path):
    agents = ("stock", "ppo", "reference")
    run_study(protocol(agents), tmp_path / "whole", 1)
    write_report(tmp_path / "whole")

    def stop(done, finished, total):
        if finished == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_study(protocol(agents), tmp_path / "cut", 1, stop)
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "jobs").glob("*.json")}
    assert len(stamps) == 3
    run_study(protocol(agents), tmp_path / "cut", 1)
    write_report(tmp_path / "cut")
    assert outputs(tmp_path / "cut") == outputs(tmp_path / "whole")
    for name, stamp in stamps.items():
        assert (tmp_path / "cut" / "jobs" / name).stat().st_mtime_ns == stamp


def test_kill_9_in_the_middle_of_hvgym_bench_leaves_the_same_results(tmp_path):
    words = [
        "bench",
        "suite=micro",
        "agents=[stock,proxmox,ppo]",
        "study=s",
        "suite.train_steps=4000",
        "suite.eval_seeds=2",
    ]
    command = [*COMMAND, *words, "workers=2"]
    hvgym(*words, "workers=1", f"runs={tmp_path / 'whole'}", "tracking=none")
    open_store(tmp_path / "cut")  # to make it takes the command seconds
    jobs = tmp_path / "cut" / "studies" / "s" / "jobs"
    process = subprocess.Popen([*command, f"runs={tmp_path / 'cut'}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    while process.poll() is None and len(list(jobs.glob("*.json"))) < 2:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(jobs.glob("*.json"))) < 8
    again = hvgym(*words, "workers=1", f"runs={tmp_path / 'cut'}")
    assert "[8/8]" in again.stdout
    studies = [tmp_path / place / "studies" / "s" for place in ("whole", "cut")]
    assert outputs(studies[0]) == outputs(studies[1])

    client = open_store(tmp_path / "cut")
    experiment = client.get_experiment_by_name("hvgym/s")
    found = client.search_runs([experiment.experiment_id], max_results=100)
    children = [run.data.tags["hvgym.job"] for run in found if "hvgym.job" in run.data.tags]
    assert len(found) == 13  # the study's, four agents', eight jobs'
    assert len(set(children)) == len(children) == 8
    assert {run.info.status for run in found} == {"FINISHED"}


def test_agents_may_be_added_but_nothing_else_may_change(tmp_path):
    run_study(protocol(("stock", "reference")), tmp_path, 1)
    run_study(protocol(("proxmox", "stock", "reference")), tmp_path, 1)
    assert [agent["name"] for agent in json.loads((tmp_path / "protocol.json").read_text())["agents"]] == [
        "stock",
        "reference",
        "proxmox",
    ]
    before = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(InputError, match=r"differs in suite.validation_seeds .there 2, asked 9"):
        run_study(protocol(validation_seeds=9), tmp_path, 1)
    changed = protocol(("stock", "reference", "proxmox"))
    changed = replace(changed, agents=(*changed.agents[:2], changed.agents[2] | {"target_share": 0.5}))
    with pytest.raises(InputError, match="agent proxmox differs"):
        run_study(changed, tmp_path, 1)
    assert (tmp_path / "results.csv").read_bytes() == before


def test_an_agent_that_never_finished_may_be_changed_or_left_out(tmp_path):
    def stop(done, finished, total):
        raise KilledError

    with pytest.raises(KilledError):
        run_study(protocol(("proxmox", "stock", "reference")), tmp_path, 1, stop)
    changed = protocol(("proxmox", "stock", "reference"))
    changed = replace(changed, agents=(changed.agents[0] | {"target_share": 0.5}, *changed.agents[1:]))
    done = run_study(changed, tmp_path, 1)
    assert done[0].job.agent["target_share"] == 0.5
    assert [agent["name"] for agent in read_study(tmp_path)[0].agents] == ["proxmox", "stock", "reference"]


def test_two_agents_or_scenarios_of_one_name_are_refused():
    twins = protocol(("stock", "reference"))
    with pytest.raises(InputError, match="scenarios: two are named 'idle-giants-short'"):
        check(replace(twins, scenarios=(*twins.scenarios, twins.scenarios[0])))
    with pytest.raises(InputError, match="agents: two are named 'stock'"):
        check(replace(twins, agents=(*twins.agents, twins.agents[0])))


def test_a_study_belongs_to_one_process_at_a_time(tmp_path):
    with opened(protocol(), tmp_path):
        code = (
            f"from hvgym.bench.study import locked; import pathlib\nwith locked(pathlib.Path({str(tmp_path)!r})): pass"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another hvgym process is working on this study" in other.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_damaged_job_file_is_named(tmp_path):
    run_study(protocol(("stock", "proxmox")), tmp_path, 1)
    file = next((tmp_path / "jobs").glob("*.json"))
    file.write_text(file.read_text()[:50])
    with pytest.raises(InputError, match=rf"{file.name}: damaged .*delete it"):
        run_study(protocol(("stock", "proxmox")), tmp_path, 1)


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing, os, time\n"
        "from hvgym.bench.workers import follow_parent\nif __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), follow_parent)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n    pool.submit(time.sleep, 60)\n    time.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    command = [sys.executable, str(tmp_path / "parent.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with parent.stdout:
        worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if (Path("/proc") / str(worker) / "stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def test_an_unfinished_study_is_not_summarised(played):
    _, done = played
    with pytest.raises(InputError, match="1 jobs are not finished"):
        tabulate(protocol(), done[:-1])


def test_better_agents_get_better_scores_and_signs(played):
    """The sign of every comparison: an agent that is made better scores higher and differs upwards."""
    _, done = played
    better = [
        replace(d, rows=[row | {"goodput": row["goodput"] + 0.01} for row in d.rows])
        if d.job.agent["name"] == "proxmox"
        else d
        for d in done
    ]
    plain, lifted = (summarise(protocol(), tabulate(protocol(), rows)) for rows in (done, better))
    ours, theirs = (summary["agents"]["proxmox"] for summary in (lifted, plain))
    assert ours["score_lo"] > theirs["score_lo"]
    assert ours["score_iqm"] > theirs["score_iqm"]
    assert lifted["best_heuristic"] == "proxmox"
    assert ranking(lifted).index("proxmox") < ranking(lifted).index("stock")
    assert lifted["paired_to_best_heuristic"]["stock"]["hi"] < 0.0


def test_seed_ranges_of_the_splits_are_disjoint():
    block = suites.SEEDS_PER_TRAINING
    trainings = [0, 1, 998, 999, 1000, 1999, 2000, 10**6, suites.LARGEST_TRAINING_SEED]
    ranges = [range(first, first + block) for first in map(suites.training_seed, trainings)]
    ranges += [suites.seeds("validation", 10**9), suites.seeds("test", 10**9), suites.tuning_seeds(block)]
    ordered = sorted(ranges, key=lambda seeds: seeds[0])
    assert all(below[-1] < above[0] for below, above in itertools.pairwise(ordered))
    assert max(seeds[-1] for seeds in ranges) < 2**63
    assert [suites.training_seed(seed) for seed in (0, 3, 998)] == [0, 3_000_000, 998_000_000]  # as they always were


@pytest.mark.parametrize("seed", [-1, suites.LARGEST_TRAINING_SEED + 1])
def test_a_training_seed_out_of_range_is_one_line(seed):
    with pytest.raises(InputError, match=f"seed={seed}: must be at least 0 and at most 4294967295"):
        suites.training_seed(seed)


def test_no_split_gives_more_seeds_than_it_has():
    for ask in (lambda: suites.seeds("test", 10**9 + 1), lambda: suites.tuning_seeds(10**6 + 1)):
        with pytest.raises(InputError, match="kept apart from those of other splits"):
            ask()


def test_whatever_changes_a_job_changes_its_key():
    jobs = [protocol().jobs()[1]]
    jobs += [replace(jobs[0], agent=jobs[0].agent | {"target_share": 0.5}), replace(jobs[0], train_seed=1)]
    jobs += [replace(jobs[0], scenario=jobs[0].scenario | {"episode_s": 300}), replace(jobs[0], eval_seeds=9)]
    assert len({job.key for job in jobs}) == 5


def left(folder, score):
    """What a training leaves."""
    folder.mkdir(parents=True)
    (folder / "best.zip").write_text("a network")
    return Trained(folder / "best.zip", (Validation(16, score, score),))


def test_a_learner_trains_validates_and_is_tested_on_three_splits(tmp_path, monkeypatch):
    """Of VMs and of seeds; playing and training are replaced, the bookkeeping is not."""
    played = []

    class NoEpisodes:
        goodput = np.zeros(1)

        @staticmethod
        def rows():
            return []

    def play(scenario, policy, seeds, watch=None, agent=None):
        played.append((scenario.workload.split, seeds[0]))
        return NoEpisodes

    def learn(trainer, task):
        played.append((task.scenarios[0].workload.split, task.first_seed))
        task.validate(make_policy(load_group("agent", "stock")))
        return left(task.folder, 0.0)

    monkeypatch.setattr(jobs, "rollout", play)
    monkeypatch.setattr(
        training, "goodput", lambda scenario, policy, seeds, agent: play(scenario, policy, seeds).goodput
    )
    monkeypatch.setattr(jobs, "policy_of", lambda config: make_policy(load_group("agent", "stock")))
    monkeypatch.setattr(jobs.Recorder, "timeline", lambda recorder: Timeline(*np.zeros((3, 1, 1)), 1.0))
    monkeypatch.setattr(ppo.PPOTrainer, "train", learn)
    traced = load("idle-giants").to_dict() | {"workload": {"kind": "bitbrains", "path": "somewhere"}}
    jobs.run_job(Job(TINY_PPO, traced, 3, eval_seeds=2, validation_seeds=2), tmp_path)
    assert played == [("train", 3_000_000), ("validation", 1_000_000_000), ("test", 2_000_000_000)]


def test_a_scenario_that_tells_nothing_apart_is_left_out_of_the_score(played):
    _, done = played
    flat = [
        replace(d, rows=[row | {"goodput": 0.9 + 9e-3 * (d.job.agent["name"] == "reference")} for row in d.rows])
        if d.job.scenario["name"] == "idle-giants-short"
        else d
        for d in done
    ]
    summary = summarise(protocol(), tabulate(protocol(), flat))
    assert summary["not_scored"] == {"reference": ["idle-giants-short"]}
    assert summary["agents"]["proxmox"]["scenarios"]["idle-giants-short"]["score"] is None


def test_a_bound_that_loses_is_not_called_equal(played):
    done = [one for one in played[1] if one.job.agent["name"] != "proxmox"]
    lost = [
        replace(d, rows=[row | {"goodput": -10.0} for row in d.rows]) if d.job.agent["name"] == "reference" else d
        for d in done
    ]
    with pytest.raises(InputError, match=r"no reference gains 0\.01 of goodput over stock in any scenario"):
        tabulate(protocol(("stock", "reference")), lost)


def test_other_code_or_other_traces_are_another_study(tmp_path):
    ours, theirs = (replace(protocol(), sources={"code": code}) for code in ("one", "two"))
    assert ours.hash != theirs.hash
    run_study(ours, tmp_path, 1)
    with pytest.raises(InputError, match=r"made by other code of hvgym than this one .there 'one', asked 'two'"):
        run_study(theirs, tmp_path, 1)
    assert read_study(tmp_path)[0].hash == ours.hash


def test_sources_are_known_by_content(tmp_path):
    (tmp_path / "1.csv").write_text("a")
    scenarios = [{"workload": {"kind": "bitbrains", "path": str(tmp_path)}}]
    before = sources(scenarios)
    assert sources(scenarios) == before
    (tmp_path / "1.csv").write_text("b")
    after = sources(scenarios)
    assert after["code"] == before["code"]
    assert after[f"traces {tmp_path}"] != before[f"traces {tmp_path}"]
