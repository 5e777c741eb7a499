"""Which Prometheus metric of which exporter holds which quantity, in which unit, and what its labels call the VM and its host.

Exporters: Tinkoff/libvirt-exporter and inovex/prometheus-libvirt-exporter (``libvirt_domain_memory_stats_*``),
zhangjianweibj/prometheus-libvirt-exporter before it took over those names (``libvirt_domain_stat_memory_*``), KubeVirt's
virt-handler, prometheus-pve-exporter, node_exporter inside guests, and pryorda/vmware_exporter (vSphere's raw numbers).
Names, units and labels are those of the projects' READMEs and sources (Tinkoff: README; inovex: README and
pkg/exporter/prometheus-libvirt-exporter.go; KubeVirt: docs/observability/metrics.md; pve-exporter:
src/pve_exporter/collector/cluster.py; node_exporter: collector/fixtures/e2e-output.txt).

The metrics' types are not believed: swap traffic is exported as a gauge and counts up. ``..._info_memory_usage_bytes`` is
libvirt's ``memory`` (what the balloon leaves the guest), not what is used; it stands here as granted. Left out: per-vCPU
wait times (libvirt's ``wait`` is time waiting for I/O; ``delay`` is the one that the scheduler owes), and lxc containers.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from hvgym.envs.imports.source import Column

Labels = Mapping[str, str]


def _gauge(quantity: str, metric: str, unit: str | None = "B", zero: Literal["value", "unknown"] = "unknown") -> Column:
    return Column(quantity, metric, unit, "gauge", zero)


def _counter(quantity: str, metric: str, unit: str | None = "B", zero: Literal["value", "unknown"] = "value") -> Column:
    return Column(quantity, metric, unit, "counter", zero)


_LIBVIRT = (
    _gauge("cap", "libvirt_domain_info_maximum_memory_bytes"),
    _gauge("cap", "libvirt_domain_memory_stats_maximum_bytes"),
    _gauge("granted", "libvirt_domain_memory_stats_actual_balloon_bytes"),
    _gauge("granted", "libvirt_domain_memory_stats_current_balloon_bytes"),
    _gauge("granted", "libvirt_domain_info_memory_usage_bytes"),
    _gauge("vcpus", "libvirt_domain_info_virtual_cpus", None),
    _counter("cpu_used", "libvirt_domain_info_cpu_time_seconds_total", "s"),
    _counter("cpu_wait", "libvirt_domain_vcpu_delay_seconds_total", "s"),
    _counter("guest_major_faults", "libvirt_domain_memory_stats_major_fault_total", "count", "unknown"),
    _counter("disk_read", "libvirt_domain_block_stats_read_bytes_total"),
    _counter("disk_write", "libvirt_domain_block_stats_write_bytes_total"),
    _counter("net_rx", "libvirt_domain_interface_stats_receive_bytes_total"),
    _counter("net_tx", "libvirt_domain_interface_stats_transmit_bytes_total"),
    *(
        column
        for prefix in ("libvirt_domain_memory_stats", "libvirt_domain_stat_memory")
        for column in (
            _gauge("guest_total", f"{prefix}_available_bytes"),
            _gauge("guest_usable", f"{prefix}_usable_bytes"),
            _gauge("guest_unused", f"{prefix}_unused_bytes"),
            _gauge("guest_cache", f"{prefix}_disk_cache_bytes"),
            _gauge("guest_cache", f"{prefix}_disk_caches_bytes"),
            _gauge("backed", f"{prefix}_rss_bytes"),
            _counter("guest_swap_in", f"{prefix}_swap_in_bytes"),
            _counter("guest_swap_out", f"{prefix}_swap_out_bytes"),
        )
    ),
)

_KUBEVIRT = (
    _gauge("cap", "kubevirt_vmi_memory_domain_bytes"),
    _gauge("cap", "kubevirt_vmi_memory_domain_total_bytes"),
    _gauge("cap", "kubevirt_vmi_memory_domain_bytes_total"),
    _gauge("granted", "kubevirt_vmi_memory_actual_balloon_bytes"),
    _gauge("guest_total", "kubevirt_vmi_memory_available_bytes"),
    _gauge("guest_usable", "kubevirt_vmi_memory_usable_bytes"),
    _gauge("guest_unused", "kubevirt_vmi_memory_unused_bytes"),
    _gauge("guest_cache", "kubevirt_vmi_memory_cached_bytes"),
    _gauge("guest_used", "kubevirt_vmi_memory_used_bytes"),
    _gauge("backed", "kubevirt_vmi_memory_resident_bytes"),
    _counter("guest_swap_in", "kubevirt_vmi_memory_swap_in_traffic_bytes"),
    _counter("guest_swap_out", "kubevirt_vmi_memory_swap_out_traffic_bytes"),
    _counter("guest_major_faults", "kubevirt_vmi_memory_pgmajfault_total", "count", "unknown"),
    _gauge("vcpus", "kubevirt_vmi_vcpu_count", None),
    _counter("cpu_used", "kubevirt_vmi_cpu_usage_seconds_total", "s"),
    _counter("cpu_wait", "kubevirt_vmi_vcpu_delay_seconds_total", "s"),
    _counter("disk_read", "kubevirt_vmi_storage_read_traffic_bytes_total"),
    _counter("disk_write", "kubevirt_vmi_storage_write_traffic_bytes_total"),
    _counter("net_rx", "kubevirt_vmi_network_receive_bytes_total"),
    _counter("net_tx", "kubevirt_vmi_network_transmit_bytes_total"),
)

_PVE = (
    _gauge("cap", "pve_memory_size_bytes"),
    _gauge("guest_notfree", "pve_memory_usage_bytes"),
    _gauge("vcpus", "pve_cpu_usage_limit", None),
    _gauge("cpu_used", "pve_cpu_usage_ratio", "share", "value"),
    _counter("net_rx", "pve_network_receive_bytes_total"),
    _counter("net_rx", "pve_network_receive_bytes"),
    _counter("net_tx", "pve_network_transmit_bytes_total"),
    _counter("net_tx", "pve_network_transmit_bytes"),
    _counter("disk_read", "pve_disk_read_bytes_total"),
    _counter("disk_read", "pve_disk_read_bytes"),
    _counter("disk_write", "pve_disk_written_bytes_total"),
    _counter("disk_write", "pve_disk_write_bytes"),
)

_NODE = (
    _gauge("guest_total", "node_memory_MemTotal_bytes"),
    _gauge("guest_usable", "node_memory_MemAvailable_bytes"),
    _gauge("guest_unused", "node_memory_MemFree_bytes"),
    _gauge("guest_cache", "node_memory_Cached_bytes"),
    _counter("guest_swap_in", "node_vmstat_pswpin", "pages"),
    _counter("guest_swap_out", "node_vmstat_pswpout", "pages"),
    _counter("guest_major_faults", "node_vmstat_pgmajfault", "count"),
    _counter("psi_mem_some", "node_pressure_memory_waiting_seconds_total", "s"),
)

_VMWARE = (
    _gauge("cap", "vmware_vm_memory_max", "MiB"),
    _gauge("vcpus", "vmware_vm_num_cpu", None),
    _gauge("backed", "vmware_vm_mem_consumed_average", "KiB"),
    _gauge("active", "vmware_vm_mem_active_average", "KiB", "value"),
    _gauge("host_swapped", "vmware_vm_mem_swapped_average", "KiB", "value"),
    _gauge("balloon_taken", "vmware_vm_mem_vmmemctl_average", "KiB", "value"),
    _gauge("cpu_used", "vmware_vm_cpu_usagemhz_average", "MHz", "value"),
)

METRICS: Mapping[str, Column] = {column.title: column for column in (*_LIBVIRT, *_KUBEVIRT, *_PVE, *_NODE, *_VMWARE)}
"""Column by metric. Of several metrics with one quantity the earlier one is taken where a file has both."""

REPORTED = frozenset({"libvirt_domain_memory_stats_last_update_timestamp_seconds"})

_DOMAIN_STATES = {1: "on", 2: "on", 3: "on", 4: "off", 5: "off", 6: "off", 7: "off"}
"""virDomainState; 3 is paused, its memory stays."""

POWER: Mapping[str, Mapping[int, str]] = {
    "libvirt_domain_info_state": _DOMAIN_STATES,
    "libvirt_domain_info_vstate": _DOMAIN_STATES,
    "libvirt_domain_state_code": _DOMAIN_STATES,
    "pve_up": {1: "on", 0: "off"},
    "vmware_vm_power_state": {1: "on", 0: "off"},
}
"""Metrics that say whether the VM runs: state by value."""

NAMING: Mapping[str, tuple[str, str, str]] = {
    "pve_guest_info": ("id", "name", "node"),
    "libvirt_domain_openstack_info": ("domain", "instance_name", ""),
    "libvirt_openstack_domain_info": ("domain", "instance_name", ""),
    "libvirt_domain_info_meta": ("domain", "instance_name", ""),
}
"""Metrics that carry only labels: the label that other metrics of the exporter have, the VM's name, its host."""

