"""The wheel that a logged model carries: all of the code that runs, installed by pip, and enough to load the model."""

import base64
import csv
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hvgym
from hvgym.bench import store
from hvgym.bench.models import Models
from hvgym.bench.recording import Experiment
from hvgym.bench.wheel import make_wheel
from hvgym.envs.scenario import load_group


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return make_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_holds_every_file_of_the_package_and_their_digests(wheel):
    import hvgym.bench

    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    folder = Path(hvgym.bench.__file__).parent
    ours = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert {name.removeprefix("hvgym/bench/") for name in files if name.startswith("hvgym/bench/")} == ours
    assert files["hvgym/bench/wheel.py"] == (folder / "wheel.py").read_bytes()
    assert {"hvgym/__init__.py", "hvgym/py.typed", "hvgym/conf/agent/ppo.yaml"} <= files.keys()
    (record,) = [name for name in files if name.endswith("/RECORD")]
    rows = list(csv.reader(files[record].decode().splitlines()))
    assert {row[0] for row in rows} == files.keys()
    for name, digest, size in rows:
        if name != record:
            wanted = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={wanted}", len(files[name]))


def test_the_same_code_is_the_same_wheel_and_its_version_says_which(wheel, tmp_path):
    again = make_wheel(tmp_path)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
    assert re.fullmatch(rf"hvgym-{re.escape(hvgym.__version__)}\+[0-9a-f]{{8}}-py3-none-any\.whl", wheel.name)


LOAD = """
import sys, hvgym
assert hvgym.__file__.startswith(sys.argv[1]), hvgym.__file__
import mlflow
from hvgym.bench.logged import example_rows
model = mlflow.pyfunc.load_model(sys.argv[2])
print(model.predict(example_rows(4)).shape)
"""


def test_a_model_loads_with_nothing_of_hvgym_but_the_wheel_that_it_names(tmp_path):
    experiment = Experiment(tmp_path / "runs", "one")
    experiment.open({})
    run = experiment.create("proxmox", {}, 1)
    model_id = Models(experiment).log(run, "proxmox", load_group("agent", "proxmox"), (4, 4))
    place = store.path_of(experiment.client.get_logged_model(model_id).artifact_location)
    (named,) = [line for line in (place / "requirements.txt").read_text().splitlines() if "hvgym" in line]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path / "site"]
    subprocess.run([*pip, named], cwd=place, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    words = [sys.executable, "-c", LOAD, str(tmp_path / "site"), str(place)]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "(2, 4)"
