"""What verbs make of a table of somebody's own VMs beside its levels (``configuration.at_levels``): rolling origins, and what they
say of a reading that is played alone."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario
from hvgym.scripts import configuration


def at_origins(config: DictConfig, found: Sequence[Scenario]) -> list[Scenario]:
    """Scenarios of a table at several rolling origins (``envs.fleet.splits``), each under its own name, where its history is long
    enough and the command chooses no part of it itself; what an origin trains on ends before its own test."""
    asked = configuration.number(config, "origins", least=1)
    if said := _said("origin", "split", "windows"):
        if asked is not None:
            raise InputError(f"origins={asked}: stands beside {said}; give one of the two")
        return list(found)
    return [_of_origin(one, origin) for one in found for origin in range(_origins(one, asked))]


def _said(*keys: str) -> str | None:
    """The first word of the command that sets one of these keys of the workload."""
    return next(
        (word for word in configuration.words() if re.match(rf"[+~]*workload\.({'|'.join(keys)})=", word)), None
    )


def _origins(scenario: Scenario, asked: int | None) -> int:
    """How many of a scenario's table."""
    if scenario.workload.kind != "history":
        return 1
    from hvgym.envs.fleet import splits
    from hvgym.envs.fleet.history import read_history

    history = read_history(str(scenario.workload.path))
    most = splits.origins(history.slots * history.slot_s)
    if asked is None:
        return min(splits.ORIGINS, most)
    if asked > most:
        raise InputError(f"origins={asked}: must be at most {most} for {history.days / 7:.1f} weeks of history")
    return asked


def _of_origin(scenario: Scenario, origin: int) -> Scenario:
    """NAME-low is NAME-origin-1-low there, for what ends in a level is a level of one scenario (``bench.undecided``)."""
    if origin == 0:
        return scenario
    ending = f"-{scenario.workload.level}" if scenario.name.endswith(f"-{scenario.workload.level}") else ""
    name = f"{scenario.name.removesuffix(ending)}-origin-{origin}{ending}"
    return dataclasses.replace(scenario, name=name, workload=dataclasses.replace(scenario.workload, origin=origin))


def print_origins(scenarios: Iterable[dict[str, Any]]) -> None:
    """Say that there are several, where there are."""
    if most := max((scenario["workload"].get("origin", 0) for scenario in scenarios), default=0):
        print(
            f"{most + 1} rolling origins, each with its own test, trained on what lies before it: NAME is the last, "
            "NAME-origin-1 the one before; origins=1 plays the last alone",
            flush=True,
        )


def print_one_reading(scenarios: Iterable[Scenario]) -> None:
    """Say that a table is played at one reading of it, of verbs that play no more."""
    of_it = {scenario.workload.level for scenario in scenarios if scenario.workload.kind == "history"}
    for level in sorted(of_it):
        others = [other for other in configuration.LEVELS if other != level]
        middle = "the middle reading" if level == "mid" else f"the {level} reading"
        print(
            f"your VMs are played at {middle} of your data alone (workload.level={level}); workload.level={others[0]} and "
            f"{others[1]} are the others, and hvgym bench plays all three",
            flush=True,
        )
