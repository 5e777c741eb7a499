"""What a user types: help, lists, results, and errors on one line with exit code 2."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from hvgym.scripts import cli
from tests.scripts.calling import COMMAND, hvgym

pytestmark = pytest.mark.usefixtures("no_pictures")

VERBS = (
    "list",
    "describe",
    "demo",
    "import",
    "train",
    "evaluate",
    "bench",
    "capacity",
    "status",
    "compare",
    "report",
    "validate",
    "replay",
    "lab",
    "ui",
)


def test_help_and_lists():
    text = hvgym("--help").stdout
    assert all(verb in text for verb in VERBS)
    listed = hvgym("list").stdout
    assert all(name in listed for name in ("proxmox", "idle-giants", "quick", "esxi", "bitbrains"))
    assert "proxmox" not in hvgym("list", "scenarios").stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_shows_its_keys(verb):
    text = hvgym(verb, "--help").stdout
    assert f"hvgym {verb}" in text
    assert "Traceback" not in text


def test_every_verb_shows_its_configuration_without_running(tmp_path):
    assert "suite:" in hvgym("bench", "--cfg", "job", cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["bench", "--help"]])
def test_nothing_heavy_is_imported_for_help_and_lists(arguments):
    code = (
        "import sys; from hvgym.scripts.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = {'numba', 'torch', 'mlflow', 'stable_baselines3', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benhc"], "'benhc' is no verb (did you mean 'bench'?)"),
        (
            ["bench", "suite=quik"],
            "suite='quik': unknown (did you mean 'quick'?); known: cluster, full, hypervisors, micro",
        ),
        (["bench", "suit=quick"], "suit: unknown key (did you mean 'suite'?)"),
        (["bench", "agents=[proxmx]"], "agent='proxmx': unknown (did you mean 'proxmox'?)"),
        (["bench", "agents=[static,static]"], "expected a list of names, none twice"),
        (["bench", "suite.eval_seeds=1"], "suite.eval_seeds=1: must be at least 2"),
        (["bench", "tracking=mlflo"], "tracking.uri='mlflo': choose none, local"),
        (["bench", "study=../x"], "study='../x': use letters"),
        (["bench", "workers=0"], "workers=0: expected a whole number, at least 1"),
        (["bench", "workload=bitbrains"], "workload.path=DIR"),
        (["bench", "workload=bitbrains", "workload.path=/nowhere", "tracking=none"], "/nowhere"),
        (
            ["bench", "hypervisor=xem"],
            "hypervisor='xem': unknown (did you mean 'xen'?); known: baremetal, esxi, hyperv, kvm, ",
        ),
        (["evaluate", "agent=proxmox", "agent.target_share=high"], "agent.target_share='high': expected a number"),
        (["evaluate", "agent=ppo"], "agent.checkpoint is missing"),
        (
            ["evaluate", "scenario=tight-hdd", "scenario.host.overcommit=-2"],
            "scenario.host.overcommit=-2: must be above 0",
        ),
        (["evaluate", "seeds=0"], "seeds=0: expected a whole number"),
        (["train", "agent=proxmox"], "agent=proxmox: does not learn"),
        (["train", "agent.train.envs=0"], "agent.train.envs=0: must be at least 1"),
        (["list", "agnets"], "what='agnets': choose one of"),
        (["report", "nothing"], "study='nothing': not found"),
        (["ui"], "no mlflow.db there yet"),
        (["describe", "seed=x"], "seed='x': expected a whole number, at least 0"),
        (["describe", "scenario=null"], "scenario=null: expected a name; known: "),
        (["describe", "scenario.host.overcomit=3"], "unknown key (did you mean 'overcommit'?)"),
        (["describe", "scenario.host.ram_mib=3"], "+scenario.host.ram_mib=VALUE"),
        (["describe", "workload.path=/x"], "choose workload=NAME first; known: bitbrains, generated, history"),
        (["evaluate", "seeds=true"], "seeds=True: expected a whole number"),
        (["demo", "speed=-1"], "speed=-1: expected a number, at least 0"),
        (["demo", "seconds=soon"], "seconds='soon': expected a number"),
        (["train", "validation_seeds=0"], "validation_seeds=0: expected a whole number"),
        (["train", "agent=es", "suite=micro", "scenario=idle-giants"], "suite=: stands beside scenario="),
        (["bench", "-m", "suite=micro", "--cfg", "job"], "Only one of --run, --multirun, --cfg"),
        (["bench", "suite=micro", "suite.scenarios=[idle-giants,idle-giants]"], "expected names, none twice"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".html", ".json", ".jsonl")] == []


def test_evaluate_prints_figures_and_writes_rows(tmp_path):
    done = hvgym("evaluate", "agent=proxmox", "suite=micro", "seeds=2", "out=rows.csv", cwd=tmp_path)
    assert "idle-giants-short" in done.stdout
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["eval_seed"] for row in rows] == ["2000000000", "2000000001"] * 2


def test_describe_says_what_a_scenario_is(tmp_path):
    text = hvgym("describe", "scenario=tight-hdd", "hypervisor=virtualbox", cwd=tmp_path).stdout
    assert "2000 random reads/s" in text
    assert "Type 2" in text
    assert text.count("web") >= 2


def test_demo_draws_the_host(tmp_path):
    text = hvgym("demo", "scenario=idle-giants-short", "speed=0", "seconds=60", cwd=tmp_path).stdout
    assert "goodput so far" in text
    assert "giant" in text
    assert "balloon" in text


TRAIN = (
    "train",
    "scenario=no-guest-swap-short",
    "agent.train.total_steps=2000",
    "agent.train.envs=8",
    "agent.train.validations=2",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training, what it printed, and where its best model is."""
    folder = tmp_path_factory.mktemp("trained")
    text = hvgym(*TRAIN, cwd=folder).stdout
    return folder, text, folder / text.strip().splitlines()[-1].removeprefix("best model: ")


