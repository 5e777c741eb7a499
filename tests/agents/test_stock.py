"""The hypervisor as shipped beneath other policies: where it runs on, where it is replaced, and what it then does to the bit."""

import numpy as np
import pytest

from hvgym.agents.baselines.static import Static
from hvgym.agents.policy import Policy, make_policy
from hvgym.agents.stock import beneath
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario, group_files, load_group, resolve
from hvgym.envs.telemetry import Targets

SHIPPED = {
    "esxi": "esxi6", "hyperv": "hyperv_like", "xen": "squeezed", "workstation": "workstation_trim",
    "kvm": None, "virtualbox": None, "baremetal": None,
}  # fmt: skip

SEEDS = [3, 4]


def on(hypervisor, rules="default", **changes):
    data = resolve(
        load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor), rules=rules
    ).to_dict()
    return Scenario.from_dict(data | changes)


def named(agent):
    return make_policy(load_group("agent", agent))


def rows(scenario, policy):
    return rollout(scenario, policy, SEEDS).rows()


@pytest.mark.parametrize("hypervisor", sorted(group_files("hypervisor")))
def test_stock_alone_is_the_hypervisors_own_policy_and_nothing_where_it_ships_none(hypervisor):
    own, scenario = SHIPPED[hypervisor], on(hypervisor)
    stock = rows(scenario, named("stock"))
    assert stock == rows(scenario, named(own or "static"))
    if own not in (None, "squeezed"):  # which leaves sizes alone here but for a few MiB
        assert stock != rows(scenario, named("static"))


@pytest.mark.parametrize("rules", ["default", "open"])
def test_policies_from_inside_and_those_that_set_what_it_sets_replace_it(rules):
    esxi, xen, kvm = (on(hypervisor, rules) for hypervisor in ("esxi", "xen", "kvm"))
    outside = Declaration("outside", ("disk_shares",), frozenset())
    assert type(beneath(esxi, outside)).__name__ == "Esxi"
    assert beneath(esxi, Declaration("inside", (), frozenset())) is None
    assert beneath(esxi, Declaration("outside", ("disk_shares", "memory_mib"))) is None
    assert type(beneath(xen, Declaration("outside", ("admit",)))).__name__ == "Squeezed"
    assert beneath(xen, Declaration("outside")) is None  # of memory sizes
    assert beneath(kvm, outside) is None


def test_all_that_a_seat_has_counts_as_set():
    everything = Declaration("outside", None, frozenset())
    assert beneath(on("esxi"), everything) is not None  # shares and starts
    assert beneath(on("esxi", "open"), everything) is None
    assert beneath(on("xen"), everything) is None


def test_on_xen_a_program_that_sets_sizes_has_them_to_itself():
    """Of a quarter of memory that it takes, squeezed would give back what fits."""
    xen = on("xen", host={"overcommit": 0.9})

    class Outside(Static):
        declaration = Declaration("outside", ("memory_mib",), frozenset({"memory_mib"}))

        def decide(self, telemetry):
            return Targets(0.75 * telemetry.vm["memory_mib"])

    seen = []

    def watch(telemetry, sim):
        seen.append(sim.vms["asked_mib"][0] / sim.vm_specs["memory_mib"][0])

    rollout(xen, Outside(), [1], watch)
    assert (np.array(seen) == 0.75).all()
    seen.clear()
    rollout(xen, named("stock"), [1], watch)
    assert not (np.array(seen) == 0.75).any()


class Shares(Policy):
    """The same shares of the disk for all, from outside, at its own pace."""

    declaration = Declaration("outside", ("disk_shares",), frozenset({"memory_mib"}))

    def __init__(self, period_s=20.0):
        self.period_s, self.asked = period_s, 0

    def decide(self, telemetry):
        self.asked += 1
        assert np.isnan(telemetry.vm["size_mib"]).all()  # its own view, not that of the policy beneath
        return Targets(disk_shares=np.full(telemetry.vm.shape, 100.0))


@pytest.mark.parametrize("rules", ["default", "open"])
def test_beside_a_policy_of_disk_shares_it_does_what_it_does_alone_where_the_disk_is_idle(rules):
    """VMs that had been ballooned get their memory back, nothing swaps, so shares of the disk change no bit."""
    vms = on("esxi").to_dict()["vms"]
    vms = [vm | {"settled_mib": 0.9 * vm["memory_mib"]} for vm in vms]
    esxi = on("esxi", rules, vms=vms, host={"overcommit": 0.8}, episode_s=600)
    moved = {"alone": [], "beneath": []}
    for name, policy in (("alone", named("stock")), ("beneath", Shares() if rules == "default" else OpenShares())):
        rollout(
            esxi, policy, [1], lambda telemetry, sim, name=name: moved[name].append(sim.vms["balloon_moved_mib"].copy())
        )
    np.testing.assert_array_equal(moved["alone"], moved["beneath"])
    np.testing.assert_allclose(
        moved["alone"][-1][0], [0.1 * vm["memory_mib"] for vm in vms for _ in range(vm["count"])]
    )


class OpenShares(Shares):
    """The same where everybody reads everything."""

    def decide(self, telemetry):
        return Targets(disk_shares=np.full(telemetry.vm.shape, 100.0))


def test_each_keeps_its_own_period():
    policy, esxi, seconds = Shares(70.0), on("esxi", episode_s=600), []
    decide = type(named("esxi6")).decide
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(named("esxi6")), "decide", lambda own, seen: seconds.append(seen.time_s[0]) or decide(own, seen)
        )
        rollout(esxi, policy, [1])
    assert policy.asked == 9  # at 0, 70, ... 560
    assert seconds == list(range(600))  # esxi6 looks each second


def test_it_sees_what_it_declares_and_what_it_answers_is_its_own():
    """Under default rules the reading of the policy beneath has its own signals, not those of the one above."""
    seen = []
    decide = type(named("esxi6")).decide
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(named("esxi6")), "decide", lambda own, reading: seen.append(reading) or decide(own, reading))
        rollout(on("esxi", episode_s=60), Shares(), [1])
    assert not np.isnan(seen[0].vm["active_share"]).any()
    assert np.isnan(seen[0].vm["disk_mib"]).all()


def test_under_open_rules_an_answer_on_its_channel_is_told_to_declare_it():
    class Sizes(OpenShares):
        def decide(self, telemetry):
            return Targets(telemetry.vm["memory_mib"])

    said = r"second 0: targets.memory_mib: esxi6 runs on beneath and sets it; declare it in channels to take its place"
    with pytest.raises(InputError, match=said):
        rollout(on("esxi", "open"), Sizes(), [1])


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        ("esxi7", r"hypervisor.stock='esxi7': .*did you mean 'esxi6'"),
        ("reference", r"hypervisor.stock='reference': sees the hidden state"),
        ("proxmox", r"agent proxmox, scenario idle-giants-short: needs a balloon target, which esxi has inside only"),
    ],
)
def test_a_profile_that_names_what_cannot_run_there_is_told_so(stock, said):
    profile = load_group("hypervisor", "esxi") | {"stock": stock}
    scenario = resolve(load_group("scenario", "idle-giants-short"), profile, rules="default")
    with pytest.raises(InputError, match=said):
        rollout(scenario, named("stock"), [1])
