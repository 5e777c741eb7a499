"""hvgym: the benchmark by which hypervisor memory management is judged. Importing it registers the environments."""

import gymnasium as _gym

__version__ = "0.1.0"

if "hvgym/Host-v0" not in _gym.registry:
    _gym.register(
        id="hvgym/Host-v0",
        entry_point="hvgym.agents.environments:HostEnv",
        vector_entry_point="hvgym.agents.environments:HostVectorEnv",
    )
