"""Who may play where: capabilities of each hypervisor, declarations of each policy, and the actions of each seat."""

import functools
import pickle

import gymnasium
import numpy as np
import pytest

from hvgym.agents.learned.seeing import Acting
from hvgym.agents.learned.vec_env import HostVecEnv
from hvgym.agents.policy import Policy, declared_by, make_policy
from hvgym.agents.stock import beneath
from hvgym.bench.rollout import rollout
from hvgym.envs import actions
from hvgym.envs.actions import ActionMap
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.lanes import HostLanes
from hvgym.envs.rules import Declaration, channels_at, channels_of, declared, of_hosts, readable, refusal
from hvgym.envs.scenario import Scenario, group_files, load, load_group, resolve
from hvgym.envs.seats import CHANNELS
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HOST_SIGNALS, SIGNAL_GROUPS, VM_SIGNALS, Targets, Visibility, visible_to
from hvgym.envs.vector_env import HostVectorEnv
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES, View

HYPERVISORS = ("kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation", "baremetal")

PLAYS = {
    "admit_ratio": "KEXHBWM",
    "admit_reservation": "KEXHBWM",
    "apple": "",
    "best_constant": "KEXHBW",
    "borg_default": "KEXHBWM",
    "capitulino": "K",
    "coldest_first": "K",
    "damon_reclaim": "KM",
    "esx": "E",
    "esx_equal": "E",
    "esxi5": "E",
    "esxi6": "E",
    "free_page_reporting": "KH",
    "greedy": "K",
    "gswap": "",
    "ha_percentage": "KEXHBWM",
    "ha_slot": "KEXHBWM",
    "hypeman": "K",
    "hypeman_fixed": "K",
    "hyperv_like": "H",
    "io_latency": "KEM",
    "katalyst_psi": "M",
    "katalyst_refault": "M",
    "ksmtuned": "K",
    "max_predictor": "KEXHBWM",
    "meb": "X",
    "minimum_iops": "KEM",
    "mom_upstream": "K",
    "mom_vdsm": "K",
    "n_sigma": "KEXHBWM",
    "oomd_fixed": "KM",
    "oomd_immediate": "KM",
    "oomd_senpai": "KM",
    "ppo": "KEXHBW",
    "es": "KEXHBW",
    "sac": "KEXHBW",
    "recurrent_ppo": "KEXHBW",
    "ars": "KEXHBW",
    "imitation": "KEXHBW",
    "es_full": "KEXHBWM",
    "learned_sizes": "KEXHBW",
    "learned_full": "KEXHBWM",
    "cheapest_pages": "K",
    "pressure_pi": "K",
    "pressure_pi_psi": "",
    "proportional": "KEXHBW",
    "proxmox": "K",
    "proxmox_ksmtuned": "K",
    "random": "KEXHBW",
    "rc_like": "KEXHBWM",
    "reference": "KEXHBWM",
    "reference_outside": "KEXHBWM",
    "selfballoon": "X",
    "senpai": "KM",
    "squeezed": "X",
    "static_shares": "KEM",
    "static": "KEXHBWM",
    "stock": "KEXHBWM",
    "tmo": "KM",
    "tree": "KEXHBW",
    "workstation_trim": "W",
}
"""Where each policy runs without an adapter, by hand from what its original's documentation and code ask for: initials of K(VM),
E(SXi), X(en), H(yper-V), B (VirtualBox), W(orkstation), bare M(etal). Policies of research and references are where a target
exists; pressure_pi and greedy are adapters for KVM."""

INITIALS = dict(zip("KEXHBWM", HYPERVISORS, strict=True))


@functools.cache
def on(hypervisor, scenario="idle-giants-short", rules="default"):
    return resolve(load_group("scenario", scenario), hypervisor=load_group("hypervisor", hypervisor), rules=rules)


@functools.cache
def declares(agent):
    return declared(load_group("agent", agent))


