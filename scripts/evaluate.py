"""``hvgym evaluate agent=… [suite=… | scenario=…]``: play one agent and print its figures."""

import csv
import io
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hvgym.scripts import configuration


@configuration.verb("evaluate")
def main(config: DictConfig) -> None:
    """Play the test seeds; print a row a scenario; write every episode to ``out`` if given."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from hvgym.agents.policy import make_policy
    from hvgym.bench import suites
    from hvgym.bench.rollout import OUTCOMES, rollout
    from hvgym.envs.files import write_atomically

    agent = configuration.chosen_agent(config)
    count, scenarios = _plan(config)
    checkpoint = {"checkpoint": agent["checkpoint"]} if "checkpoint" in agent else {}
    configuration.print_trace_report(scenarios[0].to_dict())
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=f"{agent['name']}, {count} test seeds a scenario",
    )
    for name in ("scenario", *OUTCOMES):
        table.add_column(name, justify="left" if name == "scenario" else "right")
    rows: list[dict[str, Any]] = []
    for scenario in scenarios:
        policy = make_policy(agent, **checkpoint)
        episodes = rollout(suites.split_of(scenario, "test"), policy, suites.seeds("test", count))
        rows += [{"agent": agent["name"], "scenario": scenario.name} | row for row in episodes.rows()]
        table.add_row(scenario.name, *(f"{getattr(episodes, name).mean():.4g}" for name in OUTCOMES))
    Console().print(table)
    if config.out:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(Path(str(config.out)), text.getvalue())
        print(Path(str(config.out)).resolve())


def _plan(config: DictConfig) -> tuple[int, list[Any]]:
    """Number of seeds and scenarios: the suite's, or the one scenario."""
    given = configuration.number(config, "seeds", least=1)
    if configuration.chosen(config, "suite") is None:
        return given or 8, [configuration.scenario(config)]
    suite = configuration.suite(config)
    return given or suite.eval_seeds, configuration.scenarios(config, suite.scenarios)
