"""Scenarios: every packaged one loads and round-trips; every mistake is one line that names key, value and what is
right.
"""

import json

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario, group_files, load, load_group, resolve
from hvgym.envs.simulator import Simulator

ALONE = sorted(name for name in group_files("scenario") if "hosts" not in load_group("scenario", name))


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("hypervisor", sorted(group_files("hypervisor")))
def test_every_scenario_runs_on_every_hypervisor_and_round_trips(name, hypervisor):
    data, profile = load_group("scenario", name), load_group("hypervisor", hypervisor)
    if missing := [key for key, there in (("startup", "startup_mib"), ("limits", "limit_mib"))
                   if profile.get(key, "none") == "none" and any(group.get(there) for group in data["vms"])]:  # fmt: skip
        with pytest.raises(InputError, match=rf"_mib=\d+: hypervisor {hypervisor} (starts a VM|has no limit)"):
            resolve(data, profile)
        assert missing in (["startup"], ["limits"])
        return
    if profile["disk_limits"] == "none" and any(group.get("disk_limit_iops") for group in data["vms"]):
        with pytest.raises(InputError, match=rf"disk_limit_iops=\d+: hypervisor {hypervisor} limits no operations"):
            resolve(data, profile)
        return
    if profile["type"] == 0 and any(group.get("settled_mib") for group in data["vms"]):
        with pytest.raises(
            InputError, match=rf"settled_mib=\d+.*: a process on {hypervisor} has no size; leave it out"
        ):
            resolve(data, profile)
        return
    scenario = resolve(data, profile)
    assert scenario.name == name
    assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario
    sim = Simulator(scenario)
    sim.reset([0])
    sim.advance(40)  # a VM that starts small boots for 30
    there = sim.vms["admitted"] > 0.0
    assert there.any()
    assert (sim.vms["progress_s"][there] > 0).all()


@pytest.mark.parametrize("hypervisor", sorted(group_files("hypervisor")))
def test_a_disk_has_the_limits_that_its_hypervisor_has(hypervisor):
    """Bursts: QEMU's throttling alone. No operations are limited by VirtualBox (bytes are), Xen and Workstation."""
    data, profile = load_group("scenario", "noisy-disk"), load_group("hypervisor", hypervisor)
    group = data["vms"][0]
    group["disk_limit_iops"] = 9000
    if hypervisor in ("virtualbox", "workstation", "xen"):
        with pytest.raises(
            InputError,
            match=rf"^scenario: vms\[0\]\.disk_limit_iops=9000: hypervisor {hypervisor} limits no .*; leave it out$",
        ):
            resolve(data, profile)
        return
    assert resolve(data, profile).vms[0].disk_limit_iops == 9000.0
    group |= {"disk_burst_iops": 12000, "disk_burst_s": 30}
    if hypervisor == "kvm":
        assert resolve(data, profile).vms[0].disk_burst_s == 30.0
    else:
        with pytest.raises(
            InputError,
            match=rf"^scenario: vms\[0\]\.disk_burst_iops=12000: a limit of hypervisor {hypervisor} has no bursts",
        ):
            resolve(data, profile)


def broken(*path_and_value):
    *path, value = path_and_value
    data = load("idle-giants-short").to_dict()
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (broken("vms", 0, "memory_mib", -1), r"scenario.vms\[0\].memory_mib=-1: must be above 64"),
        (broken("vms", 0, "memory_mib", "big"), r"scenario.vms\[0\].memory_mib='big': expected a number"),
        (broken("vms", 0, "memory_mb", 1), r"scenario.vms\[0\].memory_mb: unknown key .did you mean 'memory_mib'"),
        (broken("vms", 1, "min_mib", 9999), r"scenario.vms\[1\]: min_mib=9999: must be at most memory_mib=4096"),
        (broken("vms", 0, "count", 1.5), r"count=1.5: expected a whole number"),
        (broken("vms", 0, "critical", "yes"), r"critical='yes': expected true or false"),
        (broken("vms", 0, "tier_tau_s", [1, 2]), r"tier_tau_s=\[1, 2\]: expected 4 values"),
        (broken("vms", []), r"vms is empty"),
        (
            broken("vms", 0, "startup_mib", 99999),
            r"vms\[0\]: startup_mib=99999: must lie between min_mib=2048 and memory_mib",
        ),
        (broken("vms", 0, "swap", "zramm"), r"swap='zramm': choose one of disk, zram .did you mean 'zram'"),
        (broken("vms", 0, "zram_stored_share", 1.2), r"zram_stored_share=1.2: must be above 0 and at most 0.99"),
        (broken("vms", 0, "cpu_reservation", -1), r"cpu_reservation=-1: must be at least 0"),
        (
            broken("hypervisor", "returning", "baloon_4k"),
            r"returning='baloon_4k': choose one of .*did you mean 'balloon_4k'",
        ),
        (broken("host", "swap", "floppy"), r"host.swap='floppy': choose one of disk, nvme"),
        (
            broken("hypervisor", "admission", "commit"),
            r"admission='commit': last_resort='esxi' needs always, reservation or",
        ),
        (broken("hypervisor", "smart_paging", True), r"smart_paging=True: needs last_resort='commit'"),
        (broken("hypervisor", "type", 3), r"hypervisor.type=3: choose one of 0, 1, 2"),
        (broken("host", "overcommit", 500), r"Lower overcommit"),
        (broken("host", "ram_mib", 1000), r"give either ram_mib or overcommit"),
        (broken("episode_s", 601), r"episode_s=601: must be a multiple of control_interval_s=5"),
        (broken("host", 3), r"scenario.host: expected a group of keys"),
        (broken("workload", "kind", "bitbrain"), r"workload.kind='bitbrain': choose one of phases, bitbrains"),
        (broken("workload", "kind", "bitbrains"), r"workload.path=DIR"),
    ],
)
def test_a_mistake_is_named_in_one_line(data, message):
    with pytest.raises(InputError, match=message) as error:
        Simulator(Scenario.from_dict(data))
    assert "\n" not in str(error.value)


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'idle-giants'"):
        load("idle-gaints")


