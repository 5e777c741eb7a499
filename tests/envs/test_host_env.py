"""What actions do and what observations say; ``test_contract`` holds what Gymnasium asks for."""

import numpy as np
import pytest

from hvgym.envs.actions import ActionMap
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.scenario import load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Visibility
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES, View


def test_episode_ends_by_truncation_after_its_length_and_reward_is_goodput():
    env = HostEnv("idle-giants-short")
    env.reset(seed=0)
    rewards = []
    for step in range(120):
        _, reward, terminated, truncated, info = env.step(np.ones(8, np.float32))
        rewards.append(reward)
        assert not terminated
        assert truncated == (step == 119)
        assert info["goodput"] == reward
    vms, specs = env.simulator.vms[0], env.simulator.vm_specs[0]
    expected = (specs["weight"] * vms["progress_s"]).sum() / (specs["weight"].sum() * 600)
    assert np.mean(rewards) == pytest.approx(expected, rel=1e-12)
    assert 0.0 < expected < 1.0


def test_absolute_actions_run_from_the_minimum_to_the_configured_size():
    env = HostEnv("idle-giants-short", action="absolute")
    env.reset(seed=0)
    specs = env.simulator.vm_specs
    for number, size_mib in ((1.0, specs["memory_mib"]), (-1.0, specs["min_mib"])):
        env.step(np.full(8, number, np.float32))
        assert (env.simulator.vms["asked_mib"] == size_mib).all()
    env.step(np.zeros(8, np.float32))
    assert env.simulator.vms["asked_mib"] == pytest.approx((specs["memory_mib"] + specs["min_mib"]) / 2)


def test_relative_actions_move_the_size_by_at_most_a_step_and_within_bounds():
    env = HostEnv("idle-giants-short", step=0.25)
    env.reset(seed=0)
    specs, vms = env.simulator.vm_specs[0], env.simulator.vms
    memory = specs["memory_mib"]
    assert (vms["asked_mib"][0] == memory).all()
    env.step(np.full(8, -1.0, np.float32))
    assert vms["asked_mib"][0] == pytest.approx(np.maximum(0.75 * memory, specs["min_mib"]))
    env.step(np.full(8, 0.5, np.float32))
    assert vms["asked_mib"][0] == pytest.approx(0.875 * memory)
    env.step(np.zeros(8, np.float32))
    assert vms["asked_mib"][0] == pytest.approx(0.875 * memory)
    for number, size_mib in ((1.0, memory), (-1.0, specs["min_mib"])):
        for _ in range(4):
            env.step(np.full(8, number, np.float32))
        assert (vms["asked_mib"][0] == size_mib).all()


def test_water_filling_fills_the_hosts_memory_at_one_level():
    """By hand: what is within bounds stands at one level x share x memory, and all of it fills the RAM but for a twentieth."""
    env = HostEnv("idle-giants-short", action="water_filling")
    env.reset(seed=0)
    specs, ram_mib = env.simulator.vm_specs[0], env.simulator.host_specs["ram_mib"][0, 0]
    memory, least = specs["memory_mib"], specs["min_mib"]
    numbers = np.linspace(-0.5, 1.0, 8, dtype=np.float32)
    env.step(numbers)
    sizes = env.simulator.vms["asked_mib"][0]
    assert sizes.sum() == pytest.approx(0.95 * ram_mib - specs["overhead_mib"].sum())
    between = (sizes > least) & (sizes < memory)
    levels = (sizes / (0.5 * (1.0 + numbers.astype(float)) * memory))[between]
    assert between.sum() >= 2
    assert levels == pytest.approx(levels[0])


