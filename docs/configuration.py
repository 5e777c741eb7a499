"""Writes docs/configuration/: every key of the configuration with unit, bounds and default (``make configuration``).

Fields, bounds and defaults are those of the classes that check a scenario, a hypervisor, a stack, a suite or a learner
(``envs.schema.number``); keys and comments of verbs and agents are those of their YAML, bounds of a verb's numbers those that its
code asks for. What a field means stands in ``configuration/words.yaml``.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from hvgym.agents.learned.ars import ARSTrainer
from hvgym.agents.learned.es import EvolutionStrategy
from hvgym.agents.learned.imitation import Imitation
from hvgym.agents.learned.ppo import PPOTrainer
from hvgym.agents.learned.sac import SACTrainer
from hvgym.agents.learned.safety import Constraint
from hvgym.agents.learned.sb3 import SB3Trainer
from hvgym.agents.policy import META_KEYS
from hvgym.agents.shield import Limits
from hvgym.bench import suites
from hvgym.bench.suites import Real, Suite
from hvgym.envs import java, seats, story
from hvgym.envs.cluster_parts import Failure, HostGroup, Maintenance, Stack
from hvgym.envs.device import DeviceModel
from hvgym.envs.generators.classes import Generated
from hvgym.envs.ha_rules import HaRules
from hvgym.envs.lab import device as lab_device
from hvgym.envs.lab import failure as lab_failure
from hvgym.envs.lab import guest as lab_guest
from hvgym.envs.lab import jvm as lab_jvm
from hvgym.envs.lab.migration import Migrated
from hvgym.envs.machine import Host, Hypervisor
from hvgym.envs.migration_rules import MigrationRules
from hvgym.envs.real.rails import RailSettings
from hvgym.envs.real.settings import RealHostSettings, VmSettings
from hvgym.envs.reward import Weights
from hvgym.envs.scenario import Scenario, Workload, group_files, load_group
from hvgym.envs.telemetry import HOST_SIGNALS, SIGNAL_GROUPS, VM_SIGNALS, Signal
from hvgym.envs.vm_group import Demand, VmGroup
from hvgym.scripts import cli, keys

FOLDER = Path(__file__).with_suffix("")
WORDS: Mapping[str, Mapping[str, Any]] = yaml.safe_load((FOLDER / "words.yaml").read_text())

UNITS = {
    "_mib_per_s": "MiB/s", "_mb_per_s": "MB/s (10⁶ bytes)", "_pages_per_s": "pages/s", "_s_per_gib": "s per GiB",
    "_s_per_mib": "s per MiB",
    "_us_per_page": "µs a page", "_per_s": "1/s", "_per_year": "1/year", "_shares": "weight", "_share": "share",
    "_mib": "MiB", "_kib": "KiB", "_gib": "GiB", "_iops": "operations/s", "_us": "µs", "_ms": "ms", "_s": "s", "_ghz": "GHz",
    "_gbps": "Gb/s", "_bytes": "bytes", "_cycles": "cycles", "_seeds": "seeds", "_steps": "steps",
}  # fmt: skip
"""By the end of a key, the longest first."""

WORDLESS = "–"

PAGES: dict[str, tuple[str, str, tuple[tuple[str, str, type], ...]]] = {
    "scenario": (
        "Scenarios and suites",
        "A scenario is one YAML in `conf/scenario`, or in `DIR/scenario` with `--config-dir DIR`. On the command line its keys are "
        "`scenario.KEY`, with `+` before a key that its file leaves at the default: `+scenario.kill_cost_s=0`, "
        "`scenario.host.ram_mib=65536`. In lists a key is given whole.",
        (
            ("Scenario", "", Scenario),
            ("Workload", "`workload`", Workload),
            ("Host", "`host`", Host),
            ("VMs", "`vms`, a list", VmGroup),
            ("Demand of workload phases", "`vms[].demand`", Demand),
            ("Story", "`vms[].story`", story.Story),
            ("Tiers of a story", "`vms[].story.tiers`, a list", story.StoryTier),
            ("Steps of a story", "`vms[].story.steps`, a list", story.StoryStep),
            ("Generated VMs", "`vms[].generated`", Generated),
            ("JVM guests", "`vms[].jvm`", java.JvmGuest),
            ("Suites", "a YAML in `conf/suite`; on the command line `suite.KEY`", Suite),
            ("Scenarios of real VMs", "`real` of a suite, a list", Real),
        ),
    ),
    "hypervisor": (
        "Hypervisors and devices",
        "A hypervisor is one YAML in `conf/hypervisor`; on the command line `hypervisor.KEY`. Devices lie in `conf/disk` and "
        "`conf/nic`, workloads of JVMs in `conf/jvm`.",
        (
            ("Hypervisor", "", Hypervisor),
            ("Capabilities", "`capabilities`", seats.Capabilities),
            ("Seats", "`capabilities.inside` and `outside`", seats.Seat),
            ("Channels", "`channels`, a list", seats.Channel),
            ("Signals", "`signals`, a list", seats.Reading),
            ("Disks and NICs", "`disk`, `nic`", DeviceModel),
            ("JVM workloads", "`jvm.workload`", java.Workload),
        ),
    ),
    "cluster": (
        "Several hosts",
        "What a scenario has with `hosts` in place of `host`. A stack is one YAML in `conf/stack`; its `migration` and `ha` name "
        "the rules of a stack (`proxmox`, `ovirt`, …), or say what differs: `migration: {like: proxmox, downtime_limit_ms: 50}`.",
        (
            ("Groups of hosts", "`hosts`, a list; beside them the keys of [a host](scenario.md#host)", HostGroup),
            ("Stack", "`stack`", Stack),
            ("Failures", "`failures`, a list", Failure),
            ("Maintenance", "`maintenance`, a list", Maintenance),
            ("Live migration", "`stack.migration`", MigrationRules),
            ("High availability", "`stack.ha`", HaRules),
        ),
    ),
    "learners": (
        "Learners",
        "What `hvgym train` obeys: keys `agent.train.KEY`. Defaults are those of the classes; what the learner's own YAML says, as "
        "`conf/agent/ppo.yaml`, comes first, and is in [agents](agents.md) with what `hvgym tune` searches.",
        (
            ("Of Stable-Baselines3", "`ppo`, `recurrent_ppo`, `sac` and `ars`, beside their own below", SB3Trainer),
            ("ppo", "`ppo` and `recurrent_ppo`", PPOTrainer),
            ("sac", "`sac`", SACTrainer),
            ("ars", "`ars`", ARSTrainer),
            ("imitation", "`imitation`", Imitation),
            ("es", "`es`, `es_full` and `es_moves`", EvolutionStrategy),
            ("Reward", "`reward` of an environment, of `agent.train` and of `hvgym dataset`; or `_target_`, a function of "
                "your own, with its arguments ([learning](../learning.md#a-reward-of-ones-own))", Weights),
            ("Constraint", "`agent.train.constraint`", Constraint),
            ("Shield", "`agent.shield` of any agent, where it is not `true` ([what it costs](../shield.md))", Limits),
        ),
    ),
    "real": (
        "Real hosts",
        "What `hvgym shadow`, `drive` and `record` are told of a host: a YAML file, `host=FILE` "
        "([on your own hosts](../own-hosts.md)).",
        (
            ("Host", "the file", RealHostSettings),
            ("VMs", "`vms`, by name", VmSettings),
            ("Guard rails", "`rails` of the commands", RailSettings),
        ),
    ),
}  # fmt: skip
"""Title, introduction and classes of each page: heading, where the keys stand, class."""

OTHER_NAMES = {java.Workload: "JvmWorkload"}
"""Of classes in ``words.yaml``, where two have the same name."""

OF_VERBS: dict[str, dict[str, tuple[Any, ...]]] = {
    "advise": {"host": (Host,)}, "shadow": {"rails": (RailSettings,)}, "drive": {"rails": (RailSettings,)},
    "lab": {
    "": (lab_guest.LabGuest, Migrated, lab_device.DeviceExperiment, lab_failure.Failing), "guest": (lab_guest.Guest,),
    "machine": (lab_guest.Machine,), "bench": (lab_device.Bench,), "cluster": (lab_failure.Cluster,),
    "java": (lab_jvm.JavaBench,),
    },
}  # fmt: skip
"""Classes that check keys of a verb, by group."""

OF_ALL = {
    "rules": "`default`, `open`", "workers": "≥ 1, whole; `joblib`, `ray`, `slurm`",
    "stop": "`decided`", "misses": "`added`, `all`",
    "reference.counts": "`misses`, `goodput`", "reference.episodes": "≥ 1, whole",
    "drive.silent_s": "1 to 86,400", "accelerator": "`kvm`, `tcg`",
    "action": "`relative`, `absolute`",
}  # fmt: skip
"""Values of keys that no class checks, as the code refuses others."""

INDEX = """\
# Configuration

