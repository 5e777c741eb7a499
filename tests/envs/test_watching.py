"""Watching costs: readings as old as their source, settings that wait for their channel, page ages that somebody pays for."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.policy import Policy, make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs import view
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.lanes import HostLanes
from hvgym.envs.model.guest import activity
from hvgym.envs.rules import Declaration, readable
from hvgym.envs.scenario import Demand, Host, Scenario, VmGroup, load_group, resolve
from hvgym.envs.seats import signals_of
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import AGES_S, SIGNAL_GROUPS, Targets, Visibility
from hvgym.envs.vector_env import HostVectorEnv
from hvgym.envs.watching import watching

PAGE_AGES = frozenset(SIGNAL_GROUPS["page_ages"])
ASKS = ("reclaim_mib", "reclaim_age_s")


def on(hypervisor, scenario="idle-giants-short", rules="default", **changes):
    data = load_group("scenario", scenario) | changes
    return resolve(data, hypervisor=load_group("hypervisor", hypervisor), rules=rules)


class Reader(Policy):
    """Keeps what it has read, and asks for what it is told to."""

    def __init__(self, declaration, period_s=1.0, answer=lambda now: Targets(), visibility=Visibility.P4):
        self.declaration, self.period_s, self.answer, self.visibility = declaration, period_s, answer, visibility

    def reset(self, first, seed):
        self.read = {}

    def decide(self, telemetry):
        now = int(telemetry.time_s[0])
        self.read[now] = telemetry
        return self.answer(now)


def read_on(hypervisor, seat, signals, scenario=None, period_s=1.0, visibility=Visibility.P4, **changes):
    """What a policy has read at each second, and what is there then."""
    declaration = Declaration(seat, (), signals_of(signals))
    plays = scenario or on(hypervisor, episode_s=400, **changes)
    reader, there = (Reader(declaration, period_s, visibility=visibility) for _ in range(2))
    rollout(plays, reader, [3])
    rollout(dataclasses.replace(plays, rules="open"), there, [3])
    return reader.read, there.read


def values(readings, name, vm=0):
    return [float(readings[now].vm[name][0, vm]) for now in sorted(readings)]


def host_values(readings, name):
    return [float(readings[now].host[name][0, 0]) for now in sorted(readings)]


# ---- readings


def test_free_memory_of_a_xen_guest_is_up_to_two_minutes_old_and_its_age_says_so():
    seen, there = read_on("xen", "outside", ["guest_free_mib", "guest_total_mib", "stats_age_s"])
    now = np.arange(400)
    free, real = np.array(values(seen, "guest_free_mib")), np.array(values(there, "guest_free_mib"))
    np.testing.assert_array_equal(free, real[now - now % 120])
    np.testing.assert_array_equal(values(seen, "stats_age_s"), now % 120)
    assert (free != real).any()


def test_what_xen_says_of_a_domain_itself_is_live():
    seen, there = read_on("xen", "outside", ["config", "balloon", "usage", "host"])
    for name in ("size_mib", "resident_mib"):
        assert values(seen, name) == values(there, name)
    assert host_values(seen, "free_mib") == host_values(there, "free_mib")


def test_io_of_a_xen_guest_is_what_was_archived_each_five_seconds():
    seen, there = read_on("xen", "outside", ["io"])
    now, real = np.arange(400), np.array(values(there, "cpu_s"))
    np.testing.assert_array_equal(values(seen, "cpu_s"), real[now - now % 5])


@pytest.mark.parametrize("name", ["resident_mib", "host_swap_in_mib", "cpu_s"])
def test_vsphere_shows_from_outside_what_was_true_at_the_last_twentieth_second(name):
    seen, there = read_on("esxi", "outside", ["config", "usage", "io", "host"])
    now, real = np.arange(400), np.array(values(there, name))
    np.testing.assert_array_equal(values(seen, name), real[now - now % 20])
    free = np.array(host_values(there, "free_mib"))
    np.testing.assert_array_equal(host_values(seen, "free_mib"), free[now - now % 20])


def test_esx_knows_itself_at_once():
    seen, there = read_on("esxi", "inside", ["usage", "host", "activity"], visibility=Visibility.P3)
    for name in ("resident_mib", "active_share", "active_now_share"):
        assert values(seen, name) == values(there, name)
    assert len(set(values(seen, "active_now_share"))) > 3


def test_a_policy_that_decides_each_seventh_second_reads_the_refresh_before_it():
    seen, _ = read_on("esxi", "outside", ["io"], period_s=7.0)
    _, there = read_on("esxi", "outside", ["io"])
    real = values(there, "cpu_s")
    assert sorted(seen)[:4] == [0, 7, 14, 21]
    assert values(seen, "cpu_s") == [real[now - now % 20] for now in sorted(seen)]


def test_a_refresh_between_two_decisions_and_steps_is_not_missed():
    """Decisions and control intervals of 5 s: at 5 s averages are those of the fourth second."""
    seen, _ = read_on("kvm", "outside", ["pressure"], period_s=5.0, host={"overcommit": 2.0})
    _, there = read_on("kvm", "outside", ["pressure"], host={"overcommit": 2.0})
    real = values(there, "host_psi_some10")
    assert values(seen, "host_psi_some10") == [real[now - now % 2] for now in range(0, 400, 5)]


def test_averages_of_linux_stalls_are_refreshed_each_other_second_and_their_total_is_live():
    seen, there = read_on("kvm", "outside", ["pressure"], host={"overcommit": 2.0})
    now, real = np.arange(400), np.array(values(there, "host_psi_some10"))
    np.testing.assert_array_equal(values(seen, "host_psi_some10"), real[now - now % 2])
    assert len(set(real.tolist())) > 100
    assert values(seen, "host_psi_some_s") == values(there, "host_psi_some_s")


def test_statistics_of_a_kvm_guest_are_as_old_as_the_polling_period():
    seen, there = read_on("kvm", "outside", ["guest_stats"])
    assert values(seen, "stats_age_s") == values(there, "stats_age_s") == [float(now % 2) for now in range(400)]
    assert values(seen, "guest_free_mib") == values(there, "guest_free_mib")


def hyperv_starts():
    """The first VM has been running, the second starts with the episode, the third 100 s later."""
    vm = {"memory_mib": 2048.0, "min_mib": 512.0, "restart_s": 5.0}
    groups = (
        VmGroup("old", Demand(hot_mib=300.0), **vm),
        VmGroup("new", Demand(hot_mib=300.0), **vm, startup_mib=1024.0),
        VmGroup("late", Demand(hot_mib=300.0), **vm, arrive_s=100.0),
    )
    return Scenario("s", "", Host(ram_mib=16384.0), on("hyperv").hypervisor, groups, episode_s=300, rules="default")


def test_a_hyperv_guest_says_nothing_for_45_seconds_after_its_start():
    seen, there = read_on("hyperv", "inside", ["config", "committed", "stats_age_s"], hyperv_starts())
    for vm, starts in enumerate((-45, 0, 100)):
        running = [now for now in sorted(there) if there[now].vm["running"][0, vm] > 0.0]
        assert running[0] == max(starts, 0)
        silent = [now for now in range(300) if np.isnan(seen[now].vm["guest_committed_mib"][0, vm])]
        assert silent == list(range(starts + 45))
        assert np.isnan(values(seen, "stats_age_s", vm)[: starts + 45]).all()
    after = slice(200, 300)
    assert values(seen, "guest_committed_mib", 2)[after] == values(there, "guest_committed_mib", 2)[after]


def test_nothing_is_held_under_open_rules():
    sim = Simulator(on("xen", rules="open"))
    assert watching(Declaration("outside"), sim.scenario, readable(Declaration("outside"), sim.scenario), sim) is None


# ---- settings


def asked_for(answer, hypervisor="virtualbox", period_s=1.0):
    """Sizes asked for of VM 0 and VM 1, as the host has them at each second."""
    asked = []

    def watch(telemetry, sim):
        asked.append(sim.vms["asked_mib"][0, :2].tolist())

    scenario = on(hypervisor, episode_s=100, control_interval_s=1)
    start = [float(group.memory_mib) for group in scenario.groups[:2]]
    rollout(scenario, Reader(Declaration("outside", ("memory_mib",), frozenset()), period_s, answer), [0], watch)
    return start, asked


def sizes(first, second=np.nan):
    """Sizes of VM 0 and VM 1; all others are left alone."""
    given = np.full((1, len(on("virtualbox").groups)), np.nan)
    given[0, :2] = first, second
    return Targets(given)


def test_a_balloon_of_virtualbox_answers_each_30_seconds_and_the_last_wish_wins():
    """4,000 is taken at 0 s; 3,900, asked for at 5 s, gives way to 3,800 of 20 s, which is held until 30 s. VM 1 is asked at 10
    s for the first time."""
    wishes = {0: sizes(4000.0), 5: sizes(3900.0), 10: sizes(np.nan, 3000.0), 20: sizes(3800.0), 70: sizes(3700.0)}
    start, asked = asked_for(lambda now: wishes.get(now, Targets()))
    assert [one[0] for one in asked] == [4000.0] * 30 + [3800.0] * 40 + [3700.0] * 30
    assert [one[1] for one in asked] == [start[1]] * 10 + [3000.0] * 90


def test_who_asks_each_second_is_heard_each_30():
    _, asked = asked_for(lambda now: sizes(4000.0 - now))
    assert [one[0] for one in asked] == [4000.0] * 30 + [3970.0] * 30 + [3940.0] * 30 + [3910.0] * 10


def test_a_held_wish_is_carried_out_between_two_decisions():
    wishes = {0: sizes(4000.0), 20: sizes(3800.0)}
    _, asked = asked_for(lambda now: wishes.get(now, Targets()), period_s=20.0)
    assert [one[0] for one in asked] == [4000.0] * 30 + [3800.0] * 70


def test_channels_that_answer_at_once_hold_nothing():
    _, asked = asked_for(lambda now: sizes(4000.0 - now), hypervisor="kvm")
    assert [one[0] for one in asked] == [4000.0 - now for now in range(100)]


# ---- what watching takes


def host_of(gib, large_share, hypervisor="kvm", pcpus=16.0, **changes):
    """One VM that fills a host of so many GiB and works all the time."""
    group = VmGroup("vm", Demand(hot_mib=0.5 * gib * 1024.0, cpu_share=1.0), gib * 1024.0, vcpus=pcpus, **changes)
    host = Host(ram_mib=2.0 * gib * 1024.0, pcpus=pcpus)
    profile = on(hypervisor).hypervisor
    scenario = Scenario("s", "", host, profile, (group,), touched_share=1.0, rules="default", episode_s=3600)
    sim = Simulator(scenario)
    sim.reset([0])
    sim.vms["large_share"] = large_share
    return sim


def watcher(sim, seat="outside", channels=(), signals=PAGE_AGES):
    declaration = Declaration(seat, channels, frozenset(signals))
    found = watching(declaration, sim.scenario, readable(declaration, sim.scenario), sim)
    found.begin(sim.telemetry())
    return found


def watched_s(sim, watch, seconds, every_s):
    """CPU seconds that reading so often takes of a host whose VM is idle."""
    sim.demand["cpu_share"] = taken = 0.0
    for now in range(seconds):
        if now % every_s == 0:
            watch.pay_for_reading()
        sim.advance(1)
        taken += float(sim.hosts["cpu_utilisation"][0, 0] * sim.host_specs["pcpus"][0, 0])
    return taken


def test_walking_128_gib_of_small_pages_each_two_minutes_takes_0_8_percent_of_a_core():
    """33.6 million entries at 30 ns are 1.007 s."""
    sim = host_of(128, 0.0)
    cpus = watched_s(sim, watcher(sim), 1200, 120) / 1200.0
    assert cpus == pytest.approx(128 * 2**18 * 30e-9 / 120.0, rel=1e-3)
    assert cpus == pytest.approx(0.0084, rel=0.01)


def test_large_pages_take_a_512th_of_it():
    small, large = host_of(128, 0.0), host_of(128, 1.0)
    ratio = watched_s(small, watcher(small), 240, 120) / watched_s(large, watcher(large), 240, 120)
    assert ratio == pytest.approx(512.0, rel=1e-6)


def test_reverse_mapping_of_256_gib_each_two_minutes_takes_11_percent_of_a_core():
    """Google's figure for kstaled: less than 11 %, at 200 ns a page."""
    sim = host_of(256, 0.0)
    watch = watcher(sim)
    watch._ages_by = {"rmap"}
    assert watched_s(sim, watch, 240, 120) / 240.0 == pytest.approx(0.112, abs=0.001)


