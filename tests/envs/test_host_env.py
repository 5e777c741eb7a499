"""What actions do and what observations say; ``test_contract`` holds what Gymnasium asks for."""

import numpy as np
import pytest

from hvgym.envs.features import HOST_FEATURES, VM_FEATURES, Observer, targets_mib
from hvgym.envs.host_env import HostEnv
from hvgym.envs.scenario import load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets


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


def test_full_action_is_the_configured_size_and_lowest_the_minimum():
    env = HostEnv("idle-giants-short")
    env.reset(seed=0)
    env.step(np.ones(8, np.float32))
    assert (env.simulator.vms["asked_mib"] == env.simulator.vm_specs["memory_mib"]).all()
    env.step(-np.ones(8, np.float32))
    assert (env.simulator.vms["asked_mib"] == env.simulator.vm_specs["min_mib"]).all()


def test_observer_and_targets_equal_what_the_environment_does():
    """The two ways from readings to observation and from action to sizes give the same bits."""
    env, sim, observer = HostEnv("idle-giants-short"), Simulator(load("idle-giants-short")), Observer()
    observation, _ = env.reset(seed=9)
    telemetry = sim.reset([9])
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert observer.observe(telemetry)[0].tobytes() == observation.tobytes()
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        sim.apply(Targets(targets_mib(action[None], telemetry)))
        telemetry = sim.advance(5)
        observation, *_ = env.step(action)
        assert sim.vms["asked_mib"].tobytes() == env.simulator.vms["asked_mib"].tobytes()


def test_rates_in_the_observation_are_differences_of_counters():
    env = HostEnv("idle-giants-short")
    env.reset(seed=1)
    env.step(np.ones(8, np.float32))
    before = env.simulator.host_signals["swap_in_mib"][0, 0]
    observation, *_ = env.step(np.ones(8, np.float32))
    rate = (env.simulator.host_signals["swap_in_mib"][0, 0] - before) / 5
    assert observation[HOST_FEATURES.index("swap_in_rate")] == pytest.approx(np.log1p(rate) / 8, rel=1e-6)
    assert rate > 0


def test_a_missing_driver_reads_zero_with_its_mask_at_zero():
    data = load("idle-giants-short").to_dict()
    data["vms"][0]["balloon"] = False
    env = HostEnv(data)
    env.reset(seed=1)
    observation, *_ = env.step(np.ones(8, np.float32))
    vms = observation[len(HOST_FEATURES) :].reshape(8, len(VM_FEATURES))
    reports = VM_FEATURES.index("reports")
    assert vms[:, reports].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert (vms[:2, reports:] == 0).all()
    assert not np.isnan(observation).any()


def test_terms_of_an_episode_add_up_to_the_counters_of_the_model():
    env = HostEnv("no-guest-swap-short")
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


def test_every_feature_is_the_signal_it_is_named_after():
    """From raw readings with numpy; shares of memory, rates as log(1 + MiB/s) / 8."""
    env = HostEnv("no-guest-swap-short")
    env.reset(seed=5)
    action = np.array([-0.9, -0.5, 0.0, 0.5], np.float32)
    env.step(action)
    before = env.simulator.telemetry()
    observation, *_ = env.step(action)
    now = env.simulator.telemetry()
    vm, host, memory = now.vm[0], now.host[0, 0], now.vm[0]["memory_mib"]

    def rate(name, after, earlier):
        return np.log1p((after[name] - earlier[name]) / 5.0) / 8.0

    expected = {name: vm[f"{name}_mib"] / memory for name in VM_SHARES}
    expected |= {f"{name}_rate": rate(f"{name}_mib", vm, before.vm[0]) for name in VM_RATES}
    expected |= {
        "memory_share": memory / host["total_mib"],
        "min_share": vm["min_mib"] / memory,
        "cpu_rate": (vm["cpu_s"] - before.vm[0]["cpu_s"]) / 80.0,
        "critical": vm["critical"],
        "reports": np.ones(4),
    }
    assert set(expected) == set(VM_FEATURES)
    seen = observation[len(HOST_FEATURES) :].reshape(4, len(VM_FEATURES))
    for i, name in enumerate(VM_FEATURES):
        np.testing.assert_allclose(seen[:, i], expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    expected = [host["available_mib"] / host["total_mib"], host["swap_used_mib"] / host["swap_total_mib"]]
    expected += [rate(name, host, before.host[0, 0]) for name in ("swap_in_mib", "swap_out_mib")]
    expected += [host["disk_utilisation"], host["cpu_utilisation"]]
    np.testing.assert_allclose(observation[: len(HOST_FEATURES)], expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(vm["size_mib"], vm["target_mib"])  # the balloons are still on their way


VM_SHARES = ("size", "target", "resident", "host_swap", "guest_free", "guest_available", "guest_caches")
VM_RATES = ("host_swap_in", "disk", "guest_swap_in", "guest_swap_out")
