"""Many VMs on one machine: what backs them, what is taken from whom when it is short, and who gets the processors.
Imports guests, knows nothing of devices."""
