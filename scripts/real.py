"""``hvgym real scenario=… agent=…``: a scenario's stories on real guests on this machine, beside the same in the simulator."""

import json
from dataclasses import asdict

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, shown
from hvgym.scripts import configuration, real_host

ACCELERATORS = ("kvm", "tcg")


@configuration.verb("real")
def main(config: DictConfig) -> None:
    """Boot, play, end; print both worlds side by side."""
    from hvgym.bench.real_episode import as_measured, folder_of_guests, play, simulated
    from hvgym.envs.files import write_atomically
    from hvgym.envs.real.guests.image import built
    from hvgym.envs.real.guests.machines import Guests, accelerator
    from hvgym.envs.rules import check_played

    scenario, seed = configuration.scenario(config), configuration.seed(config)
    policy, agent = real_host.policy_of(config)
    runs, out = configuration.runs_folder(config), configuration.path(config, "out")
    chosen = configuration.text(config, "accelerator")
    if chosen is not None and chosen not in ACCELERATORS:
        raise InputError(f"accelerator={shown(chosen)}: choose one of {', '.join(ACCELERATORS)}")
    check_played(
        policy.declaration, scenario, agent
    )  # what the simulator refuses is told now, not after the guests have played
    kernel, initrd = built(folder_of_guests(runs))
    guests = Guests(scenario, kernel, initrd, folder_of_guests(runs) / "run", chosen or accelerator(kernel, initrd))
    print(f"real {scenario.name}: {agent}, {len(scenario.groups)} guests, {scenario.duration_s} s", flush=True)
    episode = play(guests, policy, agent, seed, lambda text: print(text, flush=True))
    measured = as_measured(scenario, episode.rows)
    real, whole = episode.figures(), simulated(measured, real_host.policy_of(config)[0], agent, episode.signals)
    model = {name: figure for name, figure in whole.items() if name not in ("rows", "seconds")}
    file = out or runs / "real" / f"{scenario.name}-{agent}-{seed}.json"
    content = {
        "scenario": scenario.name,
        "agent": agent,
        "seed": seed,
        "accelerator": guests.accelerator,
        "machine": asdict(episode.crowding),
        "real": real,
        "model": model,
    }
    write_atomically(file, json.dumps(content | {"rows": episode.rows, "seconds": episode.progress.tolist()}) + "\n")
    print(f"{'progress':<12}{'real':>8}{'model':>8}")
    for name in ("all", *real["by_vm"]):
        pair = (one["progress"] if name == "all" else one["by_vm"].get(name, float("nan")) for one in (real, model))
        print(f"{name:<12}" + "".join(f"{value:8.3f}" for value in pair))
    if reason := episode.crowding.busy:
        print(f"the machine was busy: {reason}; these figures say nothing")
    print(f"lost: {', '.join(real['lost']) or 'none'} (real), {model['kills']:.0f} killed (model)")
    print(file)
