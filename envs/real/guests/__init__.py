"""Real guests on one machine: Debian's kernel and busybox, booted by QEMU, with a workload that plays a scenario's story."""
