"""Stacks as they are shipped: published figures, and what each watcher does, look by look."""

import math
import re

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.migration_rules import STACKS, MigrationRules, from_dict, named
from hvgym.envs.model import convergence, migration, params
from hvgym.envs.model.convergence import ABORTED, POSTCOPY, PRECOPY, RUNNING, STOPPED

GIB = 4.0


class Watched:
    """A copy in pre-copy that a stack's watcher looks at; the test says what it sees."""

    def __init__(self, stack, **changes):
        self.rules = from_dict({"like": stack, **changes}).row()
        self.copy = params.zeros((1,), migration.COPY)[0]
        vm, spec = params.zeros((1,), params.VM)[0], params.zeros((1,), params.VM_SPEC)[0]
        spec["memory_mib"] = 1024.0 * GIB
        migration.begin(self.copy, vm, spec, self.rules)
        self.copy["phase"] = PRECOPY
        self.copy["known_mib"] = 1e6

    def look(self, *, left_mib=100.0, at_round=1, at_s=0.0):
        """What the watcher has set after this look: the downtime limit in ms, or None where it gave up."""
        self.copy["left_mib"] = 0.0
        self.copy["left_mib"][0], self.copy["other_left_mib"] = left_mib, 0.0
        self.copy["round"], self.copy["elapsed_s"] = at_round, at_s
        convergence.look(self.copy, self.rules, GIB)
        if self.copy["result"] == ABORTED:
            return None
        return round(1e3 * float(self.copy["downtime_limit_s"]), 6)


def test_qemu_as_it_is_shipped():
    row = named("qemu").row()
    assert row["bandwidth_mib_per_s"] == 128.0
    assert row["downtime_limit_s"] == 0.3
    assert row["throttle_most"] == 0.0  # auto-converge is off
    assert (row["throttle_trigger"], row["throttle_first"], row["throttle_step"]) == (0.5, 0.2, 0.1)
    assert row["postcopy_mib_per_s"] >= 1e15  # unlimited
    assert row["poll_s"] == 0.0


def test_proxmox_doubles_the_downtime_when_more_was_left_than_before_in_more_than_five_looks():
    watched = Watched("proxmox")
    limits = [watched.look(left_mib=left) for left in (50, 60, 55, 65, 60, 70, 65, 75, 70, 80, 75, 85, 80)]
    assert limits[:11] == [100.0] * 11  # five of them grew
    assert limits[11:] == [200.0, 200.0]
    assert [watched.look(left_mib=100.0 + i) for i in range(6)] == [200.0] * 5 + [400.0]


def test_proxmox_stops_doubling_at_two_thousand_seconds():
    limits_ms = [limit_ms for _, limit_ms in named("proxmox").schedule]
    assert limits_ms[:3] == [200.0, 400.0, 800.0]
    assert limits_ms[-2:] == [1_638_400.0, 2_000_000.0]


def test_nova_ramps_in_ten_steps_of_75_s_per_gib_to_500_ms():
    watched = Watched("nova")
    limits = {at_s: watched.look(at_s=at_s) for at_s in (0.0, 295.0, 300.0, 595.0, 600.0, 1500.0)}
    assert limits == {0.0: 50.0, 295.0: 50.0, 300.0: 95.0, 595.0: 95.0, 600.0: 140.0, 1500.0: 185.0}  # a step a look
    assert [limit_ms for _, limit_ms in named("nova").schedule] == [50.0 + 45.0 * i for i in range(1, 11)]


def test_nova_gives_up_after_800_s_per_gib():
    watched = Watched("nova")
    assert watched.look(at_s=800.0 * GIB) == 95.0
    assert watched.look(at_s=800.0 * GIB + 5.0) is None


def test_nova_takes_a_small_vm_for_one_of_two_gib():
    watched = Watched("nova")
    watched.copy["elapsed_s"] = 149.0
    convergence.look(watched.copy, watched.rules, 0.5)
    assert watched.copy["downtime_limit_s"] == pytest.approx(0.05)
    watched.copy["elapsed_s"] = 150.0
    convergence.look(watched.copy, watched.rules, 0.5)
    assert watched.copy["downtime_limit_s"] == pytest.approx(0.095)


def test_ovirt_minimal_downtime_by_iteration():
    watched = Watched("ovirt_minimal_downtime")
    limits = [watched.look(at_round=i, at_s=10.0 * i) for i in range(1, 9)]
    assert limits == [100.0, 150.0, 200.0, 300.0, 400.0, 400.0, 500.0, None]


def test_ovirt_acts_once_per_look_that_sees_a_new_iteration():
    watched = Watched("ovirt_minimal_downtime")
    assert [watched.look(at_round=i) for i in (1, 30, 30, 30, 31)] == [100.0, 150.0, 150.0, 150.0, 200.0]


