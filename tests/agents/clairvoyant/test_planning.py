"""The rules of the clairvoyant's plans, each against a hand computation or against the simulator's own."""

import math

import numpy as np
import pytest

from hvgym.agents.clairvoyant import dividing, planning
from hvgym.agents.clairvoyant.planning import HOLD, OWN, RECLAIM, SQUEEZE, WORK, YIELD
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.model import params
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load_group, resolve
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets


def simulator(name="idle-giants-short", hypervisor="kvm", lanes=1):
    sim = Simulator(resolve(load_group("scenario", name), load_group("hypervisor", hypervisor)), lanes)
    sim.reset(range(3, 3 + lanes))
    return sim


def plan(
    kind,
    reports=1.0,
    scan=0.0,
    whole=0.0,
    horizon_s=100.0,
    shrink=1e9,
    fills=0.0,
    capacity=1.0,
    free_mib=0.0,
    shares=0.0,
):
    numbers = (kind, reports, scan, whole, horizon_s, shrink, fills, capacity, free_mib, 1.0, 1.0, shares)
    return np.array([numbers], planning.PLAN)


def decided(sim, plans, period_s=5.0):
    work = np.zeros(sim.vms.shape, WORK)
    planning.decide(
        sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, sim.slot_s, plans, period_s, work
    )
    return work


# ---- reclaim


def one_vm(**fields):
    """A VM record and its specification, all zero but what is given; no limit of host memory."""
    vm, spec = np.zeros(1, params.VM), np.zeros(1, params.VM_SPEC)
    vm["limit_mib"] = math.inf
    spec["weight"], spec["fault_parallelism"], vm["admitted"] = 1.0, 1.0, 1.0
    for name, value in fields.items():
        (spec if name in params.VM_SPEC.names and name != "limit_mib" else vm)[name] = value
    return vm, spec


def demand_of(*slots):
    """Demand of one VM by slot, tier sizes each."""
    demand = np.zeros((len(slots), 1), params.DEMAND)
    demand["tier_mib"][:, 0] = slots
    return demand


def needs(demand, horizon_s=100.0, last=None, growth=100.0):
    _, spec = one_vm(tier_rate_per_s=[0.1, 0.01, 0.001, 0.002], growth_mib_per_s=growth)
    work = np.zeros(1, WORK)
    planning._set_needs(spec[0], work[0], demand, 0, 0, len(demand) - 1 if last is None else last, horizon_s)
    return work["need_per_s"][0]


def test_a_page_that_a_growing_tier_will_draw_is_needed_sooner():
    """50 of 500 cold MiB become hot within 100 s: a tenth of the pages, so a thousandth a second more."""
    demand = demand_of([100.0, 0.0, 500.0, 50.0], [150.0, 0.0, 450.0, 50.0])
    np.testing.assert_allclose(needs(demand), [0.1, 0.01, 0.002, 0.002])
    np.testing.assert_allclose(needs(demand, last=0), [0.1, 0.01, 0.001, 0.002])


def test_what_shrinks_beyond_a_ticks_growth_is_released_and_nobodys_need():
    """300 of 500 MiB go, 100 of them to the hot tier: a fifth."""
    demand = demand_of([100.0, 0.0, 500.0, 50.0], [400.0, 0.0, 200.0, 50.0])
    np.testing.assert_allclose(needs(demand), [0.1, 0.01, 0.003, 0.002])


def test_moves_add_up_over_the_horizon():
    demand = demand_of([100.0, 0.0, 500.0, 0.0], [150.0, 0.0, 450.0, 0.0], [195.0, 0.0, 405.0, 0.0])
    np.testing.assert_allclose(needs(demand)[2], 0.001 + (50.0 / 500.0 + 45.0 / 450.0) / 100.0)


