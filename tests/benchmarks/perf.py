"""Speed, as ratios measured in one run: ``make perf``.

Prints environment steps per second on one core (8 VMs, 5 ticks a step, batch 1024), what each mechanism adds to a step
(the same scenario with and without it, in turn), the time of a policy's decision, the latency of a single step, SB3's
DummyVecEnv on Pendulum-v1 for comparison, and what trainings do: `ppo` and `es` as their YAML has them,
the environment's share of PPO's wall time, and whole episodes of the evolution strategy beside the bare simulation of the same
hosts, and on two threads against one. Machines are noisy: read the ratios.
"""

import dataclasses
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger

from hvgym.agents.learned.episodes import ended
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.training import trainer_of
from hvgym.agents.learned.vec_env import HostVecEnv
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import Policy, declared_by, make_policy
from hvgym.bench.training import task_of, train
from hvgym.envs.device import DeviceModel
from hvgym.envs.host_env import HostEnv
from hvgym.envs.java import JvmGuest
from hvgym.envs.rules import channels_of, of_hosts
from hvgym.envs.scenario import Scenario, VmGroup, group_files, load, load_group, resolve
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.vector_env import HostVectorEnv

SCENARIO = "idle-giants"
BATCH, VMS, TICKS, EPISODES = 1024, 8, 5, 48
ROLLOUTS, GENERATIONS = 40, 6

DEVICES = {"disk": "virtio-iothread", "nic": "vhost-net"}

JAVA = build(JvmGuest, {"workload": load_group("jvm", "h2"), "xmx_mib": 2560.0}, "jvm")


def seconds(work, repeats: int) -> float:
    """Median time of one call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def batched(name: str, actions: list[np.ndarray], scenario: str | Scenario = SCENARIO) -> float:
    """Environment steps per second of the batch under these actions, cycled."""
    env = HostVectorEnv(BATCH, scenario, action="absolute")
    env.reset(seed=0)
    turn = [0]

    def step() -> None:
        env.step(actions[turn[0] % len(actions)])
        turn[0] += 1

    for _ in range(20):
        step()
    rate = BATCH / seconds(step, 60)
    print(f"  {name:<34}{rate:>12,.0f} steps/s   {1e9 / (rate * VMS * TICKS):6.0f} ns per VM and tick")
    return rate


def plain() -> Scenario:
    """The scenario on kvm without any mechanism that can be left out."""
    bare = {"nested_walks": False, "exit_us": 0.0, "disk": None, "nic": None, "victims": "random"}
    return resolve(load_group("scenario", SCENARIO), load_group("hypervisor", "kvm") | bare)


def with_vms(scenario: Scenario, **changes) -> Scenario:
    """The scenario with every VM changed; a function changes what is there."""

    def changed(group: VmGroup) -> VmGroup:
        new = {key: value(getattr(group, key)) if callable(value) else value for key, value in changes.items()}
        return dataclasses.replace(group, **new)

    return dataclasses.replace(scenario, vms=tuple(map(changed, scenario.vms)))


def everything(scenario: Scenario) -> Scenario:
    """All that can be on at once: half of the VMs run a JVM, one in four swaps to zram."""
    devices = {group: build(DeviceModel, load_group(group, name), group) for group, name in DEVICES.items()}
    parts = {"disk_shares": 1000.0, "disk_reservation_iops": 500.0, "net_shares": 50.0, "disk_waits_per_s": 20.0}
    waits = {"net_waits_per_s": 20.0, "slo_disk_latency_ms": 5.0, "cpu_limit": 4.0}
    giant, worker = scenario.vms
    none = dataclasses.replace(worker.demand, hot_mib=0.0, warm_mib=0.0, net_mib_per_s=2.0)
    vms = (
        dataclasses.replace(giant, swap="zram", **parts, **waits),
        dataclasses.replace(
            worker, count=2, **parts, **waits, demand=dataclasses.replace(worker.demand, net_mib_per_s=2.0)
        ),
        dataclasses.replace(worker, count=4, jvm=JAVA, **parts, **waits, demand=none),
    )
    host = dataclasses.replace(scenario.host, swap="nvme")
    return with_hypervisor(
        dataclasses.replace(scenario, vms=vms, host=host), nested_walks=True, exit_us=0.6, victims="mglru",
        free_page_reporting=True, scan_pages_per_s=5000.0, zip_cap_share=0.1, host_cache_swappiness=60.0, writes_behind=True,
        **devices,
    )  # fmt: skip


def with_hypervisor(scenario: Scenario, **changes) -> Scenario:
    """The scenario with its hypervisor changed."""
    return dataclasses.replace(scenario, hypervisor=dataclasses.replace(scenario.hypervisor, **changes))


def mechanisms(scenario: Scenario) -> dict[str, Scenario]:
    """One scenario a mechanism, each the plain one and that."""
    host = dataclasses.replace(scenario.host, swap="nvme")
    limited = with_vms(scenario, cpu_limit=1.0)
    devices = {group: build(DeviceModel, load_group(group, name), group) for group, name in DEVICES.items()}
    busy = with_vms(scenario, demand=lambda demand: dataclasses.replace(demand, net_mib_per_s=2.0))
    return {
        "exits and page walks": with_hypervisor(scenario, nested_walks=True, exit_us=0.6),
        "accessed bits of the host": with_hypervisor(scenario, victims="mglru"),
        "zram in the guests": with_vms(scenario, swap="zram"),
        "free page reporting": with_hypervisor(scenario, free_page_reporting=True),
        "page sharing": with_hypervisor(scenario, scan_pages_per_s=5000.0),
        "compressed pool": with_hypervisor(scenario, zip_cap_share=0.1),
        "swap on a device of its own": dataclasses.replace(scenario, host=host),
        "host page cache": with_hypervisor(scenario, host_cache_swappiness=60.0),
        "write-behind of a mapped file": with_hypervisor(scenario, writes_behind=True),
        "limits on pCPUs": limited,
        "states of ESXi": with_hypervisor(scenario, last_resort="esxi"),
        "virtual disk and NIC": with_hypervisor(busy, **devices),
        "disk and link divided": with_vms(busy, disk_shares=1000.0, net_shares=50.0),
        "JVMs": with_vms(
            scenario, jvm=JAVA, demand=lambda demand: dataclasses.replace(demand, hot_mib=0.0, warm_mib=0.0)
        ),
        "committed memory": with_hypervisor(scenario, last_resort="commit", admission="commit", limits="none"),
    }


def cost_of(scenario: Scenario, other: Scenario, actions: list[np.ndarray]) -> float:
    """Time of a step of `other` over one of `scenario`, measured in turn; median of the ratios."""
    envs = [HostVectorEnv(BATCH, which, action="absolute") for which in (scenario, other)]
    for env in envs:
        env.reset(seed=0)
    ratios = []
    for turn in range(40):
        times = []
        for env in envs:
            began = time.perf_counter()
            env.step(actions[turn % len(actions)])
            times.append(time.perf_counter() - began)
        ratios.append(times[1] / times[0])
    return median(ratios[10:])


def single() -> float:
    """Microseconds of one scalar step."""
    env = HostEnv(SCENARIO, action="absolute")
    env.reset(seed=0)
    action = np.full(VMS, 0.1, np.float32)
    for _ in range(200):
        env.step(action)
    return 1e6 * seconds(lambda: [env.step(action) for _ in range(100)], 20) / 100


def decisions() -> dict[str, float]:
    """Milliseconds of one decision of every packaged policy of a host on the scenario's (median of 60); references have none."""
    found = {}
    for name in sorted(group_files("agent")):
        config = load_group("agent", name)
        waits = "train" in config or config.get("checkpoint", "") is None  # for what is learnt
        policy = None if waits or of_hosts(config) else make_policy(config)
        if isinstance(policy, Policy):
            found[name] = 1e3 * _decision_s(policy)
    return found


