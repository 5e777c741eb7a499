"""The reference within the channels of its seat."""

import numpy as np
import pytest

from hvgym.agents.clairvoyant.oracle import PLANS, Oracle
from hvgym.agents.clairvoyant.planning import HOLD, OWN, SQUEEZE
from hvgym.agents.clairvoyant.reference import Reference
from hvgym.agents.policy import ClairvoyantPolicy, make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.seats import CHANNELS
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

EVERY = range(len(PLANS))


def on(hypervisor, rules="default"):
    return resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor), rules=rules)


def hidden(scenario):
    sim = Simulator(scenario)
    sim.reset([1])
    return sim.hidden()


class Told(Reference):
    """Keeps what it was told, and answers nothing."""

    def begin(self, scenario, channels):
        self.told = (scenario.name, tuple(channels))

    def decide(self, hidden):
        assert self.told
        return Targets()


@pytest.mark.parametrize(
    ("seat", "hypervisor", "rules", "channels"),
    [
        ("inside", "esxi", "default", ("memory_mib", "scan_pages_per_s")),
        ("outside", "esxi", "default", ("admit", "disk_shares", "net_shares")),
        ("outside", "xen", "default", ("memory_mib", "admit")),
        ("inside", "baremetal", "default", ("reclaim_mib", "reclaim_age_s")),
        ("inside", "esxi", "open", tuple(CHANNELS)),
        ("outside", "esxi", "open", tuple(CHANNELS)),
    ],
)
def test_a_rollout_tells_it_the_channels_of_its_seat_before_the_first_decision(seat, hypervisor, rules, channels):
    policy = Told(seat)
    rollout(on(hypervisor, rules), policy, [1])
    assert policy.told == ("idle-giants-short", channels)


def test_the_packaged_two_sit_where_they_say():
    found = {name: make_policy(load_group("agent", name)) for name in ("reference", "reference_outside")}
    assert {name: (one.seat, one.declaration.seat) for name, one in found.items()} == {
        "reference": ("inside", "inside"), "reference_outside": ("outside", "outside"),
    }  # fmt: skip


def test_plans_and_answers_that_need_other_channels_are_dropped():
    scenario = on("esxi")
    reference = Reference()
    reference.begin(scenario, ("memory_mib", "scan_pages_per_s"))
    plans = reference.plans(hidden(scenario), EVERY)
    assert set(plans["kind"]) == {HOLD, SQUEEZE}
    assert set(plans["fills"]) == {0.0}
    assert not plans["reports"].any()
    answer = reference.decide(hidden(scenario))
    assert answer.memory_mib is not None
    assert answer.scan_pages_per_s is not None
    for name in ("reclaim_mib", "reclaim_age_s", "report_free_pages", "admit", "disk_shares", "net_shares"):
        assert getattr(answer, name) is None


def test_what_cannot_be_set_stays_as_the_hypervisor_has_it():
    """ESXi shares pages by itself, and processes on bare metal report what is free."""
    for hypervisor, channels, scans, reports in (
        ("esxi", ("memory_mib",), OWN, 0.0), ("baremetal", ("reclaim_mib", "reclaim_age_s"), OWN, 1.0),
    ):  # fmt: skip
        scenario, reference = on(hypervisor), Reference()
        reference.begin(scenario, channels)
        plans = reference.plans(hidden(scenario), EVERY)
        assert set(plans["scan_pages_per_s"]) == {scans}
        assert set(plans["reports"]) == {reports}


def test_with_every_channel_it_is_the_oracle():
    kvm = on("kvm", "open")
    assert rollout(kvm, Reference(), [1, 2]).rows() == rollout(kvm, Oracle(), [1, 2]).rows()


def test_a_clairvoyant_that_answers_on_a_channel_that_its_seat_lacks_ends_the_rollout():
    class Reclaims(ClairvoyantPolicy):
        def decide(self, hidden):
            return Targets(reclaim_mib=np.zeros(hidden.vms.shape))

    with pytest.raises(InputError, match=r"second 0: targets.reclaim_mib: esxi has no such channel inside"):
        rollout(on("esxi"), Reclaims(), [1])
    rollout(on("esxi", "open"), Reclaims(), [1])
