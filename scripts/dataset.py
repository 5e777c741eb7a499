"""``hvgym dataset agents=[…] out=DIR``: episodes of agents as data sets for offline learning, in Minari's format."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.scenario import load_group
from hvgym.scripts import configuration
from hvgym.scripts.bench import with_checkpoints

if TYPE_CHECKING:
    from hvgym.envs.scenario import Scenario


@configuration.verb("dataset")
def main(config: DictConfig) -> None:
    """Play, write a data set a scenario, and end with how to load it."""
    from hvgym.agents.beside import check_reward
    from hvgym.agents.policy import Policy
    from hvgym.bench import datasets, suites
    from hvgym.bench.protocol import policy_of
    from hvgym.envs.files import file_name
    from hvgym.envs.reward import reward_of

    out = configuration.path(config, "out") or configuration.runs_folder(config) / "datasets"
    agents, scenarios = _agents(config), _scenarios(config)
    episodes = configuration.needed(config, "episodes", least=1, most=100_000)
    seed = configuration.seed(config, most=suites.LARGEST_TRAINING_SEED)
    reward, name = configuration.plain(config.reward), configuration.text(config, "name") or _mixture(agents)
    action = configuration.text(config, "action")
    if action not in datasets.KINDS:
        raise InputError(
            f"action={action!r}: choose one of {', '.join(datasets.KINDS)}{nearest(str(action), datasets.KINDS)}"
        )
    check_reward(reward)
    reward_of(reward)
    file_name("name", name)
    datasets.needed()
    policies = dict[str, Policy]()
    for agent in agents:
        policy = policy_of(agent)
        if not isinstance(policy, Policy):
            raise InputError(f"agent={agent['name']}: sees the hidden state, which no data set has")
        policies[str(agent["name"])] = policy
    changed = " ".join(word.lstrip("+") for word in configuration.words() if word.lstrip("+").startswith("agent."))
    weights = ", ".join(
        f"{agent['name']} {agent['checkpoint_sha256'][:12]}" for agent in agents if "checkpoint_sha256" in agent
    )
    made = f"{_mixture(agents)}{f' with {changed}' if changed else ''}{f' (weights {weights})' if weights else ''}"
    own = next(map(Path, configuration.folders()), None)
    for scenario in scenarios:
        played = datasets.collect(scenario, policies, episodes, seed, reward, action)
        dataset = datasets.write(played, scenario, out, name, made, reward, action, own)
        steps = sum(len(episode.rewards) for episode in played)
        goodput = sum(episode.goodput for episode in played) / len(played)
        print(f"{dataset}: {len(played)} episodes, {steps:,} steps, goodput {goodput:.4f}", flush=True)
    print(f"MINARI_DATASETS_PATH={out} python -c \"import minari; minari.load_dataset('{dataset}')\"")
    print(out)


def _agents(config: DictConfig) -> list[dict[str, Any]]:
    """Those of agents=[…], or the one of agent=."""
    names, checkpoints = configuration.plain(config.agents), configuration.plain(config.checkpoints)
    if names is None:
        return list(with_checkpoints([configuration.chosen_agent(config)], checkpoints))
    if not isinstance(names, list) or not names or len(set(map(str, names))) != len(names):
        raise InputError(f"agents={names!r}: expected a list of names, none twice")
    folders = configuration.folders()
    return list(with_checkpoints([load_group("agent", str(name), folders) for name in names], checkpoints))


def _mixture(agents: list[dict[str, Any]]) -> str:
    return "-".join(str(agent["name"]) for agent in agents)


def _scenarios(config: DictConfig) -> "list[Scenario]":
    if OmegaConf.select(config, "suite") is None:
        return configuration.named_scenarios(config) or [configuration.scenario(config)]
    return configuration.named_scenarios(config) or configuration.scenarios(
        config, configuration.suite(config).scenarios
    )