_DEVICES = (
    "target_device",
    "source_file",
    "source_bridge",
    "virtual_interface",
    "interface",
    "drive",
    "device",
    "vcpu",
)

_FIRST_OF: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("libvirt_", ("instanceName", "instance_name", "domain", "name")),
    ("kubevirt_", ("name", "exported_name")),
    ("vmware_", ("vm_name",)),
    ("node_", ("nodename", "instance")),
)


def vm_of(metric: str, labels: Labels, names: Labels, label: str | None) -> str | None:
    """The VM that a series speaks of, None where it is none (a node, a container). `names`: by `NAMING`; `label`: the user's."""
    if label is not None:
        return labels.get(label) or None
    if metric.startswith("pve_"):
        own = labels.get("id", "")
        return (names.get(own) or own) if own.startswith("qemu/") else None
    if metric.startswith("libvirt_") and labels.get("domain", "") in names:
        return names[labels["domain"]]
    first = next((labels[name] for name in _labels_for(metric) if labels.get(name)), None)
    if metric.startswith("kubevirt_") and first:
        return f"{group_of(labels)}/{first}" if group_of(labels) else first
    return _without_port(first) if first else None


def _labels_for(metric: str) -> Iterable[str]:
    known = next((labels for prefix, labels in _FIRST_OF if metric.startswith(prefix)), None)
    return known or ("vm", "vm_name", "instanceName", "instance_name", "domain", "name", "id", "instance")


