"""vSphere HA's admission control on the vectors for clusters; its functions are those of ``agents.admission``."""

from hvgym.agents.admission.failover import Resources, failover_capacity, host_slots, slot_size, unreserved_share

HOSTS = [Resources(8000, 8192), Resources(8000, 6144), Resources(6000, 4096)]


def vms(count):
    """The largest reservations are 2 GHz and 2 GB."""
    return [Resources(2000, 1024), Resources(1000, 2048), *[Resources(500, 512)] * (count - 2)]


def test_vector_ha_1_slots():
    assert slot_size(vms(5)) == Resources(2000, 2048)
    assert [host_slots(host, slot_size(vms(5))) for host in HOSTS] == [4, 3, 2]
    assert failover_capacity(HOSTS, vms(5)) == 1
    assert failover_capacity(HOSTS, vms(6)) == 0  # so a tolerance of one refuses the sixth


def test_vector_ha_2_percentage():
    total = Resources(22_000, 18 * 1024)
    reserved = [Resources(5000, 4096), Resources(4000, 4096)]
    share = unreserved_share(total, reserved)
    assert (int(100 * share.cpu_mhz), int(100 * share.memory_mib)) == (59, 55)
    assert unreserved_share(total, [*reserved, Resources(100, 1024)]).memory_mib == 0.5