Written by `make configuration` from the classes that check it. Every choice is a key with a value, in YAML or on the command line:

| you write | and it means |
|---|---|
| `scenario=idle-giants` | choose a file of a group: `conf/scenario/idle-giants.yaml`, or one of your own |
| `--config-dir DIR` | look for files in `DIR/scenario`, `DIR/agent`, … first |
| `agent.target_share=0.9` | change a key of what is chosen |
| `+scenario.kill_cost_s=0` | set a key that the file leaves at its default |
| `seed=7` | a key of the verb itself |
| `-m agent=proxmox,esx` | play every combination |
| `--cfg job` | print what would be played, and end |

A wrong key or value ends in one line that names it and what would be right, before anything is written.

- [Verbs](verbs.md): keys of every command
- [Scenarios and suites](scenario.md): VMs, demand, host, seeds
- [Hypervisors and devices](hypervisor.md)
- [Several hosts](cluster.md): stacks, live migration, high availability
- [Agents](agents.md)
- [Learners](learners.md): keys of each trainer, reward, constraint, shield
- [What a policy reads and sets](telemetry.md)
- [Real hosts](real.md): their file, and the guard rails

## Units

Units stand in the names: {units}. A share is a fraction from 0 to 1, a weight counts against those of others. MiB are 2²⁰ bytes,
MB 10⁶. Numbers may be at most 10¹⁵ in size. `null` is no value: what happens then stands beside the key.
"""

VERBS_HEAD = """\
# Verbs