def test_a_pass_over_16_gib_takes_what_kvms_selftest_measures():
    """0.122 s."""
    sim = host_of(16, 0.0)
    assert watched_s(sim, watcher(sim), 10, 100) == pytest.approx(0.122, rel=0.05)


def test_damon_takes_a_percent_of_a_cpu_whatever_is_read():
    for gib in (16, 256):
        for every_s in (1, 50):
            sim = host_of(gib, 0.0)
            assert watched_s(sim, watcher(sim, "inside"), 100, every_s) / 100.0 == pytest.approx(0.01)


def test_samples_of_100_pages_take_next_to_nothing_and_err_by_5_points():
    """Standard error of 100 draws at one half: sqrt(0.25 / 100)."""
    sim = host_of(64, 0.0, "esxi")
    assert 0.0 < watched_s(sim, watcher(sim, "inside", signals=["active_share"]), 100, 1) / 100.0 < 1e-5
    drawn = np.array([activity._drawn_share(7, 0, period, 0.5) for period in range(4000)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.003)
    assert drawn.std() == pytest.approx(0.05, rel=0.05)


def test_page_protection_lengthens_the_guests_own_work_by_2_percent():
    progress = []
    for signals in (PAGE_AGES, ["memory_mib"]):
        sim = host_of(16, 1.0, "xen", pcpus=32.0)
        watcher(sim, "inside", signals=signals)
        sim.advance(100)
        progress.append(float(sim.vms["progress"][0, 0]))
    assert progress[1] / progress[0] == pytest.approx(1.02, rel=1e-3)


def test_a_pass_that_has_not_ended_is_not_begun_anew_and_one_thread_walks():
    """1 TiB takes 8.05 s; asked for each second it is one CPU, and no more."""
    sim = host_of(1024, 0.0)
    watch = watcher(sim)
    watch.pay_for_reading()
    assert sim.hosts["pass_left_s"][0, 0] == pytest.approx(8.05, abs=0.01)
    sim.advance(3)
    watch.pay_for_reading()
    assert sim.hosts["pass_left_s"][0, 0] == pytest.approx(5.05, abs=0.01)
    assert 27.0 < watched_s(sim, watch, 30, 1) <= 30.0


def test_watching_costs_progress_where_pcpus_are_short_and_shows_in_the_hosts_cpu():
    """Two pCPUs, all of them wanted: walking 256 GiB without a pause takes one of them."""
    used, progress = [], []
    for reads in (False, True):
        sim = host_of(256, 0.0, pcpus=2.0)
        watch = watcher(sim)
        for _ in range(20):
            if reads:
                watch.pay_for_reading()
            sim.advance(1)
        progress.append(float(sim.vms["progress_s"][0, 0]))
        used.append(float(sim.telemetry().host["cpu_utilisation"][0, 0]))
    assert progress[1] < 0.65 * progress[0]
    assert used[1] >= 0.9
    ample = host_of(256, 0.0, pcpus=2.0)
    ample.demand["cpu_share"] = 0.01
    before = float(ample.telemetry().host["cpu_utilisation"][0, 0])
    watcher(ample).pay_for_reading()
    ample.advance(1)
    assert ample.telemetry().host["cpu_utilisation"][0, 0] == pytest.approx(before + 0.5, abs=0.05)


def test_to_ask_for_pages_by_age_is_to_look_for_them_in_the_vms_concerned():
    """Without an age or an amount nothing is looked for; and while it is looked for, no other search begins."""
    for amount, age, share in ((10.0, 60.0, 1.0), (0.0, 60.0, 0.0), (10.0, np.nan, 0.0), (np.nan, 60.0, 0.0)):
        sim = host_of(128, 0.0)
        watch = watcher(sim, channels=ASKS, signals=["memory_mib"])
        watch.pay_for_asking(Targets(reclaim_mib=np.array([[amount]]), reclaim_age_s=np.array([[age]])))
        assert sim.hosts["pass_left_s"][0, 0] == pytest.approx(share * 128 * 2**18 * 30e-9, rel=1e-3)
        watch.pay_for_asking(Targets(reclaim_mib=np.array([[amount]])))
        assert sim.hosts["pass_left_s"][0, 0] == pytest.approx(share * 128 * 2**18 * 30e-9, rel=1e-3)


def test_who_declares_no_ages_reads_none():
    scenario = on("kvm")
    seen = readable(Declaration("outside"), scenario)
    assert not seen & PAGE_AGES
    assert "resident_mib" in seen
    assert readable(Declaration("outside", (), PAGE_AGES), scenario) == PAGE_AGES


# ---- blocks of 2 MiB


def ages(sim, large_share):
    sim.vms["large_share"] = large_share
    seen = watcher(sim).seen(sim.telemetry()).vm
    return {
        age: (float(seen[f"idle_{age}s_mib"][0, 0]), float(seen[f"woken_{age}s_mib_per_s"][0, 0])) for age in AGES_S
    }


def test_in_large_pages_two_and_a_half_times_as_much_is_hot():
    """All that the host backs is there; what is not idle is hot, at most all of it."""
    sim = host_of(16, 0.0, tier_tau_s=(2000.0, 1.0, 1.0, 1.0))
    small, half, large = (ages(sim, share) for share in (0.0, 0.5, 1.0))
    there = float(sim.vms["resident_mib"].sum() + sim.vms["free_backed_mib"][0, 0])
    truth = sim.telemetry().vm
    for age in AGES_S:
        assert small[age][0] == truth[f"idle_{age}s_mib"][0, 0]
        hot = there - small[age][0]
        assert large[age][0] == pytest.approx(there - min(2.5 * hot, there))
        assert half[age][0] == pytest.approx(there - min(1.75 * hot, there))
        assert large[age][1] == pytest.approx(2.5 * small[age][1] if 2.5 * hot < there else 0.0)
    assert large[3840][0] == 0.0 < small[3840][0]


def test_a_host_without_large_pages_sees_small_ones():
    plain = dataclasses.replace(on("kvm").hypervisor, large_pages=False)
    sim = host_of(16, 1.0)
    sim.scenario = dataclasses.replace(sim.scenario, hypervisor=plain)
    assert ages(sim, 1.0)[60][0] == sim.telemetry().vm["idle_60s_mib"][0, 0]


# ---- in rollouts and environments


def watched_cpus(scenario, policy, seeds):
    """pCPUs that watching has taken in each second, ``[second, env]``: what the VMs have not."""
    busy, spent = [], [np.zeros(len(seeds))]

    def watch(_, sim):
        busy.append(sim.hosts["cpu_utilisation"][:, 0] * sim.host_specs["pcpus"][:, 0])
        spent.append(sim.vms["cpu_s"].sum(axis=1))

    rollout(dataclasses.replace(scenario, control_interval_s=1), policy, seeds, watch)
    return np.array(busy) - np.diff(spent, axis=0)


@pytest.mark.parametrize("agent", ["damon_reclaim", "tmo", "oomd_senpai"])
def test_packaged_policies_pay_for_ages_and_others_do_not(agent):
    taken = watched_cpus(on("kvm", episode_s=60), make_policy(load_group("agent", agent)), [0])
    np.testing.assert_allclose(taken, 0.01 if agent == "damon_reclaim" else 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("hypervisor", "agent"), [("xen", "squeezed"), ("kvm", "damon_reclaim"), ("virtualbox", "proportional")]
)
def test_a_batch_is_held_as_the_single_episode_to_the_bit(hypervisor, agent):
    scenario = on(hypervisor, episode_s=120)
    both = rollout(scenario, make_policy(load_group("agent", agent)), [4, 5])
    for i, seed in enumerate((4, 5)):
        one = rollout(scenario, make_policy(load_group("agent", agent)), [seed])
        assert one.rows() == [both.rows()[i]]


def test_open_rules_are_as_before_to_the_bit():
    """A policy that declares what costs most elsewhere pays nothing and sees all."""
    scenario = on("kvm", rules="open", episode_s=60)
    reader, there = Reader(Declaration("outside", ASKS, PAGE_AGES), 1.0), []
    np.testing.assert_allclose(watched_cpus(scenario, reader, [0]), 0.0, atol=1e-9)
    rollout(scenario, reader, [0], lambda telemetry, _: there.append(telemetry))
    for name in ("resident_mib", "guest_free_mib", "idle_60s_mib", "woken_60s_mib_per_s"):
        assert values({30: reader.read[30]}, name) == [float(there[5].vm[name][0, 0])]


def played(env, seed, actions):
    observations = [env.reset(seed=seed)[0]]
    observations += [env.step(action)[0] for action in actions]
    return np.array(observations)


@pytest.mark.parametrize(
    ("hypervisor", "seat"), [("esxi", "outside"), ("xen", "outside"), ("kvm", "outside"), ("virtualbox", "outside")]
)
def test_lane_i_of_a_held_batch_is_the_held_environment_seeded_i_further(hypervisor, seat):
    kind = {"scenario": "idle-giants-short", "hypervisor": hypervisor, "rules": "default", "seat": seat}
    single, batch = HostEnv(**kind), HostVectorEnv(2, **kind)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (40, 2, *single.action_space.shape)).astype(np.float32)
    whole = played(batch, 7, actions)
    for lane in (0, 1):
        np.testing.assert_array_equal(played(single, 7 + lane, actions[:, lane]), whole[:, lane])