def test_ovirt_suspend_workload_goes_on_to_five_seconds():
    watched = Watched("ovirt_suspend_workload")
    assert [watched.look(at_round=i) for i in range(1, 10)] == [100, 150, 200, 300, 400, 400, 500, 5000, None]


def test_ovirt_post_copy_begins_after_its_third_downtime():
    watched = Watched("ovirt_postcopy")
    assert [watched.look(at_round=i) for i in (1, 2, 3)] == [100.0, 150.0, 200.0]
    assert watched.copy["phase"] == PRECOPY
    watched.look(at_round=4)
    assert watched.copy["phase"] == POSTCOPY
    assert watched.copy["result"] == RUNNING


def test_kubevirt_gives_up_after_150_s_per_gib():
    watched = Watched("kubevirt")
    looks = [watched.look(left_mib=100.0 - i % 2, at_s=float(i)) for i in range(1, 602)]
    assert looks.index(None) == 600  # at 601 s


def test_kubevirt_takes_each_new_round_for_progress():
    """QUIRK: what is left is compared with the last look, so a saw-tooth that never gets anywhere counts as progress."""
    quirk, lowest = Watched("kubevirt"), Watched("kubevirt", progress_since="lowest")
    saw = [100.0 - 10.0 * (i % 8) for i in range(400)]
    assert None not in [quirk.look(left_mib=left, at_s=float(i)) for i, left in enumerate(saw)]
    looks = [lowest.look(left_mib=left, at_s=float(i)) for i, left in enumerate(saw)]
    assert looks.index(None) == 7 + 151  # the lowest was at 7 s


def test_kubevirt_gives_up_when_nothing_moves():
    watched = Watched("kubevirt")
    looks = [watched.look(left_mib=100.0, at_s=float(i)) for i in range(200)]
    assert looks.index(None) == 151


@pytest.mark.parametrize(("answer", "phase"), [("postcopy", POSTCOPY), ("stop", STOPPED)])
def test_a_time_out_may_move_or_stop_the_vm_instead(answer, phase):
    watched = Watched("kubevirt", on_timeout=answer)
    watched.look(at_s=601.0)
    assert watched.copy["phase"] == phase
    assert watched.copy["result"] == RUNNING


def test_xen_stops_after_five_rounds_or_at_fifty_pages():
    row = named("xen").row()
    assert row["most_rounds"] == 5
    assert row["stop_below_mib"] * params.PAGES_PER_MIB == 50.0


def test_how_many_copies_go_at_once():
    assert {
        name: (rules.parallel_out, rules.parallel_in, rules.parallel_per_cluster) for name, rules in STACKS.items()
    } == {
        "qemu": (None, None, None),
        "proxmox": (4, None, None),
        "nova": (1, None, None),
        "ovirt_minimal_downtime": (2, 2, None),
        "ovirt_suspend_workload": (1, 1, None),
        "ovirt_postcopy": (2, 2, None),
        "kubevirt": (2, None, 5),
        "esxi": (None, None, None),
        "hyperv": (2, 2, None),
        "xen": (None, None, 3),
    }
    assert [name for name, rules in STACKS.items() if rules.vmotion_pools] == ["esxi"]


def test_watchers_look_in_the_middle_of_seconds():
    """KubeVirt's every 0.4 s: at 0.8 s of a link without room it has seen no progress for 0.4 s."""
    watched = Watched("kubevirt", progress_timeout_s=0.3)
    vm, spec = params.zeros((1,), params.VM)[0], params.zeros((1,), params.VM_SPEC)[0]
    spec["memory_mib"] = spec["kernel_mib"] = 1024.0
    migration.begin(watched.copy, vm, spec, watched.rules)
    migration.advance(watched.copy, vm, spec, watched.rules, 0.0)
    assert watched.copy["result"] == ABORTED
    assert watched.copy["elapsed_s"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"like": "qemo"}, "did you mean 'qemu'"),
        ({"bandwith_mib_per_s": 1.0}, "did you mean 'bandwidth_mib_per_s'"),
        ({"bandwidth_mib_per_s": 0.0}, "migration.bandwidth_mib_per_s=0.0: must be above 0"),
        ({"timeout_s_per_gib": 10.0}, "poll_s=None: timeout_s_per_gib needs a watcher"),
        ({"poll_s": 1.0, "schedule": [[1.0, 1.0]] * 17}, "17 steps; at most 16"),
        ({"throttle_most_share": 1.0}, "throttle_most_share=1.0: must be"),
    ],
)
def test_wrong_rules_are_named(data, words):
    with pytest.raises(InputError, match=re.escape(words)):
        from_dict({"name": "mine", **data})


def test_every_stack_becomes_a_record():
    for rules in STACKS.values():
        assert isinstance(rules, MigrationRules)
        assert all(math.isfinite(value) for value in rules.row().item()[2:] if isinstance(value, float))
