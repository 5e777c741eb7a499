"""How a study grows: agents, scenarios, evaluation seeds and training seeds may be added; what is there is not played again.

A command is joined with the study that its folder holds. More evaluation seeds are a block of jobs of their own, so that finished
jobs keep their keys, and a learner is not trained again for them. A study that has grown has the identity, and so the hash, of one
that was played at once. Whatever has been finished stays, also where a later command does not name it: a command that asks for less
finds what is there. What never finished may be changed or left out, `Settled` says what had been finished before the last growth.
The rest of the protocol must be the same, and the first difference is named.

Left out: growth in one agent or one scenario alone; a study stays a full table of agents, scenarios and seeds.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hvgym.bench.identity import TRACES, code_of, sources
from hvgym.bench.jobs import job_file
from hvgym.bench.protocol import Protocol, played
from hvgym.bench.references import are_clusters, ends_of
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group

GROWS = ("name", "scenarios", "eval_seeds", "train_seeds")
"""Of a suite; the rest stays as it is."""


@dataclass(frozen=True)
class Settled:
    """What a study has finished: these agents, by name, on these scenarios, with so many seeds."""

    agents: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()
    train_seeds: int = 0

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Settled":
        """Of plain data."""
        return Settled(tuple(data["agents"]), tuple(data["scenarios"]), tuple(data["blocks"]), data["train_seeds"])


def joined(asked: Protocol, old: Protocol, before: Settled | None, folder: Path) -> tuple[Protocol, Settled | None]:
    """What is asked for joined with the study of a folder, and what that has finished where the study grows now.

    Raises `InputError` for what differs in more than what may be added.
    """
    asked, settled = _plain(asked), _settled(old, before, folder)
    _check_same(asked, old, settled, folder)
    scenarios = _scenarios(asked, old, settled)
    blocks = _blocks(asked.suite.eval_seeds, settled.blocks)
    suite = replace(
        _named(asked.suite, old.suite, tuple(scenario["name"] for scenario in scenarios)),
        eval_seeds=sum(blocks),
        train_seeds=max(asked.suite.train_seeds, settled.train_seeds),
    )
    agents, codes = _agents(asked, old, settled, folder)
    all_sources = (old.sources if settled.scenarios else {}) | asked.sources
    grown = replace(
        asked,
        suite=suite,
        agents=agents,
        scenarios=scenarios,
        sources=all_sources,
        codes=codes,
        blocks=blocks if len(blocks) > 1 else (),
        sources_of=_sources_of(asked, old, scenarios, all_sources),
    )
    are_clusters(scenarios)  # refuses hosts alone beside clusters
    grown = _with_ends(grown) if len(scenarios) > len(asked.scenarios) else grown
    if _extent(grown) == _extent(settled) or not settled.agents:
        return grown, None
    _check_code_is_there(asked, grown, folder)
    return grown, settled


def _plain(protocol: Protocol) -> Protocol:
    """As a protocol is read back, so that the two compare."""
    agents, scenarios = (tuple(json.loads(json.dumps(part))) for part in (protocol.agents, protocol.scenarios))
    return replace(protocol, agents=agents, scenarios=scenarios)


def _settled(old: Protocol, before: Settled | None, folder: Path) -> Settled:
    """All of a study whose jobs are finished, or else what was before it began to grow, with the agents that are finished now."""
    finished = [agent["name"] for agent in old.agents if _finished(replace(old, agents=(agent,)), folder)]
    if not finished and before is None:
        return Settled()
    if before is not None and not _finished(old, folder):
        return replace(before, agents=tuple(dict.fromkeys((*before.agents, *finished))))
    names = tuple(scenario["name"] for scenario in old.scenarios)
    return Settled(tuple(finished), names, old.blocks or (old.suite.eval_seeds,), old.suite.train_seeds)


def _finished(protocol: Protocol, folder: Path) -> bool:
    jobs = protocol.jobs()  # none where the rules refuse the agent everywhere
    return bool(jobs) and all(job_file(folder, job).exists() for job in jobs)


def _extent(of: Protocol | Settled) -> tuple[set[str], int, int]:
    """Scenarios and seeds."""
    if isinstance(of, Settled):
        return set(of.scenarios), sum(of.blocks), of.train_seeds
    return {scenario["name"] for scenario in of.scenarios}, of.suite.eval_seeds, of.suite.train_seeds


def _blocks(asked: int, there: tuple[int, ...]) -> tuple[int, ...]:
    more = asked - sum(there)
    return (*there, more) if more > 0 else there


def _named(asked: Suite, old: Suite, scenarios: tuple[str, ...]) -> Suite:
    """The suite under the name that it would have, had all scenarios been asked for at once."""
    for suite in (old, asked):
        if set(suite.scenarios) == set(scenarios):
            return replace(asked, name=suite.name, scenarios=scenarios)
    whole = replace(asked, name=asked.whole, scenarios=scenarios)
    return whole if asked.whole in (asked.name, old.name) else whole.on(scenarios)


def _scenarios(asked: Protocol, old: Protocol, settled: Settled) -> tuple[dict[str, Any], ...]:
    """Those that are finished, and then the others."""
    kept = [scenario for scenario in old.scenarios if scenario["name"] in settled.scenarios]
    return (*kept, *(scenario for scenario in asked.scenarios if scenario["name"] not in settled.scenarios))


def _sources_of(
    asked: Protocol, old: Protocol, scenarios: tuple[dict[str, Any], ...], of_all: dict[str, str]
) -> dict[str, dict[str, str]]:
    """The sources that a scenario's jobs were or are to be played with, where those are not the study's."""
    known = {scenario["name"]: old.sources_of.get(scenario["name"], old.sources) for scenario in old.scenarios}
    found = {
        scenario["name"]: known[scenario["name"]] if scenario in old.scenarios else asked.sources
        for scenario in scenarios
    }
    return {name: of_it for name, of_it in found.items() if of_it != of_all}


def _agents(
    asked: Protocol, old: Protocol, settled: Settled, folder: Path
) -> tuple[tuple[dict[str, Any], ...], dict[str, str]]:
    """Agents in order, and their code."""
    given = {agent["name"]: agent for agent in asked.agents}
    kept, codes = list[dict[str, Any]](), dict(asked.codes)
    for agent in old.agents:
        ours = given.pop(agent["name"], None)
        if agent["name"] in settled.agents:
            if ours and played(ours) != played(agent):
                raise InputError(
                    f"{folder}: agent {agent['name']} differs from the one in this study; choose study=NAME"
                )
            if ours is None and agent["name"] in old.codes:
                codes[agent["name"]] = old.codes[agent["name"]]
            kept.append(ours or agent)
        elif ours:  # nothing is lost when one that never finished is changed or left out
            kept.append(ours)
    return (*kept, *given.values()), codes


def _check_code_is_there(asked: Protocol, grown: Protocol, folder: Path) -> None:
    """Raise `InputError` for an agent that the command does not name, and whose code that made its rows is not here for more."""
    named = {agent["name"] for agent in asked.agents}
    for agent in grown.agents:
        then, name = grown.codes.get(agent["name"]), agent["name"]
        if name in named or not then or (now := code_of(agent)) == then:
            continue
        why = (
            "was edited since; name it, too, and it is played anew"
            if now
            else "is not found here; --config-dir names its folder"
        )
        raise InputError(f"{folder}: agent {name} has more to play in this study, and its code {why}")


def _with_ends(protocol: Protocol) -> Protocol:
    """With the references of seats that only the join of old and new scenarios has."""
    there = {agent["name"] for agent in protocol.agents}
    missing = [name for name in ends_of(protocol.agents, protocol.scenarios) if name not in there]
    return replace(protocol, agents=(*protocol.agents, *(load_group("agent", name) for name in missing)))


def _check_same(asked: Protocol, old: Protocol, settled: Settled, folder: Path) -> None:
    """Raise `InputError` that names the first difference in what may not change."""
    common = {"code", *(old.sources.keys() & asked.sources.keys())}
    if said := edited(old.sources, asked.sources):
        raise InputError(f"{folder}: {said}; choose study=NAME")
    theirs, ours = (_fixed(protocol) for protocol in (old, asked))
    given = {scenario["name"]: scenario for scenario in asked.scenarios}
    kept = [scenario for scenario in old.scenarios if scenario["name"] in settled.scenarios]
    theirs["scenarios"] = {scenario["name"]: scenario for scenario in kept if scenario["name"] in given}
    ours["scenarios"] = {name: given[name] for name in theirs["scenarios"]}
    theirs["sources"], ours["sources"] = (
        {key: protocol.sources.get(key) for key in sorted(common)} for protocol in (old, asked)
    )
    if theirs != ours:
        raise InputError(f"{folder}: {_difference(theirs, ours)}; choose study=NAME")
    if unasked := [scenario for scenario in kept if scenario["name"] not in given]:
        _check_unchanged(old, unasked, folder)


def _fixed(protocol: Protocol) -> dict[str, Any]:
    """What no command changes, of the suite."""
    suite = {key: value for key, value in protocol.identity["suite"].items() if key not in GROWS}
    return {"suite": {"name": protocol.suite.whole} | suite}


def _check_unchanged(old: Protocol, scenarios: list[dict[str, Any]], folder: Path) -> None:
    """Raise `InputError` when traces of scenarios that the command does not name have changed: agents that it adds play them."""
    now = {key: digest for key, digest in sources(scenarios).items() if key != "code"}
    for key, digest in now.items():
        if said := edited(old.sources, {key: digest}):
            raise InputError(f"{folder}: {said}; choose study=NAME")


def edited(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which table or folder of traces was edited since, in words; "" where none was. What follows from its rows (sizes, processors)
    differs too then, so this is to be asked first."""
    for key in sorted(key for key in then.keys() & now.keys() if key.startswith(TRACES) and then[key] != now[key]):
        folder = key.removeprefix(TRACES)
        digests = f"their digest was {then[key]}, now it is {now[key]}"
        return f"the files in {folder} were edited since ({digests}), so they are other demand"
    return ""


def _difference(old: Any, new: Any, where: str = "") -> str:
    """The first key at which two plain trees differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return _difference(a, b, f"{where}[{index}]")
    if where == "sources.code":
        return f"holds a study made by other code of hvgym than this one (there {old!r}, asked {new!r})"
    return f"holds a study that differs in {where} (there {old!r:.60}, asked {new!r:.60})"


def to_dict(settled: Settled) -> dict[str, Any]:
    """Plain data."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settled)))
    return plain