def _decision_s(policy: Policy) -> float:
    sim, times = Simulator(load(SCENARIO)), []
    telemetry = sim.reset([0])
    policy.granted(channels_of(policy.declaration, sim.scenario))
    policy.reset(telemetry.seen_with(policy.visibility), seed=0)
    for _ in range(60):
        seen = telemetry.seen_with(policy.visibility)
        began = time.perf_counter()
        targets = policy.decide(seen)
        times.append(time.perf_counter() - began)
        sim.apply(targets)
        telemetry = sim.advance(max(int(policy.period_s), 1))
    return median(times)


def pendulum() -> float:
    """Steps per second of SB3's DummyVecEnv on Pendulum-v1, 16 environments."""
    env = make_vec_env("Pendulum-v1", n_envs=16)
    env.reset()
    actions = np.zeros((16, 1), np.float32)
    return 16 / seconds(lambda: env.step(actions), 200)


class Timed(HostVecEnv):
    """Adds up the time spent in the environment."""

    spent = 0.0

    def step_wait(self):
        began = time.perf_counter()
        result = super().step_wait()
        self.spent += time.perf_counter() - began
        return result


def ppo_share(threads: int, **changes) -> tuple[float, float]:
    """The environment's share of PPO's wall time, and its decisions per second: `ROLLOUTS` rollouts of ``conf/agent/ppo.yaml``,
    with these keys of ``train`` in place of its own."""
    agent = load_group("agent", "ppo")
    trainer = trainer_of(agent | {"train": agent["train"] | changes})
    scenario = dataclasses.replace(load(SCENARIO), control_interval_s=int(trainer.period_s))
    env = Timed([scenario], trainer.envs, trainer.acting, 0, threads, trainer.stagger)
    model = trainer.model(env, 0)
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.learn(trainer.at_once * 2)  # compiles
    env.spent = 0.0
    began = time.perf_counter()
    model.learn(trainer.at_once * ROLLOUTS, reset_num_timesteps=False)
    wall = time.perf_counter() - began
    return env.spent / wall, trainer.at_once * ROLLOUTS / wall


