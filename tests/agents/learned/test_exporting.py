"""Exported files: a bare Python decides the same sizes from recorded telemetry, and says what it cannot."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hvgym.agents.learned.exporting import exported
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.tree import SizeTree
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import Policy, make_policy
from hvgym.agents.shield import shielded
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.making import scenario_of
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import Visibility

KIB = {
    "actual": "size_mib", "target": "target_mib", "maximum": "memory_mib", "minimum": "min_mib", "limit": "limit_mib",
    "unused": "guest_free_mib", "usable": "guest_available_mib", "available": "guest_total_mib",
    "disk_caches": "guest_caches_mib", "swap_in": "guest_swap_in_mib", "swap_out": "guest_swap_out_mib", "rss": "resident_mib",
    "host_swap": "host_swap_mib", "host_swap_in": "host_swap_in_mib", "host_swap_out": "host_swap_out_mib", "disk": "disk_mib",
    "net": "net_mib", "shared": "shared_mib", "compressed": "compressed_mib", "committed": "guest_committed_mib",
    "overhead": "overhead_mib",
}  # fmt: skip
PLAIN = {
    "weight": "weight", "critical": "critical", "shares": "shares", "vcpus": "vcpus", "running": "running",
    "waiting": "waiting", "cpu_s": "cpu_s", "cpu_ready_s": "cpu_ready_s", "psi": "host_psi_some10",
    "io_psi": "host_io_psi_some10", "guest_psi": "guest_psi_some10", "active_share": "active_share",
}  # fmt: skip
HOST_KIB = {
    "total": "total_mib", "available": "available_mib", "free": "free_mib", "swap_total": "swap_total_mib",
    "swap_used": "swap_used_mib", "swap_in": "swap_in_mib", "swap_out": "swap_out_mib", "shared": "shared_mib",
}  # fmt: skip
HOST_PLAIN = {
    "disk_utilisation": "disk_utilisation", "cpu_utilisation": "cpu_utilisation", "psi": "psi_some10",
    "memory_state": "memory_state", "scan_pages_per_s": "scan_pages_per_s",
}  # fmt: skip

RUN = """
import json, runpy, sys
given = json.load(sys.stdin)
decide, state = runpy.run_path(given["file"])["decide"], {}
print(json.dumps([decide(vms, host, state, now_s) for now_s, vms, host in given["readings"]]))
"""


class Noted(Policy):
    """A policy whose readings and answers are kept."""

    def __init__(self, policy):
        self.policy, self.visibility, self.declaration, self.period_s = (
            policy,
            policy.visibility,
            policy.declaration,
            policy.period_s,
        )
        self.readings, self.sizes = [], []

    def reset(self, first, seed):
        self.policy.reset(first, seed)

    def decide(self, telemetry):
        answer = self.policy.decide(telemetry)
        self.readings.append(telemetry)
        self.sizes.append(answer.memory_mib[0].tolist())
        return answer


def row(record, kib, plain):
    found = {key: 1024.0 * float(record[name]) for key, name in kib.items()}
    found |= {key: float(record[name]) for key, name in plain.items()}
    return {key: value for key, value in found.items() if not np.isnan(value)}


def readings(noted):
    """As libvirt would tell them."""
    return [
        [
            float(one.time_s[0]),
            {f"vm{i}": row(vm, KIB, PLAIN) for i, vm in enumerate(one.vm[0])},
            row(one.host[0, 0], HOST_KIB, HOST_PLAIN),
        ]
        for one in noted.readings
    ]


def bare(file, given):
    """What the file decides in a Python without site packages."""
    command = [sys.executable, "-I", "-S", "-c", RUN]
    done = subprocess.run(
        command, input=json.dumps({"file": str(file), "readings": given}), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = [list(vms) for _, vms, _ in given]
    return [[sizes.get(vm, np.nan) for vm in vms] for vms, sizes in zip(names, json.loads(done.stdout), strict=True)]


def linear(seed, least_share=0.1, rescues=False, constant=0.0, least_mib=0.0):
    """Every feature has a weight, so that one that differs is seen."""
    weights = np.random.default_rng(seed).normal(size=len(FEATURES))
    weights[FEATURES.index("constant")] += constant
    policy = SharedLinear.of(weights, 0.1, 10.0)
    policy.least_share, policy.rescues, policy.least_mib = least_share, rescues, least_mib
    return policy


TREE = {
    "feature": "guest_available_60s", "at": 0.3,
    "below": {"feature": "available", "at": 0.2, "below": {"change": -0.03, "share": 0.2}, "above": {"change": 0.04, "share": 0.3}},
    "above": {"change": -0.02, "share": 0.5},
}  # fmt: skip


def decides_the_same(tmp_path, name, hypervisor, policy, episode_s=600):
    scenario = scenario_of(scenario_of(name).to_dict() | {"episode_s": episode_s}, hypervisor=hypervisor)
    noted = Noted(policy)
    rollout(scenario, noted, [3])
    file = tmp_path / "decide.py"
    file.write_text(exported(policy, {"name": "es"}))
    found, sizes = np.array(bare(file, readings(noted))), np.array(noted.sizes)
    if isinstance(policy, SizeTree):  # which says nothing of a guest that does not
        silent = [[vm.get("usable") is None for vm in vms.values()] for _, vms, _ in readings(noted)]
        assert np.isnan(found[silent]).all()
        sizes[silent] = np.nan
    if not np.isnan(found).all():
        assert np.nanmax(np.ptp(found, axis=0)) > 100.0  # MiB: it does something
    np.testing.assert_allclose(found, sizes, rtol=0.0, atol=1e-9)  # nothing is asked of a VM that does not run


@pytest.mark.parametrize(
    ("name", "hypervisor"), [("no-guest-swap-short", "kvm"), ("silent-guests", "esxi"), ("tight-hdd", "xen")]
)
@pytest.mark.parametrize(
    "policy",
    [linear(1), linear(2, 0.4, rescues=True), SizeTree.of(TREE, 10.0, Visibility.P1)],
    ids=["one", "two", "tree"],
)
def test_a_bare_python_decides_the_same_sizes(tmp_path, name, hypervisor, policy):
    decides_the_same(tmp_path, name, hypervisor, policy)


def test_where_all_want_to_grow_it_finds_the_same_price(tmp_path):
    decides_the_same(tmp_path, "tight-hdd", "xen", linear(3, constant=5.0))


def test_it_makes_the_same_room_for_vms_that_wait(tmp_path):
    """At the end no room would do for two of them."""
    decides_the_same(tmp_path, "late-arrivals", "xen", linear(3, constant=5.0, rescues=True), episode_s=1200)


def test_where_all_want_to_shrink_it_stops_at_the_same_size(tmp_path):
    decides_the_same(tmp_path, "tight-hdd", "xen", linear(3, constant=-9.0, least_mib=3000.0))


def test_a_tree_keeps_the_floor_of_the_policy_that_it_was_fitted_to(tmp_path):
    tree = SizeTree.of({"change": -0.09, "share": 1.0}, 10.0, Visibility.P1)
    tree.keep_floor(linear(1, least_share=0.6))
    decides_the_same(tmp_path, "no-guest-swap-short", "kvm", tree)
    assert "LEAST_SHARE = 0.6\n" in (tmp_path / "decide.py").read_text()


BY_CPU = {
    "feature": "cpu", "at": 0.1, "below": {"change": -0.05, "share": 0.5}, "above": {"change": 0.05, "share": 0.5},
}  # fmt: skip


def written(tmp_path, policy):
    """The file as a module."""
    file = tmp_path / "decide.py"
    file.write_text(exported(policy, {"name": "tree"}))
    return runpy.run_path(str(file))


def test_a_tree_says_nothing_of_a_vm_before_it_has_read_what_its_rules_ask_for(tmp_path):
    file = written(tmp_path, SizeTree.of(BY_CPU, 10.0, Visibility.P1))
    host, state = {"total": 8388608, "available": 4194304}, {}

    def decided(now_s, **cpu_s):
        vms = {
            "web": {"maximum": 4194304, "actual": 2097152, "vcpus": 2},
            "db": {"maximum": 4194304, "actual": 2097152},
        }
        for name, seconds in cpu_s.items():
            vms[name] |= {"cpu_s": seconds}
        return file["decide"](vms, host, state, now_s)

    assert file["NEEDS"] == ("maximum", "actual", "host.total", "host.available", "cpu_s", "vcpus")
    assert decided(0.0, web=100.0, db=100.0) == {}  # there is no rate in one reading
    assert decided(10.0, web=110.0, db=110.0) == pytest.approx({"web": 2048.0 + 0.05 * 4096.0})  # db: vcpus are missing
    assert decided(20.0) == {}
    assert decided(30.0, web=120.0) == {}
    assert decided(40.0, web=120.5) == pytest.approx({"web": 2048.0 - 0.05 * 4096.0})
    del host["available"]
    assert decided(50.0, web=121.0) == {}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_made_of_what_is_said_to_be_needed_for_it(feature, tmp_path):
    """With that alone it is what it is with all inputs, where what may be left out has its default."""
    file = written(tmp_path, SizeTree.of(BY_CPU | {"feature": feature}, 10.0, Visibility.P1))
    every = {
        key: 5.0 for key in (*KIB, *PLAIN) if key not in ("weight", "critical", "shares", "running", "waiting", "limit")
    }
    every |= {
        "maximum": 4096.0,
        "actual": 2048.0,
        "psi": 0.5,
        "io_psi": 0.5,
        "guest_psi": 0.5,
        "active_share": 0.5,
        "minimum": 0.0,
    }
    of_host = {**dict.fromkeys(HOST_KIB, 7.0), "total": 9000.0} | dict.fromkeys(HOST_PLAIN, 0.5)

    def features(vm, host):
        state = {}
        for now_s in (0.0, 10.0):
            told = [
                {key: value * (1.0 + now_s) if key in file["COUNTERS"] else value for key, value in row.items()}
                for row in (vm, host)
            ]
            found, weight, shares = file["_host_features"]({"vm": told[0]}, told[1], state, now_s)
            found |= file["_vm_features"](told[0], told[1]["total"] / 1024.0, weight, shares, state, "vm", now_s)
        return found[feature]

    needed = {key: every[key] for key in file["NEEDS"] if not key.startswith("host.")}
    alone = features(needed, {key[5:]: of_host[key[5:]] for key in file["NEEDS"] if key.startswith("host.")})
    if not feature.startswith(("has_", "reports")):  # whether something is there
        assert alone == features(every, of_host)


def test_the_documented_loop_gives_what_a_tree_needs_of_busy_vms(tmp_path, monkeypatch):
    """Its CPU time told, a busy VM grows and an idle one shrinks."""
    page = (Path(__file__).parents[3] / "docs" / "learning.md").read_text(encoding="utf-8")
    loop = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import libvirt" in block)
    asked, clock = {"busy": [], "idle": []}, [0.0]

    class Domain:
        def __init__(self, name):
            self.name = lambda: name
            self.memoryStats = lambda: {"actual": 2097152, "rss": 2000000}
            self.maxMemory = lambda: 4194304
            self.info = lambda: [1, 4194304, 2097152, 2, int(clock[0] * 1e9 * (name == "busy"))]
            self.setMemory = asked[name].append

    def sleep(seconds):
        clock[0] += seconds
        if clock[0] > 10.0:
            raise StopIteration

    domains = {name: Domain(name) for name in asked}
    connection = SimpleNamespace(listAllDomains=lambda flags: domains.values(), lookupByName=domains.get)
    libvirt = SimpleNamespace(open=lambda uri: connection, VIR_CONNECT_LIST_DOMAINS_ACTIVE=1)
    decide = SimpleNamespace(**written(tmp_path, SizeTree.of(BY_CPU, 10.0, Visibility.P1)))
    clocks = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
    for name, module in (("libvirt", libvirt), ("decide", decide), ("time", clocks)):
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(StopIteration):
        exec(loop, {})
    assert asked == {"busy": [2306867], "idle": [1887437]}  # KiB; nothing by the first reading


def test_what_is_not_exported_is_named():
    for agent, said in (
        ("proxmox", "Proxmox is not exported: only linear policies"),
        ("random", "RandomSizes is not exported"),
    ):
        with pytest.raises(InputError, match=rf"agent {agent}: {said}"):
            exported(make_policy(load_group("agent", agent)), {"name": agent})
    with pytest.raises(InputError, match="a shield is not exported"):
        exported(shielded(linear(1), True), {"name": "es"})
    with pytest.raises(InputError, match="is not exported"):
        exported(SharedLinear.of(np.zeros((3, len(FEATURES))), 0.1, 10.0), {"name": "es"})


DOMMEMSTAT = """\
# host total=8388608 available=2097152 free=1048576 swap_total=0
# web maximum=4194304 minimum=1048576
actual 4194304
unused 3145728
usable 3355443
rss 4100000
# db maximum=4194304 minimum=1048576 critical=1
actual 2097152
unused 10000
swap_in 0
@ 10
# db
swap_in 900000
"""


def dry_run(file, given):
    return subprocess.run([sys.executable, "-I", "-S", str(file)], input=given, capture_output=True, text=True)


def test_a_dry_run_prints_what_it_would_set(tmp_path):
    """Shrinks by what is available, grows by what is swapped in: 0.1 x s(-1 x 0.8), of 4096 MiB."""
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("guest_available")], weights[FEATURES.index("guest_swap_in_rate")] = -1.0, 2.0
    file = tmp_path / "decide.py"
    file.write_text(exported(SharedLinear.of(weights, 0.1, 10.0), {"name": 'a "quoted" \\ name'}))
    done = dry_run(file, DOMMEMSTAT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    share = 3355443 / 4194304
    web = 4194304 - 0.1 * 4194304 * share / (1 + share)
    assert lines[0] == f"virsh setmem web {round(web)} --live"
    assert lines[1] == "virsh setmem db 2097152 --live"
    per_s = 900000 / 1024 / 10
    pull = 2.0 * per_s / (per_s + 16.0)
    assert lines[3] == f"virsh setmem db {round(2097152 + 0.1 * 4194304 * pull / (1 + pull))} --live"
    assert len(lines) == 4


def test_weights_of_nothing_are_weights_that_nobody_gave(tmp_path):
    file = tmp_path / "decide.py"
    file.write_text(exported(linear(1, constant=9.0), {"name": "es"}))
    weightless = dry_run(file, DOMMEMSTAT.replace("minimum=1048576", "minimum=1048576 weight=0"))
    assert weightless.returncode == 0, weightless.stderr
    assert len(weightless.stdout.splitlines()) == 4


def test_a_dry_run_says_in_one_line_what_is_missing(tmp_path):
    file = tmp_path / "decide.py"
    file.write_text(exported(linear(1), {"name": "es"}))
    wrong = "expected '@ SECONDS', '# NAME KEY=NUMBER ...' or 'KEY NUMBER'"
    for given, said in (
        ("# web\nactual 100\n", "web: maximum= is missing"),
        ("actual 100\n", "stands before any VM"),
        ("# web maximum=4194304\nactual\n", f"actual: {wrong}"),
        ("# web maximum=4194304\nactual 4 GiB\n@\n", f"@: {wrong}"),
        ("#\n", f"#: {wrong}"),
        ("# web maximum=4G\n", f"# web maximum=4G: {wrong}"),
    ):
        done = dry_run(file, given)
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_vm_whose_size_is_not_told_is_left_alone(tmp_path):
    file = tmp_path / "decide.py"
    file.write_text(exported(linear(1), {"name": "es"}))
    done = dry_run(file, "# web maximum=4194304\nunused 1048576\n# host total=8388608 available=4194304\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_feature_is_there():
    """A feature of the view that the file does not know would be a KeyError on somebody's host."""
    policy = linear(1)
    text = exported(policy, {"name": "es"})
    assert all(f'"{name}":' in text for name in FEATURES)
    assert load("no-guest-swap-short")
