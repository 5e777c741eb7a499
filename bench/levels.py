"""What stock and the reference get on the validation seeds of a scenario: the levels that a learning curve is drawn beside.

They are played once, when the first training on the scenario begins, and kept in a file beside the study: nothing else depends on
them, and they enter no result.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hvgym.agents.policy import declared_by
from hvgym.bench import suites
from hvgym.bench.identity import digest_of_text
from hvgym.bench.protocol import policy_of
from hvgym.bench.references import STOCK, reference_of
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario, load_group


def level_file(folder: Path, agent: Mapping[str, Any], scenario: Mapping[str, Any], seeds: int) -> Path:
    """Where the levels for an agent's seat on so many validation seeds lie, below the folder of a study or a training."""
    reference = _reference(agent, scenario)
    key = digest_of_text(json.dumps([scenario, reference, seeds], sort_keys=True))
    return folder / "levels" / f"{key}.json"


def play_levels(folder: Path, agent: Mapping[str, Any], scenario: Mapping[str, Any], seeds: int) -> None:
    """Play stock and reference, unless that has been done; what cannot be played is left out."""
    path = level_file(folder, agent, scenario, seeds)
    if path.exists():
        return
    validation = suites.split_of(Scenario.from_dict(dict(scenario)), "validation")
    found = dict[str, float]()
    for shown, name in (("stock", STOCK), ("reference", _reference(agent, scenario))):
        with suppress(InputError):  # the rules may refuse a reference; a training needs none
            policy = policy_of(load_group("agent", name))
            found[shown] = float(
                rollout(validation, policy, suites.seeds("validation", seeds), agent=name).goodput.mean()
            )
    write_atomically(path, json.dumps(found))


def read_mean(
    folder: Path, agent: Mapping[str, Any], scenarios: Sequence[Mapping[str, Any]], seeds: int
) -> dict[str, float]:
    """The mean over scenarios of a level that is known of all of them."""
    found = [read_levels(folder, agent, scenario, seeds) for scenario in scenarios]
    common = [name for name in found[0] if all(name in one for one in found)]
    return {name: sum(one[name] for one in found) / len(found) for name in common}


def read_levels(folder: Path, agent: Mapping[str, Any], scenario: Mapping[str, Any], seeds: int) -> dict[str, float]:
    """Goodput of stock and reference, as far as it is known."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads(level_file(folder, agent, scenario, seeds).read_bytes())
        return {name: float(found[name]) for name in ("stock", "reference") if name in found}
    return {}


def _reference(agent: Mapping[str, Any], scenario: Mapping[str, Any]) -> str:
    return reference_of(declared_by(agent).seat, scenario.get("rules", "open"), bool(scenario.get("hosts")))
