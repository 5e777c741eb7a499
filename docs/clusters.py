"""Draws docs/clusters_*.png, one episode of a scenario under each of some agents: ``make clusters``.

python docs/clusters.py [PICTURE ...]
"""

import sys
from pathlib import Path

from hvgym.agents.policy import make_policy
from hvgym.bench import cluster_picture, suites
from hvgym.bench.report import figure_png
from hvgym.bench.rollout import rollout
from hvgym.bench.timeline import Recorder, Timeline
from hvgym.envs.scenario import Scenario, load, load_group

PICTURES = {"failure": ("n-plus-one", ("stock",)), "maintenance": ("drain-deadline", ("stock", "move_randomly"))}
"""Scenario and agents by name of picture."""


def line_of(scenario: Scenario, agent: str) -> Timeline:
    """An agent's episode on the first test seed."""
    recorder = Recorder()
    policy = make_policy(load_group("agent", agent))
    episodes = rollout(scenario, policy, suites.seeds("test", 1), recorder.watch, agent)
    figures = (
        f"{name} {float(getattr(episodes, name)[0]):.4g}" for name in ("goodput", "outage_s", "recovery_s", "moves")
    )
    print(f"{scenario.name} under {agent}: {', '.join(figures)}", flush=True)
    return recorder.timeline()


def draw(name: str) -> Path:
    """Play, and write one picture."""
    scenario, agents = load(PICTURES[name][0]), PICTURES[name][1]
    figure = cluster_picture.picture(scenario, {agent: line_of(scenario, agent) for agent in agents})
    path = Path(__file__).with_name(f"clusters_{name}.png")
    path.write_bytes(figure_png(figure))
    return path


def main() -> None:
    """Draw all pictures, or those that are named."""
    for name in sys.argv[1:] or PICTURES:
        print(draw(name))


if __name__ == "__main__":
    main()