def why(agent, hypervisor, **others):
    return refusal(declares(agent), on(hypervisor, **others))


OF_HOSTS = sorted(name for name in group_files("agent") if of_hosts(load_group("agent", name)))


@pytest.mark.parametrize("agent", sorted(set(group_files("agent")) - set(OF_HOSTS)))
def test_a_policy_plays_where_its_original_runs(agent):
    played = {name for name in HYPERVISORS if why(agent, name) is None}
    assert played == {INITIALS[letter] for letter in PLAYS[agent.removesuffix("_tuned")]}


@pytest.mark.parametrize("agent", sorted(group_files("agent")))
def test_every_packaged_policy_declares_seat_channels_and_signals_and_its_tuned_twin_the_same(agent):
    config = load_group("agent", agent)
    assert {"seat", "channels", "signals"} <= config.keys()
    assert declared_by(config) == declared_by(load_group("agent", agent.removesuffix("_tuned")))


@pytest.mark.parametrize(
    ("agent", "hypervisor", "reason"),
    [
        ("senpai", "esxi", "needs memory.reclaim, which esxi lacks"),
        ("proxmox", "esxi", "needs a balloon target, which esxi has inside only"),
        ("proxmox", "virtualbox", "needs QEMU's monitor (QMP), which virtualbox lacks"),
        ("squeezed", "kvm", "needs Xen's setmaxmem, which kvm lacks"),
        ("esx", "kvm", "needs sampled activity, which kvm lacks"),
        ("greedy", "xen", "needs guest_available_mib and guest_swap_in_mib, which xen lacks"),
        ("hyperv_like", "kvm", "needs the guest's committed memory, which kvm lacks"),
        ("ppo", "baremetal", "needs a balloon target, which baremetal lacks"),
    ],
)
def test_a_refusal_says_what_is_lacking(agent, hypervisor, reason):
    assert why(agent, hypervisor) == reason


def test_open_rules_refuse_nobody_but_who_needs_several_hosts():
    refused = [name for name in group_files("agent") for h in HYPERVISORS if why(name, h, rules="open")]
    assert sorted(set(refused)) == OF_HOSTS


@pytest.mark.parametrize("agent", OF_HOSTS)
@pytest.mark.parametrize("rules", ["default", "open"])
def test_who_moves_vms_is_refused_on_a_host_alone_and_plays_on_a_cluster(agent, rules):
    reason = why(agent, "kvm", rules=rules)
    assert reason.startswith("needs live migration")
    assert reason.endswith("and so a scenario with several hosts")
    data = load_group("scenario", "hot-host")
    assert refusal(declared(load_group("agent", agent)), resolve(data, rules=rules)) is None


def test_a_hypervisor_without_capabilities_refuses_everybody_who_needs_anything():
    bare = {key: value for key, value in load_group("hypervisor", "kvm").items() if key != "capabilities"}
    scenario = resolve(load_group("scenario", "idle-giants-short"), hypervisor=bare, rules="default")
    assert refusal(Declaration(), scenario).startswith("hypervisor kvm declares no capabilities")
    assert refusal(Declaration(channels=None, signals=frozenset()), scenario).startswith("hypervisor kvm declares")
    assert refusal(Declaration(channels=(), signals=frozenset()), scenario) is None  # it does nothing
    with pytest.raises(InputError, match=r"capabilities: missing for kvm"):
        HostLanes(scenario, 1)


def test_every_signal_is_in_one_group_and_every_channel_has_words():
    names = [signal.name for signal in VM_SIGNALS] + [f"host.{signal.name}" for signal in HOST_SIGNALS]
    assert sorted(name for group in SIGNAL_GROUPS.values() for name in group) == sorted(names)
    assert list(CHANNELS) == list(Targets.__dataclass_fields__)


