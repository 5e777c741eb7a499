"""Compiles the model and the reference, for the tests that follow: each process of pytest would compile the same, a minute long."""

from hvgym.agents.clairvoyant import bound
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load, load_group
from hvgym.envs.simulator import Simulator

alone = load("no-guest-swap-short")
rollout(alone, make_policy(load_group("agent", "reference")), [0])
rollout(load("unlike-hosts"), make_policy(load_group("agent", "static")), [0])
sim = Simulator(alone)
sim.reset([0])
bound.goodput(sim.hidden(), alone.duration_s)
