"""What a leaderboard shows of the capacity in the same study's folder: a column beside the score, and a line that says of what."""

import json
from pathlib import Path
from typing import Any

from hvgym.envs.errors import InputError

FOLDER = "capacity"
"""Of a capacity, within the folder of its study."""

FIGURES = ("density", "density_lo", "density_hi")

ABOUT = ("scenario", "hypervisor", "workload", "fleets", "slo", "kills", "misses")


def add_density(summary: dict[str, Any], study: Path) -> None:
    """Put the densities of a study's folder into its summary; nothing where there are none.

    Raises `InputError` that names a file which cannot be read.
    """
    path = study / FOLDER / "capacity.json"
    if not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
        about = {key: found[key] for key in ABOUT}
        figures = {
            agent: {name: float(of_it[name]) for name in FIGURES} | {"density_shown": str(of_it["shown"])}
            for agent, of_it in found["agents"].items()
        }
        code = found["code"]["hvgym"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error}); hvgym capacity study={study.name} writes it again") from None
    summary["capacity"] = about | {"same_code": code == summary["code"]["hvgym"]}
    for agent, result in summary["agents"].items():
        result |= figures.get(agent, {})


def shown(summary: dict[str, Any], agent: str) -> str:
    """An agent's density with its interval; a dash where it has none."""
    return str(summary["agents"][agent].get("density_shown", "–"))


def killed(most: int) -> str:
    """How many VMs may be killed, in words."""
    return "no VM is killed" if most == 0 else f"at most {most} VMs are killed"


def line(summary: dict[str, Any]) -> str:
    """What the column is of."""
    about = summary["capacity"]
    where = f"{about['scenario']} on {about['hypervisor']}"
    traces = "" if about["workload"] == "phases" else f" with VMs of {about['workload']}"
    code = "" if about["same_code"] else " Measured with other code of hvgym than the scores."
    return (
        f"Density (95 % interval): overcommit ratio of {where}{traces} up to which critical VMs miss their objective in at most "
        f"{100 * about['slo']:g} % of their seconds{' more than with ample memory' if about['misses'] == 'added' else ''} and "
        f"{killed(about['kills'])}; {about['fleets']} fleets (hvgym capacity).{code}"
    )