def test_every_channel_and_signal_of_a_packaged_hypervisor_has_a_source():
    for name in HYPERVISORS:
        capabilities = on(name).hypervisor.capabilities
        for seat in (capabilities.inside, capabilities.outside):
            assert all(declared_one.source for declared_one in (*seat.channels, *seat.signals))
            assert len({channel.name for channel in seat.channels}) == len(seat.channels)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seat", "inner", r"agent.seat='inner': choose one of inside, outside"),
        ("seat", "reference", r"agent.seat='reference': choose one of inside, outside"),
        ("channels", ["memory"], r"agent.channels: 'memory' is no channel \(did you mean 'memory_mib'"),
        ("channels", "memory_mib", r"agent.channels='memory_mib': expected a list of names, or any"),
        ("signals", ["guest_stat"], r"agent.signals: 'guest_stat' is no signal \(did you mean 'guest_stats'"),
        ("signals", "all", r"agent.signals='all': expected a list of names, or any, or seat"),
    ],
)
def test_a_wrong_declaration_is_told_key_value_and_what_would_be_right(key, value, said):
    with pytest.raises(InputError, match=f"agent mine: {said}"):
        declared_by({"name": "mine", "_target_": "hvgym.agents.proactive.tmo.Tmo", key: value})


def test_a_wrong_capability_is_told_too():
    kvm = load_group("hypervisor", "kvm")
    kvm["capabilities"]["outside"]["channels"][0]["name"] = "memory"
    with pytest.raises(InputError, match=r"hypervisor.capabilities.outside: channels: 'memory' is no channel"):
        resolve(load_group("scenario", "idle-giants-short"), hypervisor=kvm)


class Curious(Policy):
    """Notes which signals it was given, and answers on one channel."""

    period_s = 60.0

    def __init__(self, channel="memory_mib"):
        self.channel, self.given = channel, set()

    def decide(self, telemetry):
        for prefix, array in (("", telemetry.vm), ("host.", telemetry.host)):
            self.given |= {f"{prefix}{name}" for name in array.dtype.names if not np.isnan(array[name]).all()}
        return Targets(**{self.channel: telemetry.vm["memory_mib"]})


def short(hypervisor, rules="default"):
    return Scenario.from_dict(on(hypervisor, rules=rules).to_dict() | {"episode_s": 120})


def test_a_policy_that_declares_nothing_reads_of_its_profile_what_its_seat_has():
    on_kvm, on_esxi, opened = Curious(), Curious(), Curious()
    for policy, scenario in ((on_kvm, short("kvm")), (on_esxi, short("esxi")), (opened, short("esxi", "open"))):
        rollout(scenario, policy, [1])
    assert {"guest_free_mib", "host_psi_some10"} <= on_kvm.given
    assert "idle_120s_mib" not in on_kvm.given  # ages cost, so they must be declared
    assert "resident_mib" in on_esxi.given
    assert not {"guest_free_mib", "host_psi_some10", "idle_120s_mib"} & on_esxi.given
    assert "active_share" not in on_esxi.given  # its profile is P1
    assert {"guest_free_mib", "host_psi_some10", "idle_120s_mib"} <= opened.given


class Promoting(Curious):
    """Says of itself while it plays that it may do more."""

    def decide(self, telemetry):
        self.declaration = Declaration(seat="outside", channels=("reclaim_mib",))
        self.visibility = Visibility.P4
        return super().decide(telemetry)


def test_what_a_policy_says_of_itself_while_it_plays_grants_it_nothing():
    policy = Promoting("reclaim_mib")
    policy.declaration = Declaration(seat="outside", channels=("admit",))
    with pytest.raises(InputError, match="reclaim_mib"):
        rollout(short("esxi"), policy, [1])
    opened, before = Promoting(), Curious()
    for one in (opened, before):
        rollout(short("kvm", "open"), one, [1])
    assert opened.given == before.given


