"""``hvgym list [what]``: what there is to choose from."""

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.scenario import group_files, load_group
from hvgym.scripts import configuration

GROUPS = {
    "agents": "agent",
    "scenarios": "scenario",
    "suites": "suite",
    "hypervisors": "hypervisor",
    "stacks": "stack",
    "workloads": "workload",
    "nics": "nic",
    "disks": "disk",
    "jvms": "jvm",
}


@configuration.verb("list")
def main(config: DictConfig) -> None:
    """Print names and descriptions."""
    what = configuration.text(config, "what")
    if what is not None and what not in GROUPS:
        raise InputError(f"what={what!r}: choose one of {', '.join(GROUPS)}{nearest(what, GROUPS)}")
    for title in [what] if what else GROUPS:
        print(title)
        for name in sorted(group_files(GROUPS[title], configuration.folders())):
            data = load_group(GROUPS[title], name, configuration.folders())
            print(f"  {name:<22} {data.get('description') or _facts(data)}")


def _facts(data: dict[str, object]) -> str:
    """A hypervisor or workload has no description; its main facts serve."""
    keys = ("type", "last_resort", "admission", "own_mib", "returning", "stock", "kind", "path", "overcommit_scale",
            "episode_s")  # fmt: skip
    return ", ".join(f"{key} {data[key]}" for key in keys if data.get(key) is not None)