Written by `make configuration` from `conf/*.yaml`, in which `hvgym VERB --help` looks too. Groups are chosen by name
(`scenario=idle-giants`), their keys are on the other pages of this part.
"""

AGENTS_HEAD = """\
# Agents

Written by `make configuration`. An agent is one YAML in `conf/agent`, or in `DIR/agent` with `--config-dir DIR`; on the command
line `agent.KEY`. What each does stands in [policies](../policies.md), how to write one in [write a policy](../write-a-policy.md).

## Keys of every agent

Every other key is an argument of its class.

"""

AGENTS_TABLE = """\
## Each agent's own

What `hvgym tune` searches stands under *searched*; `NAME_tuned` have the keys of `NAME`, with other values.

| agent | key | unit | value | searched | meaning |
|---|---|---|---|---|---|
"""


TELEMETRY_HEAD = """\
# What a policy reads and sets

Written by `make configuration`. `telemetry.vm` is `[env, vm]`, `telemetry.host` `[env, host]`; what cannot be read is NaN. A policy
of profile P1 sees signals of P0 and P1, one of P3 those of P0 and P3, one of P4 all but those of P3. An agent's YAML declares
signals by name, those of hosts as `host.NAME`, or by group. Which of them a hypervisor has at either seat, and how old they are,
stands in [who may do what](../rules.md).

## Signals of a VM

"""

TARGETS_HEAD = """\

## What can be set