def test_signals_of_the_seat_are_the_same_under_open_rules():
    given = []
    for rules in ("default", "open"):
        policy = Curious()
        policy.declaration = declared({"name": "any", "signals": "seat"})
        rollout(short("esxi", rules), policy, [1])
        given.append(policy.given)
    assert given[0] == given[1]
    assert "guest_free_mib" not in given[1]


def test_who_keeps_to_its_seat_is_granted_its_channels_under_open_rules_and_who_takes_any_gets_all():
    keeps, takes = (declared({"name": "any", "channels": "any", "signals": word}) for word in ("seat", "any"))
    assert channels_of(keeps, short("esxi", "open")) == channels_of(keeps, short("esxi"))
    assert "reclaim_mib" not in channels_of(keeps, short("esxi", "open"))
    assert "reclaim_mib" in channels_of(takes, short("esxi", "open"))


def test_who_keeps_to_its_seat_is_held_to_its_channels_under_open_rules_too():
    policy = Curious("reclaim_mib")
    policy.declaration = declared({"name": "any", "channels": "any", "signals": "seat"})
    with pytest.raises(InputError, match=r"targets.reclaim_mib: esxi has no such channel inside"):
        rollout(short("esxi", "open"), policy, [1])
    policy.declaration = declared({"name": "any", "channels": "any"})
    rollout(short("esxi", "open"), policy, [1])


def test_signals_of_the_seat_are_all_where_no_seats_are_declared():
    bare = short("esxi", "open").to_dict()
    bare["hypervisor"] |= {"capabilities": None}
    policy = Curious()
    policy.declaration = declared({"name": "any", "signals": "seat"})
    rollout(Scenario.from_dict(bare), policy, [1])
    assert {"guest_free_mib", "host_psi_some10", "idle_120s_mib"} <= policy.given


def test_a_policy_reads_no_more_than_it_declares():
    policy = Curious()
    policy.declaration = Declaration(signals=frozenset({"memory_mib", "host.free_mib"}))
    rollout(short("kvm"), policy, [1])
    assert policy.given == {"memory_mib", "host.free_mib"}


def test_an_answer_on_a_channel_that_is_not_declared_ends_the_rollout():
    said = r"second 0: targets.reclaim_mib: not declared; add it to channels in the agent's YAML"
    with pytest.raises(InputError, match=said):
        rollout(short("kvm"), Curious("reclaim_mib"), [1])
    rollout(short("kvm", "open"), Curious("reclaim_mib"), [1])


def test_a_direct_rollout_of_what_is_refused_ends_in_the_same_line():
    policy = make_policy(load_group("agent", "senpai"))
    said = "agent senpai, scenario idle-giants-short: needs memory.reclaim, which esxi lacks; rules=open opens every channel"
    with pytest.raises(InputError, match=said):
        rollout(short("esxi"), policy, [1], agent="senpai")


@pytest.mark.parametrize(("agent", "hypervisor"), [("esx_equal", "esxi"), ("proxmox", "kvm"), ("squeezed", "xen")])
def test_who_plays_does_under_default_rules_what_it_does_under_open_ones(agent, hypervisor):
    rows = [
        rollout(on(hypervisor, rules=rules), make_policy(load_group("agent", agent)), [1, 2]).rows()
        for rules in ("default", "open")
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("hypervisor", "seat", "channels"),
    [
        ("kvm", "inside", ("memory_mib",)),
        ("esxi", "inside", ("memory_mib",)),
        ("workstation", "inside", ("memory_mib",)),
        ("baremetal", "inside", ("reclaim_mib", "reclaim_age_s")),
        ("esxi", "outside", ("disk_shares", "net_shares")),
        ("xen", "outside", ("memory_mib",)),
        ("virtualbox", "outside", ("memory_mib",)),
        (
            "kvm",
            "outside",
            ("memory_mib", "reclaim_mib", "reclaim_age_s", "scan_pages_per_s", "report_free_pages", "disk_shares", "net_shares"),
        ),
    ],
)  # fmt: skip
def test_actions_are_what_the_seat_can_set(hypervisor, seat, channels):
    assert channels_at(on(hypervisor), seat) == channels
    env = gymnasium.make(
        "hvgym/Host-v1", scenario="idle-giants-short", hypervisor=hypervisor, rules="default", seat=seat
    )
    assert env.action_space.shape == (sum(1 if channel == "scan_pages_per_s" else 8 for channel in channels),)
    assert channels_at(on(hypervisor, rules="open"), seat) == ("memory_mib",)