def test_an_environment_outside_of_esxi_sees_its_host_each_twentieth_second():
    """Steps of 5 s: what is observed of resident memory changes with every fourth of them."""
    env = HostEnv("idle-giants-short", hypervisor="esxi", rules="default", seat="outside")
    actions = np.zeros((24, *env.action_space.shape), np.float32)
    seen = played(env, 3, actions)
    at = len(view.HOST_FEATURES) + view.VM_FEATURES.index("resident")
    changes = np.flatnonzero(np.diff(seen[:, at])) + 1
    assert len(changes) > 0
    assert (changes % 4 == 0).all()


def test_an_environment_outside_of_virtualbox_is_heard_each_30_seconds():
    env = HostEnv("idle-giants-short", hypervisor="virtualbox", rules="default", seat="outside", action="absolute")
    env.reset(seed=3)
    asked, spec = [], env.simulator.vm_specs[0, 0]
    for step in range(14):
        env.step(np.full(env.action_space.shape, 1.0 - 0.1 * step, np.float32))
        asked.append(float(env.simulator.vms["asked_mib"][0, 0]))
    shares = [0.5 * (1.0 + float(np.float32(1.0 - 0.1 * step))) for step in (0, 6, 12)]
    wanted = [float(spec["min_mib"] + share * (spec["memory_mib"] - spec["min_mib"])) for share in shares]
    assert asked == [wanted[0]] * 6 + [wanted[1]] * 6 + [wanted[2]] * 2


