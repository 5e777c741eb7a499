"""What a user types: help, lists, results, and errors on one line with exit code 2."""

import csv
import subprocess
import sys

import pytest

VERBS = ("list", "describe", "demo", "train", "evaluate", "bench", "report", "ui")


def hvgym(*arguments, cwd=None, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "hvgym.scripts.cli", *arguments], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done


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
        (["bench", "suite=quik"], "Could not find 'suite/quik'"),
        (["bench", "suit=quick"], "suit: unknown key (did you mean 'suite'?)"),
        (["bench", "agents=[proxmx]"], "agent='proxmx': unknown (did you mean 'proxmox'?)"),
        (["bench", "agents=[static,static]"], "expected a list of names, none twice"),
        (["bench", "suite.eval_seeds=1"], "suite.eval_seeds=1: must be at least 2"),
        (["bench", "tracking=mlflo"], "tracking='mlflo': choose one of mlflow, none"),
        (["bench", "study=../x"], "study='../x': use letters"),
        (["bench", "workers=0"], "workers=0: expected a whole number, at least 1"),
        (["bench", "workload=bitbrains"], "workload.path=DIR"),
        (["bench", "workload=bitbrains", "workload.path=/nowhere", "tracking=none"], "/nowhere"),
        (["bench", "hypervisor=xen"], "Could not find 'hypervisor/xen'"),
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
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(arguments, message, tmp_path):
    done = hvgym(*arguments, cwd=tmp_path, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".html", ".json")] == []


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


def test_train_prints_a_curve_resumes_and_its_model_plays(tmp_path):
    command = [
        "train",
        "scenario=no-guest-swap-short",
        "agent.train.total_steps=2000",
        "agent.train.envs=8",
        "agent.train.validations=2",
    ]
    first = hvgym(*command, cwd=tmp_path)
    model = first.stdout.strip().splitlines()[-1].removeprefix("best model: ")
    assert first.stdout.count("validation goodput") == 2
    assert hvgym(*command, cwd=tmp_path).stdout.count("validation goodput") == 0  # nothing left to do
    text = hvgym(
        "evaluate", "agent=ppo", f"agent.checkpoint={model}", "scenario=no-guest-swap-short", "seeds=1", cwd=tmp_path
    ).stdout
    assert "no-guest" in text


def test_multirun_plays_every_combination(tmp_path):
    text = hvgym(
        "evaluate", "-m", "agent=static,proxmox", "scenario=no-guest-swap-short", "seeds=1", cwd=tmp_path
    ).stdout
    assert "static, 1 test seeds" in text
    assert "proxmox, 1 test seeds" in text


def test_a_users_folder_adds_a_scenario(tmp_path):
    (tmp_path / "mine" / "scenario").mkdir(parents=True)
    from hvgym.envs.scenario import group_files

    text = group_files("scenario")["no-guest-swap-short"].read_text().replace("no-guest-swap-short", "my-host")
    (tmp_path / "mine" / "scenario" / "my-host.yaml").write_text(text)
    done = hvgym("evaluate", "scenario=my-host", "seeds=1", "--config-dir", "mine", cwd=tmp_path)
    assert "my-host" in done.stdout
