"""``hvgym ui``: the right page of the right study in the view that is meant for it, and who may reach it."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zlib

import pytest

from hvgym.bench import store, views
from hvgym.bench.recording import Experiment
from hvgym.envs.errors import InputError
from hvgym.scripts import cli, ui

SCORES = {"esx": 0.61, "proxmox": 0.42, "stock": 0.0}


def state(tag):
    """What a view's tag says."""
    return json.loads(zlib.decompress(base64.b64decode(tag.removeprefix("deflate;"))))


def test_a_study_is_shown_with_its_agents_best_first_in_columns_that_are_there():
    shown = state(views.tags_of(views.of_study(()))[views.TAG])
    assert (shown["orderByKey"], shown["orderByAsc"]) == ("metrics.`score`", False)
    assert shown["selectedColumns"][:3] == ["tags.`kind`", "tags.`seat`", "metrics.`score`"]
    assert shown["columnOrder"] == shown["selectedColumns"] == list(shown["columnWidths"])
    places = {section["uuid"] for section in shown["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} <= places
    assert len({chart["uuid"] for chart in shown["compareRunCharts"]}) == len(shown["compareRunCharts"])


def test_the_keys_of_a_sweep_are_columns_and_axes_and_any_number_of_them_fits():
    shown = state(views.tags_of(views.of_study(["hypervisor", "rules"]))[views.TAG])
    (axes,) = [chart for chart in shown["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert axes["selectedParams"] == ["hypervisor", "rules"]
    assert axes["selectedMetrics"][-1] == "score"
    assert "params.`hypervisor`" in shown["selectedColumns"]
    many = views.tags_of(views.of_study([f"agent.train.{os.urandom(30).hex()}" for _ in range(40)]))
    assert max(map(len, many.values())) <= 5000  # MLflow's limit


@pytest.mark.parametrize(
    ("host", "allowed", "names"),
    [
        ("127.0.0.1", [], []),
        ("localhost", [], []),
        ("::1", [], []),
        ("192.168.7.7", [], ["192.168.7.7"]),
        ("fd00::7", [], ["[fd00::7]"]),
        ("0.0.0.0", ["lab.example.org"], ["lab.example.org"]),
        ("127.0.0.1", ["lab.example.org"], ["lab.example.org"]),  # behind a proxy
    ],
)
def test_names_by_which_others_reach_it(host, allowed, names):
    assert ui._names(host, allowed) == names


def test_on_every_network_it_goes_by_the_machines_own_name():
    assert socket.gethostname() in ui._names("0.0.0.0", [])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("study=s", "study='s': not in"),
        ("host=null", "host=null: expected an address"),
        ("host=nowhere.invalid", "host=nowhere.invalid: no such address"),
        ("allowed_hosts=[a:80]", "allowed_hosts=['a:80']: expected names or addresses without a port"),
        ("allowed_hosts=['a,b']", "allowed_hosts=['a,b']: expected names"),
        ("open=perhaps", "open='perhaps': expected true or false"),
    ],
)
def test_wrong_words(word, message, recorded, capsys):
    assert cli.main(["ui", word, f"runs={recorded}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store with two studies, one recorded after the other."""
    runs = tmp_path_factory.mktemp("ui") / "runs"
    for number, name in enumerate(("older", "newer")):
        experiment = Experiment(runs, name)
        experiment.open(views.of_study(()))
        for agent, score in SCORES.items():
            start = 1_700_000_000_000 + 1_000_000 * number
            tags = {"stage": "agent", "kind": "heuristic", "seat": "inside"}
            agent_run = experiment.create(agent, tags, start)
            experiment.client.log_metric(agent_run, "score", score)
            job = experiment.create(f"{agent} on x", {"stage": "job"}, start, agent_run)
            experiment.client.log_metric(job, "score", score)
            experiment.close(job, start + 1000)
            experiment.close(agent_run, start + 1000)
    return runs


def test_the_newest_study_is_the_one_that_was_recorded_last(recorded):
    database = recorded / "mlflow.db"
    newest = store.experiment(database, None)
    assert newest == store.experiment(database, "newer")
    assert newest != store.experiment(database, "older")
    with pytest.raises(
        InputError, match=r"study='newr': not in .*mlflow.db \(did you mean 'newer'\?\); the newest there: newer, "
    ):
        store.experiment(database, "newr")


@pytest.fixture(scope="module")
def served(recorded):
    """What ``hvgym ui`` says, and its address without the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hvgym.scripts.cli", "ui", f"port={port}", f"runs={recorded}", "host=0.0.0.0",
               "allowed_hosts=[lab.example.org]", "open=false"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        yield said, f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert "there is no login" in process.stderr.read()
        assert process.wait(30) == 0


def ask(url, data=None, **headers):
    """Status and text of an answer."""
    headers = {"Content-Type": "application/json"} | headers
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_prints_the_page_of_the_newest_study_under_the_name_that_others_use(served, recorded):
    said, address = served
    number, port = store.experiment(recorded / "mlflow.db", None), address.rpartition(":")[2]
    assert said.startswith(
        f"MLflow UI on http://lab.example.org:{port}/#/experiments/{number}/runs?workflowType=machine_learning"
    )


def test_others_reach_it_by_the_allowed_names_only(served):
    address, port = served[1], served[1].rpartition(":")[2]
    search = f"{address}/ajax-api/2.0/mlflow/experiments/search"
    for host, status in ((f"lab.example.org:{port}", 200), ("lab.example.org", 200), (f"evil.example.org:{port}", 403)):
        found, _ = ask(search, b'{"max_results": 5}', Host=host, Origin=f"http://{host}")
        assert found == status
    assert ask(search, b'{"max_results": 5}', Origin="http://evil.example.org")[0] == 403


def test_artifacts_of_others_come_through_the_server(served, recorded, tmp_path):
    experiment = Experiment(tmp_path, "of-others", served[1])
    experiment.open(views.of_study(()))
    run = experiment.create("r", {}, 1_600_000_000_000)
    experiment.text(run, "word", "a.txt")
    assert list((recorded / "artifacts").rglob("a.txt"))
    assert list(tmp_path.rglob("a.txt")) == []
    with pytest.raises(InputError, match=r"hvgym/of-others was recorded through a server, .*; give tracking.uri="):
        Experiment(recorded, "of-others").open(views.of_study(()))
    shutil.move(recorded / "artifacts" / "older", tmp_path)  # as if the server were on another machine
    with pytest.raises(
        InputError, match=r"hvgym/older was recorded on the server's machine, in files that are not here"
    ):
        Experiment(tmp_path, "older", served[1]).open(views.of_study(()))
    shutil.move(tmp_path / "older", recorded / "artifacts")


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")
def test_a_browser_shows_the_agents_best_first_and_neither_assistant_nor_jobs(served):
    """As MLflow's program draws it; a version of MLflow that keeps its views elsewhere fails here."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1440,900",
               "--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"]  # fmt: skip
    with tempfile.TemporaryDirectory() as profile:
        command = [
            CHROMIUM,
            *options,
            f"--user-data-dir={profile}",
            "--timeout=20000",
            "--virtual-time-budget=20000",
            served[1],
        ]
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    places = [text.find(f">{agent}<") for agent in sorted(SCORES, key=SCORES.__getitem__, reverse=True)]
    assert -1 < places[0] < places[1] < places[2]
    assert " on x<" not in text
    assert "Ask a question" not in text  # of the assistant
    assert text.count(">heuristic<") >= len(SCORES)  # a column that MLflow does not show by itself