Fields of `Targets`; NaN, or leaving one out, leaves a thing as it is. `move_to`, `maintenance` and `restart_priority` are those of
a cluster.

| field | unit | shape | what |
|---|---|---|---|
"""


def signals(of: tuple[Signal, ...], prefix: str = "") -> Iterator[str]:
    """A line a signal."""
    groups = {name: group for group, names in SIGNAL_GROUPS.items() for name in names}
    yield "| signal | unit | profile | group | where a real host has it |\n|---|---|---|---|---|"
    for signal in of:
        group = groups[f"{prefix}{signal.name}"]
        yield f"| `{signal.name}` | {unit(signal.name)} | {signal.visibility.name} | `{group}` | {cell(signal.source)} |"


def telemetry() -> str:
    """Signals and channels."""
    text = TELEMETRY_HEAD + "\n".join(signals(VM_SIGNALS)) + "\n\n## Signals of a host\n\n"
    text += "\n".join(signals(HOST_SIGNALS, "host.")) + "\n" + TARGETS_HEAD
    for name, words in seats.CHANNELS.items():
        shape = "[env, host]" if name in ("scan_pages_per_s", "maintenance") else "[env, vm]"
        text += f"| `{name}` | {unit(name)} | `{shape}` | {words} |\n"
    return text


def unit(name: str) -> str:
    """Of a key, by its name."""
    return next((UNITS[end] for end in sorted(UNITS, key=len, reverse=True) if name.endswith(end)), WORDLESS)


def words_of(cls: type) -> Mapping[str, Any]:
    """What the keys of a class mean."""
    return WORDS[OTHER_NAMES.get(cls, cls.__name__)]


def own_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    """Of a class, without those that it inherits."""
    inherited = {f.name for base in cls.__mro__[1:] if dataclasses.is_dataclass(base) for f in dataclasses.fields(base)}
    return [field for field in dataclasses.fields(cls) if field.name not in inherited]


def cell(text: str) -> str:
    """In a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def plain(value: Any) -> str:
    """A value as it is written in YAML."""
    if dataclasses.is_dataclass(value):
        return "those below"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        value = float(f"{value:.4g}")
    if isinstance(value, float) and value == int(value) and abs(value) < 1e6:
        value = int(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(one)}' for key, one in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def default(field: dataclasses.Field[Any], hint: Any) -> str:
    """Of a field."""
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return "`null`" if type(None) in typing.get_args(hint) else "needed"


def kind(hint: Any) -> Any:
    """A type without None, and without the list around it."""
    while typing.get_origin(hint) in (types.UnionType, typing.Union) or typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return hint


def is_number(hint: Any) -> bool:
    """Whether it is one, or a list of them."""
    return kind(hint) in (int, float) or (typing.get_origin(kind(hint)) is Mapping and is_number(_of_mapping(hint)))


def _of_mapping(hint: Any) -> Any:
    """The type of its values."""
    return typing.get_args(kind(hint))[1]


def bounds(hint: Any, limits: Mapping[str, float]) -> str:
    """Which values are right."""
    of = kind(hint)
    if typing.get_origin(of) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(of))
    if of is bool:
        return "`true`, `false`"
    if dataclasses.is_dataclass(of) or (typing.get_origin(of) is Mapping and not is_number(of)):
        return "keys"
    if of is str or not is_number(hint):
        return "text"
    return ", ".join(filter(None, (_range(limits), "whole" if of is int else ""))) or "any number"


def _range(limits: Mapping[str, float]) -> str:
    """From where to where, of limits as of ``envs.schema.number``; empty where there are none."""
    least, most, above = (
        limits.get(key, end) for key, end in (("least", -math.inf), ("most", math.inf), ("above", -math.inf))
    )
    shown = {
        end: f"{end:,.0f}" if end == int(end) else f"{end:g}" for end in (least, most, above) if math.isfinite(end)
    }
    if least in shown and most in shown:
        return f"{shown[least]} to {shown[most]}"
    lower = f"> {shown[above]}" if above in shown else f"≥ {shown[least]}" if least in shown else ""
    return ", ".join(filter(None, (lower, f"≤ {shown[most]}" if most in shown else "")))