def test_train_prints_a_curve_resumes_and_its_model_plays(trained):
    folder, first, model = trained
    assert first.count("validation goodput") == 2
    assert hvgym(*TRAIN, cwd=folder).stdout.count("validation goodput") == 0  # nothing left to do
    text = hvgym(
        "evaluate", "agent=ppo", f"agent.checkpoint={model}", "scenario=no-guest-swap-short", "seeds=1", cwd=folder
    ).stdout
    assert "no-guest" in text


def rows_of(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_multirun_leaves_one_table_below_runs_whose_rows_say_what_was_swept(tmp_path):
    runs = "My Runs (2026), \u00e4"
    words = (
        "agent=static,proxmox",
        "scenario=no-guest-swap-short,idle-giants-short",
        "scenario.host.overcommit=1.4,1.5",
    )
    text = hvgym("evaluate", "-m", *words, "seeds=1", f"runs={runs}", cwd=tmp_path).stdout
    assert [path.name for path in tmp_path.iterdir()] == [runs]
    (file,) = (tmp_path / runs / "evaluate").glob("*.csv")
    rows = rows_of(file)
    assert len({(row["agent"], row["scenario"], row["changed"]) for row in rows}) == len(rows) == 8
    assert {row["changed"] for row in rows} == {"scenario.host.overcommit=1.4", "scenario.host.overcommit=1.5"}
    table = [line for line in text.splitlines() if line.startswith(" ") and "scenario.host.overcommit=1.4" in line]
    assert len(table) == 4
    assert text.rstrip().endswith(str(file))


def test_a_job_of_a_multirun_that_fails_is_told_and_the_others_are_played(tmp_path):
    words = ("-m", "agent=apple,static", "scenario=no-guest-swap-short", "rules=default", "seeds=1")
    done = hvgym("evaluate", *words, cwd=tmp_path, code=2)
    first, last = done.stderr.splitlines()
    assert first.startswith("hvgym: agent=apple scenario=no-guest-swap-short rules=default seeds=1: agent apple, ")
    assert last == "hvgym: one job of the sweep failed, as told above; the others are finished"
    (file,) = (tmp_path / "runs" / "evaluate").glob("*.csv")
    assert [row["agent"] for row in rows_of(file)] == ["static"]


def test_rows_of_other_commands_stay_and_the_same_command_replaces_its_own(tmp_path):
    words = ("evaluate", "scenario=[no-guest-swap-short,idle-giants-short]", "seeds=1", "out=rows.csv")
    hvgym(*words, "agent=proxmox", cwd=tmp_path)
    first = (tmp_path / "rows.csv").read_text()
    hvgym(*words, "agent=proxmox", "agent.target_share=0.9", cwd=tmp_path)
    assert [(row["agent"], row["changed"]) for row in rows_of(tmp_path / "rows.csv")] == [
        *[("proxmox", "")] * 2,
        *[("proxmox", "agent.target_share=0.9")] * 2,
    ]
    hvgym(*words, "agent=proxmox", cwd=tmp_path)
    rows = (tmp_path / "rows.csv").read_text()
    assert len(rows.splitlines()) == 5
    assert set(first.splitlines()) <= set(rows.splitlines())


def test_bench_takes_scenarios_in_place_of_the_suites(tmp_path):
    words = ("bench", "suite=micro", "suite.eval_seeds=2", "agents=[proxmox]", "tracking=none", "workers=1")
    hvgym(*words, "scenario=no-guest-swap-short", "scenario.host.overcommit=1.6", "study=one", cwd=tmp_path)
    hvgym(*words, "scenario=[no-guest-swap-short,idle-giants-short]", "study=two", cwd=tmp_path)
    one, two = (rows_of(tmp_path / "runs" / "studies" / study / "results.csv") for study in ("one", "two"))
    assert {row["scenario"] for row in one} == {"no-guest-swap-short"}
    assert {row["scenario"] for row in two} == {"no-guest-swap-short", "idle-giants-short"}
    assert {row["eval_seed"] for row in one} == {"2000000000", "2000000001"}


def test_a_users_folder_adds_a_scenario(tmp_path):
    (tmp_path / "mine" / "scenario").mkdir(parents=True)
    from hvgym.envs.scenario import group_files

    text = group_files("scenario")["no-guest-swap-short"].read_text().replace("no-guest-swap-short", "my-host")
    (tmp_path / "mine" / "scenario" / "my-host.yaml").write_text(text)
    done = hvgym("evaluate", "scenario=my-host", "seeds=1", "--config-dir", "mine", cwd=tmp_path)
    assert "my-host" in done.stdout


def test_a_users_file_is_meant_by_every_verb_where_the_package_has_its_name(tmp_path):
    """Some compose it by Hydra, others read it themselves: one agent or a list, one scenario or a suite."""
    from hvgym.envs.scenario import group_files

    for group, name, old, new in (
        ("agent", "best_constant", "share: 0.5", "share: 0.9"),
        ("scenario", "no-guest-swap-short", "episode_s: 600", "episode_s: 300"),
    ):
        (tmp_path / "mine" / group).mkdir(parents=True)
        text = group_files(group)[name].read_text()
        assert text.count(old) == 1
        (tmp_path / "mine" / group / f"{name}.yaml").write_text(text.replace(old, new))

    def rows(*words):
        hvgym("evaluate", "seeds=1", "out=rows.csv", *words, cwd=tmp_path)
        *_, row = csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())  # evaluate adds
        return {key: value for key, value in row.items() if key not in ("wall_s", "changed")}

    one, scenario = "agent=best_constant", "scenario=no-guest-swap-short"
    packaged, by_keys = rows(one, scenario), rows(one, "agent.share=0.9", scenario, "scenario.episode_s=300")
    for words in ((one, scenario), (one, "scenario=[no-guest-swap-short]")):
        assert rows(*words, "--config-dir", "mine") == by_keys != packaged
    assert "\n5 min, " in hvgym("describe", scenario, "--config-dir", "mine", cwd=tmp_path).stdout


