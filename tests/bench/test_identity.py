"""Which rows an edit of the package makes out of date: code by agent, of a copy of the package that is edited."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

import hvgym
from hvgym.bench.identity import PACKAGE, code_of, inside_files, package_code, sources
from hvgym.envs.scenario import load, load_group

NAMES = (
    "stock", "proxmox", "proxmox_ksmtuned", "cheapest_pages", "learned_sizes", "learned_full", "es", "es_full", "ppo", "reference",
    "hyperv_like", "esx",
)  # fmt: skip

EDITS = {
    "nothing": ("agents/baselines/fresh.py", set()),
    "a rule that another builds on": (
        "agents/proactive/cheapest_pages.py",
        {"cheapest_pages", "learned_full", "es_full"},
    ),
    "weights": ("agents/learned/learned_full.json", {"learned_sizes", "learned_full"}),
    "a learner": ("agents/learned/ppo.py", {"es", "es_full", "ppo"}),
    "what is learnt with": ("agents/learned/linear.py", {"learned_sizes", "learned_full", "es", "es_full", "ppo"}),
    "a part": ("agents/hypervisors/ksmtuned.py", {"proxmox_ksmtuned"}),
    "a part's configuration": ("conf/agent/ksmtuned.yaml", {"proxmox_ksmtuned"}),
    "a search": ("agents/clairvoyant/search.py", {"reference"}),
    "a module that a sibling imports": ("agents/hypervisors/esx.py", {"esx", "hyperv_like", "stock of esxi"}),
    "the model": ("envs/model/tick.py", {"all"}),
    "the rollout": ("bench/rollout.py", {"all"}),
    "what agents share": ("agents/policy.py", {"all"}),
}
"""By what is edited: the file, and whose rows are out of date then; "all": the code that everybody shares."""

SCRIPT = """
    import json, sys
    from pathlib import Path
    from hvgym.bench import identity
    from hvgym.envs.scenario import load, load_group

    names, edits = json.loads(sys.argv[1])

    def codes():
        found = {name: identity.code_of(load_group("agent", name)) for name in names}
        both = identity.sources([load("idle-giants").to_dict() | {"hypervisor": {"stock": "esxi6"}}])
        return found | {"all": both["code"], "stock of esxi": both["stock esxi6"], "package": identity.package_code()}

    told = {}
    for what, name in edits.items():
        before, path = codes(), Path(identity.PACKAGE) / name
        kept = path.read_bytes() if path.exists() else None
        path.write_bytes((kept or b"") + b"\\n" + (b"" if path.suffix == ".json" else b"# edited\\n"))
        after = codes()
        told[what] = [who for who in before if before[who] != after[who]]
        path.unlink() if kept is None else path.write_bytes(kept)
        assert codes() == before
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """By edit: whose code it changes."""
    copy = tmp_path_factory.mktemp("copy") / "hvgym"
    for name in ("agents", "bench", "conf", "envs"):
        shutil.copytree(PACKAGE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(hvgym.__file__, copy)
    edits = {what: file for what, (file, _) in EDITS.items()}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), json.dumps([NAMES, edits])], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}, cwd=copy.parent, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_makes_the_rows_out_of_date_that_come_from_it_and_no_others(told, what):
    of_package = {"package"} if not EDITS[what][0].startswith("conf/") else set()
    assert set(told[what]) - {"package"} == EDITS[what][1]
    assert set(told[what]) & {"package"} == of_package  # other machines are to have all of it


def test_the_network_that_a_training_begins_with_is_part_of_its_learner(tmp_path):
    """By content; the path alone would take another network for the same."""
    start, ppo = tmp_path / "best.zip", load_group("agent", "ppo")
    begun = ppo | {"train": ppo["train"] | {"start": str(start)}}
    found = [code_of(begun)]
    for content in (b"one", b"two"):
        start.write_bytes(content)
        found.append(code_of(begun))
    assert len(set(found)) == 3
    assert found[0] == code_of(ppo)
    assert code_of(begun | {"checkpoint": "trained.zip"}) == found[0]  # it is trained, and begins no more


def test_every_agent_of_the_package_has_code_of_its_own():
    """Also where the package is a checkout, whose folders lie apart."""
    names = [path.stem for path in (PACKAGE / "conf" / "agent").glob("*.yaml")]
    assert len(names) > 100
    assert not [name for name in names if not code_of(load_group("agent", name))]


def test_what_agents_share_is_nobodys_own():
    own = inside_files(load_group("agent", "proxmox"))
    assert set(own) == {"hvgym.agents.hypervisors", "hvgym.agents.hypervisors.proxmox"}
    assert code_of(load_group("agent", "proxmox")) == code_of(load_group("agent", "proxmox_tuned"))
    assert sources([load("idle-giants").to_dict()])["code"] != package_code()
