"""``hvgym export agent=… out=FILE.py``: a trained policy as one Python file that runs beside libvirt and needs nothing else."""

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.scripts import configuration


@configuration.verb("export")
def main(config: DictConfig) -> None:
    """Write the file, and print what it reads and its path."""
    from hvgym.agents.learned.exporting import BY_LOOP, exported, needs
    from hvgym.agents.policy import Policy
    from hvgym.bench.protocol import policy_of

    agent, out = configuration.chosen_agent(config), configuration.path(config, "out")
    if out is None or out.suffix != ".py":
        raise InputError(f"out={out}: name the file to write, as in out=decide.py")
    policy = policy_of(agent)
    if not isinstance(policy, Policy):
        raise InputError(f"agent={agent['name']}: sees the hidden state; no host has it")
    text = exported(policy, agent)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text)
    read = needs(policy)
    print(f"NEEDS: {', '.join(read)}")
    if besides := [key for key in read if key not in BY_LOOP]:
        print(f"to be added to the loop of docs/learning.md: {', '.join(besides)}")
    print(out)
