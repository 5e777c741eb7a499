"""``hvgym describe suite=…``: what a suite holds, its hash, and what it takes to play it."""

from typing import Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, many
from hvgym.scripts import configuration


def main(config: DictConfig) -> None:
    """Print settings, seeds and scenarios; the minutes are measured now."""
    from rich.console import Console
    from rich.markup import escape

    from hvgym.bench.contents import hash_of, protocol_of

    if said := [word for word in configuration.words() if word.startswith("scenario=")]:
        raise InputError(f"{said[0]}: stands beside suite={configuration.named(config, 'suite')}; give one of the two")
    suite = configuration.suite(config)
    protocol = protocol_of(suite, configuration.of_suite(config, suite))
    console = Console(markup=False)
    console.print(f"[bold]suite {escape(suite.name)}[/]: {escape(suite.description)}", markup=True)
    for line in settings(suite, hash_of(protocol)):
        console.print(line, highlight=False, markup=False)
    console.print(table(protocol))
    for line in shared_demands(protocol.scenarios):
        console.print(line, highlight=False, markup=False)


def shared_demands(scenarios: Any) -> list[str]:
    """Which scenarios ask for the same with one seed, in a line; none where each asks for something else."""
    from hvgym.bench.same_demand import demands_of

    numbers = demands_of(scenarios)
    groups = [[name for name in numbers if numbers[name] == number] for number in dict.fromkeys(numbers.values())]
    if same := [" = ".join(group) for group in groups if len(group) > 1]:
        return [
            f"With one seed these ask for the same, and are one draw of it in intervals and p-values: {'; '.join(same)}."
        ]
    return []


def settings(suite: Any, digest: str) -> list[str]:
    """Hash, seeds by split, and who plays."""
    from hvgym.bench.suites import FIRST_SEED, SEEDS_PER_TRAINING, TUNING_BLOCK

    first = {split: f"{seed:,}" for split, seed in FIRST_SEED.items()}
    return [
        f"hash {digest} (settings, seeds and resolved scenarios; not the code)",
        f"rules {suite.rules or 'of each scenario'}; seeds: test {suite.eval_seeds} from {first['test']}, validation "
        f"{suite.validation_seeds} from {first['validation']}, training from {first['train']}, tuning from "
        f"{TUNING_BLOCK * SEEDS_PER_TRAINING:,}",
        f"agents: {', '.join(suite.agents)}",
    ]


def table(protocol: Any) -> Any:
    """A row a scenario, with the CPU time that it takes, and the sum below."""
    from rich import box
    from rich.table import Table

    from hvgym.bench.contents import cost_of
    from hvgym.envs.scenario import Scenario

    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_footer=True)
    costs, rows = [], []
    for data in protocol.scenarios:
        scenario = Scenario.from_dict(data)
        costs.append(cost_of(protocol, scenario))
        rows.append((*contents(scenario), f"{costs[-1].total_s / 60:.1f}"))
    whole_min = sum(cost.total_s for cost in costs) / 60
    names = ("scenario", "on", "VMs", "RAM, GiB", "hot / RAM", "minutes", "demand", "CPU\nminutes")
    feet = ("all", "", "", "", "", "", learning(protocol), f"{whole_min:.1f}")
    for name, foot in zip(names, feet, strict=True):
        numeric = name not in ("scenario", "on", "hot / RAM", "demand")
        found.add_column(name, foot, justify="right" if numeric else "left", no_wrap=name == "scenario")
    for row in rows:
        found.add_row(*row)
    return found


def contents(scenario: Any) -> tuple[str, ...]:
    """Hypervisors, VMs, memory, hot memory over it, length and kind of demand."""
    machines = scenario.machines
    from hvgym.bench.contents import hot_share, stratum

    share = hot_share(scenario)
    hypervisors = ", ".join(sorted({hypervisor.name for _, _, hypervisor in machines}))
    ratio = scenario.host.overcommit if scenario.host else None
    ram = "as sized" if scenario.host is None else f"1 / {ratio:g}" if ratio else f"{scenario.host.ram_mib / 1024:g}"
    vms = f"{len(scenario.groups)}"
    hot = f"{share:.2f} {stratum(share)}"
    return scenario.name, hypervisors, vms, ram, hot, f"{scenario.duration_s / 60:.0f}", scenario.workload.kind


def learning(protocol: Any) -> str:
    """What learners take beside it."""
    from hvgym.bench.protocol import learns

    learners = [agent["name"] for agent in protocol.agents if learns(agent)]
    if not learners:
        return "no learner"
    steps, seeds = protocol.suite.train_steps, protocol.suite.train_seeds
    each = f"{steps:,} steps" if steps else "their own budget"
    return f"without {many(seeds, 'training')} each of {', '.join(learners)} ({each} a scenario)"
