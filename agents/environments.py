"""The environments that ``gymnasium.make`` and ``make_vec`` return: those of ``hvgym.envs``, with the hypervisor's own policy
beneath actions from outside (``stock``). Their specs hold plain data alone, so what runs beneath is no argument of theirs.
"""

from collections.abc import Mapping
from typing import Any

from hvgym.agents.beside import check_reward, make_importable
from hvgym.agents.stock import beneath
from hvgym.envs import cluster_env, cluster_vector_env, host_env, vector_env


def _check_reward(keywords: Mapping[str, Any]) -> None:
    """A reward's function of one's own may lie in ``config_dir``, and must not hide behind another module."""
    if "_target_" in (keywords.get("reward") or {}) and keywords.get("config_dir"):
        make_importable([keywords["config_dir"]])
    check_reward(keywords.get("reward"))


class HostEnv(host_env.HostEnv):
    """See ``hvgym.envs.host_env``."""

    def __init__(self, scenario: Any = None, **keywords: Any) -> None:
        _check_reward(keywords)
        super().__init__(scenario, **keywords, beneath=beneath)


class HostVectorEnv(vector_env.HostVectorEnv):
    """See ``hvgym.envs.vector_env``."""

    def __init__(self, num_envs: int = 1, scenario: Any = None, threads: int = 1, **keywords: Any) -> None:
        _check_reward(keywords)
        super().__init__(num_envs, scenario, threads, **keywords, beneath=beneath)


class ClusterEnv(cluster_env.ClusterEnv):
    """See ``hvgym.envs.cluster_env``."""

    def __init__(self, scenario: Any = None, **keywords: Any) -> None:
        super().__init__(scenario, **keywords, beneath=beneath)


class ClusterVectorEnv(cluster_vector_env.ClusterVectorEnv):
    """See ``hvgym.envs.cluster_vector_env``."""

    def __init__(self, num_envs: int = 1, scenario: Any = None, threads: int = 1, **keywords: Any) -> None:
        super().__init__(num_envs, scenario, threads, **keywords, beneath=beneath)