def test_a_users_folder_adds_scenarios_and_broken_yaml_is_named(tmp_path):
    (tmp_path / "scenario").mkdir()
    (tmp_path / "scenario" / "mine.yaml").write_text(
        group_files("scenario")["tight-hdd"].read_text().replace("tight-hdd", "mine")
    )
    assert load("mine", [tmp_path]).name == "mine"
    (tmp_path / "scenario" / "bad.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(InputError, match=r"bad.yaml:2:2: not valid YAML") as error:
        load("bad", [tmp_path])
    assert "\n" not in str(error.value)


def test_a_hypervisor_differs_by_mechanism():
    """Type 2 keeps more RAM for its host OS and pays more per I/O request; the machine is the same."""
    kvm, hosted = (Simulator(resolve(load_group("scenario", "cache-hogs"), load_group("hypervisor", name)))
                   for name in ("kvm", "virtualbox"))  # fmt: skip
    assert kvm.host_specs["ram_mib"][0, 0] == 0.0  # set by reset
    for sim in (kvm, hosted):
        sim.reset([0])
    assert kvm.host_specs["ram_mib"] == hosted.host_specs["ram_mib"]
    assert hosted.host_specs["own_mib"] > kvm.host_specs["own_mib"]
    for sim in (kvm, hosted):
        sim.advance(600)
    assert hosted.vms["progress_s"].sum() < kvm.vms["progress_s"].sum()


def test_a_hypervisor_that_never_swaps_is_not_asked_to():
    with pytest.raises(
        InputError, match=r"scenario: host.swap='nvme': hypervisor xen never swaps VMs; leave host.swap out"
    ):
        resolve(
            load_group("scenario", "idle-giants") | {"host": {"overcommit": 1.5, "swap": "nvme"}},
            load_group("hypervisor", "xen"),
        )


@pytest.mark.parametrize("name", sorted(set(group_files("scenario")) - set(ALONE)))
def test_every_cluster_loads_and_round_trips_and_names_its_hosts(name):
    scenario = load(name)
    assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario
    assert scenario.is_cluster
    assert len(set(scenario.host_names)) == sum(group.count for group in scenario.hosts)


VM = {"name": "vm", "memory_mib": 2048, "demand": {"hot_mib": 200}}


def cluster(**changes):
    host = {"name": "node", "count": 2, "ram_mib": 16384}
    data = {
        "name": "ours",
        "description": "",
        "hypervisor": "kvm",
        "stack": "proxmox",
        "hosts": [host],
        "vms": [VM],
        "episode_s": 600,
    }
    return data | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": {"ram_mib": 4096}}, "host: give either host, or hosts and the stack that manages them"),
        ({"stack": None}, "stack: missing; hosts need one"),
        ({"stack": "proxmos"}, "stack='proxmos': unknown (did you mean 'proxmox'?)"),
        ({"hosts": [{"name": "node", "overcommit": 1.5}]}, "hosts: node needs ram_mib"),
        ({"hosts": [{"name": "a", "ram_mib": 9000}, {"name": "a", "ram_mib": 9000}]}, "hosts: names are not unique: a, a"),
        ({"failures": [{"host": "node-2", "at_s": 9}]}, "failures[0].host='node-2': no such host"),
        ({"failures": [{"host": "node-1", "at_s": 9, "kind": "fire"}]}, "kind='fire': choose one of power, crash"),
        ({"maintenance": [{"host": "node-1", "from_s": 50, "deadline_s": 40}]}, "deadline_s=40: must lie after from_s=50"),
        ({"vms": [VM | {"host": "nod-1"}]}, "vms[0].host='nod-1': no such host"),
        ({"vms": [VM | {"startup_mib": 900}]}, "vms[0].startup_mib"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_cluster_is_one_line(changes, words):
    with pytest.raises(InputError) as error:
        resolve(cluster(**changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_only_a_cluster_has_is_refused_on_a_host_alone():
    data = load_group("scenario", "idle-giants")
    for key, value in (("stack", "proxmox"), ("failures", [{"host": "host", "at_s": 9}])):
        with pytest.raises(InputError, match=f"{key}: only a cluster has it"):
            resolve(data | {key: value})
    with pytest.raises(InputError, match=r"vms\[0\].restart_priority=5.0: only a cluster has it"):
        resolve(data | {"vms": [data["vms"][0] | {"restart_priority": 5}]})