def rows(cls: Any) -> Iterator[str]:
    """A line a key."""
    hints, said = typing.get_type_hints(cls), words_of(cls)
    for field in own_fields(cls):
        told = said.get(field.name, "")
        its_unit, words = told if isinstance(told, list) else (unit(field.name), told)
        if not is_number(hints[field.name]):
            its_unit = WORDLESS
        listed = " (list)" if typing.get_origin(kind_of_list(hints[field.name])) is tuple else ""
        limits = bounds(hints[field.name], field.metadata) + listed
        yield f"| `{field.name}` | {its_unit} | {cell(limits)} | {cell(default(field, hints[field.name]))} | {cell(words)} |"


def kind_of_list(hint: Any) -> Any:
    """A type without None."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (types.UnionType, typing.Union) else hint


HEAD = "| key | unit | values | default | meaning |\n|---|---|---|---|---|\n"


def of_classes(title: str, introduction: str, classes: tuple[tuple[str, str, type], ...]) -> str:
    """A page of classes."""
    parts = [f"# {title}\n\nWritten by `make configuration`. {introduction}\n"]
    for heading, where, cls in classes:
        said = f"Keys of {where}.\n\n" if where else ""
        parts.append(f"\n## {heading}\n\n{said}{HEAD}" + "\n".join(rows(cls)) + "\n")
    return "".join(parts)


def asked(verb: str) -> dict[str, str]:
    """Bounds of a verb's own numbers, where its code asks for them."""
    module = importlib.import_module(f"hvgym.scripts.{cli.MODULES.get(verb, verb)}")
    found = dict[str, str]()
    for call in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in (
            "number",
            "_number",
            "needed",
            "seed",
        ):
            named = {key.arg: _value(key.value, module) for key in call.keywords}
            name = ast.unparse(call.func).rpartition(".")[2]
            key = "seed" if name == "seed" else _value(call.args[1], module) if len(call.args) > 1 else None
            if isinstance(key, str):
                whole = named.pop("whole", name != "_number")
                limits = {"least": 0} | named if name == "seed" else named
                if None not in limits.values():
                    found[key] = bounds(int if whole else float, limits)
    return found


def _value(node: ast.expr, module: Any) -> Any:
    """Of an expression; None where it is no constant."""
    try:
        return eval(compile(ast.Expression(node), "", "eval"), vars(suites) | {"suites": suites} | vars(module))
    except NameError:
        return None


def checked(verb: str, key: str) -> str:
    """Bounds of a key that a class checks."""
    group, _, name = key.rpartition(".")
    for cls in OF_VERBS.get(verb, {}).get(group, ()):
        for field in dataclasses.fields(cls):
            if field.name == name:
                return bounds(typing.get_type_hints(cls)[name], field.metadata)
    return OF_ALL.get(key, "")


LINE = re.compile(r"^( *)(?:- )?(\w+):(?:\s.*?)?(?:\s+#\s?(.*))?$")


def commented(lines: tuple[str, ...]) -> dict[str, str]:
    """Comments of YAML, by dotted key: beside it, in the lines below, or above it from the first column on."""
    found, above, before = dict[str, str](), "", list[str]()
    for line in lines:
        if match := LINE.match(line):
            indent, name, comment = match.groups()
            above = above if indent else name
            last = f"{above}.{name}" if indent else name
            found[last], before = " ".join([*before, comment or ""]).strip(), []
        elif line.startswith("#"):
            before.append(line.lstrip("# "))
        elif found and line.strip().startswith("#"):
            found[last] += f" {line.strip().lstrip('# ')}"
    return found