def offers(grows_in_s=math.inf, **fields):
    vm, spec = one_vm(
        tier_rate_per_s=[1.0, 1e-3, 0.0, 0.0], resident_mib=[100.0, 400.0, 0.0, 0.0],
        allocated_mib=[100.0, 400.0, 0.0, 0.0], weight=3.0, fault_parallelism=2.0, **fields,
    )  # fmt: skip
    work = np.zeros(1, WORK)
    work["need_per_s"] = spec["tier_rate_per_s"]
    planning._set_offers(vm[0], spec[0], work[0], grows_in_s)
    return work[0]


AGES = dividing.OLDEST_S / dividing.STEP ** np.arange(dividing.AGES)


def test_offers_are_what_lies_between_one_age_and_the_next():
    work = offers()
    idle = 100.0 * np.exp(-AGES) + 400.0 * np.exp(-1e-3 * AGES)
    np.testing.assert_allclose(np.cumsum(work["offer_mib"]), idle, rtol=1e-4, atol=1e-6)


def test_a_step_costs_the_touches_that_it_will_meet_by_weight_and_parallelism():
    """Weight 3 over two faults in flight; down to 25 s old all pages are cold, touched 1/1000 times a second."""
    work = offers()
    cold = (AGES > 25.0) & (AGES < 20_000.0)
    np.testing.assert_allclose(work["price"][cold], 1.5e-3, rtol=1e-5)
    hot = 100.0 * (math.exp(-AGES[-1]) - math.exp(-AGES[-2]))
    cold = 400.0 * (math.exp(-1e-3 * AGES[-1]) - math.exp(-1e-3 * AGES[-2]))
    assert work["price"][-1] == pytest.approx(1.5 * (hot + 1e-3 * cold) / (hot + cold), rel=1e-4)
    assert (np.diff(work["price"]) >= 0.0).all()


def test_what_is_in_host_swap_already_is_not_offered_again():
    work = offers(host_swapped_mib=[0.0, 250.0, 0.0, 0.0])
    assert np.cumsum(work["offer_mib"])[1000.0 * math.log(400.0 / 250.0) < AGES].max() == pytest.approx(0.0, abs=1e-9)
    assert work["offer_mib"].sum() == pytest.approx(100.0 * math.exp(-AGES[-1]) + 400.0 - 250.0, rel=1e-3)


def test_free_pages_come_first_and_make_dear_what_follows_if_they_are_soon_used():
    """The guest grows in 50 s: 1.5 / 50 for everything. A lump of 16 MiB does not count, nor does one that stays free."""
    work = offers(grows_in_s=50.0, free_backed_mib=120.0, free_swapped_mib=20.0)
    assert work["offer_mib"][0] == pytest.approx(100.0)
    np.testing.assert_allclose(work["price"][AGES > 25.0], 1.5 / 50.0)
    assert offers(free_backed_mib=120.0)["price"][0] == 0.0
    assert offers(grows_in_s=50.0, free_backed_mib=16.0)["price"][0] == 0.0


def test_merged_pages_are_not_for_sale():
    """50 of 500 MiB are merged, so a tenth less of every step."""
    np.testing.assert_allclose(offers(shared_mib=50.0)["offer_mib"], 0.9 * offers()["offer_mib"], rtol=1e-9)


def test_the_cheapest_steps_are_bought_first_and_the_last_in_part():
    """Steps of 10 MiB: prices 1 and 5 of the first VM, 2 and 3 of the second; 35 MiB are short. The third does not run."""
    vms, specs = np.zeros(3, params.VM), np.zeros(3, params.VM_SPEC)
    vms["admitted"] = [1.0, 1.0, 0.0]
    work = np.zeros(3, WORK)
    work["offer_mib"] = 10.0
    work["price"] = np.inf
    work["price"][:, :2] = [[1.0, 5.0], [2.0, 3.0], [0.0, 0.0]]
    planning._reclaim(vms, specs, work, 35.0)
    np.testing.assert_allclose(work["reclaim_mib"], [15.0, 20.0, 0.0])


