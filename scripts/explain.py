"""``hvgym explain agent=…``: what a policy of memory sizes does, and why: a page, pictures and a small tree in its place."""

import json

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.rules import check_played
from hvgym.scripts import configuration


@configuration.verb("explain")
def main(config: DictConfig) -> None:
    """Ask the policy, draw, print, and end with the path of the page."""
    from hvgym.agents.learned import tree
    from hvgym.agents.policy import Policy, declared_by
    from hvgym.bench.drawing import png
    from hvgym.bench.explained_page import draw_burst, draw_sensitivities, figures, page, words
    from hvgym.bench.explaining import explain
    from hvgym.bench.protocol import policy_of

    agent, scenario = configuration.chosen_agent(config), configuration.scenario(config)
    leaves = configuration.needed(config, "leaves", least=2, most=256)
    seeds = configuration.needed(config, "seeds", least=1, most=1000)
    given, runs = configuration.path(config, "out"), configuration.runs_folder(config)
    policy = policy_of(agent)
    if not isinstance(policy, Policy):
        raise InputError(f"agent={agent['name']}: sees the hidden state; what is explained reads telemetry")
    if scenario.is_cluster:
        raise InputError(f"scenario={scenario.name!r}: has several hosts; what is explained are sizes of memory on one")
    check_played(declared_by(agent), scenario, agent["name"])
    told, stand_in = explain(scenario, agent, policy, leaves, seeds)
    folder = given or runs / "explain" / f"{agent['name']}-{scenario.name}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in (("sensitivities", draw_sensitivities(told)), ("burst", draw_burst(told))):
        (folder / f"{name}.png").write_bytes(png(figure))
    made = {"of": agent["name"], "fitted_on": scenario.name, "fidelity": told.fidelity, "goodput": told.goodput}
    write_atomically(folder / "tree.json", tree.text(stand_in, made))
    write_atomically(folder / "explain.json", json.dumps(figures(told), indent=1) + "\n")
    write_atomically(folder / "explain.html", page(told, {name: f"{name}.png" for name in ("sensitivities", "burst")}))
    print("\n".join(words(told)))
    print(f"tree: {folder / 'tree.json'} (agent=tree agent.checkpoint=…)")
    print(folder / "explain.html")
