"""With how much memory a VM starts, on each hypervisor that has such a thing."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load_group
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

NAMES = ("kvm", "xen", "hyperv", "virtualbox")


def named(name, **changes):
    return build(Hypervisor, load_group("hypervisor", name) | {"disk": None, "nic": None} | changes, "hypervisor")


def vm(name="vm", memory_mib=2048.0, startup_mib=1024.0, **changes):
    given = {"guest_swap_mib": 2048.0, "kernel_cache_mib": 0.0, "mergeable_share": 0.0, "restart_s": 5.0}
    demand = Demand(**({"hot_mib": 500.0, "cpu_share": 0.1} | changes.pop("demand", {})))
    return VmGroup(name, demand, memory_mib, startup_mib=startup_mib, **(given | changes))


def start(hypervisor, *groups, **host):
    machine = Host(**({"ram_mib": 16384.0, "pcpus": 8.0} | host))
    sim = Simulator(Scenario("s", "", machine, hypervisor, groups, episode_s=10_000, control_interval_s=1))
    sim.reset([0])
    return sim


def sizes(sim):
    return (sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"])[0].tolist()


# ---- what is right


def test_two_vms_that_may_grow_large_start_with_little_and_the_second_need_not_wait():
    """Hyper-V, 16 GiB: one of 12 GiB at 10 s and one of 4 GiB at 12 s, each with 1 GiB; nobody asks for more."""
    groups = [vm("first", 12288.0, arrive_s=10.0), vm("second", 4096.0, arrive_s=12.0)]
    sim = start(named("hyperv"), *groups)
    began = {}
    for now in range(1, 121):
        sim.advance(1)
        for v in np.flatnonzero(sim.vms["admitted"][0]):
            began.setdefault(int(v), now)
            assert sizes(sim)[v] == 1024.0
    assert began == {0: 10, 1: 12}
    taken = float(sim.vm_specs["overhead_mib"].sum()) + 2.0 * 1024.0
    assert sim.hosts["free_mib"][0, 0] == pytest.approx(16384.0 - 2048.0 - taken)
    assert sim.vms["progress"][0].min() > 0.95


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arrive_s", [0.0, 3.0])
def test_a_vm_starts_with_its_starting_memory_and_stays_there(name, arrive_s):
    sim = start(named(name), vm(arrive_s=arrive_s))
    for _ in range(int(arrive_s)):
        assert sim.vms["admitted"][0, 0] == 0.0
        sim.advance(1)
    for _ in range(60):
        assert sim.vms["admitted"][0, 0] == 1.0
        assert sizes(sim) == [1024.0]
        assert sim.telemetry().vm["target_mib"][0, 0] == sim.telemetry().vm["startup_mib"][0, 0] == 1024.0
        sim.advance(1)
    assert sim.vms["progress"][0, 0] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_it_grows_when_somebody_asks(name):
    sim = start(named(name), vm())
    sim.apply(Targets(np.array([[1500.0]])))
    sim.advance(10)
    assert sizes(sim) == [pytest.approx(1500.0)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asks", [True, False])
def test_without_a_starting_memory_a_vm_that_runs_has_all_of_its_own(name, asks):
    sim = start(named(name), vm(startup_mib=None))
    if asks:
        sim.apply(Targets(np.array([[2048.0]])))
    sim.advance(10)
    assert sizes(sim) == [pytest.approx(2048.0, abs=1.0)]
    assert np.isnan(sim.telemetry().vm["startup_mib"][0, 0])


def test_a_host_that_backs_what_is_touched_has_given_only_the_kernel_when_a_vm_boots():
    """kvm: 18 MiB of kernel and the process, of which 78 MiB and 0.2 % of 2,048 are known."""
    sim = start(named("kvm"), vm())
    assert sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(18.0 + 78.0 + 0.002 * 2048.0)


def test_a_committing_host_has_given_all_of_the_starting_memory():
    sim = start(named("hyperv"), vm())
    assert sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(1024.0 + 24.0 + 0.0078 * 2048.0)


def test_growth_beyond_the_starting_memory_goes_to_the_guests_swap():
    """1,500 MiB are wanted; of 1,024 the kernel has 18 and the watermark 55: 951 stay, 549 are swapped."""
    sim = start(named("kvm"), vm(demand={"hot_mib": 1500.0}, tier_tau_s=(1e9,) * 4))
    sim.advance(60)
    missing = (sim.vms["allocated_mib"] - sim.vms["resident_mib"])[0, 0].sum()
    assert missing == pytest.approx(1500.0 - (1024.0 - 18.0 - 55.0), abs=1.0)
    assert sizes(sim) == [1024.0]


def test_without_guest_swap_it_ends_in_a_kill_by_the_guests_kernel_which_does_not_boot_anew():
    sim = start(named("kvm"), vm(demand={"hot_mib": 1500.0}, guest_swap_mib=0.0))
    sim.advance(60)
    assert sim.vms["oom_kills"][0, 0] >= 1.0
    assert sizes(sim) == [1024.0]


def test_a_vm_that_its_host_kills_starts_with_its_starting_memory_again():
    """Both have grown to 2,048 when host swap, of which there is none, is full: the larger boots anew with 1,024."""
    hypervisor = named("kvm", own_mib=256, deflate_on_oom_mib_per_s=0)
    sim = start(hypervisor, vm(), vm("other"), ram_mib=2800.0, swap_share=0.0)
    sim.apply(Targets(np.array([[2048.0, 2048.0]])))
    sim.advance(10)
    assert sizes(sim) == [2048.0, 2048.0]
    sim.demand["tier_mib"][..., 0, 0] = 1800.0
    sim.demand["tier_mib"][..., 1, 0] = 900.0
    while sim.vms["oom_kills"].sum() == 0.0:
        sim.advance(1)
    assert sizes(sim) == [1024.0, 2048.0]
    assert sim.vms["asked_mib"][0].tolist() == [1024.0, 2048.0]


def test_what_was_asked_while_it_waited_is_forgotten():
    sim = start(named("hyperv"), vm(arrive_s=5.0))
    sim.apply(Targets(np.array([[2048.0]])))
    sim.advance(10)
    assert sizes(sim) == [1024.0]


@pytest.mark.parametrize(("ram_mib", "starts"), [(2080.0, False), (2100.0, True)])
def test_smart_paging_bridges_to_the_starting_memory_of_a_vm_without_a_minimum_but_not_its_kernel(ram_mib, starts):
    """The first holds 2,048; of the rest 1 % stay free, and the other's 18 MiB of kernel must be there."""
    pages = Hypervisor("plain", 1, 0.0, 0.0, min_free_share=0.01, last_resort="commit", admission="commit",
                       startup="assigned", smart_paging=True, exit_us=0.0, nested_walks=False)  # fmt: skip
    sim = start(pages, vm("old", 2048.0, None, min_mib=2048.0), vm("new", arrive_s=3.0), ram_mib=ram_mib)
    sim.advance(5)
    assert bool(sim.vms["admitted"][0, 1]) is starts
    assert sim.vms["free_untouched_mib"].min() >= 0.0