def test_water_filling_gives_minimums_where_no_more_fits_and_everything_where_all_fits():
    """Two VMs of 1000 and 2000 MiB, of which 250 and 500 are guaranteed, with processes of 100 MiB each."""
    made_of = np.array([[[900.0, 1000.0, 250.0, 1.0, 100.0], [900.0, 2000.0, 500.0, 1.0, 100.0]]])
    filling, numbers = ActionMap(2, "water_filling"), np.array([[-0.5, 1.0]], np.float32)

    def sizes(ram_mib):
        return filling.asked(numbers, made_of.copy(), np.array([ram_mib])).memory_mib[0]

    assert sizes(500.0).tolist() == [250.0, 500.0]
    assert sizes(4000.0).tolist() == [1000.0, 2000.0]
    # 0.95 x 2000 - 200 = 1700 = (0.25 x 1000 + 2000) x level, of which the first has its minimum, and so 1450 remain
    assert sizes(2000.0) == pytest.approx([250.0, 1450.0])
    made_of[0, 0, 3] = 0.0  # the first does not run, and what it is to have then is not counted
    assert sizes(2000.0) == pytest.approx([250.0, 0.95 * 2000.0 - 100.0])


@pytest.mark.parametrize("action", ["relative", "absolute", "water_filling"])
@pytest.mark.parametrize("visibility", ["P1", "P3"])
def test_a_view_and_a_map_of_actions_equal_what_the_environment_does(action, visibility):
    """The two ways from readings to observation and from action to sizes give the same bits."""
    env = HostEnv("idle-giants-short", action=action, most_vms=10, visibility=visibility)
    sim, eyes, asked = Simulator(load("idle-giants-short")), View(), ActionMap(8, action, most_vms=10)
    observation, _ = env.reset(seed=9)
    telemetry = sim.reset([9])
    rng = np.random.default_rng(0)
    for _ in range(20):
        seen = telemetry.seen_with(Visibility[visibility])
        assert eyes.observe(seen, most_vms=10)[0].tobytes() == observation.tobytes()
        numbers = rng.uniform(-1, 1, 10).astype(np.float32)
        sim.apply(asked.targets(numbers[None], seen))
        telemetry = sim.advance(5)
        observation, *_ = env.step(numbers)
        assert sim.vms["asked_mib"].tobytes() == env.simulator.vms["asked_mib"].tobytes()


def test_places_of_vms_that_are_not_there_read_0_and_count_for_nothing():
    padded, plain = HostEnv("no-guest-swap-short", most_vms=7), HostEnv("no-guest-swap-short")
    assert padded.action_space.shape == (7,)
    assert padded.observation_space.shape == (len(HOST_FEATURES) + 7 * len(VM_FEATURES),)
    seen, wanted = padded.reset(seed=2)[0], plain.reset(seed=2)[0]
    for _ in range(5):
        assert seen[: len(wanted)].tobytes() == wanted.tobytes()
        assert not seen[len(wanted) :].any()
        numbers = np.array([-1.0, 0.5, 0.0, -0.2, 1.0, -1.0, 0.3], np.float32)
        seen, wanted = padded.step(numbers)[0], plain.step(numbers[:4])[0]


def test_a_missing_driver_reads_zero_with_its_mask_at_zero():
    data = load("idle-giants-short").to_dict()
    data["vms"][0]["balloon"] = False
    env = HostEnv(data)
    env.reset(seed=1)
    observation, *_ = env.step(np.ones(8, np.float32))
    vms = observation[len(HOST_FEATURES) :].reshape(8, len(VM_FEATURES))
    assert vms[:, VM_FEATURES.index("reports")].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert not any(vms[:2, i].any() for i, name in enumerate(VM_FEATURES) if name.startswith("guest_"))
    assert vms[:, 0].all()
    assert not np.isnan(observation).any()


def test_terms_of_an_episode_add_up_to_the_counters_of_the_model():
    env = HostEnv("no-guest-swap-short", action="absolute")
    env.reset(seed=5)
    totals = np.zeros(4)
    for _ in range(120):
        *_, info = env.step(-np.ones(4, np.float32))
        totals += [info[name] for name in ("cost", "oom_kills", "host_swap_s", "balloon_moved_mib")]
    vms, hosts = env.simulator.vms[0], env.simulator.hosts[0]
    counters = [
        vms["slo_violation_s"].sum(),
        vms["oom_kills"].sum(),
        hosts["swapping_s"][0],
        vms["balloon_moved_mib"].sum(),
    ]
    np.testing.assert_allclose(totals, counters)
    assert min(counters) > 0