def test_an_environment_outside_of_kvm_pays_for_pages_by_age_if_it_asks_for_some():
    """In steps of a second what a step paid shows in the host's CPU: a pass over so many pages of 4 KiB."""
    taken, scenario = [], on("kvm", control_interval_s=1).to_dict()
    for amount in (-1.0, 1.0):
        env = HostEnv(scenario, seat="outside")
        env.reset(seed=3)
        sim = env.simulator
        sim.vms["large_share"] = 0.0
        action = np.zeros(env.action_space.shape, np.float32)
        action[8:16] = amount
        mapped = float((sim.vm_signals["resident_mib"] - sim.vm_specs["overhead_mib"]).sum())
        env.step(action)
        busy = float(sim.hosts["cpu_utilisation"][0, 0] * sim.host_specs["pcpus"][0, 0])
        taken.append(busy - float(sim.vms["cpu_s"].sum()))
    assert taken == pytest.approx([0.0, mapped * 256.0 * 30e-9], abs=1e-9)


@pytest.mark.parametrize("hypervisor", ["xen", "virtualbox"])
def test_a_learner_outside_sees_the_same_in_the_environment_and_in_a_rollout(hypervisor):
    """Sizes go up and down with the step; VirtualBox's balloons hear each sixth."""
    scenario, shares = (
        on(hypervisor, episode_s=300),
        np.random.default_rng(0).uniform(-1.0, 1.0, (60, 8)).astype(np.float32),
    )
    sizes_mib = [np.array([[getattr(group, key) for group in scenario.groups]]) for key in ("min_mib", "memory_mib")]

    def answer(now):
        share = 0.5 * (1.0 + shares[now // 5].astype(np.float64))
        return Targets(sizes_mib[0] + share * (sizes_mib[1] - sizes_mib[0]))

    reader = Reader(Declaration("outside"), 5.0, answer, Visibility.P1)
    rollout(scenario, reader, [7])
    eyes, lanes = view.View(), HostLanes(scenario, 1, seat="outside", action="absolute")
    lanes.reset(0, 7)
    for now in sorted(reader.read):
        np.testing.assert_array_equal(eyes.observe(reader.read[now]), lanes.observations)
        lanes.take(shares[now // 5][None])
        lanes.step()


def test_passes_of_a_batch_are_those_of_single_episodes_to_the_bit():
    """Pages by age are asked for each second, of every VM."""
    scenario = on("kvm", episode_s=60)
    shape = (1, len(scenario.groups))

    def costs(seeds):
        def answer(now):
            each = np.ones((len(seeds), shape[1]))
            return Targets(reclaim_mib=10.0 * each, reclaim_age_s=30.0 * each)

        return watched_cpus(scenario, Reader(Declaration("outside", ASKS, PAGE_AGES), 1.0, answer), seeds)

    both = costs([4, 5])
    np.testing.assert_array_equal(both, np.column_stack([costs([4]), costs([5])]))
    assert both.min() > 0.0


def test_ages_that_are_archived_are_those_of_blocks():
    """A profile of one's own, in which a pass is kept for 20 s."""
    profile = on("kvm").hypervisor
    outside = profile.capabilities.outside
    kept = tuple(dataclasses.replace(one, every_s=20) if "page_ages" in one.names else one for one in outside.signals)
    capabilities = dataclasses.replace(profile.capabilities, outside=dataclasses.replace(outside, signals=kept))
    sim = host_of(16, 1.0, tier_tau_s=(2000.0, 1.0, 1.0, 1.0))
    sim.scenario = dataclasses.replace(sim.scenario, hypervisor=dataclasses.replace(profile, capabilities=capabilities))
    at_once, later = watcher(host_of(16, 1.0, tier_tau_s=(2000.0, 1.0, 1.0, 1.0))), watcher(sim)
    first = at_once.seen(sim.telemetry()).vm["idle_60s_mib"][0, 0]
    sim.advance(10)
    later.note(sim.telemetry())
    assert later.seen(sim.telemetry()).vm["idle_60s_mib"][0, 0] == first


# ---- in a configuration


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("every_s", -1, r"every_s=-1: must be at least 0"),
        ("every_s", 2.5, r"every_s=2.5: expected a whole number"),
        ("method", "wlak", r"method='wlak': choose one of walk, .*walk"),
    ],
)
def test_a_wrong_figure_of_a_reading_is_refused_in_one_line(key, value, message):
    data = load_group("hypervisor", "kvm")
    data["capabilities"]["outside"]["signals"][0][key] = value
    with pytest.raises(InputError, match=message):
        resolve(load_group("scenario", "idle-giants-short"), hypervisor=data)
