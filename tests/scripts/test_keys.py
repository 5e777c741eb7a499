"""What --help shows is what a verb heeds, and no other verb's groups stand in it."""

import pytest

from hvgym.envs.scenario import group_files
from hvgym.scripts import cli, keys
from hvgym.scripts.words import TEXTS, prepared


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


BESIDE = {"lab": {"bench": "device=nic", "java": "jvm=h2", "offered_per_s": "device=nic", "duration_s": "schedule=[[0,512]]"},
          "report": {"tracking": "study=x"}}  # fmt: skip
"""Words without which a key is refused as one that the experiment does not heed."""

CHECKED = [
    (verb, key)
    for verb in cli.VERBS
    for key in leaves(keys.verb(verb).keys)
    if key not in TEXTS and (verb, key) != ("list", "what")
]


@pytest.mark.parametrize(("verb", "key"), CHECKED)
def test_every_key_that_help_shows_is_heeded(verb, key, tmp_path, monkeypatch, capsys):
    """A value of no possible kind is refused with the key's name; a key that nobody reads would pass."""
    monkeypatch.chdir(tmp_path)
    beside = BESIDE.get(verb, {}).get(key.partition(".")[0])
    assert cli.main([verb, *([beside] if beside else []), f"{key}={{no: sense}}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert key.rpartition(".")[2] in error
    assert "no" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_shows_the_verbs_own_groups_and_keys_with_a_word_each(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    spec = keys.verb(verb)
    assert all(f"\n  {group}=" in text for group in spec.groups)
    assert all(f"  {key}:" in text for key in spec.keys)
    assert text.startswith(f"hvgym {verb}: ")
    assert "proxmox_tuned" not in text  # more names than fit are counted
    for other in set(keys.groups()) - set(spec.groups):
        assert f"\n  {other}=" not in text
    for line in spec.key_lines:
        if line and not line.startswith((" ", "guest", "zipf_exponent", "#")):
            assert "#" in line, line


def test_help_lists_a_users_own_names(tmp_path, capsys):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "ours.yaml").write_text(group_files("suite")["micro"].read_text())
    assert cli.main(["bench", "--help", "--config-dir", str(tmp_path)]) == 0
    assert "suite=quick: cluster, full, hypervisors, micro, ours, quick, standard" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("runs=My Traces (2013)", "My Traces (2013)"),
        ("runs=/data/\u00e4\u00f6\u00fc, b", "/data/\u00e4\u00f6\u00fc, b"),
        ("runs=a=b", "a=b"),
        ("runs=[x]", "[x]"),
        ("runs={a:1}", "{a:1}"),
        ("runs=it's", "it's"),
        ("runs=x\\", "x\\"),
        ("runs='quoted (x)'", "quoted (x)"),
        ("runs=escaped\\ \\(x\\)", "escaped (x)"),
        ("runs=2013", "2013"),
        ("runs=007", "007"),
        ("runs=1e3", "1e3"),
        ("runs=true", "true"),
        ("runs=/plain/path", "/plain/path"),
        ("runs=~/x", "/home/me/x"),
        ("runs=a,b", "a,b"),
        ("study=\u00e4", "\u00e4"),
        ("workload.path=/data/My Traces (2013)", "/data/My Traces (2013)"),
    ],
)
def test_paths_and_names_reach_the_verb_as_they_were_typed(word, value, monkeypatch):
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    monkeypatch.setenv("HOME", "/home/me")
    words = prepared("bench", ["workload=bitbrains", word], False, [])
    with initialize_config_module("hvgym.conf", version_base="1.3"):
        assert str(OmegaConf.select(compose("bench", words), word.partition("=")[0])) == value


def test_in_a_multirun_commas_separate_values(monkeypatch):
    assert prepared("bench", ["study=a,b", "runs=x y"], True, []) == ["study=a,b", "runs=x y"]


def test_workers_of_a_launcher_may_register_hydras_own_source_again(tmp_path):
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.sources_registry import SourcesRegistry

    from hvgym.scripts.files import CheckedFiles, check_files

    check_files()
    SourcesRegistry.instance().register(FileConfigSource)
    assert SourcesRegistry.instance().resolve("file") is CheckedFiles
