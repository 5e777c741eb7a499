"""A word that is wrong ends in one line that says what is right, with exit code 2, before anything is written."""

import shlex

import pytest

from hvgym.scripts import cli, words

STATIC = "_target_: hvgym.agents.baselines.static.Static\n"

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A "billion laughs": nine lines that stand for a thousand million words."""

AGENTS = {
    "broken": b"name: [broken\n",
    "tab": b"name:\n\t- x\n",
    "twice": f"name: twice\n{STATIC}name: other\n".encode(),
    "latin": "name: latin\ndescription: f\u00fcr\n".encode("latin-1"),
    "empty": b"",
    "listy": b"- a\n",
    "bomb": BOMB.encode(),
    "nasty": f"name: ../../x\n{STATIC}".encode(),
    "badtarget": b"name: badtarget\n_target_: os.system\n",
}


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with a user's own agents, some of them broken; the line that it printed."""
    agents = tmp_path / "mine" / "agent"
    agents.mkdir(parents=True)
    for name, content in AGENTS.items():
        (agents / f"{name}.yaml").write_bytes(content)
    (agents / "folder.yaml").mkdir()
    (agents / "other.yml").write_text(f"name: other\n{STATIC}")
    (tmp_path / "one-too-deep" / "agents").mkdir(parents=True)
    for folder in ("ends", "verbs"):
        (tmp_path / folder / "agent").mkdir(parents=True)
    (tmp_path / "ends" / "agent" / "stock.yaml").write_text("name: stock\n")
    (tmp_path / "verbs" / "bench.yaml").write_text("suite: mine\n")
    (tmp_path / "afile").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)

    def run(command):
        code = cli.main(shlex.split(command))
        error = capsys.readouterr().err
        assert (code, error.count("\n"), "Traceback" in error) == (2, 1, False), error
        assert sorted(tmp_path.rglob("*")) == before
        return error.removeprefix("hvgym: ").rstrip("\n")

    return run