def host_of(metric: str, labels: Labels, hosts: Labels) -> str | None:
    """The host that a series names; of exporters that run on the host it is the scraped instance."""
    named = hosts.get(labels.get("id", "")) or next(
        (labels[name] for name in ("host", "host_name", "hostname", "node") if labels.get(name)), None
    )
    if named is None and metric.startswith("libvirt_"):
        named = labels.get("instance")
    return _without_port(named) if named else None


def uuid_of(labels: Labels) -> str | None:
    """The VM's lasting identity, where the exporter gives one."""
    read: Callable[[str], str | None] = labels.get
    return (
        read("instanceId")
        or read("instance_id")
        or read("uuid")
        or (read("id") if "qemu/" in labels.get("id", "") else None)
    )


def group_of(labels: Labels) -> str | None:
    """The tenant: a namespace (KubeVirt), a project (OpenStack)."""
    return next(
        (
            labels[name]
            for name in ("exported_namespace", "namespace", "projectName", "project_name")
            if labels.get(name)
        ),
        None,
    )


def device_of(labels: Labels) -> tuple[str, ...]:
    """Which disk, interface or vCPU of the VM a series is of."""
    numbered = labels.get("id", "")  # KubeVirt's vCPUs; Proxmox calls the VM itself id
    return (*(labels.get(name, "") for name in _DEVICES), "" if "/" in numbered else numbered)


def _without_port(address: str) -> str:
    name, colon, port = address.rpartition(":")
    return name if colon and port.isdigit() else address