@pytest.mark.parametrize("hypervisor", ["workstation", "hyperv"])
def test_a_seat_without_channels_is_refused(hypervisor):
    said = f"seat='outside': hypervisor {hypervisor} has no channel there at run time"
    with pytest.raises(InputError, match=said):
        gymnasium.make(
            "hvgym/Host-v1", scenario="idle-giants-short", hypervisor=hypervisor, rules="default", seat="outside"
        )
    gymnasium.make(
        "hvgym/Host-v1", scenario="idle-giants-short", hypervisor=hypervisor, seat="outside"
    )  # open as packaged
    with pytest.raises(InputError, match="choose one of inside, outside"):
        gymnasium.make("hvgym/Host-v1", scenario="idle-giants-short", seat="aside")


def test_blocks_of_actions_mean_what_the_page_says():
    """Of two VMs in three places; the scanner's number is the last."""
    channels = actions.keys_of(channels_at(on("kvm"), "outside"))
    assert channels == ("memory", "reclaim", "reclaim_age", "reporting", "disk", "net", "sharing")
    given, kvm = np.array([[-1.0, 0.0, 0.7] * 6 + [1.0]], np.float32), ActionMap(2, "absolute", 0.1, channels, 3)
    assert kvm.size == given.shape[1]
    parts = kvm.blocks(given)
    made_of = np.array([[[900.0, 1000.0, 250.0, 1.0, 100.0], [900.0, 2000.0, 500.0, 1.0, 100.0]]])
    asked = kvm.asked(given, made_of, np.array([4000.0]))
    assert parts["memory"].tolist() == [[-1.0, 0.0]]
    assert asked.memory_mib.tolist() == [[250.0, 1250.0]]
    np.testing.assert_allclose(asked.reclaim_mib, [[0.0, 0.5 * 0.05 * 2000.0]])
    np.testing.assert_allclose(asked.reclaim_age_s, [[5.0, (5.0 * 3840.0) ** 0.5]])
    assert asked.scan_pages_per_s.tolist() == [[125_000.0]]
    assert asked.report_free_pages.tolist() == [[0.0, 1.0]]
    np.testing.assert_allclose(asked.disk_shares, [[1.0, 100.0]])
    np.testing.assert_allclose(asked.net_shares, [[1.0, 10.0]])
    assert asked.admit is None


def test_limits_are_asked_for_from_the_least_to_none():
    """Of 1,000 and 2,000 MiB with 250 and 500 guaranteed and processes of 100."""
    given = np.array([[[900.0, 1000.0, 250.0, 1.0, 100.0], [900.0, 2000.0, 500.0, 1.0, 100.0]]])
    only = ActionMap(2, channels=("limits",), most_vms=3)
    for action, limits in (
        (-1.0, [350.0, 600.0]),
        (0.0, [725.0, 1350.0]),
        (1.0, [1100.0, 2100.0]),
        (9.0, [1100.0, 2100.0]),
    ):
        asked = only.asked(np.full((1, 3), action, np.float32), given.copy(), np.array([4000.0]))
        assert asked.limit_mib.tolist() == [limits]
        assert asked.memory_mib is None


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi", "baremetal"])
def test_limits_that_a_learner_asks_for_are_those_that_the_model_and_the_next_observation_have(hypervisor):
    env = HostEnv("idle-giants-short", hypervisor=hypervisor, rules="default", seat="outside", channels=["limits"])
    env.reset(seed=1)
    sim, numbers = env.simulator, np.array([-1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0], np.float32)
    assert env.action_space.shape == (8,)
    observation, *_ = env.step(numbers)
    memory, least, process = (sim.vm_specs[name][0] for name in ("memory_mib", "min_mib", "overhead_mib"))
    asked = least + 0.5 * (1.0 + numbers) * (memory - least)
    limit_mib = np.where(numbers < 1.0, np.maximum(asked, sim.vm_specs["limit_least_mib"][0]), np.inf)
    np.testing.assert_allclose(sim.vms["limit_mib"][0], limit_mib)
    vms = observation[len(HOST_FEATURES) :].reshape(8, len(VM_FEATURES))
    seen = vms[:, VM_FEATURES.index("limit")]
    share = np.clip((limit_mib + process) / memory, 0.0, 1.0)
    np.testing.assert_allclose(seen[numbers < 1.0], share[numbers < 1.0], rtol=1e-5)
    assert sim.hosts["limited"][0, 0] == 1.0