def test_what_is_short_by_hand():
    """The goal, 5 s of growth of at most 20 MiB/s, and what returns within 5 s at half speed, less what is free or cached."""
    vm, spec = one_vm(
        allocated_mib=[100.0, 200.0, 0.0, 0.0], resident_mib=[100.0, 170.0, 0.0, 0.0], host_swapped_mib=[10.0, 0.0, 0.0, 0.0],
        tier_rate_per_s=[0.4, 0.1, 0.0, 0.0], progress=0.5, growth_mib_per_s=20.0,
    )  # fmt: skip
    host, host_spec = np.zeros(1, params.HOST), np.zeros(1, params.HOST_SPEC)
    host["free_mib"], host["cache_mib"], host_spec["goal_free_mib"] = 30.0, 5.0, 40.0
    host_spec["large_state"], host_spec["state_mib"] = 2.0, [900.0, 50.0, 0.0, 0.0]
    returns = 10.0 * (1.0 - math.exp(-1.0)) + 30.0 * (1.0 - math.exp(-0.25))

    def short(total, whole=0.0, admitted=1.0):
        vm["admitted"] = admitted
        soon = demand_of([total, 0.0, 0.0, 0.0])[0]
        return planning._short_mib(vm, spec, host[0], host_spec[0], soon, plan(RECLAIM, whole=whole)[0], 5.0)

    assert short(350.0) == pytest.approx(40.0 + 50.0 + returns - 35.0)
    assert short(900.0) == pytest.approx(40.0 + 100.0 + returns - 35.0)
    assert short(200.0) == pytest.approx(40.0 + returns - 35.0)
    assert short(200.0, whole=1.0) == pytest.approx(55.0 + returns - 35.0)  # 1.1 of the state that splits large pages
    assert short(900.0, admitted=0.0) == pytest.approx(40.0 - 35.0)


def test_reclaim_keeps_a_linux_host_from_swapping_by_itself():
    sim, below = simulator(), 0
    for _ in range(60):
        work = decided(sim, plan(RECLAIM, horizon_s=1000.0))
        planning.apply(sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, plan(RECLAIM), work)
        for _ in range(5):
            sim.run(1, 0, 1)
            below += sim.hosts["free_mib"][0, 0] < sim.host_specs["min_free_mib"][0, 0]
    assert below == 0


def test_balloons_hold_only_what_guests_will_not_need():
    """The most that each tier will want in the next 100 s, the kernel's 18 and 5 MiB, the watermark, and a lump of 16."""
    sim = simulator()
    most = sim.demand[0, :6]["tier_mib"].max(axis=0).sum(axis=1)
    needed = most + 18.0 + 5.0 + sim.vm_specs["watermark_mib"][0] + 16.0
    sizes = decided(sim, plan(RECLAIM))["size_mib"][0]
    np.testing.assert_allclose(sizes, np.clip(needed, sim.vm_specs["min_mib"][0], sim.vm_specs["memory_mib"][0]))


# ---- squeeze


def test_a_squeeze_fills_ram_to_its_margin_and_no_further():
    """Sizes of guests, 78 MiB and 0.2 % a VM process, the host's own memory and its free minimum make up the RAM."""
    sim = simulator()
    host = sim.host_specs[0, 0]
    sizes = decided(sim, plan(SQUEEZE))["size_mib"]
    whole = sizes.sum() + 8 * 78.0 + 0.002 * sim.vm_specs["memory_mib"].sum() + host["own_mib"] + host["min_free_mib"]
    assert whole == pytest.approx(0.998 * host["ram_mib"], abs=1.0)


def test_a_squeeze_knows_its_horizon_and_no_more():
    sizes = []
    for slot in (1, 2):  # begin after 20 s and 40 s
        sim = simulator()
        sim.demand["tier_mib"][0, :, 2] = sim.demand["tier_mib"][0, 0, 2]
        sim.demand["tier_mib"][0, slot, 2, 0] += 1000.0
        sizes.append(decided(sim, plan(SQUEEZE, horizon_s=30.0))["size_mib"][0, 2])
    assert sizes[0] > sizes[1] + 500.0