def leaves(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with their values, groups by their keys."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def of_verb(verb: str) -> str:
    """Groups and keys of a verb."""
    spec, lines = keys.verb(verb), [f"\n## {verb}\n\n{cli.VERBS[verb][0].upper()}{cli.VERBS[verb][1:]}.\n"]
    limits, said = asked(verb), commented(spec.key_lines)
    lines += ["\n" + HEAD.rstrip("\n")]
    of_group = {
        match[2]: match[3] or "" for line in spec.group_lines if (match := LINE.match(line.replace("- ", "", 1)))
    }
    for group, choice in spec.groups.items():
        words = of_group.get(group) or WORDS["Groups"][group]
        lines.append(f"\n| `{group}` | {WORDLESS} | a name | {plain(choice)} | {cell(words)} |")
    for key, value in leaves(spec.keys):
        right = limits.get(key) or checked(verb, key) or _as(value)
        words = said.get(key) or WORDS["Verbs"].get(key, "") or said.get(key.partition(".")[0], "")
        its_unit, words = words if isinstance(words, list) else (unit(key), words)
        lines.append(f"\n| `{key}` | {its_unit} | {cell(right)} | {cell(plain(value))} | {cell(words)} |")
    return "".join(lines) + "\n"


def _as(value: Any) -> str:
    """What a value is, where nothing else says it."""
    if isinstance(value, bool):
        return "`true`, `false`"
    return WORDLESS


def of_agents() -> str:
    """Keys of every agent, and of each."""
    parts = [AGENTS_HEAD, "| key | meaning |\n|---|---|\n"]
    parts += [f"| `{key}` | {cell(text)} |\n" for key, text in WORDS["Agent"].items()]
    parts.append("\n" + AGENTS_TABLE)
    for name in sorted(group_files("agent")):
        if not name.endswith("_tuned"):
            parts += [f"{line}\n" for line in of_agent(name)]
    return "".join(parts)


def of_agent(name: str) -> Iterator[str]:
    """A line for each argument of its class."""
    data, said = load_group("agent", name), commented(_after_head(group_files("agent")[name]))
    own = [(key, value) for key, value in leaves({k: v for k, v in data.items() if k not in META_KEYS})]
    searched = dict(tuned(data.get("tune") or {}))
    for index, (key, value) in enumerate(own):
        agent = f"`{name}`" if index == 0 else ""
        yield f"| {agent} | `{key}` | {unit(key)} | {cell(plain(value))} | {searched.get(key, '')} | {cell(said.get(key, ''))} |"


def _after_head(file: Path) -> tuple[str, ...]:
    """Lines of a YAML from its first key on."""
    return tuple(itertools.dropwhile(lambda line: line.startswith("#"), file.read_text().splitlines()))


def tuned(space: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Keys that are searched, each with its range in words."""
    for key, value in space.items():
        if isinstance(value, list):
            yield f"{above}{key}", f"{value[0]:g} to {value[1]:g}"
        elif "choices" in value:
            yield f"{above}{key}", " or ".join(map(str, value["choices"]))
        elif "low" in value:
            yield (
                f"{above}{key}",
                f"{value['low']:g} to {value['high']:g}{', by magnitude' if value.get('log') else ''}",
            )
        else:
            yield from tuned(value, f"{above}{key}.")


def index() -> str:
    """The first page."""
    units = ", ".join(
        f"`{end}` {name}"
        for end, name in UNITS.items()
        if end not in ("_share", "_shares", "_seeds", "_steps", "_cycles")
    )
    return INDEX.format(units=units)


def pages() -> dict[str, str]:
    """Every page by name."""
    made: dict[str, Callable[[], str]] = {"index": index, "agents": of_agents, "telemetry": telemetry}
    made["verbs"] = lambda: VERBS_HEAD + "".join(map(of_verb, cli.VERBS))
    return {name: page() for name, page in made.items()} | {name: of_classes(*parts) for name, parts in PAGES.items()}


def main() -> None:
    """Write them."""
    for name, text in pages().items():
        path = FOLDER / f"{name}.md"
        path.write_text(text)
        print(path, file=sys.stdout)


if __name__ == "__main__":
    main()
