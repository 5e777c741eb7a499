"""``hvgym demo scenario=… agent=…``: one episode live in the terminal, under one agent or two side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, shown
from hvgym.scripts import configuration
from hvgym.scripts.stage import stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvgym.bench.film import Film
    from hvgym.envs.backends import AnySimulator
    from hvgym.envs.scenario import Scenario


@configuration.verb("demo")
def main(config: DictConfig) -> None:
    """Play and draw."""
    from hvgym.agents.policy import declared_by, make_policy
    from hvgym.bench.rollout import playing
    from hvgym.envs.rules import check_played

    scenario, agents, seed = configuration.scenario(config), _agents(config), configuration.seed(config)
    speed = configuration.number(config, "speed", least=0, whole=False) or 0.0
    seconds = configuration.number(config, "seconds", least=0, whole=False)
    record = configuration.gif(config, "record")
    configuration.runs_folder(config)
    courses = []
    for agent in agents:
        checkpoint = {"checkpoint": agent["checkpoint"]} if "checkpoint" in agent else {}
        policy = make_policy(agent, **checkpoint)
        check_played(declared_by(agent), scenario, agent["name"])
        courses.append(playing(scenario, policy, [seed], agent["name"], apart=False))
    configuration.print_trace_report(scenario.to_dict())
    names = [str(agent["name"]) for agent in agents]
    films = _films(scenario, seed, names) if record is not None else []
    level = f" at {scenario.workload.level}" if scenario.workload.kind == "history" else ""
    titles = [f"{scenario.name}{level} under {names[0]}"] if len(names) == 1 else names
    with stage(scenario, seed, titles, speed) as shown_on:
        for readings in zip(*courses, strict=True):
            for film, (telemetry, sim) in zip(films, readings, strict=False):
                film.watch(telemetry, sim)
            shown_on.show(*(sim for _, sim in readings))
            if shown_on.over or (seconds is not None and readings[0][0].time_s[0] >= seconds):
                break
    _print_totals(names, shown_on.sims)
    if record is not None:
        _record(films, record)


def _agents(config: DictConfig) -> list[dict[str, Any]]:
    """One, or two that ``agents=`` names."""
    names = configuration.plain(config.agents)
    if names is None:
        return [configuration.chosen_agent(config)]
    if not isinstance(names, list) or not 1 <= len(names) <= 2 or len(set(map(str, names))) != len(names):
        raise InputError(f"agents={shown(names)}: expected one or two names, not the same one twice")
    if said := next(
        (word for word in configuration.words() if word.lstrip("+~").startswith(("agent=", "agent."))), None
    ):
        raise InputError(f"{said}: stands beside agents={','.join(map(str, names))}; give one of the two")
    return [configuration.agent(str(name)) for name in names]


def _print_totals(names: list[str], sims: "Sequence[AnySimulator]") -> None:
    """What each agent came to until now, in words."""
    for name, sim in zip(names, sims, strict=False):
        vms, weight = sim.vms[0], sim.vm_specs["weight"][0]
        goodput = (weight * (vms["progress_s"] - vms["charged_s"])).sum() / (weight * vms["asked_s"]).sum()
        missed_s, kills = vms["slo_violation_s"].sum(), vms["oom_kills"].sum()
        print(
            f"{name}: goodput {goodput:.3f}; critical VMs missed their objective for {missed_s:.0f} s; {kills:.0f} killed"
        )


def _films(scenario: "Scenario", seed: int, names: list[str]) -> "list[Film]":
    from hvgym.bench.film import Film

    return [Film(scenario, seed, f"{scenario.name}, {scenario.hypervisor.name}: {name}") for name in names]


def _record(films: "list[Film]", file: Path) -> None:
    from hvgym.bench.film import gif
    from hvgym.envs.files import write_atomically

    write_atomically(file, gif(films))
    print(file)