def test_options_may_stand_between_words(tmp_path):
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    (tmp_path / "mine" / "agent" / "ours.yaml").write_text("name: ours\ndescription: of our own\n")
    assert "of our own" in hvgym("list", "agents", "--config-dir", "mine", cwd=tmp_path).stdout
    assert "of our own" in hvgym("list", "--config-dir", "mine", "what=agents", cwd=tmp_path).stdout


@pytest.fixture
def own_agents(tmp_path, monkeypatch):
    """A user's module with a policy that fails and its YAML; broken YAML beside it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ours.py").write_text(
        "from hvgym.agents.policy import Policy\nclass Failing(Policy):\n    def decide(self, telemetry):\n"
        "        raise RuntimeError('out of ideas')\n"
    )
    folder = tmp_path / "mine" / "agent"
    folder.mkdir(parents=True)
    (folder / "failing.yaml").write_text("name: failing\n_target_: ours.Failing\n")
    (folder / "nameless.yaml").write_text("_target_: ours.Failing\n")
    (folder / "broken.yaml").write_text("name: [broken\n")
    return tmp_path


@pytest.mark.parametrize(
    ("agent", "message", "code"),
    [
        (
            "failing",
            "agent failing, scenario no-guest-swap-short, seeds 2000000000 to 2000000007, second 0: RuntimeError",
            2,
        ),
        ("nameless", "agent.name=None: expected text", 2),
        ("broken", "broken.yaml", 2),
    ],
)
def test_a_users_agent_that_is_wrong_ends_in_one_line(own_agents, agent, message, code):
    words = ("evaluate", f"agent={agent}", "scenario=no-guest-swap-short", "--config-dir", "mine")
    done = hvgym(*words, cwd=own_agents, code=code)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    if agent == "failing":
        assert "ours.py:4" in done.stderr
        assert "Traceback" in hvgym(*words, cwd=own_agents, code=code, HYDRA_FULL_ERROR="1").stderr


def test_a_study_names_the_job_whose_agent_fails_and_goes_on_without_that_agent(own_agents):
    words = (
        "bench",
        "suite=micro",
        "suite.eval_seeds=2",
        "study=s",
        "tracking=none",
        "workers=1",
        "--config-dir",
        "mine",
    )
    done = hvgym(*words, "agents=[static,failing]", cwd=own_agents, code=2)
    assert "failing on " in done.stderr
    assert "out of ideas" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "failing" not in hvgym(*words, "agents=[proxmox]", cwd=own_agents).stdout


def test_a_folder_that_cannot_be_written_ends_in_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file")
    done = hvgym("bench", "suite=micro", "tracking=none", cwd=tmp_path, code=1)
    assert "Not a directory" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["list"], ["describe"], ["--help"]])
def test_a_reader_that_leaves_is_no_failure(words, tmp_path):
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.fixture
def server(tmp_path):
    """``hvgym ui`` on a free port, once it answers; its process and port."""
    from hvgym.bench.recording import open_store

    open_store(tmp_path / "runs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [*COMMAND, "ui", f"port={port}", f"runs={tmp_path / 'runs'}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port), 120)
    yield process, port
    process.kill()
    process.wait()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_ui_says_that_its_port_is_in_use_and_ends_on_sigterm(server, tmp_path):
    process, port = server
    done = hvgym("ui", f"port={port}", f"runs={tmp_path / 'runs'}", code=2)
    assert done.stderr == f"hvgym: port={port} is in use; choose port=N\n"
    process.terminate()
    assert process.wait(30) == 0
    assert not answers(port)


def test_the_server_ends_when_hvgym_ui_is_killed(server):
    process, port = server
    process.kill()
    wait_until(lambda: not answers(port), 30)


def test_nothing_is_cut_off_at_80_columns(tmp_path):
    words = ("bench", "suite=micro", "suite.eval_seeds=2", "tracking=none", "workers=1")
    assert "\N{HORIZONTAL ELLIPSIS}" not in hvgym(*words, cwd=tmp_path, COLUMNS="80").stdout
    for words in (("describe",), ("demo", "speed=0", "seconds=20")):
        assert "\N{HORIZONTAL ELLIPSIS}" not in hvgym(*words, cwd=tmp_path, COLUMNS="80").stdout


def test_dropped_rows_of_a_trace_are_reported_by_describe(tmp_path):
    import pathlib

    traces = pathlib.Path(__file__).resolve().parents[3] / "shared" / "traces" / "bitbrains_rnd_2013-8"
    if not traces.exists():
        pytest.skip("the public trace files are not beside this checkout")
    import gzip

    for file in sorted(traces.glob("*.csv.gz"))[:4]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = gzip.decompress(file.read_bytes()).decode().splitlines()
    text[100] = "abc;def"
    (tmp_path / file.name).write_bytes(gzip.compress("\n".join(text).encode()))
    words = ("describe", "scenario=no-guest-swap-short", "workload=bitbrains", f"workload.path={tmp_path}")
    assert f"{file.name}: {len(text) - 1} rows, 1 bad rows" in hvgym(*words, cwd=tmp_path).stdout


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_study_in_one_line_and_marks_it(tmp_path, told):
    from hvgym.bench.recording import open_store

    words = ["bench", "suite=micro", "suite.eval_seeds=2000", "study=s", "workers=2"]
    open_store(tmp_path / "runs")  # to make it takes the command seconds
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
                          text=True, start_new_session=True) as process:  # fmt: skip
        assert "study s" in process.stdout.readline()
        time.sleep(3)
        (os.killpg if told == signal.SIGINT else os.kill)(
            process.pid, told
        )  # a terminal tells the whole group, systemd one
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "hvgym: interrupted; the same command goes on where this one stopped\n"

    client = open_store(tmp_path / "runs")
    runs = client.search_runs([client.get_experiment_by_name("hvgym/s").experiment_id])
    assert "RUNNING" not in {run.info.status for run in runs}


def test_bench_evaluates_a_named_checkpoint_instead_of_training(trained, tmp_path):
    scenario = ["suite.scenarios=[no-guest-swap-short]", "suite.eval_seeds=2", "agents=[ppo]"]
    shutil.copytree(trained[2].parent, tmp_path / "net")
    command = ["bench", "suite=micro", *scenario, "workers=1", "study=named", "checkpoints={ppo:net/best.zip}"]
    text = hvgym(*command, cwd=tmp_path).stdout
    assert "ppo on no-guest-swap-short" in text
    kept = [file for file in (tmp_path / "runs" / "studies" / "named" / "models").rglob("*") if file.is_file()]
    assert [file.read_bytes() for file in kept] == [
        (tmp_path / "net" / "best.zip").read_bytes()
    ]  # a copy, none of its own
    (tmp_path / "net" / "best.zip").write_bytes(b"another network")
    assert "not a best.zip as hvgym train writes it" in hvgym(*command, cwd=tmp_path, code=2).stderr
    missing = hvgym("bench", "suite=micro", "agents=[ppo]", "checkpoints={ppo:none.zip}", cwd=tmp_path, code=2)
    assert "checkpoints.ppo=none.zip: no such file" in missing.stderr


def test_a_server_that_ends_by_itself_says_with_which_code():
    """Its keeper waits for this process in a thread, which must not stand in the way."""
    from hvgym.scripts import ui

    assert ui._serve([sys.executable, "-c", "import sys; sys.exit(3)"], "", lambda ended: None) == 3


def test_rows_of_evaluate_know_the_code_that_made_them(tmp_path):
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    (tmp_path / "mine" / "agent" / "ours.yaml").write_text("name: ours\n_target_: ours.Ours\n")
    words = ["evaluate", "agent=ours", "scenario=no-guest-swap-short", "out=o.csv", "--config-dir", "mine"]
    for share, seeds in ((0.9, 3), (0.6, 2)):
        (tmp_path / "mine" / "agent" / "ours.py").write_text(
            "from hvgym.agents.policy import Policy\nfrom hvgym.envs.telemetry import Targets\nclass Ours(Policy):\n"
            f"    def decide(self, telemetry):\n        return Targets(telemetry.vm['memory_mib'] * {share})\n"
        )
        hvgym(*words, f"seeds={seeds}", cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert len(rows) == 5
    assert len({row["code"] for row in rows}) == 2
