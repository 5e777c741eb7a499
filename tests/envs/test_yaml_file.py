"""The strict reader of YAML: packaged files mean what they always meant, and what is broken is said with its place."""

import time

import pytest
import yaml

from hvgym.envs import yaml_file
from hvgym.envs.errors import InputError
from hvgym.scripts.keys import groups

PACKAGED = sorted(yaml_file.Path(__file__).resolve().parents[2].joinpath("conf").rglob("*.yaml"))


@pytest.mark.parametrize("file", PACKAGED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_packaged_files_mean_what_plain_yaml_reads(file):
    assert yaml_file.read(file) == yaml.safe_load(file.read_text())


def test_there_are_packaged_files_in_every_group():
    assert {file.parent.name for file in PACKAGED} >= set(groups())


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1e-3", {"a": 0.001}),
        ("a: 1.5e3", {"a": 1500.0}),
        ("a: .5", {"a": 0.5}),
        ("a: -7", {"a": -7}),
        ("a: 1_000", {"a": 1000}),
        ("a: 010", {"a": "010"}),  # not eight
        ("a: 1:30", {"a": "1:30"}),  # not ninety
        ("a: 0x10", {"a": "0x10"}),
        ("a: 2013-08-01", {"a": "2013-08-01"}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("<<: {a: 1}\nb: 2", {"a": 1, "b": 2}),
    ],
)
def test_numbers_are_decimal_and_everything_else_is_yaml(tmp_path, text, data):
    (tmp_path / "x.yaml").write_text(text)
    assert yaml_file.read(tmp_path / "x.yaml") == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml:3: a is there twice, first in line 1; keep one"),
        ("a: {b: 1, b: 2}", "x.yaml:1: b is there twice"),
        ("a: &a [*a]", "x.yaml:1: aliases stand for 100,000 values or more"),
        ("a: " + "[" * 5000, "x.yaml: nested too deeply"),
        ("a: " + "[" * 150 + "]" * 150, "x.yaml: nested too deeply; at most 100 levels"),
        ("a: " + "9" * 5000, "x.yaml: Exceeds the limit (4300 digits)"),
        ("a: !!python/object/apply:os.system [ls]", "x.yaml:1:4: not valid YAML: could not determine a constructor"),
        ("? [a, b]\n: 1", "x.yaml:1: a key must be a word"),
        ("a: 1\n---\nb: 2", "x.yaml:2:1: not valid YAML: but found another document"),
        ("x" * 2_000_000, "x.yaml: longer than 1,000,000 bytes"),
        ("a: \0", "x.yaml: not valid YAML (unacceptable character"),
    ],
)
def test_what_is_broken_is_named_with_its_place(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        yaml_file.read(tmp_path / "x.yaml")
    assert message in str(caught.value)


def test_a_billion_laughs_end_at_once(tmp_path):
    lines = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    lines += [f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 10)}]" for i in range(50)]
    (tmp_path / "x.yaml").write_text("\n".join(lines))
    began = time.monotonic()
    with pytest.raises(InputError, match="aliases stand for"):
        yaml_file.read(tmp_path / "x.yaml")
    assert time.monotonic() - began < 2.0
