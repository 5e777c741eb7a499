"""Every choice, as YAML: Hydra groups and the registry of agents, scenarios, hypervisors, workloads and suites."""
