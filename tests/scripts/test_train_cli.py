"""hvgym train over hypervisors and numbers of VMs, as a user types it."""

import json

from hvgym.scripts.configuration import titled
from tests.scripts.calling import hvgym

SHORT = (
    "agent=es", "scenario=idle-giants-short", "agent.train.population=4", "agent.train.seeds=1", "agent.train.validations=1",
    "agent.train.total_steps=1", "agent.train.episode_s=60", "validation_seeds=1", "tracking=none",
)  # fmt: skip


def train(*words, folder, code=0):
    return hvgym("train", *SHORT, *words, cwd=folder, code=code)


def test_one_policy_for_several_hypervisors_and_numbers_of_vms(tmp_path):
    """Bare metal has no sizes: it is left out, and said."""
    done = train("hypervisor=[esxi,xen,baremetal]", "vms=[2,3]", "rules=default", "out=there", folder=tmp_path)
    assert "idle-giants-short on baremetal is left out: needs a balloon target, which baremetal lacks" in done.stdout
    assert "es on idle-giants-short-on-esxi-xen-baremetal-2-3vms" in done.stdout
    names = [f"idle-giants-short-on-{hypervisor}-{vms}vms" for hypervisor in ("esxi", "xen") for vms in (2, 3)]
    assert json.loads((tmp_path / "there" / "best.json").read_text())["trained_on"] == names
    more = train(
        "hypervisor=[esxi,xen,baremetal]", "vms=[2,3]", "rules=default", "out=there", "agent.train.total_steps=300",
        folder=tmp_path,
    )  # fmt: skip
    assert more.stdout.count("validation goodput") == 1  # the second generation; the first was there


def test_what_leaves_nothing_to_train_on_is_refused_in_one_line(tmp_path):
    for words, said in (
        (["hypervisor=[baremetal]", "rules=default"], "hypervisor=[baremetal]: nothing is left to train on"),
        (["hypervisor=[esxi,esxy]"], "hypervisor='esxy': unknown"),
        (["vms=[0]"], "vms=0: must be at least 1"),
        (["vms=[two]"], "vms='two': expected whole numbers"),
        (["vms=[4,4]"], "vms=[4, 4]: expected a list of values, none twice"),
    ):
        done = train(*words, "out=nowhere", folder=tmp_path, code=2)
        assert said in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "nowhere").exists()


def test_names_of_many_scenarios_are_short_and_stay_apart():
    many = "-".join(f"tenants-{index}" for index in range(20))
    names = {titled(f"{many}-{vms}vms") for vms in (4, 16)}
    assert len(names) == 2
    assert max(map(len, names)) == 60
    assert titled("idle-giants-4vms") == "idle-giants-4vms"