def test_hyperv_without_a_driver_stays_at_its_starting_memory_for_ever():
    sim = start(named("hyperv"), vm(balloon=False))
    sim.apply(Targets(np.array([[2048.0]])))
    sim.advance(60)
    assert sizes(sim) == [1024.0]


def test_vms_of_a_committing_host_leave_room_for_those_that_start_small():
    """5,000 MiB less 1.01 % of 5,000 free: 1,024 to the one that boots, the rest to the one that has been running."""
    hypervisor = Hypervisor("plain", 1, 0.0, 0.0, min_free_share=0.01, last_resort="commit", admission="commit",
                            startup="assigned", exit_us=0.0, nested_walks=False)  # fmt: skip
    sim = start(hypervisor, vm("old", 8192.0, None), vm("new"), ram_mib=5000.0)
    assert sizes(sim) == [pytest.approx(5000.0 - 50.5 - 1024.0), 1024.0]
    assert sim.vms["admitted"][0].tolist() == [1.0, 1.0]


def test_those_for_which_a_committing_host_has_no_room_wait():
    """3,000 MiB, 30 of them kept free: two start, the third as soon as one of them has given."""
    hypervisor = Hypervisor("plain", 1, 0.0, 0.0, min_free_share=0.01, last_resort="commit", admission="commit",
                            startup="assigned", exit_us=0.0, nested_walks=False)  # fmt: skip
    sim = start(hypervisor, vm(count=3), ram_mib=3000.0)
    sim.advance(30)
    assert sim.vms["admitted"][0].tolist() == [1.0, 1.0, 0.0]
    assert sim.telemetry().vm["waiting"][0].tolist() == [0.0, 0.0, 1.0]
    sim.apply(Targets(np.array([[800.0, 800.0, np.nan]])))
    sim.advance(30)
    assert sim.vms["admitted"][0].tolist() == [1.0, 1.0, 1.0]
    assert sizes(sim) == [pytest.approx(800.0), pytest.approx(800.0), 1024.0]


# ---- where there is none


@pytest.mark.parametrize("name", ["esxi", "workstation", "baremetal"])
def test_hypervisors_that_start_a_vm_with_all_of_its_memory_say_so(name):
    with pytest.raises(InputError, match=rf"vms\[0\].startup_mib=1024: hypervisor {name} starts a VM with all of its"):
        start(named(name), vm())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("kvm", {"balloon": False}, r"hypervisor kvm starts it ballooned, and balloon=False has no driver"),
        ("xen", {"balloon": False}, r"hypervisor xen starts it ballooned, and balloon=False has no driver"),
        ("kvm", {"startup_mib": 80.0}, r"startup_mib=80: kernel, its caches and watermark need 91 to boot"),
        ("kvm", {"min_mib": 1500.0}, r"startup_mib=1024: must lie between min_mib=1500 and memory_mib=2048"),
        ("kvm", {"nic": "sriov"}, r"startup_mib=1024: a passed-through device pins all of its memory from the start"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(name, changes, message):
    group = {
        "name": "vm",
        "memory_mib": 2048,
        "startup_mib": 1024,
        "kernel_cache_mib": 0,
        "demand": {"hot_mib": 1},
    } | changes
    if "nic" in group:
        group["nic"] = load_group("nic", group["nic"])
    hypervisor = load_group("hypervisor", name) | {"disk": None, "nic": None}
    with pytest.raises(InputError, match=message) as error:
        Scenario.from_dict(
            {"name": "s", "description": "", "host": {"ram_mib": 8192}, "hypervisor": hypervisor, "vms": [group]}
        )
    assert "\n" not in str(error.value)


def test_a_balloon_with_a_cap_leaves_the_rest():
    capped = named("kvm", balloon_cap_share=0.25)
    with pytest.raises(InputError, match=r"startup_mib=1024: a balloon of hypervisor kvm leaves at least 1536"):
        start(capped, vm())