def test_a_squeeze_leaves_room_for_who_arrives_within_its_horizon_if_it_can_be_freed():
    sim = simulator("late-arrivals", "xen")
    host, spec = sim.host_specs[0, 0], sim.vm_specs[0]
    runs = sim.vms["admitted"][0] > 0.0
    ram = 0.998 * host["ram_mib"] - host["own_mib"] - host["min_free_mib"] - spec["overhead_mib"][runs].sum()

    def given(arrive_in_s):
        sim.vms["arrive_in_s"][0] = np.where(runs, 0.0, arrive_in_s)
        return decided(sim, plan(SQUEEZE, horizon_s=100.0))["size_mib"][0, runs].sum()

    assert given(101.0) == pytest.approx(ram, abs=1.0)
    early = (spec["startup_mib"] + spec["overhead_mib"])[4:6].sum()
    assert given(100.0) == pytest.approx(ram - early, abs=1.0)  # of the late ones neither fits beside the early
    sim.vm_specs["min_mib"][0, :4] += 300.0
    assert given(100.0) == pytest.approx(ram - 0.5 * early, abs=1.0)


# ---- starting memory and limits


def started_small(hypervisor, **changes):
    group = VmGroup("vm", Demand(hot_mib=1800.0), 4096.0, **({"guest_swap_mib": 4096.0, "restart_s": 1.0} | changes))
    profile = load_group("hypervisor", hypervisor) | {"disk": None, "nic": None}
    sim = Simulator(Scenario("s", "", Host(ram_mib=32768.0), build(Hypervisor, profile, "hypervisor"), (group,)))
    sim.reset([0])
    sim.advance(60)
    return sim


def test_to_hold_leaves_a_vm_that_started_small_where_it_is():
    small, whole = started_small("kvm", startup_mib=1024.0), started_small("kvm")
    assert decided(small, plan(HOLD))["size_mib"][0, 0] == 1024.0
    assert decided(whole, plan(HOLD))["size_mib"][0, 0] == 4096.0
    assert decided(small, plan(SQUEEZE, horizon_s=100.0))["size_mib"][0, 0] > 1800.0


@pytest.mark.parametrize(("hypervisor", "most"), [("kvm", 1200.0 - 78.0 - 0.002 * 4096.0), ("esxi", 1200.0)])
def test_a_squeeze_gives_nobody_more_than_its_limit(hypervisor, most):
    """1,200 MiB, on kvm less what its process has of them: 78 and 0.2 % of 4,096. The host has plenty."""
    limited = started_small(hypervisor, limit_mib=1200.0)
    assert limited.hosts["free_mib"][0, 0] > 20_000.0
    assert decided(limited, plan(SQUEEZE, horizon_s=100.0, shrink=1e9))["size_mib"][0, 0] == pytest.approx(most)


def test_a_vm_at_its_limit_needs_no_memory_of_the_others():
    """Its 18 MiB of kernel and 82 of 100 that it wants are there; it may have 10 more, and wants 300."""
    vm, spec = one_vm(allocated_mib=[82.0, 0.0, 0.0, 0.0], resident_mib=[82.0, 0.0, 0.0, 0.0], kernel_mib=18.0,
                      growth_mib_per_s=100.0, limit_mib=110.0)  # fmt: skip
    host, host_spec = np.zeros(1, params.HOST), np.zeros(1, params.HOST_SPEC)
    soon = demand_of([382.0, 0.0, 0.0, 0.0])[0]
    for limit_mib, needed in ((110.0, 10.0), (50.0, 0.0), (math.inf, 300.0)):
        vm["limit_mib"] = limit_mib
        short = planning._short_mib(vm, spec, host[0], host_spec[0], soon, plan(RECLAIM)[0], 5.0)
        assert short == pytest.approx(needed)


# ---- admission


