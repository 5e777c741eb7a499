"""Where a reference does not hold: an agent of its seat gets more work done, or does without a kill that the reference has.

Then 1 is no end of the scale there. On a scenario an agent beats its reference when the mean of their paired differences of
goodput is above 0 (but for rounding); whether the 95 % interval of that mean excludes 0 is said beside it. Kills are compared
seed by seed. A learner's trainings are averaged, and it does without a kill where one of them does. Stock, which any seat has,
is compared with every reference. The generator is seeded by the protocol's hash, and is apart from that of the scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.bench import statistics, suites
from hvgym.bench.protocol import Protocol
from hvgym.bench.references import CLAIRVOYANT, STOCK
from hvgym.bench.statistics import seeded_by

ROUNDING = 1e-9
"""Of goodput."""

REPLICATES = 2000

Metrics = Mapping[str, Mapping[str, np.ndarray]]


def beaten(protocol: Protocol, scenarios: Sequence[str], metrics: Metrics) -> list[dict[str, Any]]:
    """A record for each agent, reference and scenario: how much better, worst seed, seeds on which only the reference kills."""
    rng = seeded_by(metric["goodput"] for metric in metrics.values())
    seeds = list(suites.seeds("test", protocol.suite.eval_seeds))
    found = list[dict[str, Any]]()
    for agent in (name for name in metrics if name not in CLAIRVOYANT):
        for reference in CLAIRVOYANT if agent == STOCK else (protocol.reference(agent),):
            for i, scenario in enumerate(scenarios if reference in metrics else ()):
                record = _compared(metrics[agent], metrics[reference], i, seeds, rng)
                if record:
                    found.append({"agent": agent, "reference": reference, "scenario": scenario} | record)
    return found


def _compared(
    agent: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    i: int,
    seeds: list[int],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What is wrong on the scenario of this index; nothing where all is well, or where one of the two does not play."""
    ours, best = agent["goodput"][i : i + 1], reference["goodput"][i : i + 1]
    if np.isnan(ours).any() or np.isnan(best).any():
        return {}
    record, more = dict[str, Any](), ours.mean(axis=1)[0] - best.mean(axis=1)[0]
    if more.mean() > ROUNDING:
        test = statistics.paired_difference(ours, best, rng, REPLICATES)
        record = {"goodput_difference": test.mean, "lo": test.lo, "hi": test.hi, "seed": seeds[int(np.argmax(more))]}
    kills = (reference["oom_kills"][i].max(axis=0) > 0.0) & (agent["oom_kills"][i].min(axis=0) == 0.0)
    if kills.any():
        record["killed_on"] = [seed for seed, only in zip(seeds, kills, strict=True) if only]
    return record


def alarms(summary: Mapping[str, Any]) -> list[str]:
    """Lines for people, to be shown in red."""
    lines = list[str]()
    for one in summary["beaten"]:
        who = f"{one['agent']} {{}} {one['reference']} on {one['scenario']}"
        if "seed" in one:
            clearly = "excludes" if one["lo"] > 0.0 else "includes"
            lines.append(
                f"{who.format('beats')}: {one['goodput_difference']:+.4f} of goodput, 95 % interval [{one['lo']:+.4f}, "
                f"{one['hi']:+.4f}] {clearly} 0; most on seed {one['seed']}"
            )
        if killed_on := one.get("killed_on"):
            others = f" and {len(killed_on) - 1} more" if len(killed_on) > 1 else ""
            lines.append(f"{who.format('has no kill where')} has one: seed {killed_on[0]}{others}")
    return lines
