"""Policies that are trained: PPO by Stable-Baselines3, and its view of a batch of environments.
Only this room and the command line import torch."""
