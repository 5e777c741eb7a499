"""A user's own VMs: their history, what demand it stands for, how it is split, and its replay."""