def test_limits_are_no_part_of_an_environment_that_does_not_ask_for_them():
    """Spaces of before: those of stored networks."""
    for hypervisor in HYPERVISORS:
        for seat in ("inside", "outside"):
            if (hypervisor, seat) not in (("hyperv", "outside"), ("workstation", "outside")):
                assert "limit_mib" not in channels_at(on(hypervisor), seat)
    for hypervisor in ("kvm", "esxi", "baremetal"):
        assert "limit_mib" in on(hypervisor).hypervisor.capabilities.outside.channel_names


def test_sizes_among_several_channels_are_those_of_each_vm():
    lanes = HostLanes(on("kvm"), 1, seat="outside", action="absolute")
    lanes.reset(0, 7)
    given = np.zeros(lanes.actions.shape[1], np.float32)
    given[:8] = np.linspace(-1.0, 1.0, 8)
    lanes.take(given[None])
    lanes.step()
    least, most = (lanes.simulator.vm_specs[name][0] for name in ("min_mib", "memory_mib"))
    np.testing.assert_allclose(
        lanes.simulator.vms["asked_mib"][0], least + (most - least) * np.arange(8) / 7, rtol=1e-6
    )


def lanes_on(hypervisor, count, seat, steps):
    """Observations and terms of a batch under fixed draws."""
    lanes, draws = HostLanes(on(hypervisor), count, seat=seat, beneath=beneath), np.random.default_rng(3)
    for lane in range(count):
        lanes.reset(lane, 7 + lane)
    for _ in range(steps):
        lanes.take(draws.uniform(-1.0, 1.0, lanes.actions.shape[1]).astype(np.float32)[None].repeat(count, 0))
        lanes.step()
    return lanes


@pytest.mark.parametrize(("hypervisor", "seat"), [("kvm", "outside"), ("baremetal", "inside"), ("esxi", "outside")])
def test_a_lane_of_several_channels_equals_the_scalar_environment(hypervisor, seat):
    batch = lanes_on(hypervisor, 2, seat, 12)
    env = gymnasium.make(
        "hvgym/Host-v1", scenario="idle-giants-short", hypervisor=hypervisor, rules="default", seat=seat
    )
    draws = np.random.default_rng(3)
    env.reset(seed=8)
    for _ in range(12):
        observation, reward, *_ = env.step(draws.uniform(-1.0, 1.0, env.action_space.shape[0]).astype(np.float32))
    np.testing.assert_array_equal(observation, batch.observations[1])
    assert reward == batch.terms[1, 0]


