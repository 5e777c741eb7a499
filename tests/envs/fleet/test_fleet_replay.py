"""Own VMs as demand: all of them, by name, at the size and on the host that was said."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.fleet.needs import fleet
from hvgym.envs.fleet.replay import COLD_SHARE, TAU_S, WARM_SHARE, HistoryDemand, splits_by_time
from hvgym.envs.fleet.splits import DAY_S, WEEK_S
from hvgym.envs.model import params
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.simulator import Simulator

START_S = 1_700_006_400
MIB, GIB = 2.0**20, 2.0**30


def own(folder, scenario="own-vms", host=None, **work):
    data = load_group("scenario", scenario)
    if host:
        data["host"] = data["host"] | host
    work = {"kind": "history", "path": str(folder), "episode_s": 3600} | work
    return resolve(data, workload=work)


def played(scenario, seed=1, lanes=1):
    sim = Simulator(scenario, lanes)
    sim.reset(list(range(seed, seed + lanes)))
    return sim


def steady(rows=600, used=1024, cap=4096, first_row=0, **more):
    return {"first_row": first_row, "cap_bytes": cap * MIB, "guest_used_bytes": np.full(rows, used * MIB)} | more


def test_twelve_vms_are_played_by_name_and_the_host_keeps_its_size(twelve):
    scenario = own(twelve, host={"ram_mib": 131072})
    assert [group.name for group in scenario.groups] == [
        "build", "cache01", "db01", "db02", "idle", "mail", "queue", "vpn", "web01", "web02", "web03", "wiki",
    ]  # fmt: skip
    sim = played(scenario)
    assert sim.host_specs["ram_mib"][0, 0] == 131072
    assert sim.vm_specs["memory_mib"][0].tolist() == [g * 1024 for g in (8, 8, 16, 16, 2, 8, 4, 2, 4, 4, 4, 4)]
    assert sim.vm_specs["vcpus"][0].tolist() == [2.0] * 12
    assert sim.vm_specs["min_mib"][0].tolist() == [0.0] * 12
    assert sim.vm_specs["guest_swap_mib"][0, 0] == 4096  # half of its memory, as the pattern's is
    for level in ("low", "high"):  # the size is hers at every level
        assert played(own(twelve, host={"ram_mib": 131072}, level=level)).host_specs["ram_mib"][0, 0] == 131072


def test_a_host_smaller_than_one_of_its_vms_is_refused_by_name(twelve):
    """128 for 128 GiB would be played with everything swapped."""
    with pytest.raises(
        InputError, match=r"scenario.host.ram_mib=128: VM 'db0.' of .* alone has 16384 MiB; give .* MiB"
    ):
        own(twelve, host={"ram_mib": 128})
    left = own(twelve, host={"ram_mib": 8192}, without=["db01", "db02"])
    assert max(group.memory_mib for group in left.groups) == 8192


def test_a_ratio_is_of_her_sizes(twelve):
    assert played(own(twelve)).host_specs["ram_mib"][0, 0] == pytest.approx(80 * 1024 / 1.5)


def test_a_scenario_of_a_table_is_plain_data_that_comes_back(twelve):
    scenario = own(twelve)
    again = Scenario.from_dict(json.loads(json.dumps(scenario.to_dict())))
    assert again == scenario
    assert played(again).demand.tobytes() == played(scenario).demand.tobytes()


def test_tiers_follow_from_the_evidence(own_table):
    """8 GiB, 3,000 MiB used, 1,000 MiB of cache: at low a third of what is used is hot."""
    folder = own_table({"a": steady(used=3000, cap=8192, guest_cache_bytes=1000 * MIB, backed_bytes=8000 * MIB)})
    tiers = {level: played(own(folder, level=level)).demand["tier_mib"][0, 5, 0] for level in ("low", "mid", "high")}
    warm = WARM_SHARE * 4000
    np.testing.assert_allclose(tiers["low"], [900, warm, 2100 - warm, 1000], rtol=1e-6)
    np.testing.assert_allclose(tiers["mid"], [3000, 0, 0, 1000], rtol=1e-6)
    np.testing.assert_allclose(tiers["high"], [4000, 0, 0, 0], rtol=1e-6)


def test_where_nothing_tells_cache_and_memory_apart_the_retouch_curve_does(own_table):
    folder = own_table(
        {"a": {"cap_bytes": 8192 * MIB, "active_bytes": np.full(600, 500 * MIB), "backed_bytes": 6000 * MIB}}
    )
    tiers = played(own(folder, level="low")).demand["tier_mib"][0, 5, 0]
    rest = 6000 - 500 - (WARM_SHARE + COLD_SHARE) * 6000
    np.testing.assert_allclose(tiers, [500, WARM_SHARE * 6000, COLD_SHARE * 6000, rest], rtol=1e-6)
    specs = played(own(folder)).vm_specs[0, 0]
    np.testing.assert_allclose(1.0 / specs["tier_rate_per_s"], TAU_S)


def test_what_the_host_backs_beside_what_guests_hold_is_touched(own_table):
    folder = own_table({"a": steady(used=3000, cap=8192, guest_cache_bytes=1000 * MIB, backed_bytes=6096 * MIB)})
    assert fleet(str(folder), "mid").touched_share == pytest.approx(0.5)  # (6,096 - 4,000) of (8,192 - 4,000)
    assert own(folder).touched_share == 0.5


def test_a_vm_that_comes_late_is_started_then_and_one_that_is_not_there_asks_for_nothing(own_table):
    vms = {"all": steady(900), "late": steady(600, first_row=300), "gone": steady(280)}
    scenario = own(own_table(vms), windows=[START_S + 290 * 60])
    sim = played(scenario)
    assert sim.vm_specs["arrive_s"][0].tolist() == [0.0, 3601.0, 600.0]  # all, gone, late
    for _ in range(3600 // 60):
        sim.advance(60)
    assert sim.vms["asked_s"][0].tolist() == [3600.0, 0.0, pytest.approx(3000, abs=1)]
    assert sim.vms["admitted"][0].tolist() == [1.0, 0.0, 1.0]


def test_a_vm_that_leaves_has_no_demand_from_then_on(own_table):
    sim = played(own(own_table({"all": steady(900), "gone": steady(300)}), windows=[START_S + 290 * 60]))
    wanted = sim.demand["tier_mib"][0, :, 1].sum(axis=1)
    assert (wanted[:10] > 1000).all()
    assert (wanted[10:] == 0.0).all()
    assert (sim.demand["cpu_share"][0, 10:, 1] == 0.0).all()


def test_a_gap_is_held_and_windows_of_gaps_are_not_drawn(own_table):
    used = np.full(900, 1024 * MIB)
    used[300:600] = np.nan
    folder = own_table({"a": steady(guest_used_bytes=used, cap=8192)})
    source = HistoryDemand(own(folder))
    starts = set(source._starts.tolist())
    assert starts == {*range(247), *range(594, 841)}  # at most 6 of 60 rows are unknown
    held = played(own(folder, windows=[START_S + 400 * 60]))
    assert (held.demand["tier_mib"][0, :, 0, params.HOT] == 1024).all()


def test_windows_are_played_one_a_seed(twelve):
    chosen = [START_S + day * DAY_S for day in range(4)]
    hot = [played(own(twelve, windows=chosen), seed).demand["tier_mib"][0, :, 0, params.HOT] for seed in range(8, 12)]
    alone = [played(own(twelve, windows=[start]), 0).demand["tier_mib"][0, :, 0, params.HOT] for start in chosen]
    assert np.array_equal(hot, alone)
    with pytest.raises(InputError, match=r"workload.windows: 5: must be at least 1700006400 and at most"):
        HistoryDemand(own(twelve, windows=[5]))


def test_splits_by_time_share_no_row_and_lie_a_day_apart(own_table):
    rows = 6 * WEEK_S // 300
    folder = own_table({"a": steady(rows), "b": steady(rows)}, step_s=300)
    spans = {}
    for split in ("train", "validation", "test"):
        starts = HistoryDemand(own(folder, split=split))._starts * 300
        spans[split] = (starts.min(), starts.max() + 3600)
    assert spans["train"][1] + DAY_S <= spans["validation"][0]
    assert spans["validation"][1] + DAY_S <= spans["test"][0]
    assert spans["test"][1] == 6 * WEEK_S
    whole = HistoryDemand(own(folder, split="all"))._starts * 300
    assert (whole.min(), whole.max() + 3600) == (0, 6 * WEEK_S)
    before = HistoryDemand(own(folder, split="test", origin=1))._starts * 300
    assert (before.min(), before.max() + 3600) == (4 * WEEK_S, 5 * WEEK_S)
    earlier = HistoryDemand(own(folder, split="train", origin=1))._starts * 300
    assert earlier.max() + 3600 <= 3 * WEEK_S - DAY_S


def test_many_vms_that_are_drawn_are_split_by_application(own_table):
    vms = {f"vm{i}": steady(120) for i in range(66)}
    meta = {"vm_id": list(vms), "group": [f"app{i // 6}" for i in range(66)]}
    folder = own_table(vms, meta=meta)
    seen = {}
    for split in ("train", "validation", "test"):
        scenario = own(folder, "idle-giants", vms="drawn", split=split)
        assert not splits_by_time(scenario, fleet(str(folder), "mid").history)
        source = HistoryDemand(scenario)
        drawn = {vm for seed in range(200) for vm in source._drawn(seed)}
        seen[split] = {f"app{int(source._fleet.history.vms[vm].name[2:]) // 6}" for vm in drawn}
        assert all(len(set(source._drawn(seed))) == 8 for seed in range(20))
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_drawn_vms_have_the_tables_sizes_and_the_scenarios_names(own_table):
    scenario = own(own_table({f"vm{i}": steady(120, cap=2048) for i in range(9)}), "idle-giants", vms="drawn")
    assert [group.name for group in scenario.groups] == ["giant"] * 2 + ["worker"] * 6
    assert played(scenario).vm_specs["memory_mib"][0].tolist() == [2048.0] * 8
    few = own(own_table({f"vm{i}": steady(120) for i in range(3)}, name="few"), "idle-giants", vms="drawn")
    with pytest.raises(InputError, match=r"3 VMs can be drawn, scenario idle-giants needs 8"):
        HistoryDemand(few)


def test_a_batch_plays_what_single_hosts_play(twelve):
    scenario = own(twelve, host={"ram_mib": 49152}, level="high")
    batch = played(scenario, 5, lanes=3)
    batch.advance(300)
    for lane in range(3):
        alone = played(scenario, 5 + lane)
        alone.advance(300)
        assert alone.demand[0].tobytes() == batch.demand[lane].tobytes()
        assert alone.vms[0].tobytes() == batch.vms[lane].tobytes()


def test_a_seed_is_a_window_and_a_draw(twelve):
    one, same, other = (played(own(twelve), seed).demand.tobytes() for seed in (4, 4, 5))
    assert one == same
    assert one != other


def test_five_minute_rows_are_played_by_the_minute(own_table):
    sim = played(own(own_table({"a": steady(200, used=2000)}, step_s=300)))
    assert sim.slot_s == 60
    hot = sim.demand["tier_mib"][0, :, 0, params.HOT].reshape(-1, 5)
    np.testing.assert_allclose(hot.mean(axis=1), 2000, rtol=1e-6)
    assert 1.0005 < np.median(hot.max(axis=1)) / 2000 < 1.05


def test_memory_that_nobody_measured_is_drawn_by_seed(own_table):
    unseen = {name: {"cap_bytes": 8192 * MIB, "cpu_used_cores": np.full(300, 0.5), "vcpus": 2} for name in "ab"}
    folder = own_table(unseen | {"seen": steady(300)})
    shares = {
        seed: tuple(played(own(folder), seed).demand["tier_mib"][0, 0, :2, params.HOT] / 8192) for seed in range(40)
    }
    assert len(set(shares.values())) == 40
    flat = np.array(list(shares.values()))
    assert flat.min() >= 0.071 - 1e-6  # Google's 5th percentile
    assert flat.max() <= 0.448 + 1e-6
    assert abs(np.median(flat) - 0.129) < 0.05


def test_vms_are_left_out_by_name_and_patterns_match(twelve):
    scenario = own(twelve, without=["idle", "vpn"])
    assert len(scenario.groups) == 10
    with pytest.raises(InputError, match=r"workload.without: no VM 'idel' in .* \(did you mean 'idle'\?\)"):
        own(twelve, without=["idel"])
    data = load_group("scenario", "own-vms")
    data["vms"] = [data["vms"][0] | {"name": "db*", "weight": 5.0}, data["vms"][0] | {"name": "*"}]
    weighted = resolve(data, workload={"kind": "history", "path": str(twelve)})
    assert {group.name: group.weight for group in weighted.groups if group.weight > 1} == {"db01": 5.0, "db02": 5.0}


def test_too_short_a_history_is_said(twelve):
    with pytest.raises(
        InputError, match=r"168.0 h of history in split all, an episode needs 200.0 h; shorten workload.episode_s"
    ):
        HistoryDemand(own(twelve, episode_s=720_000))


def test_another_table_under_a_scenario_is_said(twelve, own_table):
    scenario = own(twelve)
    other = own_table({"db1": steady()}, name="other")
    with pytest.raises(InputError, match=r"no VM 'build'"):
        HistoryDemand(replace(scenario, workload=replace(scenario.workload, path=str(other))))


DIGEST = """
import hashlib, sys
import numpy as np
from hvgym.envs.fleet.replay import HistoryDemand
from hvgym.envs.model import params
from hvgym.envs.scenario import load_group, resolve
work = {"kind": "history", "path": sys.argv[1], "episode_s": 3600, "level": "low"}
source = HistoryDemand(resolve(load_group("scenario", "own-vms"), workload=work))
specs, hosts = np.zeros(12, params.VM_SPEC), np.zeros(1, params.HOST_SPEC)
demand = np.zeros((source.slots, 12), params.DEMAND)
source.fill(2_000_000_003, specs, hosts, demand)
print(hashlib.sha256(specs.tobytes() + hosts.tobytes() + demand.tobytes()).hexdigest())
"""


def test_demand_is_the_same_to_the_bit_in_a_new_process_and_on_other_code(twelve, tmp_path):
    digests = set()
    for name, more in (("here", {}), ("generic", {"NUMBA_CPU_NAME": "generic"})):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / name)} | more
        command = [sys.executable, "-c", DIGEST, str(twelve)]
        digests.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1