WRONG = [
    (
        {"action": "relativ"},
        r"action='relativ': choose one of relative, absolute, water_filling \(did you mean 'relative'",
    ),
    ({"step": 0.0}, r"step=0.0: expected a share of configured memory, above 0 and at most 1"),
    ({"step": True}, r"step=True: expected"),
    ({"most_vms": 7}, r"most_vms=7: expected a whole number, at least the 8 VMs"),
    ({"visibility": "P9"}, r"visibility='P9': choose one of P0, P1"),
    ({"channels": []}, r"channels=\[\]: expected a list of channels; known: memory"),
    ({"channels": "memory"}, r"channels='memory': expected a list"),
    ({"channels": ["memroy"]}, r"channels: 'memroy' is no channel \(did you mean 'memory'"),
    ({"channels": ["memory", "memory"]}, r"channels: 'memory' is there twice"),
    (
        {"channels": ["limits"], "hypervisor": "xen"},
        r"channels: 'limits': hypervisor xen has no limit below a VM's size",
    ),
    (
        {"channels": ["memory", "limits"], "hypervisor": "hyperv", "rules": "default"},
        r"channels: 'limits': hypervisor hyperv has no limit below a VM's size",
    ),
    (
        {"channels": ["limits"], "hypervisor": "kvm", "rules": "default"},
        r"channels: 'limits' is not among what kvm has inside: memory,",
    ),
    ({"channels": ["move"]}, r"channels: 'move' needs several hosts; play hvgym/Cluster-v0"),
    (
        {"channels": ["reclaim"], "hypervisor": "esxi", "rules": "default"},
        r"channels: 'reclaim' is not among what esxi has inside: memory, sharing; rules='open'",
    ),
    (
        {"page_ages": True, "hypervisor": "virtualbox", "rules": "default"},
        r"page_ages.*needs ages of pages, which virtualbox lacks",
    ),
]


@pytest.mark.parametrize(("keywords", "said"), WRONG)
def test_what_cannot_be_is_refused_in_one_line(keywords, said):
    with pytest.raises(InputError, match=said) as told:
        HostEnv("idle-giants-short", **keywords)
    assert "\n" not in str(told.value)


def test_ages_of_pages_are_seen_by_who_asks_for_them_and_cost_the_host():
    busy, each_second = {}, load("idle-giants-short").to_dict() | {"control_interval_s": 1}
    for watches in (False, True):
        env = HostEnv(each_second, hypervisor="kvm", rules="default", seat="outside", channels=["memory"],
                      page_ages=watches)  # fmt: skip
        env.reset(seed=1)
        for _ in range(3):
            seen, *_ = env.step(np.zeros(8, np.float32))
        vms = seen[len(HOST_FEATURES) :].reshape(8, len(VM_FEATURES))
        assert vms[:, VM_FEATURES.index("has_page_ages")].all() == watches
        assert vms[:, VM_FEATURES.index("idle_for_60s")].any() == watches
        busy[watches] = env.simulator.host_signals["cpu_utilisation"][0, 0]
    assert busy[True] > busy[False]
    env = HostEnv("idle-giants-short", page_ages=True)  # open rules: the compiled step reads them
    seen = env.reset(seed=1)[0][len(HOST_FEATURES) :].reshape(8, len(VM_FEATURES))
    telemetry = env.simulator.telemetry()
    idle = (telemetry.vm["idle_480s_mib"] / telemetry.vm["memory_mib"])[0].astype(np.float32)
    assert (seen[:, VM_FEATURES.index("idle_for_480s")] == idle).all()