def test_least_actions_on_bare_metal_leave_the_host_alone_and_most_take_a_twentieth():
    alone = Simulator(on("baremetal"))
    alone.reset([7])
    lanes = HostLanes(on("baremetal"), 1)
    lanes.reset(0, 7)
    least = np.full((1, 16), -1.0, np.float32)
    for _ in range(6):
        lanes.take(least)
        lanes.step()
        alone.advance(5)
    np.testing.assert_array_equal(lanes.simulator.vms["progress_s"], alone.vms["progress_s"])
    np.testing.assert_array_equal(lanes.simulator.vms["asked_mib"], alone.vms["asked_mib"])
    before = lanes.simulator.vms["host_swap_out_mib"].sum()
    lanes.take(np.concatenate([np.ones((1, 8)), np.full((1, 8), -1.0)], axis=1))  # all that may be, of any age
    lanes.step()
    taken = lanes.simulator.vms["host_swap_out_mib"].sum() - before
    assert 0.0 < taken <= 0.05 * lanes.simulator.vm_specs["memory_mib"].sum() + 1e-6


@pytest.mark.parametrize("hypervisor", ["esxi", "xen", "virtualbox", "kvm", "hyperv", "workstation"])
@pytest.mark.parametrize("kind", actions.KINDS)
def test_a_learner_sees_and_does_the_same_in_the_environment_and_as_a_policy(hypervisor, kind):
    scenario = on(hypervisor)
    lanes = HostLanes(scenario, 1, action=kind)
    lanes.reset(0, 7)
    sim, eyes, asked = Simulator(scenario), View(), ActionMap(8, kind)
    names = readable(Declaration(), scenario) & visible_to(Visibility.P1)
    seen = sim.reset([7]).restricted_to(names)
    draws = np.random.default_rng(5)
    for _ in range(8):
        np.testing.assert_array_equal(eyes.observe(seen), lanes.observations)
        action = draws.uniform(-1.0, 1.0, (1, 8)).astype(np.float32)
        sim.apply(asked.targets(action, seen))
        lanes.take(action)
        lanes.step()
        np.testing.assert_array_equal(sim.vms["asked_mib"], lanes.simulator.vms["asked_mib"])
        seen = sim.advance(5).restricted_to(names)
    reports = lanes.observations[0, len(HOST_FEATURES) + VM_FEATURES.index("reports") :: len(VM_FEATURES)]
    assert reports.any() == (hypervisor in ("kvm", "virtualbox", "hyperv", "xen"))


CHOSEN = [
    ("kvm", "inside", ["memory", "reclaim", "reporting", "sharing"], 25),
    ("kvm", "inside", ["memory", "reclaim", "reporting"], 24),
    ("kvm", "outside", ["net", "admit", "disk"], 24),
    ("esxi", "outside", ["disk"], 8),
    ("hyperv", "inside", ["reporting", "memory"], 16),
]


@pytest.mark.parametrize(("hypervisor", "seat", "channels", "size"), CHOSEN)
def test_chosen_channels_are_set_alike_alone_in_a_batch_and_for_sb3(hypervisor, seat, channels, size):
    kind = {"seat": seat, "channels": channels, "beneath": beneath, "most_vms": None}
    single, batch = HostEnv(on(hypervisor), **kind), HostVectorEnv(2, on(hypervisor), **kind)
    assert single.action_space.shape == batch.single_action_space.shape == (size,)
    draws = np.random.default_rng(0).uniform(-1.0, 1.0, (10, 2, size)).astype(np.float32)
    of_batch = [batch.reset(seed=7)[0], *(batch.step(numbers)[0] for numbers in draws)]
    if seat == "inside" and "sharing" not in channels:  # what the shared network answers for
        sb3 = HostVecEnv([on(hypervisor)], 2, Acting(channels=tuple(channels)), seed=7)
        np.testing.assert_array_equal(of_batch, [sb3.reset(), *(sb3.step(numbers)[0] for numbers in draws)])
    of_single = [single.reset(seed=8)[0]] + [single.step(numbers)[0] for numbers in draws[:, 1]]
    np.testing.assert_array_equal(np.array(of_batch)[:, 1], of_single)


