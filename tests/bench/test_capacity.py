"""A capacity: a fleet whose density can be computed by hand, interruption without a trace, what the leaderboard shows."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.bench import capacity as module
from hvgym.bench.capacity import AMPLE_RATIO, Family, Job, measure, play
from hvgym.bench.capacity_report import CURVE, gib_saved_per_100_vms, summarise, write_capacity
from hvgym.bench.density import Rule
from hvgym.bench.density_column import FOLDER
from hvgym.bench.identity import sources
from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load, load_group, resolve
from hvgym.envs.simulator import Simulator

STOCK = load_group("agent", "stock")
PROXMOX = load_group("agent", "proxmox")
REFERENCE = load_group("agent", "reference") | {"episodes": 3, "counts": "misses"}

OWN_MIB, OVERHEAD_MIB, MIN_FREE = 512.0, 64.0, 0.01
HOT_MIB, KERNEL_MIB = 1400.0, 23.0
PLAIN = Hypervisor("plain", 1, OWN_MIB, OVERHEAD_MIB, min_free_share=MIN_FREE, exit_us=0.0, nested_walks=False)


def constant(critical=True, **changes):
    """Four VMs of 4 GiB whose memory is all hot and never changes, on a slow disk; nothing else is touched."""
    group = VmGroup(
        "vm", Demand(hot_mib=HOT_MIB, cpu_share=0.1), memory_mib=4096.0, count=4, critical=critical, **changes
    )
    host = Host(ram_mib=1.0, disk_iops=2000.0, disk_latency_us=5000.0)
    return Scenario("constant", "", host, PLAIN, (group,), episode_s=600, touched_share=0.0)


def quick():
    """A family that takes fractions of a second."""
    scenario = load("idle-giants-short")
    return Family.of(scenario, 3, sources([scenario.to_dict()]))


RULE = Rule(least=0.75, most=2.0)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("capacity.*")} | {
        path.name: path.read_bytes() for path in folder.glob("fleets.csv")
    }


def test_constant_demand_without_cold_memory_has_the_density_that_one_computes_by_hand(tmp_path):
    needed_mib = 4 * (HOT_MIB + KERNEL_MIB + OVERHEAD_MIB) + OWN_MIB
    by_hand = 4 * 4096.0 / (needed_mib / (1.0 - MIN_FREE))
    assert 2.4 < by_hand < 2.6
    rule = Rule(least=0.75, most=4.0, step=0.01)
    found = measure(Family.of(constant(), 2, {}), [STOCK], STOCK, rule, "all", tmp_path)
    (one,) = found.densities
    assert one.search.density.value == pytest.approx(by_hand, rel=0.02)
    assert one.search.fails[0] == pytest.approx(one.search.density.value + 0.01)
    below = one.raw[max(ratio for ratio in one.raw if ratio < by_hand - 0.05)]
    assert below.missed_s.sum() == 0.0  # while all fits, nothing is missed


def test_where_no_vm_is_critical_all_are():
    assert play(Job(Family.of(constant(False), 2, {}), STOCK, 4.0)).missed_s.sum() > 0.0
    assert Family.of(constant(False), 2, {}).scenario == Family.of(constant(True), 2, {}).scenario


def test_a_hosts_ram_is_configured_memory_over_the_ratio_also_under_a_workload_that_scales():
    scenario = load("tight-hdd")
    scaled = replace(scenario, workload=replace(scenario.workload, overcommit_scale=2.5))
    for one in (scenario, scaled):
        at = Family.of(one, 2, {}).at(1.6)
        sim = Simulator(at)
        sim.reset([0])
        assert sim.host_specs["ram_mib"][0, 0] == pytest.approx(sim.vm_specs["memory_mib"].sum() / 1.6, rel=1e-12)


def test_a_fleet_that_does_not_fit_by_its_guarantees_misses_everything(tmp_path):
    """Guarantees of 3 GiB of 4: with 64 MiB a process and 512 of its own a host holds them up to 16384 / 13056 = 1.255."""
    family = Family.of(constant(min_mib=3072.0), 2, {})
    for ratio, fits in ((1.25, 1.0), (1.3, 0.0)):
        point = play(Job(family, STOCK, ratio))
        assert (point.fits == fits).all()
        assert (point.missed_s == (1.0 - fits) * point.asked_s).all()
    found = measure(family, [STOCK], STOCK, Rule(), "added", tmp_path)
    assert found.densities[0].search.density.value == 1.25
    summary, _ = write_capacity(found, tmp_path)
    assert summary["agents"]["stock"]["stopped_by"] == "2 of 2 fleets do not fit, by what is guaranteed to them at 1.30"


def test_misses_of_ample_memory_are_left_out_or_counted_as_told(tmp_path):
    """Four VMs that want eight processors on a host of five: all miss all the time, whatever the memory."""
    busy = VmGroup("busy", Demand(hot_mib=200.0, cpu_share=1.0), memory_mib=1024.0, count=4, vcpus=2.0, critical=True)
    scenario = Scenario("busy", "", Host(ram_mib=1.0, pcpus=5.0), PLAIN, (busy,), episode_s=60, touched_share=0.0)
    family = Family.of(scenario, 2, {})
    found = {kind: measure(family, [STOCK], STOCK, RULE, kind, tmp_path / kind) for kind in ("added", "all")}
    assert found["all"].densities[0].search.density.value == 0.0
    assert found["added"].densities[0].search.density.value >= 1.25
    assert found["added"].ample.missed_share(np.ones((1, 2)))[0] == 1.0


def test_lanes_do_not_change_a_fleet():
    family = quick()
    point = play(Job(family, PROXMOX, 1.25))
    alone = play(Job(replace(family, fleets=2), PROXMOX, 1.25))
    assert point.missed_s[:2].tolist() == alone.missed_s.tolist()
    assert point.goodput[:2].tolist() == alone.goodput.tolist()


def test_number_of_workers_changes_nothing(tmp_path):
    for workers in (1, 2):
        found = measure(quick(), [STOCK, PROXMOX], STOCK, RULE, "added", tmp_path / str(workers), workers)
        write_capacity(found, tmp_path / str(workers))
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_who_does_nothing_is_played_once_where_the_hypervisor_ships_with_nothing(tmp_path, monkeypatch):
    """Static sits inside and stock outside: on KVM nobody can tell them apart, on ESXi balloons run beneath stock."""
    static = load_group("agent", "static")
    for hypervisor, names in (("kvm", ["stock"]), ("esxi", ["static", "stock"])):
        scenario = resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor))
        family, folder = Family.of(scenario, 3, {}), tmp_path / hypervisor
        found = measure(family, [STOCK, static], STOCK, RULE, "added", folder)
        files = [json.loads(path.read_text()) for path in (folder / "jobs").iterdir()]
        assert sorted({file["agent"] for file in files if file["ratio"] != AMPLE_RATIO}) == names
        by_name = {one.agent["name"]: one for one in found.densities}
        assert set(by_name) == {"static", "stock"}
        for ratio, point in by_name["static"].raw.items():
            alone = play(Job(family, static, ratio))
            assert [point.missed_s.tolist(), point.goodput.tolist()] == [
                alone.missed_s.tolist(),
                alone.goodput.tolist(),
            ]


class KilledError(Exception):
    pass


def test_a_search_goes_on_where_it_stopped_and_plays_no_job_twice(tmp_path, monkeypatch):
    agents = [STOCK, PROXMOX]
    write_capacity(measure(quick(), agents, STOCK, RULE, "added", tmp_path / "whole"), tmp_path / "whole")

    def stop(job, point, share, count):
        if count == 3:
            raise KilledError

    with pytest.raises(KilledError):
        measure(quick(), agents, STOCK, RULE, "added", tmp_path / "cut", 1, None, stop)
    before = {path.name for path in (tmp_path / "cut" / "jobs").iterdir()}
    assert len(before) == 4  # three, and ample memory
    replayed = []
    monkeypatch.setattr(module, "play", lambda job, progress: replayed.append(job.key) or play(job))
    write_capacity(measure(quick(), agents, STOCK, RULE, "added", tmp_path / "cut"), tmp_path / "cut")
    assert not {f"{key}.json" for key in replayed} & before
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_another_rule_reads_the_same_rows(tmp_path, monkeypatch):
    measure(quick(), [STOCK], STOCK, RULE, "added", tmp_path)
    monkeypatch.setattr(module, "play", lambda job, progress: pytest.fail(f"{job.name} is played again"))
    strict = measure(quick(), [STOCK], STOCK, replace(RULE, slo=1.0, kills=10**6, most=1.0), "added", tmp_path)
    assert strict.densities[0].search.density.value == 1.0


def test_halving_finds_what_playing_every_ratio_finds(tmp_path):
    agents = [STOCK, PROXMOX, REFERENCE]
    found = [
        measure(quick(), agents, STOCK, replace(RULE, coarse=coarse), "added", tmp_path / str(coarse))
        for coarse in (0.25, 0.05)
    ]
    halved, every = ({one.agent["name"]: one.search.density for one in each.densities} for each in found)
    assert halved == every
    assert all(RULE.least <= one.value < RULE.most for one in every.values())
    jobs = [len(list((tmp_path / str(coarse) / "jobs").iterdir())) for coarse in (0.25, 0.05)]
    assert jobs[0] < jobs[1]


def test_the_budget_of_the_reference_stands_beside_its_density(tmp_path):
    found = measure(quick(), [STOCK, REFERENCE], STOCK, replace(RULE, most=1.0), "added", tmp_path)
    (said,) = summarise(found)["searched"].items()
    assert said[0] == "reference"
    assert said[1].startswith("clairvoyant, the least seconds of critical VMs missed of 3 episodes played in copies")


def test_agents_that_fail_or_cannot_play_are_listed_with_their_reason(tmp_path):
    broken = load_group("agent", "best_constant") | {"name": "broken", "share": "much"}
    found = measure(quick(), [broken, load_group("agent", "ppo"), STOCK], STOCK, RULE, "added", tmp_path)
    assert [one.agent["name"] for one in found.densities] == ["stock"]
    assert found.refused["ppo"].startswith("has not been trained; hvgym train agent=ppo")
    assert set(found.refused) == {"ppo", "broken"}


def test_a_policy_that_raises_is_left_out_and_the_others_go_on(tmp_path, monkeypatch):
    real = module.policy_of

    def policy_of(agent):
        policy = real(agent)
        if agent["name"] == "proxmox":
            policy.decide = lambda telemetry: 1 / 0
        return policy

    monkeypatch.setattr(module, "policy_of", policy_of)
    found = measure(quick(), [PROXMOX, STOCK], STOCK, RULE, "added", tmp_path)
    assert [one.agent["name"] for one in found.densities] == ["stock"]
    assert "at ratio 0.75: agent proxmox, scenario idle-giants-short" in found.refused["proxmox"]
    assert "ZeroDivisionError" in found.refused["proxmox"]


def test_a_folder_of_another_family_is_refused_and_says_how_it_differs(tmp_path):
    measure(quick(), [STOCK], STOCK, RULE, "added", tmp_path)
    other = Family.of(load("no-guest-swap-short"), 3, quick().sources)
    with pytest.raises(
        InputError, match="holds the capacity of scenario 'idle-giants-short', not 'no-guest-swap-short'"
    ):
        measure(other, [STOCK], STOCK, RULE, "added", tmp_path)
    with pytest.raises(InputError, match="a capacity of other fleets: there 3, asked 4; choose study=NAME"):
        measure(replace(quick(), fleets=4), [STOCK], STOCK, RULE, "added", tmp_path)
    with pytest.raises(InputError, match="code or traces were changed"):
        measure(replace(quick(), sources={"code": "x"}), [STOCK], STOCK, RULE, "added", tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "edit", "swap"])
def test_a_job_file_that_was_changed_is_refused_by_name(tmp_path, damage):
    measure(quick(), [STOCK], STOCK, RULE, "added", tmp_path)
    first, second = sorted((tmp_path / "jobs").iterdir())[:2]
    if damage == "truncate":
        first.write_bytes(first.read_bytes()[:100])
    elif damage == "edit":
        first.write_text(first.read_text().replace('"ratio": ', '"ratio": 1'))
    else:
        first.write_bytes(second.read_bytes())
    with pytest.raises(
        InputError, match=f"{first.name}: (damaged|was changed|holds another).* run hvgym capacity again"
    ):
        measure(quick(), [STOCK], STOCK, RULE, "added", tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    study = tmp_path_factory.mktemp("studies") / "s"
    found = measure(quick(), [STOCK, PROXMOX], STOCK, RULE, "added", study / FOLDER)
    return study, found, write_capacity(found, study / FOLDER)


def test_files_say_what_was_found(written):
    _, found, (summary, paths) = written
    assert [path.name for path in paths] == ["capacity.json", "capacity.csv", "fleets.csv", "capacity.png"]
    assert paths[3].read_bytes().startswith(b"\x89PNG")
    assert json.loads(paths[0].read_text()) == summary
    rows = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert tuple(rows[0]) == CURVE
    stock = next(one for one in found.densities if one.agent["name"] == "stock")
    assert [float(row["ratio"]) for row in rows if row["agent"] == "stock"] == sorted(stock.curve)
    fleets = list(csv.DictReader(paths[2].read_text().splitlines()))
    at = [row for row in fleets if row["agent"] == "stock" and float(row["ratio"]) == 1.0]
    ample = [row for row in fleets if float(row["ratio"]) == AMPLE_RATIO]
    by_hand = sum(float(row["missed_s"]) for row in at) - sum(float(row["missed_s"]) for row in ample)
    by_hand /= sum(float(row["asked_s"]) for row in at)
    (row,) = [row for row in rows if row["agent"] == "stock" and row["ratio"] == "1.0"]
    assert float(row["missed"]) == pytest.approx(by_hand, abs=1e-12)
    assert float(row["missed_lo"]) <= float(row["missed"]) <= float(row["missed_hi"])


def test_vms_and_gib_follow_from_the_ratio(written):
    _, _, (summary, _) = written
    assert gib_saved_per_100_vms(1.25, 8.0) == pytest.approx(160.0)  # 800 GiB are configured, 640 are needed
    assert gib_saved_per_100_vms(0.0, 8.0) is None
    for figures in summary["agents"].values():
        assert figures["vms_a_host"] == summary["vms"] * figures["density"]


def test_the_leaderboard_shows_density_once_there_is_one(written):
    study, _, (summary, _) = written
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock", "reference"), eval_seeds=2)
    agents = tuple(load_group("agent", name) for name in ("stock", "reference"))
    protocol = Protocol(suite, agents, (load("no-guest-swap-short").to_dict(),), quick().sources)
    run_study(protocol, study.parent / "without", 1)
    run_study(protocol, study, 1)
    plain, _ = write_report(study.parent / "without")
    shown, _ = write_report(study)
    assert "capacity" not in plain
    assert "density" not in plain["agents"]["stock"]
    assert "<th>density</th>" not in (study.parent / "without" / "report.html").read_text()
    assert shown["agents"]["stock"]["density"] == summary["agents"]["stock"]["density"]
    assert "density" not in shown["agents"]["reference"]
    page = (study / "report.html").read_text()
    assert "<th>density</th>" in page
    density, _, interval = summary["agents"]["stock"]["shown"].replace("<", "&lt;").partition(" ")
    assert density in page
    assert interval.strip("()") in page
    assert "idle-giants-short on esxi" in page
    (study / FOLDER / "capacity.json").write_text("{}")
    with pytest.raises(InputError, match=r"capacity\.json: damaged .* hvgym capacity study=s writes it again"):
        write_report(study)