@pytest.mark.parametrize(
    ("command", "message"),
    [
        # words
        ("evaluate agent=static scenario=no-guest-swap-short +agent.needs=foo", "agent.needs='foo': expected arrivals, or to"),
        ("bnech", "'bnech' is no verb (did you mean 'bench'?)"),
        ("bench suite", "'suite': expected suite=VALUE, without spaces around ="),
        ("bench quick", "'quick': expected KEY=VALUE; suite=quick is meant?"),
        ("bench suite = quick", "'suite': expected suite=VALUE, without spaces"),
        ("bench ''", "'': expected KEY=VALUE; hvgym bench --help shows the keys"),
        ("bench =3", "'=3': expected KEY=VALUE"),
        ("bench 'my key=3'", "my key: unknown key"),
        ("bench gr\u00f6\u00dfe=3", "gr\u00f6\u00dfe: unknown key"),
        ("bench foo=3", "foo: unknown key"),
        ("bench +foo=3", "foo: unknown key"),
        ("bench ++agnets=[x]", "agnets: unknown key (did you mean 'agents'?)"),
        ("bench jvm=h2", "jvm: unknown key; hvgym bench heeds no jvm"),
        ("bench agent=proxmox", "agent: unknown key (did you mean 'agents'?); hvgym bench heeds no agent"),
        ("bench ~study", "~study: bench needs its key study; leave the word out for the default"),
        ("bench study.x=3", "study.x: study is a single value; study=VALUE sets it"),
        ("list agents scenarios", "agents scenarios: one what at a time"),
        ("list agents=3", "agents: unknown key"),
        ("ui agents=[x]", "agents: unknown key"),
        ("describe scenario.vms[0].memory_mib=3", "scenario.vms[0].memory_mib: write scenario.vms.0.memory_mib"),
        ("describe scenario.gr\u00f6\u00dfe=3", "scenario.gr\u00f6\u00dfe: unknown key"),
        # options
        ("bench --foo", "--foo: no such option; hvgym bench --help shows keys and options"),
        ("bench --suite=micro", "--suite=micro: no such option; suite=micro, without dashes"),
        ("bench --cfg jobs", "argument --cfg/-c: invalid choice: 'jobs'"),
        ("bench --config-dir", "argument --config-dir/-cd: expected one argument"),
        ("bench --config-dir nowhere", "--config-dir=nowhere: no such folder"),
        ("bench --config-dir afile", "--config-dir=afile: not a folder"),
        ("bench --config-dir one-too-deep", "--config-dir=one-too-deep: holds none of the folders agent, disk, "),
        ("bench --config-dir mine/agent", "; give "),
        ("bench --config-dir mine --config-dir mine", "--config-dir is there 2 times"),
        ("bench --config-dir ends", "agent/stock.yaml: scores are measured by stock; give yours another name"),
        ("bench --config-dir verbs", "bench.yaml has the name of the verb; put agent, "),
        ("ui -m port=1,2", "-m: ui has nothing to sweep over"),
        # choices
        ("bench suite=", "suite=: expected a name; known: cluster, full, hypervisors, micro, quick, standard"),
        ("bench suite=null", "suite=null: expected a name; known: cluster, full, hypervisors, micro"),
        ("bench suite=quick suite=micro", "suite=quick suite=micro: one suite at a time"),
        ("bench suite=quick,micro", "suite=quick,micro: one at a time; with -m each is played"),
        ("bench suite=[quick,micro]", "suite=[quick,micro]: one suite at a time; hvgym bench -m suite=quick,micro takes each"),
        ("bench scenario=cache-hog", "scenario='cache-hog': unknown (did you mean 'cache-hogs'?)"),
        ("bench scenario=[cache-hogs,nope]", "scenario='nope': unknown"),
        ("bench scenario=[cache-hogs,cache-hogs]", "scenarios=['cache-hogs', 'cache-hogs']: expected a list of names, none twice"),
        ("bench scenarios=cache-hogs", "scenarios='cache-hogs': expected a list of names"),
        ("bench scenarios=[cache-hogs] scenario=idle-giants", "scenario=idle-giants: stands beside scenarios=cache-hogs"),
        ("describe 'scenario=idle giants'", "scenario='idle giants': unknown (did you mean 'idle-giants'?)"),
        ("describe scenario=mine/my.yaml", "expected a name, not a file; put it into FOLDER/scenario/ and give scenario=my"),
        ("describe scenario=[a]", "scenario='a': unknown"),
        ("describe scenario=[cache-hogs,idle-giants]", "hvgym describe -m scenario=cache-hogs,idle-giants describes each"),
        ("demo scenario=[cache-hogs,idle-giants]", "hvgym demo -m scenario=cache-hogs,idle-giants shows one after the other"),
        ("evaluate agent=[static,proxmox]", "hvgym evaluate -m agent=static,proxmox takes each; hvgym bench agents=["),
        ("evaluate agent=null", "agent=null: expected a name"),
        ("evaluate agent={name:x}", "agent='{name:x}': unknown"),
        # values
        ("bench agents=[proxmox", "agent='[proxmox': unknown"),
        ("bench agents=proxmox,esx", "agents=proxmox,esx: several values; -m plays each, agents=[...] is a list"),
        ("bench agents=[]", "agents=[]: expected a list of names"),
        ("bench checkpoints={ppo:/nowhere}", "checkpoints.ppo=/nowhere: no such file"),
        ("bench study=\u00e4", "study='\u00e4': use letters, digits, '.', '_' and '-'"),
        ("bench 'study=a b'", "study='a b': use letters"),
        ("bench workers=1.5", "workers=1.5: expected a whole number, at least 1"),
        ("bench suite.eval_seeds=1e309", "suite.eval_seeds=inf: expected a whole number"),
        ("bench suite.foo=3", "suite.foo: unknown key"),
        ("bench +suite.foo=3", "suite.foo: unknown key"),
        ("evaluate seeds=100000000000000000000000000", "expected a whole number, at least 1 and at most 10,000"),
        (f"evaluate seeds={'9' * 5000}", "expected a whole number"),
        ("evaluate scenario.host.overcommit=nan", "scenario.host.overcommit=nan: expected a number"),
        ("evaluate scenario.host.overcommit=2x", "scenario.host.overcommit='2x': expected a number"),
        (f"evaluate scenario.host.overcommit=1{'0' * 400}", "expected a number"),
        ("evaluate scenario.host.overcommit=", "scenario.host.overcommit='': expected a number"),
        ("evaluate +scenario.episode_s=1e9", "do not fit into memory; at most 20,000,000 steps x VMs"),
        ("evaluate scenario.vms.0.memory_mib=8GB", "memory_mib='8GB': expected a number"),
        ("evaluate scenario.vms={a:1}", "scenario.vms={a:1}: of another kind than what is there (Cannot merge"),
        ("evaluate agent.name=../../x", "agent.name='../../x': use letters"),
        ("evaluate out=mine", "mine: not a file; name a CSV file"),
        ("evaluate out=afile", "afile: holds something else than rows of hvgym evaluate; name another file"),
        ("evaluate 'seeds=${nope}'", "'nope' not found (a value with ${...} refers to another key)"),
        ("describe 'seed=(3'", "seed='(3': expected a whole number"),
        ("describe seed=3,4", "seed=3,4: several values; -m plays each"),
        ("evaluate agent=proxmox agent.max_chang_mib=3", "not set by the chosen agent (did you mean 'max_change_mib'?)"),
        ("train agent=ppo agent.train.total_step=9", "not set by the chosen agent (did you mean 'total_steps'?)"),
        ("train agent=ppo agent.checkpoint=x.zip", "agent.checkpoint='x.zip': is what plays; a training begins with a"),
        ("train agent=ppo out=afile", "out=afile: is a file; a training lives in a folder"),
        ("train agent=es agent.shield=true", "agent.shield=true: a training has none; give it where the policy plays"),
        ("train seed=5000000000", "seed=5000000000: expected a whole number, at least 0 and at most 4,294,967,295"),
        ("train validation_seeds=null", "validation_seeds=null: expected a whole number"),
        ("tune trials=1", "trials=1: expected a whole number, at least 2"),
        ("tune out=x", "out=x: must be a folder named agent"),
        ("tune study=a/b", "study='a/b': use letters"),
        ("bench stop=soon", "stop='soon': choose decided, or leave it out"),
        ("bench stop=decided", "max_seeds=null: expected a whole number, the evaluation seeds at which stop=decided ends"),
        ("bench max_seeds=64", "max_seeds=64: is of stop=decided; give that, too"),
        ("bench to=proxmox", "to=proxmox: is of stop=decided; give that, too"),
        ("bench stop=decided max_seeds=1", "max_seeds=1: expected a whole number, at least 2"),
        ("bench stop=decided max_seeds=8", "max_seeds=8: must be more than the 8 evaluation seeds of the first look"),
        ("bench stop=decided max_seeds=64 to=proxmx", "to='proxmx': does not play"),
        ("compare", "studies is missing; hvgym compare STUDY [STUDY ...]"),
        ("compare nothing", "study='nothing': not found"),
        ("compare 'not there' other", "study='not there': not found"),
        ("compare s studies=[t]", "s studies=[t]: studies are there twice; give them as words alone"),
        ("compare s -m", "-m: compare has nothing to sweep over"),
        ("compare s out=table.pdf", "table.pdf: expected a file that ends in .tex, .md or .csv"),
        ("compare s margin=-1", "margin=-1: expected a number, at least 0"),
        ("compare s agents=[a,a]", "expected a list of names, none twice"),
        ("ui port=70000", "port=70000: expected a whole number, at least 1 and at most 65,535"),
        ("lab guest=3", "guest: expected a group of keys, got 3"),
        ("lab guest={a:1}", "guest.a: unknown key"),
        ("lab levels=[1.1,0.9", "levels='[1.1,0.9': expected a list"),
        ("lab guest.memory_mib=1e309", "memory_mib=inf: expected a number"),
        # Hydra's own
        ("bench -m hydra/launcher=joblib", "hydra/launcher=joblib: its package is missing; pip install hydra-joblib-launcher"),
        ("bench -m hydra/launcher=ray", "pip install 'hvgym[ray]', then pip install --no-deps hydra-ray-launcher"),
        ("bench -m hydra/launcher=submitit_local", "pip install hydra-submitit-launcher"),
        ("bench -m hydra/sweeper=optuna", "pip install hydra-optuna-sweeper"),
        ("bench -m hydra/launcher=joblb", "hydra/launcher='joblb': unknown; known: basic"),
        ("bench hydra.foo=3", "hydra.foo: unknown key"),
        # files
        ("evaluate agent=broken --config-dir mine", "broken.yaml:2:1: not valid YAML: expected ',' or ']'"),
        ("evaluate agent=tab --config-dir mine", "indent with spaces, not tabs"),
        ("evaluate agent=twice --config-dir mine", "twice.yaml:3: name is there twice, first in line 1; keep one"),
        ("evaluate agent=latin --config-dir mine", "latin.yaml:2: byte 0xfc is not UTF-8; save the file as UTF-8"),
        ("evaluate agent=empty --config-dir mine", "empty.yaml: expected keys and values, as in name: x; it is empty"),
        ("evaluate agent=listy --config-dir mine", "listy.yaml: expected keys and values"),
        ("evaluate agent=bomb --config-dir mine", "aliases stand for 100,000 values or more"),
        ("bench agents=[bomb] --config-dir mine", "aliases stand for 100,000 values or more"),
        ("bench agents=[folder] --config-dir mine", "folder.yaml: cannot be read (Is a directory)"),
        ("evaluate agent=other --config-dir mine", "other.yml to other.yaml"),
        ("bench agents=[nasty] --config-dir mine", "agent.name='../../x': use letters"),
        ("evaluate agent=badtarget --config-dir=mine", "_target_='os.system' is not a Policy"),
    ],
)  # fmt: skip
def test_a_wrong_word_ends_in_one_line_that_says_what_is_right(said, command, message):
    line = said(command)
    assert message in line
    assert len(line) < 900


def test_a_choice_that_reads_as_a_number_is_a_name():
    assert [words._name(name) for name in ("2013", "inf", "true", "idle-giants", "null")] == [
        "'2013'", "'inf'", "'true'", "idle-giants", "null",
    ]  # fmt: skip


def test_a_name_with_an_equals_sign_is_a_name_where_no_key_can_be(said):
    """Studies of a sweep are called so."""
    for verb in ("report", "status", "validate", "compare"):
        line = said(f"{verb} stacks-hypervisor=kvm")
        assert "stacks-hypervisor=kvm" in line
        assert "unknown key" not in line
    assert "unknown key" in said("report studdy=a")
