"""The simulator of a scenario, whether it has one host or several."""

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator

AnySimulator = Simulator | ClusterSimulator


def simulator(scenario: Scenario, lanes: int = 1, threads: int = 1) -> AnySimulator:
    """A host alone, or a cluster."""
    return ClusterSimulator(scenario, lanes, threads) if scenario.is_cluster else Simulator(scenario, lanes, threads)
