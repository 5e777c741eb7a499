"""An advice: a fleet whose safe ratio one computes by hand, readings that disagree, kills, one VM that decides, the same bytes."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hvgym.bench import advice as module
from hvgym.bench import advice_case, advice_facts, advice_report, advice_words
from hvgym.bench.advice import best_without, densities, measure, ranked, safe, undecided
from hvgym.bench.advice_case import COUNTED, Job, Rows
from hvgym.bench.advice_own import Question, own_fleet, spread
from hvgym.bench.advice_report import summarise, write_advice
from hvgym.bench.density import Rule
from hvgym.envs.errors import InputError
from hvgym.envs.fleet.history import read_history
from hvgym.envs.scenario import load_group

MIB, GIB = 2.0**20, 1024.0
STOCK, STATIC, PROXMOX = (load_group("agent", name) for name in ("stock", "static", "proxmox"))
LEVELS = ("low", "mid", "high")


def hypervisor(name="kvm", **changes):
    data = load_group("hypervisor", name)
    devices = {kind: load_group(kind, data[kind]) for kind in ("disk", "nic")}
    return data | devices | changes


def ask(folder, ram_gib=10.0, name="kvm", **more):
    few = {"hardest": 1, "random": 2, "window_s": 600} | more
    return own_fleet(Question(str(folder), hypervisor(name), ram_gib * GIB, **few))


def vms(used_gib, **columns):
    """VMs of 4 GiB for a table, by name: what each uses ``[row]``; no page cache, and the host backs what they use."""

    def of(used):
        used_bytes = GIB * MIB * np.asarray(used, np.float64)
        known = {
            "cap_bytes": 4 * GIB * MIB,
            "guest_used_bytes": used_bytes,
            "guest_cache_bytes": 0.0,
            "backed_bytes": used_bytes,
        }
        known |= {"vcpus": 2, "cpu_used_cores": 0.1} | columns
        return {name: values for name, values in known.items() if values is not None}

    return {name: of(used) for name, used in used_gib.items()}


def four(own_table, name="table"):
    """Four VMs that use the same all the time."""
    return own_table(vms({f"vm-{number}": [1.5] * 180 for number in range(4)}), name=name)


RULE = Rule(least=0.5, most=4.0)


def test_constant_demand_without_cold_memory_has_the_ratio_that_one_computes_by_hand(own_table, tmp_path):
    """A guest needs what it uses and its kernel; a host the guests, their processes, itself, and what Linux keeps free."""
    own = ask(four(own_table), host={"disk_iops": 2000.0, "disk_latency_us": 5000.0})
    (scenario,) = own.case.at("mid", 2.0)
    group, profile = scenario.groups[0], scenario.hypervisor
    guest_mib = 1.5 * GIB + group.kernel_mib + group.kernel_cache_mib + profile.overhead_mib(group)
    by_hand = 16.0 * GIB / (4 * guest_mib + profile.own_mib)
    assert 2.0 < by_hand < 2.3
    found = measure(own.case, [STOCK], STOCK, RULE, tmp_path / "advice").found["stock"]
    for level in ("mid", "high"):  # page cache is known to be none, so these are one
        assert found[level].search.density.value == pytest.approx(by_hand, abs=0.1)
        below = found[level].curve[max(ratio for ratio in found[level].curve if ratio < by_hand - 0.15)]
        assert below.missed_s.sum() <= 0.0
    assert found["low"].search.density.value > by_hand + 0.2  # what is not touched may be swapped


def test_her_hosts_are_played_as_they_are(own_table, tmp_path):
    own = ask(four(own_table), ram_gib=11.3)
    assert own.case.today == pytest.approx(16.0 / 11.3)
    for level in LEVELS:
        (scenario,) = own.case.at(level, own.case.today)
        assert scenario.machine.ram_mib == 11.3 * GIB
        assert [group.name for group in scenario.groups] == ["vm-0", "vm-1", "vm-2", "vm-3"]
    (other,) = own.case.at("mid", 2.0)
    assert other.machine.ram_mib == 8.0 * GIB
    assert other.machine.swap_share * other.machine.ram_mib == pytest.approx(11.3 * GIB)


def test_each_window_is_played_by_its_seed(own_table):
    used = np.repeat([1.0, 1.5, 2.0, 2.5, 3.0, 3.2], 10)
    own = ask(own_table(vms({"a": used, "b": used})), ram_gib=6.0, hardest=2, random=4)
    assert own.windows.share == 1.0
    from hvgym.envs.simulator import Simulator

    (scenario,) = own.case.at("mid", own.case.today)
    sim = Simulator(scenario, len(own.case.seeds))
    sim.reset(own.case.seeds)
    hot = sim.demand["tier_mib"][:, :, 0, 0].mean(axis=1)
    np.testing.assert_allclose(hot, GIB * np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.2]), rtol=0.02)


def test_floors_hold_the_quantile_of_the_working_set_and_shrink_where_they_do_not_fit(own_table):
    used = [1.0] * 150 + [2.0] * 30
    folder = own_table(vms({"a": used, "b": used, "c": used}))
    high, low = (ask(folder, ram_gib=12.0, floor=floor).case for floor in (0.99, 0.5))
    for case, working in ((high, 2.0), (low, 1.0)):
        floors = case.floors_mib(case.today)
        assert (floors % 64 == 0).all()
        assert ((floors >= working * GIB) & (floors < working * GIB + 160)).all()
    tight = high.at("mid", 3.0)[0]  # 4 GiB for three floors of 2
    own_mib = tight.hypervisor.own_mib + 3 * tight.hypervisor.overhead_mib(tight.groups[0])
    assert sum(group.min_mib for group in tight.groups) == pytest.approx(0.95 * (4.0 * GIB - own_mib))


def test_what_a_hypervisor_ships_with_is_not_played_twice(own_table, tmp_path):
    own = ask(four(own_table), name="hyperv")
    agents = [STOCK, STATIC, load_group("agent", "hyperv_like")]
    found = measure(own.case, agents, STOCK, Rule(least=0.5, most=1.0), tmp_path / "advice")
    assert densities(found, "hyperv_like") == densities(found, "stock")
    played = {json.loads(path.read_text())["agent"] for path in (tmp_path / "advice" / "jobs").iterdir()}
    assert played == {"stock", "static"}
    assert "Set-VMMemory" in summarise(own, found)["settings"][ranked(found)[0]][0]["lines"][0]
    alone = measure(own.case, [agents[2]], STOCK, Rule(least=0.5, most=1.0), tmp_path / "alone")
    for ratio, point in alone.found["hyperv_like"]["mid"].raw.items():  # it would have been the same
        assert point.missed_s.tolist() == found.found["stock"]["mid"].raw[ratio].missed_s.tolist()
        assert point.goodput.tolist() == found.found["stock"]["mid"].raw[ratio].goodput.tolist()


@pytest.mark.parametrize(("name", "agents"), [("hyperv", ["hyperv_like"]), ("xen", ["squeezed"]), ("esxi", ["esx"])])
def test_other_hypervisors_play_too(own_table, tmp_path, name, agents):
    own = ask(four(own_table), name=name)
    found = measure(own.case, [STOCK, *(load_group("agent", one) for one in agents)], STOCK, RULE, tmp_path / "advice")
    for one in found.found.values():
        assert one["mid"].search.density.value >= 1.25
    assert found.refused == {}


def test_vms_are_spread_evenly_and_every_host_has_its_own():
    assert spread([8.0, 1.0, 4.0, 4.0, 3.0], 2) == [[0, 4], [1, 2, 3]]  # 8 and 3, 4 and 4 and 1
    with pytest.raises(InputError, match="hosts=3: expected at most as many as VMs, and you have 2 VMs"):
        spread([1.0, 1.0], 3)


def test_of_several_hosts_each_holds_its_part(own_table, tmp_path):
    own = ask(four(own_table), ram_gib=5.0, hosts=2)
    assert own.case.today == pytest.approx(1.6)
    assert own.case.host_of == (0, 0, 1, 1)
    found = measure(own.case, [STOCK], STOCK, Rule(least=0.5, most=1.0), tmp_path / "advice")
    rows = found.rows("stock", "mid", found.case.today)
    assert rows.fits.shape == (3, 2)
    assert rows.counted["asked_s"].shape == (3, 4)
    summary = summarise(own, found)
    assert summary["n_plus_one"]["after"] == pytest.approx(3.2)


def planted(own_table, tmp_path, missed, kills=None, agents=(STOCK, PROXMOX), rule=None):
    """An advice whose jobs are written by hand. missed: share of its seconds that each VM misses ``[vm]``, by agent, level and
    ratio; kills: of a window, ``[window, vm]``."""
    own = ask(four(own_table, f"table-{len(list(tmp_path.glob('table-*')))}"), random=3, hardest=1)
    case, rule = own.case, rule or Rule(least=1.0, most=2.0)
    shape = (len(case.seeds), 4)
    ratios = [0.5, case.today, *(rule.ratio(index) for index in range(20, 41))]
    for agent in (*agents, STOCK):
        for level in LEVELS:
            for ratio in ratios:
                job = Job(case, level, agent, ratio)
                counted = {name: np.zeros(shape) for name in COUNTED} | {"asked_s": np.full(shape, 600.0)}
                share = np.zeros(4) if ratio == 0.5 else np.asarray(missed(agent["name"], level, ratio), np.float64)
                counted["missed_s"] = counted["asked_s"] * share
                counted["progress_s"] = counted["asked_s"] - counted["missed_s"]
                if kills and ratio != 0.5:
                    counted["kills"] = kills(agent["name"], level, ratio, shape)
                job.write(Rows(counted, np.ones((shape[0], 1)), np.zeros((shape[0], 1))), tmp_path / "advice")
    return own, measure(case, list(agents), STOCK, rule, tmp_path / "advice")


def by_limit(**limits):
    """An agent misses nothing up to its ratio of a level, and a fiftieth beyond."""

    def missed(agent, level, ratio):
        limit = limits[agent][LEVELS.index(level)]
        return [0.02 * (ratio > limit + 1e-9)] * 4

    return missed


def test_the_safe_ratio_is_the_least_of_the_readings_and_ranks(own_table, tmp_path):
    _, found = planted(own_table, tmp_path, by_limit(stock=(1.8, 1.5, 1.3), proxmox=(1.9, 1.6, 1.35)))
    assert densities(found, "stock") == {"low": 1.8, "mid": 1.5, "high": 1.3}
    assert (safe(found, "stock"), safe(found, "proxmox")) == (1.3, 1.35)
    assert ranked(found) == ["proxmox", "stock"]
    assert undecided(found) == []


def test_where_the_order_changes_between_readings_the_data_does_not_decide(own_table, tmp_path):
    own, found = planted(own_table, tmp_path, by_limit(stock=(1.4, 1.4, 1.4), proxmox=(1.8, 1.6, 1.3)))
    assert undecided(found) == [("stock", "proxmox")]
    summary = summarise(own, found)
    assert summary["best"] == "stock"
    assert "stock or proxmox, is undecided by your data" in summary["verdict"][1]
    assert list(summary["settings"]) == ["stock", "proxmox"]


def test_equal_at_one_reading_is_no_contradiction(own_table, tmp_path):
    _, found = planted(own_table, tmp_path, by_limit(stock=(1.4, 1.4, 1.4), proxmox=(1.8, 1.6, 1.4)))
    assert undecided(found) == []


def test_a_kill_in_a_window_counts_for_all_that_it_stands_for(own_table, tmp_path):
    def kills(agent, level, ratio, shape):
        found = np.zeros(shape)
        found[-1, 0] = agent == "proxmox" and ratio > 1.45
        return found

    missed = by_limit(stock=(1.6, 1.6, 1.6), proxmox=(2.0, 2.0, 2.0))
    own, found = planted(own_table, tmp_path, missed, kills)
    assert densities(found, "proxmox")["mid"] == 1.45
    weight = own.case.weights[-1]
    assert weight > 1.0
    for allowed, holds in ((int(weight) - 1, 1.45), (int(weight) + 1, 2.0)):
        _, found = planted(own_table, tmp_path, missed, kills, rule=Rule(least=1.0, most=2.0, kills=allowed))
        assert densities(found, "proxmox")["mid"] == holds


def test_a_vm_that_alone_makes_a_policy_the_better_one_is_named(own_table, tmp_path):
    def missed(agent, level, ratio):
        if agent == "stock":  # vm-2 suffers much from 1.3 on, the others never
            return [0.0, 0.0, 0.08 * (ratio > 1.3), 0.0]
        return [0.02 * (ratio > 1.5)] * 4

    own, found = planted(own_table, tmp_path, missed)
    assert ranked(found)[0] == "proxmox"
    assert best_without(found, "mid") == {"vm-2": "stock"}
    assert summarise(own, found)["decided_by_one_vm"]["mid"] == {"vm-2": "stock"}


def test_who_suffers_first_stands_first_and_vms_that_fit_are_counted(own_table, tmp_path):
    def missed(agent, level, ratio):
        return [0.0, 0.01 * (ratio > 1.5), 0.05 * (ratio > 1.5), 0.0]

    own, found = planted(own_table, tmp_path, missed, agents=(STOCK,))
    summary = summarise(own, found)
    of_stock = summary["suffering"]["stock"]
    assert of_stock["ratio"] == pytest.approx(1.55)
    assert of_stock["failed"]
    assert [row["name"] for row in of_stock["vms"]][:2] == ["vm-2", "vm-1"]
    assert of_stock["vms"][0]["missed"] == pytest.approx(0.05)
    assert summary["policies"]["stock"]["levels"]["mid"]["then"] == "1.50 % missed at 1.55"
    # 1.5 times 10 GiB less 16 that are configured: minus one VM of 4 GiB, rounded down
    assert summary["savings"]["safe"] == {"ratio": 1.5, "more_vms": -1, "gib": pytest.approx(10 - 16 / 1.5), "hosts": 2}


def test_what_hosts_need_themselves_is_needed_once_however_many_vms_there_are(own_table):
    """At a ratio of 1 four VMs of 4 GiB have 16 GiB, 12 of them beside the host's 4; of her 64 GiB 60 are left, five times as
    much: 20 VMs, 16 more. Of 10 GiB 6 are left, half as much: two VMs too many, or a second host."""
    one = ask(four(own_table), ram_gib=64.0, host={"own_mib": 4096.0}).case
    found = advice_report._against_today(SimpleNamespace(case=one), 1.0)
    assert found == {"ratio": 1.0, "more_vms": 16, "gib": pytest.approx(48.0), "hosts": 1}
    tight = ask(four(own_table, "tight"), ram_gib=10.0, host={"own_mib": 4096.0}).case
    assert advice_report._against_today(SimpleNamespace(case=tight), 1.0)["more_vms"] == -2  # as 6 to 12
    assert advice_report._against_today(SimpleNamespace(case=tight), 1.0)["hosts"] == 2


def test_what_ample_memory_has_too_does_not_count(own_table, tmp_path):
    own = ask(four(own_table), host={"pcpus": 0.1})  # CPU for a twentieth of what they want
    found = measure(own.case, [STOCK], STOCK, Rule(least=0.5, most=1.0), tmp_path / "advice")
    assert found.ample["mid"].missed_share(found.draws[:1])[0] == 1.0
    assert densities(found, "stock")["mid"] == 1.0
    assert {row["missed"] for row in summarise(own, found)["suffering"]["stock"]["vms"]} == {0.0}


def test_the_same_bytes_whatever_the_folder_the_workers_and_interruptions(own_table, tmp_path):
    first = four(own_table)
    second = tmp_path / "somewhere else" / "the table"
    shutil.copytree(first, second)
    written = []
    for number, (folder, workers) in enumerate(((first, 1), (second, 2))):
        own = ask(folder)
        place = tmp_path / f"out-{number}"
        measure(own.case, [STOCK, STATIC, PROXMOX], STOCK, Rule(least=0.5, most=1.5), place, 1)
        if number:  # half of it is gone, as after a kill
            for file in sorted((place / "jobs").iterdir())[::2]:
                file.unlink()
        found = measure(own.case, [STOCK, STATIC, PROXMOX], STOCK, Rule(least=0.5, most=1.5), place, workers)
        _, files = write_advice(own, found, place)
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert set(written[0]) == {"advice.json", "advice.html", "advice.png"}
    for name in ("advice.json", "advice.html"):
        assert str(tmp_path).encode() not in written[0][name]


def test_a_file_that_was_changed_is_named(own_table, tmp_path):
    own = ask(four(own_table))
    job = Job(own.case, "mid", STOCK, 1.0)
    job.done(tmp_path)
    file = job.file(tmp_path)
    data = json.loads(file.read_text())
    data["vms"]["missed_s"][0][0] += 1.0
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"was changed after it was written.*run hvgym advise again"):
        job.stored(tmp_path)


def test_a_folder_of_other_vms_is_not_mixed_with_these(own_table, tmp_path):
    own = ask(four(own_table))
    measure(own.case, [STOCK], STOCK, Rule(least=0.5, most=1.0), tmp_path / "advice")
    other = ask(own_table(vms({"x": [1.0] * 180, "y": [1.0] * 180}), name="other"))
    with pytest.raises(InputError, match=r"holds an advice with other vms; choose study=NAME"):
        measure(other.case, [STOCK], STOCK, RULE, tmp_path / "advice")
    with pytest.raises(InputError, match=r"holds an advice with other ram_mib"):
        measure(replace(own.case, ram_mib=12.0 * GIB), [STOCK], STOCK, RULE, tmp_path / "advice")


def test_who_cannot_play_is_left_out_with_the_reason(own_table, tmp_path):
    own = ask(four(own_table))
    names = ("esx", "reference", "nova", "ppo", "admit_ratio")
    found = measure(
        own.case, [STOCK, *(load_group("agent", one) for one in names)], STOCK, Rule(least=0.5, most=1.0), tmp_path
    )
    assert set(found.found) == {"stock"}
    assert found.refused["esx"] == "needs sampled activity, which kvm lacks"
    assert found.refused["reference"] == "sees the future, which no operator does"
    assert found.refused["nova"] == "moves VMs between hosts, which is not played here"
    assert found.refused["ppo"].startswith("has not been trained")
    assert found.refused["admit_ratio"] == "decides which VMs start, and yours run already"


def test_a_policy_that_fails_is_left_out_and_the_others_are_not(own_table, tmp_path, monkeypatch):
    real = advice_case.policy_of

    def broken(agent):
        if agent["name"] == "proxmox":
            raise InputError("agent proxmox: out of order")
        return real(agent)

    monkeypatch.setattr(module, "policy_of", real)
    monkeypatch.setattr(advice_case, "policy_of", broken)
    own = ask(four(own_table))
    found = measure(own.case, [STOCK, PROXMOX], STOCK, Rule(least=0.5, most=1.0), tmp_path / "advice")
    assert set(found.found) == {"stock"}
    assert "out of order" in found.refused["proxmox"]


@pytest.mark.parametrize(
    ("ram_mib", "said"),
    [
        (16.0, "if these are GiB, write host.ram_mib=16384"),
        (16.0 * 2**30, "if these are bytes, write host.ram_mib=16384"),
        (16.0 * 2**20, "if these are KiB, write host.ram_mib=16384"),
        (4000.0, "VM 'vm-0' has 4096 MiB, more than a host"),
        (900.0 * GIB, "is a ratio of 0.0178; expected 0.02 to 20"),
    ],
)
def test_a_host_that_cannot_be_is_refused_in_one_line(own_table, ram_mib, said):
    folder = four(own_table)
    with pytest.raises(InputError) as raised:
        own_fleet(Question(str(folder), hypervisor(), ram_mib, window_s=600))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_how_often_memory_would_be_short_is_counted_by_hand(own_table):
    """Two VMs of 4 GiB on 6 GiB, of which kvm takes one and its processes some: 2 x 2 GiB fit, 2 x 3 GiB do not."""
    used = [2.0] * 1440 + [3.0] * 60 + [2.0] * 1380
    own = ask(own_table(vms({"a": used, "b": used})), ram_gib=6.0)
    found = advice_facts.shortage(own, "mid")
    assert found["episodes"] == 1
    assert found["hours_in_30_days"] == pytest.approx(720 * 60 / 2880)
    assert (found["hours_lo"], found["hours_hi"]) == (0.0, pytest.approx(720 * 60 / 1440))  # one day of two has it
    fixed = (1024 + 2 * (78 + 0.002 * 4096)) / GIB
    assert found["peak_gib"] == pytest.approx(6.0 + fixed)
    assert found["short_gib"] == pytest.approx(fixed)
    once = advice_facts.at_once(own.case)
    assert once["needed_gib"] == pytest.approx(8.0 + fixed)
    assert once["short_gib"] == pytest.approx(2.0 + fixed)
    assert once["beyond_swap_gib"] == 0.0  # swap is as large as RAM
    alone = ask(own_table(vms({"a": used, "b": used}), name="again"), ram_gib=6.0, swap_mib=1024.0)
    assert advice_facts.at_once(alone.case)["beyond_swap_gib"] == pytest.approx(1.0 + fixed)


def test_stretches_less_than_an_hour_apart_are_one_episode():
    when = np.zeros(1000, np.bool_)
    when[[10, 11, 12, 60, 200, 400]] = True
    assert advice_facts.episodes(when, 60) == 3
    assert advice_facts.episodes(np.zeros(10, np.bool_), 60) == 0


def test_what_the_data_cannot_tell_is_said_with_what_to_record(own_table, tmp_path):
    folder = own_table(
        vms({f"vm-{n}": [1.5] * 40 for n in range(4)}, guest_cache_bytes=None, backed_bytes=None), step_s=600
    )
    own = ask(folder, window_s=None)
    found = measure(own.case, [STOCK], STOCK, Rule(least=0.5, most=1.0), tmp_path / "advice")
    unknown = " ".join(summarise(own, found)["unknown"])
    assert "All VMs: their page cache is not known; record page cache" in unknown
    assert "A row every 600 s cannot judge policies that act in minutes" in unknown
    assert "0.3 days are a replay" in unknown
    assert "All that was played is of one day: there is no interval" in unknown
    assert "fewer than 5" in unknown.lower()


def test_names_are_text_on_the_page(own_table, tmp_path):
    names = ["<script>alert(1)</script>", "a&b", 'it\'s "so"']
    own = ask(own_table(vms({name: [1.5] * 60 for name in names})), ram_gib=6.0)
    found = measure(own.case, [STOCK], STOCK, Rule(least=0.5, most=2.0), tmp_path / "advice")
    summary, files = write_advice(own, found, tmp_path / "advice")
    page = next(path for path in files if path.suffix == ".html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a&amp;b" in page
    assert [vm["name"] for vm in summary["vms"]] == sorted(names)
    assert len(summary["questions"]) == 10
    assert all(one["answer"] for one in summary["questions"])


def test_what_was_trained_is_known_by_its_weights():
    assert not module.is_learned(STOCK)
    assert module.is_learned(STOCK | {"weights": "w"})
    assert module.is_learned(load_group("agent", "ppo"))


def test_a_trained_policy_stands_apart_and_is_never_the_recommended_one(own_table, tmp_path, monkeypatch):
    """Stock does best here; as soon as it counts as trained it comes last, and is said to be no setting."""
    own = ask(four(own_table))
    found = measure(own.case, [STOCK, PROXMOX], STOCK, Rule(least=0.5, most=3.0), tmp_path / "advice")
    assert ranked(found) == ["stock", "proxmox"]
    for place in (module, advice_report):
        monkeypatch.setattr(place, "is_learned", lambda agent: agent["name"] == "stock")
    assert ranked(found) == ["proxmox", "stock"]
    summary = summarise(own, found)
    assert summary["best"] == "proxmox"
    assert [one["learned"] for one in summary["policies"].values()] == [False, True]
    said = summary["verdict"][-1]
    assert said.startswith(
        "stock was trained and is no setting of any product; run beside the hypervisor it would be safe up to "
    )
    assert said.endswith(" under proxmox.")


def test_vms_that_leave_within_what_is_played_are_named(own_table):
    """Three windows of ten minutes are played whole; one VM is off from the middle of the second."""
    table = vms({name: [1.0] * 30 for name in ("stays", "leaves", "edge")})
    table["leaves"]["power"] = ["on"] * 15 + ["off"] * 15
    table["edge"]["power"] = ["on"] * 20 + ["off"] * 10  # between two windows
    own = ask(own_table(table), ram_gib=8.0)
    assert advice_facts.leaving(own) == ["leaves"]


def test_the_search_reaches_her_own_ratio_and_that_with_a_host_lost():
    def most(today, hosts):
        return module.reaching(Rule(most=3.0), SimpleNamespace(today=today, hosts=hosts)).most

    assert [most(1.5, 1), most(3.0, 1), most(3.1, 1), most(4.0, 1)] == [3.0, 3.0, 3.25, 4.0]
    assert [most(1.5, 2), most(2.0, 2), most(2.2, 3)] == [3.0, 4.0, 3.5]


@pytest.mark.parametrize(("today", "least"), [(1.5, 0.5), (0.5, 0.5), (0.49, 0.45), (0.25, 0.25), (0.01, 0.05)])
def test_the_search_begins_at_her_own_ratio_where_hosts_are_roomy(today, least):
    """At half the VMs' memory a desktop of its own system alone may be full."""
    assert module.reaching(Rule(least=0.5, most=3.0), SimpleNamespace(today=today, hosts=1)).least == least