def test_working_sets_are_what_is_touched_in_ten_minutes_at_most_from_now_on():
    """Of pages touched once in 600 s 1 - 1/e, of hot ones all; the peak counts while it is to come; 20 and 30 MiB to run."""
    _, spec = one_vm(tier_rate_per_s=[1.0, 1.0 / 600.0, 0.0, 0.0], kernel_mib=20.0, overhead_mib=30.0)
    demand = demand_of([100.0, 0.0, 50.0, 0.0], [200.0, 100.0, 50.0, 0.0], [50.0, 0.0, 50.0, 0.0])
    expected = 200.0 + 100.0 * (1.0 - math.exp(-1.0)) + 50.0
    assert planning._working_set_mib(spec[0], demand, 0, 0) == pytest.approx(expected)
    assert planning._working_set_mib(spec[0], demand, 0, 2) == pytest.approx(100.0)


def test_vms_start_in_the_order_of_what_a_mib_is_worth_while_working_sets_fit():
    """Hot sets of 100, 300, 200 and 100 MiB with weights 1, 6, 3 and 1; 0.9 of 1,000 less 100 and 50 hold 765."""
    vms, specs = np.zeros(4, params.VM), np.zeros(4, params.VM_SPEC)
    specs["tier_rate_per_s"][:, 0], specs["weight"] = 1.0, [1.0, 6.0, 3.0, 1.0]
    vms["admitted"][0] = 1.0
    demand = np.zeros((1, 4), params.DEMAND)
    demand["tier_mib"][0, :, 0] = [100.0, 300.0, 200.0, 100.0]
    host_spec = np.zeros(1, params.HOST_SPEC)
    host_spec["ram_mib"], host_spec["own_mib"], host_spec["goal_free_mib"] = 1000.0, 100.0, 50.0

    def admitted(fills):
        work = np.zeros(4, WORK)
        planning._admit(vms, specs, host_spec[0], demand, 0, work, fills)
        return work["admit"].tolist()

    assert admitted(0.9) == [1.0, 1.0, 1.0, 1.0]
    assert admitted(0.75) == [1.0, 1.0, 1.0, 0.0]
    assert admitted(0.50) == [1.0, 1.0, 0.0, 0.0]
    assert admitted(0.40) == [1.0, 0.0, 1.0, 0.0]
    assert admitted(0.10) == [1.0, 0.0, 0.0, 0.0]


def test_only_a_plan_that_says_so_keeps_vms_waiting():
    sim = simulator("late-arrivals")
    assert (decided(sim, plan(RECLAIM))["admit"] == 1.0).all()
    assert decided(sim, plan(RECLAIM, fills=0.1))["admit"][0].tolist() == [1.0] * 4 + [0.0] * 4
    sim.hosts["waiting"] = 0.0
    assert (decided(sim, plan(RECLAIM, fills=0.1))["admit"] == 1.0).all()


# ---- what is done with an answer


def test_an_answer_is_carried_out_as_the_simulator_would():
    rng = np.random.default_rng(0)
    for hypervisor in ("esxi", "xen"):
        ours, theirs = (simulator("late-arrivals", hypervisor, lanes=3) for _ in range(2))
        plans = np.concatenate([plan(HOLD, scan=OWN), plan(RECLAIM, reports=0.0), plan(SQUEEZE, scan=1e4)])
        work = np.zeros(ours.vms.shape, WORK)
        work["size_mib"] = rng.uniform(0.0, 20_000.0, work.shape)
        work["reclaim_mib"] = rng.uniform(0.0, 100.0, work.shape) * np.array([[0.0], [1.0], [1.0]])
        work["admit"] = rng.integers(0, 2, work.shape)
        planning.apply(ours.vms, ours.hosts, ours.vm_specs, ours.host_specs, plans, work)
        scan = np.array([[ours.host_specs["scan_pages_per_s"][0, 0]], [0.0], [1e4]])
        reports = np.array([1.0, 0.0, 1.0])[:, None] * np.ones(work.shape)
        ages = np.full(work.shape, planning.BY_AGE_S)
        theirs.apply(Targets(work["size_mib"], work["reclaim_mib"], ages, scan, reports, work["admit"]))
        for name in ("vms", "hosts", "vm_specs"):
            assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes(), (hypervisor, name)