def print_ppo() -> None:
    """PPO by itself, on two threads, and with a wider network."""
    for changes, words in (({}, "as its YAML is"), ({"width": 32}, "width 32")):
        for threads in (1, 2):
            share, speed = ppo_share(threads, **changes)
            print(f"ppo, {words}, hosts on {threads} thread(s): {speed:,.0f} decisions/s, {share:.0%} of wall time in the "
                  "environment (aim 20 %)")  # fmt: skip


def es_training() -> tuple[float, float]:
    """Steps of a training of ``conf/agent/es.yaml`` on one thread per second, and its episodes: `GENERATIONS` with all that belongs
    to them (sets are drawn, stock plays too), without validation."""
    agent = load_group("agent", "es")
    first = trainer_of(agent | {"train": agent["train"] | {"threads": 1, "validations": 1}})
    scenario = load(SCENARIO)
    every = first.steps_of([scenario])
    trainer = dataclasses.replace(first, total_steps=every * GENERATIONS)
    with tempfile.TemporaryDirectory() as folder:
        task = task_of(
            [scenario], Path(folder), 0, "es", lambda policy: 0.0, lambda point, total: None,
            declaration=declared_by(agent),
        )  # fmt: skip
        began = time.perf_counter()
        train(trainer, task)
        wall = time.perf_counter() - began
    return trainer.total_steps / wall, trainer.population * trainer.seeds * GENERATIONS / wall


def episodes_s(weights: np.ndarray | None, threads: int = 1) -> float:
    """Seconds of `EPISODES` episodes of 720 steps under a linear map each, demand included; without weights nobody decides."""
    scenario, seeds = load(SCENARIO), range(EPISODES)
    if weights is None:
        began = time.perf_counter()
        sim = Simulator(scenario, EPISODES, threads)
        sim.reset(seeds)
        sim.advance(scenario.duration_s)
        return time.perf_counter() - began
    policy = SharedLinear.of(weights, 0.1, 10.0)
    policy.threads = threads
    began = time.perf_counter()
    assert ended(scenario, policy, seeds) is not None
    return time.perf_counter() - began


def print_evolution(rng: np.random.Generator) -> None:
    """What `es` plays in a generation of 24 sets and 2 seeds, each way in turn."""
    still, drawn = np.zeros((EPISODES, len(FEATURES))), rng.normal(0.0, 0.3, (EPISODES, len(FEATURES)))
    ways = {"bare": (None, 1), "still": (still, 1), "drawn": (drawn, 1), "two": (drawn, 2)}
    times = {name: [] for name in ways}
    for turn in range(6):
        for name, (weights, threads) in ways.items():
            taken = episodes_s(weights, threads)
            if turn:  # the first one compiles
                times[name].append(taken)
    taken = {name: median(of_way) for name, of_way in times.items()}
    print(f"evolution strategy, episodes of 720 steps x {VMS} VMs, a decision each 10 s, one core:")
    print(
        f"  {EPISODES / taken['drawn']:.0f} episodes/s under drawn weights (aim 80); {EPISODES / taken['still']:.0f} where sizes "
        f"stand still, {taken['still'] / taken['bare']:.2f} of the time of the bare simulation (aim 1.3)"
    )
    steps, episodes = es_training()
    print(
        f"  es as its YAML is, on one thread: {steps:,.0f} steps/s and {episodes:.0f} episodes/s of its sets, stock's not counted"
    )
    print(f"  two threads {taken['drawn'] / taken['two']:.2f} times one (aim 1.8, of {os.cpu_count()} cores)")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(f"environment, one core, {VMS} VMs, {TICKS} ticks a step, batch {BATCH} (aim 100,000 steps/s):")
    shape = (BATCH, VMS)
    sizes = [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(50)]
    rates = [
        batched("no reclaim (action 1)", [np.ones(shape, np.float32)]),
        batched("all guests under pressure (0.1)", [np.full(shape, 0.1, np.float32)]),
        batched("random sizes every step", sizes),
    ]
    batched("... and every mechanism at once", sizes, everything(plain()))
    print("what a mechanism adds to a step with random sizes (plain is kvm with none of them):")
    for name, scenario in mechanisms(plain()).items():
        print(f"  {name:<34}{cost_of(plain(), scenario, sizes) - 1.0:>+11.0%}")
    slowest = sorted(decisions().items(), key=lambda item: -item[1])
    print(f"a decision on a host of {VMS} VMs, slowest of {len(slowest)} policies (aim 1 ms): "
          + ", ".join(f"{name} {ms:.2f} ms" for name, ms in slowest[:5]))  # fmt: skip
    print(f"single step: {single():.1f} us of Python and kernel (aim 25)")
    dummy = pendulum()
    print(f"SB3 DummyVecEnv on Pendulum-v1: {dummy:,.0f} steps/s; ours are {rates[0] / dummy:.1f}, {rates[1] / dummy:.1f} and "
          f"{rates[2] / dummy:.1f} times as many")  # fmt: skip
    print_ppo()
    print_evolution(rng)


if __name__ == "__main__":
    main()