def test_where_nothing_failed_it_is_not_told_as_a_failure(own_table, tmp_path):
    own, found = planted(own_table, tmp_path, lambda agent, level, ratio: [0.0] * 4, agents=(STOCK,))
    summary = summarise(own, found)
    assert not summary["suffering"]["stock"]["failed"]
    assert summary["policies"]["stock"]["safe_shown"].startswith("≥ ")
    assert "and further" in summary["verdict"][1]


@pytest.mark.parametrize(
    ("safe", "most", "says"), [(1.2, 3.0, "a ratio of 1.20 whatever"), (3.0, 3.0, "3.00 and further")]
)
def test_where_the_search_ends_is_no_limit(safe, most, says):
    level = {"shown": "x", "interval": "y to z"}
    policy = {"safe": safe, "levels": dict.fromkeys(("low", "mid", "high"), level)}
    assert says in advice_words._safe({"best": "stock", "policies": {"stock": policy}, "most_ratio": most})


def test_what_ample_memory_does_not_mend_is_said_first():
    found = {"slo": 0.01, "ample_missed": {"low": 0.005, "mid": 0.01, "high": 0.2}}
    said = advice_words._without_memory(found)
    assert said is not None
    assert "20 % of the VMs' seconds" in said
    assert advice_words._without_memory(found | {"ample_missed": {"low": 0.01}}) is None


def test_what_ratios_count_where_vms_came_and_left_stands_in_the_verdict():
    said = advice_words._counted({"history": {"at_once": 0.5}})
    assert said is not None
    assert "At most 50% of their memory was there at once: counted so, a ratio is 0.50 times what stands here" in said
    assert advice_words._counted({"history": {"at_once": 1.0}}) is None


@pytest.mark.parametrize(("used", "says"), [(-1e9, "of -1e\\+09"), (1e13, "of 1e\\+13")])
def test_a_table_by_hand_with_memory_that_no_vm_can_have_is_refused(own_table, used, says):
    gib = 2.0**30
    folder = own_table({"web": {"cap_bytes": 4 * gib, "guest_used_bytes": np.full(300, used), "cpu_used_cores": 0.1}})
    with pytest.raises(
        InputError, match=rf"VM 'web' has guest_used_bytes {says}, expected 0 to its cap_bytes, 4.29497e\+09"
    ):
        read_history(folder)
