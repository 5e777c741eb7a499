"""hvgym: the benchmark by which hypervisor memory management is judged. Importing it registers the environments."""

import gymnasium as _gym

__version__ = "0.1.0"

for _kind, _version in (("Host", 1), ("Cluster", 0)):
    if f"hvgym/{_kind}-v{_version}" not in _gym.registry:
        _gym.register(
            id=f"hvgym/{_kind}-v{_version}",
            entry_point=f"hvgym.agents.environments:{_kind}Env",
            vector_entry_point=f"hvgym.agents.environments:{_kind}VectorEnv",
        )
