"""Linear maps by kind of host: which one decides, and one file of several trainings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned import by_statistics
from hvgym.agents.learned.by_statistics import KINDS, LinearByStatistics, joined
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.searched import text
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import declared_by, make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.view import REPORTED

FEW = ("idle-giants-short", 300)
DECLARED = declared_by(load_group("agent", "learned_sizes"))


def on(hypervisor, rules="default"):
    return replace(resolve(load_group("scenario", FEW[0]) | {"hypervisor": hypervisor}), episode_s=FEW[1], rules=rules)


def of(*constants):
    """Maps that grow or shrink all VMs by a constant, one a kind."""
    weights = np.zeros((len(KINDS), len(FEATURES)))
    weights[:, FEATURES.index("constant")] = constants
    policy = LinearByStatistics.of(weights.reshape(1, -1), 0.1, 10.0)
    policy.declaration = DECLARED
    return policy


def play(scenario, policy, seeds=(1,)):
    return rollout(scenario, policy, seeds, apart=False).goodput


@pytest.mark.parametrize(
    ("hypervisor", "kind"), [*zip(KINDS, KINDS, strict=True), ("workstation", "esxi"), ("virtualbox", "esxi")]
)
def test_the_map_of_its_kind_decides(hypervisor, kind):
    """Workstation's guests tell nothing; VirtualBox's two of five, which is nearer to nothing than to all."""
    policy = LinearByStatistics.of(np.random.default_rng(3).normal(size=len(LinearByStatistics.names)), 0.1, 10.0)
    policy.declaration = DECLARED
    scenario, others = on(hypervisor), [one for one in KINDS if one != kind]
    assert play(scenario, policy) == play(scenario, policy.on(kind))
    assert all(play(scenario, policy) != play(scenario, policy.on(other)) for other in others)


@pytest.mark.parametrize("hypervisor", KINDS)
def test_under_open_rules_where_guests_tell_all_its_kind_is_the_same(hypervisor):
    policies = [make_policy(load_group("agent", "learned_sizes")) for _ in range(2)]
    for policy, rules in zip(policies, ("default", "open"), strict=True):
        play(on(hypervisor, rules), policy)
    assert (policies[0].applied == policies[1].applied).all()


def test_a_lane_is_of_the_kind_of_its_own_host():
    policy = of(1.0, 2.0, 3.0, 4.0)
    first = Simulator(on("kvm"), 4).reset([1, 2, 3, 4])
    for name in REPORTED:
        first.vm[name][:] = np.nan
    first.vm["guest_swap_in_mib"][1, 0] = first.vm["guest_available_mib"][2, 1] = 5.0
    for name in REPORTED:
        first.vm[name][3] = 5.0
    policy.reset(first, 0)
    assert policy.applied[:, FEATURES.index("constant")].tolist() == [4.0, 2.0, 3.0, 1.0]


def test_no_vm_is_asked_to_go_below_a_tenth_of_its_memory_or_512_mib():
    policy, telemetry = of(-9.0, -9.0, -9.0, -9.0), Simulator(on("kvm"), 1).reset([1])
    memory = telemetry.vm["memory_mib"][0]
    telemetry.vm["min_mib"][0] = np.where(np.arange(len(memory)) == 0, 0.5 * memory, 1.0)
    telemetry.vm["target_mib"][0] = 0.12 * memory
    policy.reset(telemetry, 0)
    asked = policy.decide(telemetry).memory_mib[0]
    least = np.maximum(0.1 * memory, 512.0)
    assert asked == pytest.approx(np.where(np.arange(len(memory)) == 0, 0.5 * memory, least))
    assert (policy.on("xen").least_mib, policy.on("xen").rescues) == (512.0, True)


def test_statistics_that_come_later_count_and_those_that_stop_do_not_change_the_kind():
    policy, telemetry = of(1.0, 2.0, 3.0, 4.0), Simulator(on("kvm"), 1).reset([1])
    constant = FEATURES.index("constant")
    for name in REPORTED:
        telemetry.vm[name][:] = np.nan
    policy.reset(telemetry, 0)
    found = []
    for value in (np.nan, 7.0, np.nan):
        telemetry.vm["guest_available_mib"][0, 0] = value
        policy.decide(telemetry)
        found.append(float(policy.applied[0, constant]))
    assert found == [4.0, 3.0, 3.0]


def test_four_trainings_become_one_file(tmp_path):
    files, maps = {}, {}
    for number, kind in enumerate(KINDS):
        maps[kind] = np.arange(len(FEATURES)) + 100.0 * number
        files[kind] = tmp_path / f"{kind}.json"
        files[kind].write_text(
            text(SharedLinear.of(maps[kind], 0.2, 5.0), {"trained_on": [kind], "seed": 3, "generations": number})
        )
    by_statistics.main([str(tmp_path / "all.json"), *(f"{kind}={path}" for kind, path in files.items())])
    policy = LinearByStatistics(checkpoint=tmp_path / "all.json")
    assert all(policy.on(kind).weights[0].tolist() == maps[kind].tolist() for kind in KINDS)
    assert (policy.step, policy.period_s) == (0.2, 5.0)
    assert json.loads((tmp_path / "all.json").read_text())["generations"] == {kind: i for i, kind in enumerate(KINDS)}
    files["xen"].write_text("{}")
    with pytest.raises(InputError, match=r"xen\.json: no weights"):
        joined(files)


def test_the_packaged_weights_are_of_this_class():
    policy = make_policy(load_group("agent", "learned_sizes"))
    assert isinstance(policy, LinearByStatistics)
    assert len({policy.on(kind).weights.tobytes() for kind in KINDS}) == len(KINDS)
