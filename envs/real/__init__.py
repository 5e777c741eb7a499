"""Real hosts behind the interface of the simulator: a `Backend` for QEMU's monitors, and one for libvirt.

Nothing but these files knows that a host is real: policies, their rules, views and records are those of the simulator. Here, and
nowhere else in ``envs``, the clock is read, for a real host's time is the clock's.
"""