def test_shares_are_set_to_weight_times_the_tilt_only_where_a_plan_says_so():
    sim = simulator("idle-giants-short", "kvm", lanes=2)
    plans = np.concatenate([plan(HOLD, shares=0.0), plan(HOLD, shares=1.0)])
    work, before = np.zeros(sim.vms.shape, WORK), sim.vms["disk_shares"].copy()
    work["disk_tilt"], work["net_tilt"] = math.log(3.0), math.log(0.5)
    planning.apply(sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, plans, work)
    assert (sim.vms["disk_shares"][0] == before[0]).all()
    assert sim.vms["disk_shares"][1] == pytest.approx(3.0 * sim.vm_specs["weight"][1])
    assert sim.vms["net_shares"][1] == pytest.approx(0.5 * sim.vm_specs["weight"][1])
    assert sim.hosts["divides_disk"][:, 0].tolist() == [0.0, 1.0]


# ---- yield: what is bought is given up by a balloon


def test_a_guest_yields_what_is_bought_and_keeps_what_it_holds():
    """It holds 300 + 200 of 600 MiB, 100 more come in 5 s, nothing comes back of what is never touched; 150 are bought."""
    vm, spec = one_vm(
        memory_mib=2048.0, min_mib=0.0, balloon_cap_mib=2048.0, balloons=1.0, kernel_mib=50.0, allocated_mib=[300.0, 300.0, 0, 0],
        resident_mib=[300.0, 200.0, 0, 0], tier_rate_per_s=[1.0, 0.0, 0, 0], progress=1.0, growth_mib_per_s=1e3,
    )  # fmt: skip
    work = np.zeros(1, WORK)
    work["reclaim_mib"] = 150.0
    planning._yield(vm, spec, demand_of([300.0, 400.0, 0, 0])[0], work, 5.0)
    assert work["size_mib"][0] == pytest.approx(500.0 + 100.0 - 150.0 + 50.0 + dividing.LUMP_MIB)
    assert work["reclaim_mib"][0] == 0.0


def test_to_yield_never_asks_the_host_to_reclaim():
    sim = simulator("idle-giants-short", "esxi")
    for _ in range(20):
        work = decided(sim, plan(YIELD, reports=OWN, free_mib=2000.0))
        assert not work["reclaim_mib"].any()
        planning.apply(
            sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, plan(YIELD, reports=OWN, free_mib=2000.0), work
        )
        sim.advance(5)
    assert sim.vms["balloon_mib"].sum() > 1000.0
    assert not sim.hosts["reclaims"].any()


def test_what_is_dearer_is_taken_later():
    """Two VMs alike in all but the tilt: reclaim and squeeze take from the one that is worth less."""
    for kind in (RECLAIM, YIELD, SQUEEZE):
        sim = simulator("idle-giants-short", "kvm")
        work = np.zeros(sim.vms.shape, WORK)
        work["tilt"][0, 1] = 3.0
        sim.vms[0, 1], sim.vm_specs[0, 1], sim.demand[0, :, 1] = sim.vms[0, 0], sim.vm_specs[0, 0], sim.demand[0, :, 0]
        planning.decide(
            sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, sim.slot_s,
            plan(kind, free_mib=1000.0), 5.0, work,
        )  # fmt: skip
        cheap, dear = work[0, 0], work[0, 1]
        assert cheap["reclaim_mib"] >= dear["reclaim_mib"]
        assert cheap["size_mib"] <= dear["size_mib"]
        assert cheap["reclaim_mib"] - cheap["size_mib"] > dear["reclaim_mib"] - dear["size_mib"]


def test_admission_is_what_saves_a_host_that_too_many_ask_to_run_on():
    """24 VMs want to join eight; half would fit. The first of the wave arrive at 7,500 s."""
    scenario = resolve(load_group("scenario", "arrival-wave") | {"episode_s": 10_000})
    goodput = [
        rollout(scenario, make_policy(load_group("agent", a)), [0]).goodput[0] for a in ("admit_ratio", "reference")
    ]
    assert goodput[1] > goodput[0] + 0.02