def test_channels_that_were_chosen_reach_the_model():
    env = HostEnv(
        "idle-giants-short", hypervisor="kvm", channels=["reclaim", "reporting", "sharing", "disk", "net", "admit"]
    )
    env.reset(seed=1)
    sim = env.simulator
    order = ("reclaim", "reporting", "admit", "disk", "net")
    numbers = np.full(5 * 8 + 1, -1.0, np.float32)
    for name in ("reporting", "disk", "net"):
        numbers[8 * order.index(name)] = 1.0
    numbers[-1] = 0.0
    swapped = sim.vms["host_swap_out_mib"].copy()
    numbers[0] = 1.0
    env.step(numbers)
    assert sim.vms["host_swap_out_mib"][0, 0] - swapped[0, 0] > 0.0
    assert (sim.vm_specs["reporting_share_per_s"][0] > 0.0).tolist() == [True] + [False] * 7
    assert sim.hosts["scan_pages_per_s"][0, 0] == 62_500.0
    assert sim.vms["disk_shares"][0].tolist() == [10_000.0] + [1.0] * 7
    assert sim.vms["net_shares"][0].tolist() == [100.0] + [1.0] * 7
    assert not sim.vms["may_start"].any()
    assert (sim.vms["asked_mib"] == sim.vm_specs["memory_mib"]).all()


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi"])  # esxi has a policy beneath
def test_lanes_that_were_stored_keep_the_limits_that_were_set(hypervisor):
    lanes = HostLanes(on(hypervisor), 2, seat="outside", channels=["limits"])
    for lane in range(2):
        lanes.reset(lane, lane)
    for _ in range(3):
        lanes.take(np.zeros(lanes.actions.shape, np.float32))
        lanes.step()
    stored = pickle.loads(pickle.dumps(lanes))
    assert np.isfinite(stored.simulator.vms["limit_mib"]).all()
    for one in (lanes, stored):
        one.simulator.advance(30)
    assert stored.simulator.vms.tobytes() == lanes.simulator.vms.tobytes()
    assert stored.simulator.hosts.tobytes() == lanes.simulator.hosts.tobytes()


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi"])  # esxi has a policy beneath
def test_lanes_that_were_stored_go_on_as_those_that_were_not(hypervisor):
    """A training's checkpoint stores them."""
    lanes = lanes_on(hypervisor, 2, "outside", 3)
    stored = pickle.loads(pickle.dumps(lanes))
    for one in (lanes, stored):
        one.take(np.full(one.actions.shape, 0.5, np.float32))
        one.step()
    np.testing.assert_array_equal(stored.observations, lanes.observations)


def test_rules_of_a_scenario_are_its_data_and_give_way_to_those_that_are_asked_for():
    assert load("idle-giants").to_dict()["rules"] == "open"
    assert gymnasium.make("hvgym/Host-v1", rules="default").unwrapped.simulator.scenario.rules == "default"
    with pytest.raises(InputError, match=r"rules='defualt': choose one of default, open \(did you mean 'default'"):
        gymnasium.make("hvgym/Host-v1", rules="defualt")


def test_a_channel_that_is_asked_for_is_there_where_the_seat_has_no_others():
    """From outside Hyper-V is told which VMs start, and nothing else at run time; nobody is where nothing is."""
    place = {"scenario": "no-guest-swap-short", "hypervisor": "hyperv", "rules": "default"}
    env = gymnasium.make("hvgym/Host-v1", **place, seat="outside", channels=["admit"])
    env.reset(seed=1)
    assert env.action_space.shape == (4,)
    with pytest.raises(InputError, match=r"seat='outside': hypervisor hyperv has no channel there at run time"):
        gymnasium.make("hvgym/Host-v1", **place, seat="outside")
    with pytest.raises(InputError, match=r"seat='inner': choose one of inside, outside"):
        gymnasium.make("hvgym/Host-v1", **place, seat="inner", channels=["admit"])
