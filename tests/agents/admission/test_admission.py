"""Who may start: predictors against outputs of the original simulator, HA's published example, rules at their edges."""

import numpy as np
import pytest

from hvgym.agents.admission import predictors
from hvgym.agents.admission.failover import Resources, failover_capacity, host_slots, slot_size, unreserved_share
from hvgym.agents.admission.predictors import Samples, n_sigma, percentile_of, predicted_peak_mib, rc_like
from hvgym.agents.admission.rules import (
    PercentageFailover,
    PredictedPeak,
    Ratio,
    Reservation,
    SlotFailover,
    Vm,
    ratio_admits,
    reservation_admits,
)
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

RULES = (
    "admit_reservation",
    "admit_ratio",
    "borg_default",
    "n_sigma",
    "rc_like",
    "max_predictor",
    "ha_slot",
    "ha_percentage",
)


def sampled(usage, limit, history=24) -> Samples:
    samples = Samples()
    for use, most in zip(usage, limit, strict=True):
        samples = samples.with_sample(use, most, history)
    return samples


def three_vms(history: int) -> list[Samples]:
    """One whose use exceeds its limit at last, one whose limit is raised, one that has run for longer."""
    return [
        sampled([100, 200, 300, 400, 350, 5000], [1000] * 6, history),
        sampled([900, 800, 700], [1600, 1600, 2000], history),
        sampled([50, 60, 55, 58, 52, 70, 41, 90], [500] * 8, history),
    ]


@pytest.mark.parametrize(
    ("history", "sigmas", "expected"),
    [
        (4, 0.25, 1478.6925624708128),
        (4, 1.0, 1787.6815402058328),
        (4, 5.0, 3435.6227547926055),
        (24, 0.25, 1048.6572347021327),
        (24, 1.0, 1480.9595839698206),
        (24, 5.0, 3500.0),
    ],
)
def test_n_sigma_as_the_original_says(history, sigmas, expected):
    assert n_sigma(three_vms(history), sigmas) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("history", "percentile", "expected"),
    [(4, 50, 1436.0), (4, 95, 2109.5), (4, 99, 2193.9), (24, 50, 1381.5), (24, 95, 2045.5), (24, 99, 2181.1)],
)
def test_rc_like_as_the_original_says(history, percentile, expected):
    assert rc_like(three_vms(history), percentile) == pytest.approx(expected, rel=1e-13)


def test_n_sigma_of_one_vm_as_the_original_says():
    alone = three_vms(24)[2:]
    assert n_sigma(alone, 2.0) == pytest.approx(89.28014679038944, rel=1e-13)
    assert n_sigma(alone, 5.0) == pytest.approx(133.95036697597362, rel=1e-13)


def test_n_sigma_by_hand():
    """Ratios 0.2 and 0.4 (latest: both VMs, before: the first only): mean 0.3, deviation sqrt(0.02)."""
    vms = [sampled([40, 10], [100, 100]), sampled([30], [100])]
    assert predictors.host_ratios(vms) == [0.2, 0.4]
    assert n_sigma(vms, 2.0) == pytest.approx(200 * (0.3 + 2 * 0.02**0.5))
    assert n_sigma(vms, 50.0) == 200.0


def test_less_than_two_samples_tell_no_deviation_so_limits_count():
    assert n_sigma([sampled([10], [100])], 3.0) == 100.0
    assert n_sigma([], 3.0) == 0.0


def test_limits_of_nothing_are_no_division_by_zero():
    nothing = [sampled([5, 5], [0, 0])]
    assert n_sigma(nothing, 5.0) == rc_like(nothing, 99.0) == 0.0


def test_percentiles_are_those_of_linear_interpolation():
    rng = np.random.default_rng(9)
    for _ in range(2000):
        values, percentile = rng.uniform(0, 1, rng.integers(1, 30)).tolist(), rng.uniform(0, 100)
        assert percentile_of(values, percentile) == pytest.approx(np.percentile(values, percentile), rel=1e-12)
    assert percentile_of([3.0, 1.0, 2.0], 100.0) == 3.0
    assert percentile_of([3.0, 1.0, 2.0], 0.0) == 1.0


def test_the_simple_predictors_by_hand():
    vms = three_vms(4)
    assert predictors.limits_mib(vms) == 3500.0
    assert predictors.borg_default(vms, 0.9) == 3150.0
    assert predictors.vm_max(vms) == predictors.vm_max(three_vms(2)) == 1000 + 900 + 90


def test_the_highest_use_outlives_the_window_and_is_capped_at_the_limit():
    vm = sampled([70, 5000, 10, 20], [100] * 4, history=2)
    assert vm == Samples((10, 20), (100, 100), 4, 100)


def test_n_sigma_and_rc_like_never_exceed_limits_and_rise_with_their_parameter():
    rng = np.random.default_rng(10)
    for _ in range(500):
        vms = []
        for _ in range(rng.integers(1, 6)):
            count, limit = int(rng.integers(2, 30)), float(rng.uniform(100, 9000))
            vms.append(sampled(rng.uniform(0, 1.2 * limit, count), [limit] * count))
        peaks = [n_sigma(vms, sigmas) for sigmas in (0.0, 1.0, 5.0)]
        peaks_by_vm = [rc_like(vms, percentile) for percentile in (50.0, 95.0, 100.0)]
        for rising in (peaks, peaks_by_vm):
            assert rising == sorted(rising)
            assert rising[-1] <= predictors.limits_mib(vms) * (1 + 1e-12)
        windows = [max(min(use, limit) for use, limit in zip(vm.usage_mib, vm.limit_mib, strict=True)) for vm in vms]
        assert peaks_by_vm[-1] == pytest.approx(sum(windows))


def test_cold_vms_count_at_their_limit_and_the_highest_predictor_holds():
    warm, cold = sampled([10] * 24, [100] * 24), sampled([10] * 23, [100] * 23)
    chosen = [predictors.vm_max, lambda vms: 25.0 * len(vms)]
    assert predicted_peak_mib([warm, cold], [100, 100], chosen, 24) == 25 + 100
    assert predicted_peak_mib([warm, cold], [100, 100], chosen[:1], 24) == 10 + 100
    assert predicted_peak_mib([warm, warm], [100, 100], chosen, 24) == 50
    assert predicted_peak_mib([cold, Samples()], [100, 70], chosen, 24) == 170


def test_the_published_example_of_slots():
    """Hosts of 9 GHz and 9 GB, 9 and 6, 6 and 6; VMs of up to 2 GHz and 2 GB: 4, 3 and 3 slots; five VMs survive one host."""
    hosts = [Resources(9000, 9216), Resources(9000, 6144), Resources(6000, 6144)]
    vms = [
        Resources(2000, 1024),
        Resources(2000, 1024),
        Resources(1000, 2048),
        Resources(1000, 1024),
        Resources(1000, 1024),
    ]
    assert slot_size(vms) == Resources(2000, 2048)
    assert [host_slots(host, slot_size(vms)) for host in hosts] == [4, 3, 3]
    assert failover_capacity(hosts, vms) == 1
    assert failover_capacity(hosts, vms[1:3]) == 2
    assert failover_capacity(hosts, [*vms, vms[0]]) == 1
    assert failover_capacity(hosts, [*vms, vms[0], vms[0]]) == 0
    assert failover_capacity(hosts, [*vms, *vms, *vms]) == 0
    assert failover_capacity(hosts[::-1], vms) == 1
    assert failover_capacity(hosts, []) == 3
    assert failover_capacity([], vms) == 0


def test_without_a_cpu_reservation_32_mhz_count_and_without_memory_nothing():
    assert slot_size([Resources(0, 0), Resources(0, 100)]) == Resources(32, 100)
    assert slot_size([]) == Resources(32, 0)
    assert host_slots(Resources(1000, 4096), Resources(32, 0)) == 31
    assert host_slots(Resources(np.inf, 4096), Resources(32, 0)) == np.inf


def test_the_unreserved_share_by_hand():
    """Of 10 GHz 3 are reserved, and 32 MHz; of 10 GB 3.5."""
    share = unreserved_share(Resources(10_000, 10_240), [Resources(3000, 3584), Resources(0, 0)])
    assert share == Resources(pytest.approx(0.6968), pytest.approx(0.65))


def test_reservations_and_overheads_must_fit_and_may_fill_the_host():
    vms = [Vm(8192, 4000, 100), Vm(8192, 3000, 100)]
    assert reservation_admits(vms, 7200)
    assert not reservation_admits(vms, 7199)


def test_configured_memory_may_fill_the_ratio_and_no_vm_may_exceed_ram():
    """(10,512 - 512) x 1.5 is 15,000."""
    vms = [Vm(9000, 0, 50)]
    assert ratio_admits(vms, Vm(6000, 0, 50), 10_512, 1.5, 512)
    assert not ratio_admits(vms, Vm(6001, 0, 50), 10_512, 1.5, 512)
    assert ratio_admits([], Vm(10_512, 0, 50), 10_512, 1.5, 512)
    assert not ratio_admits([], Vm(10_513, 0, 50), 10_512, 1.5, 512)


def reading(time_s, running, waiting=None, resident=3000.0, total_mib=40_000.0, own_mib=1000.0):
    """One lane of VMs of 8000 MiB, 3900 of it reserved, with an overhead of 100."""
    count = len(running)
    vm, host = np.zeros((1, count), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["limit_mib"] = vm["startup_mib"] = np.nan
    vm["running"], vm["waiting"] = running, [0.0] * count if waiting is None else waiting
    vm["memory_mib"], vm["min_mib"], vm["overhead_mib"] = 8000.0, 3900.0, 100.0
    vm["resident_mib"] = np.where(vm["running"] > 0, resident, 0.0)
    host["total_mib"] = total_mib
    host["available_mib"] = total_mib - own_mib - np.nansum(vm["resident_mib"])
    return Telemetry(np.full(1, float(time_s)), vm, host)


def answers(policy, telemetry):
    targets = policy.decide(telemetry)
    assert targets.memory_mib is None
    assert targets.reclaim_mib is None
    return targets.admit[0].tolist()


def started(policy, first):
    policy.reset(first, seed=0)
    return policy


NOT, YES, NO = np.nan, 1.0, 0.0


@pytest.mark.parametrize(
    ("policy", "edge_mib"),
    [
        (Reservation(), 1000 + 3 * 4000),
        (Ratio(ratio=1.5, reserved_mib=500), 500 + 16_000),
        (SlotFailover(0.25), 1000 + 16_000),
        (PercentageFailover(0.25), 1000 + 16_000),
    ],
)
def test_the_third_vm_needs_a_host_that_is_large_enough(policy, edge_mib):
    """Three reservations of 4000; 24,000 configured; three slots of 4000, or 12,000, in three quarters of 16,000."""
    there = started(policy, reading(0, [1, 1, 0]))
    np.testing.assert_array_equal(answers(there, reading(0, [1, 1, 0], total_mib=edge_mib)), [NOT, NOT, YES])
    np.testing.assert_array_equal(answers(there, reading(0, [1, 1, 0], total_mib=edge_mib - 1)), [NOT, NOT, NO])


@pytest.mark.parametrize("name", RULES)
def test_what_has_been_approved_counts_though_it_does_not_run_yet_and_who_waits_comes_first(name):
    """There is always room for the two that run and one more; the last VM waits, the others may still arrive."""
    room = {"admit_ratio": 512 + 24_000 / 1.5, "ha_slot": 17_000, "ha_percentage": 17_000, "admit_reservation": 13_000}
    policy = make_policy(load_group("agent", name))
    now = reading(0, [1, 0, 1, 0, 0], [0, 0, 0, 0, 1], total_mib=room.get(name, 25_000))
    np.testing.assert_array_equal(answers(started(policy, now), now), [NOT, NO, NOT, NO, YES])
    now = reading(0, [1, 0, 1, 0, 0], total_mib=room.get(name, 25_000))
    np.testing.assert_array_equal(answers(started(policy, now), now), [NOT, YES, NOT, NO, NO])


def test_an_approval_is_given_anew_at_each_decision():
    policy, free = Reservation(), 13_000.0
    np.testing.assert_array_equal(answers(policy, reading(0, [1, 1, 0, 0], total_mib=free)), [NOT, NOT, YES, NO])
    late = reading(10, [1, 1, 0, 0], [0, 0, 0, 1], total_mib=free)
    np.testing.assert_array_equal(answers(policy, late), [NOT, NOT, NO, YES])
    np.testing.assert_array_equal(answers(policy, reading(20, [1, 1, 0, 1], total_mib=free)), [NOT, NOT, NO, NOT])


def predictor_after(samples, resident=3000.0, **arguments):
    """A policy that has seen two of four VMs run for so many samples, read every 10 s."""
    policy = started(PredictedPeak(**arguments), reading(0, [1, 1, 0, 0]))
    for time_s in range(0, 300 * (samples - 1) + 1, 10):
        policy.decide(reading(time_s, [1, 1, 0, 0], resident=resident))
    return policy


@pytest.mark.parametrize("predictor", ["n_sigma", "rc_like", "vm_max"])
def test_two_hours_of_samples_make_room(predictor):
    """22,000 MiB for VMs: two limits of 8000 leave 6000; two steady uses of 3000 leave 16,000 for two limits more."""
    cold = predictor_after(23, predictors=[predictor])
    warm = predictor_after(24, predictors=[predictor])
    np.testing.assert_array_equal(answers(cold, reading(6890, [1, 1, 0, 0], total_mib=23_000)), [NOT, NOT, NO, NO])
    np.testing.assert_array_equal(answers(warm, reading(7190, [1, 1, 0, 0], total_mib=23_000)), [NOT, NOT, YES, YES])
    np.testing.assert_array_equal(answers(warm, reading(7190, [1, 1, 0, 0], total_mib=22_999)), [NOT, NOT, YES, NO])


def test_a_vm_counts_at_its_limit_where_that_is_less_than_its_memory():
    """Two cold VMs and a new one of 8000 MiB, one of the cold and the new one limited to 5000: 18,000 beside 1000."""
    policy = started(PredictedPeak(), reading(0, [1, 1, 0]))
    for total_mib, expected in ((19_000, YES), (18_999, NO)):
        now = reading(0, [1, 1, 0], total_mib=total_mib)
        now.vm["limit_mib"] = [[5000.0, np.nan, 5000.0]]
        policy.reset(now, seed=0)
        assert answers(policy, now)[2] == expected


def test_use_above_a_limit_counts_as_the_limit():
    policy = started(PredictedPeak(predictors=["vm_max"], min_num_samples=1), reading(0, [1, 0]))
    now = reading(0, [1, 0], resident=3000.0, total_mib=10_500)
    now.vm["limit_mib"][0, 0] = 1500.0
    assert answers(policy, now)[1] == YES
    now.host["total_mib"] -= 1.0
    now.host["available_mib"] -= 1.0
    policy.reset(now, seed=0)
    assert answers(policy, now)[1] == NO


def test_borg_default_frees_a_tenth_of_what_is_warm():
    """14,400 and 8000 need 22,400 MiB, cold 24,000."""
    warm, cold = predictor_after(24, predictors=["borg_default"]), predictor_after(2, predictors=["borg_default"])
    assert answers(warm, reading(7000, [1, 1, 0, 0], total_mib=23_400))[2] == YES
    assert answers(warm, reading(7000, [1, 1, 0, 0], total_mib=23_399))[2] == NO
    assert answers(cold, reading(310, [1, 1, 0, 0], total_mib=24_999))[2] == NO
    assert answers(cold, reading(310, [1, 1, 0, 0], total_mib=25_000))[2] == YES


def test_it_samples_every_five_minutes_whatever_happens_between():
    policy = started(PredictedPeak(predictors=["vm_max"], min_num_samples=2), reading(0, [1, 0]))
    for time_s, resident in ((0, 1000.0), (10, 7000.0), (290, 7000.0), (300, 2000.0), (310, 7000.0)):
        policy.decide(reading(time_s, [1, 0], resident=resident))
    assert answers(policy, reading(320, [1, 0], total_mib=11_000))[1] == YES
    assert answers(policy, reading(320, [1, 0], total_mib=10_999))[1] == NO


def test_a_start_between_two_samples_is_no_sample():
    """2000, and 8000 for the one that has been sampled once, and 8000 for the new one."""
    policy = started(PredictedPeak(predictors=["vm_max"], min_num_samples=2), reading(0, [1, 0, 0]))
    policy.decide(reading(0, [1, 0, 0], resident=1000.0))
    policy.decide(reading(150, [1, 1, 0], resident=7000.0))
    policy.decide(reading(300, [1, 1, 0], resident=2000.0))
    assert answers(policy, reading(310, [1, 1, 0], total_mib=19_000))[2] == YES
    assert answers(policy, reading(310, [1, 1, 0], total_mib=18_999))[2] == NO


def test_a_vm_that_has_just_started_counts_at_its_limit_at_once():
    policy = predictor_after(24, predictors=["rc_like"])
    assert answers(policy, reading(6910, [1, 1, 0, 0], total_mib=15_000))[2] == YES
    np.testing.assert_array_equal(answers(policy, reading(6920, [1, 1, 1, 0], total_mib=15_000)), [NOT, NOT, NOT, NO])
    assert answers(policy, reading(6930, [1, 1, 1, 0], total_mib=23_000))[3] == YES
    assert answers(policy, reading(6930, [1, 1, 1, 0], total_mib=22_999))[3] == NO


def test_a_vm_that_stops_is_forgotten():
    """Back again it counts at its limit: 3000 and 8000, and 8000 for the new one."""
    policy = predictor_after(24, predictors=["rc_like"])
    policy.decide(reading(6910, [1, 0, 0, 0]))
    assert answers(policy, reading(6920, [1, 1, 0, 0], total_mib=20_000))[2] == YES
    assert answers(policy, reading(6920, [1, 1, 0, 0], total_mib=19_999))[2] == NO


def test_use_that_is_not_known_is_no_sample():
    policy = started(PredictedPeak(["vm_max"], min_num_samples=1), reading(0, [1, 1, 0]))
    policy.decide(reading(0, [1, 1, 0], resident=[3000.0, np.nan, 0.0]))
    assert answers(policy, reading(10, [1, 1, 0], total_mib=20_000))[2] == YES
    assert answers(policy, reading(10, [1, 1, 0], total_mib=19_999))[2] == NO


def test_reset_forgets_all_samples():
    policy = predictor_after(24)
    assert answers(policy, reading(6910, [1, 1, 0, 0], total_mib=23_000))[2] == YES
    policy.reset(reading(0, [1, 1, 0, 0]), seed=0)
    assert answers(policy, reading(0, [1, 1, 0, 0], total_mib=23_000))[2] == NO
    for time_s in range(300, 7200, 300):
        assert answers(policy, reading(time_s, [1, 1, 0, 0], total_mib=23_000))[2] == (YES if time_s == 6900 else NO)


@pytest.mark.parametrize("name", RULES)
def test_a_lane_decides_alone_as_it_does_in_a_batch(name):
    rng, (together, alone) = np.random.default_rng(11), (make_policy(load_group("agent", name)) for _ in range(2))
    seen = set()
    for step in range(60):
        parts = [reading(300.0 * step, [1, 1, step > 40, 0, 0, 0], resident=rng.uniform(500, 7000, 6),
                         total_mib=rng.uniform(12_000, 50_000)) for _ in range(3)]  # fmt: skip
        both = Telemetry(
            *(np.concatenate([getattr(part, field) for part in parts]) for field in ("time_s", "vm", "host"))
        )
        if step == 0:
            together.reset(both, seed=0)
            alone.reset(parts[1], seed=0)
        admitted = together.decide(both).admit
        np.testing.assert_array_equal(admitted[1:2], alone.decide(parts[1]).admit)
        seen |= {tuple(row) for row in np.nan_to_num(admitted, nan=-1.0)}
    assert len(seen) > 3


def test_packaged_policies_have_the_originals_values():
    made = {name: make_policy(load_group("agent", name)) for name in RULES}
    assert all((policy.period_s, policy.visibility) == (10.0, Visibility.P0) for policy in made.values())
    assert (made["admit_ratio"].ratio, made["admit_ratio"].reserved_mib) == (1.5, 512)
    assert made["ha_slot"].failover_share == made["ha_percentage"].failover_share == 0.25
    for name in ("borg_default", "n_sigma", "rc_like", "max_predictor"):
        assert (made[name].min_num_samples, made[name].history, made[name].sample_s) == (24, 24, 300)
    vms = three_vms(24)
    assert [predict(vms) for predict in made["max_predictor"].predictors] == [rc_like(vms, 99), n_sigma(vms, 5)]
    assert [predict(vms) for predict in made["borg_default"].predictors] == [3150.0]
    assert [predict(vms) for predict in made["n_sigma"].predictors] == [n_sigma(vms, 5)]
    assert [predict(vms) for predict in made["rc_like"].predictors] == [rc_like(vms, 99)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("predictors", ["n_sigmas"], r"agent\.predictors=\['n_sigmas'\]: choose from borg_default, vm_max"),
        ("predictors", [], r"agent\.predictors=\[\]"),
        ("history", 0, r"agent\.history=0"),
        ("sample_s", 0, r"agent\.sample_s=0"),
    ],
)
def test_a_wrong_argument_is_named(key, value, message):
    with pytest.raises(InputError, match=message):
        make_policy(load_group("agent", "n_sigma") | {key: value})


def test_in_an_arrival_wave_a_predictor_beats_admitting_all_and_admitting_what_is_reserved():
    """Half of the newcomers fit. All of them drown the host, reservations let a few in, percentiles of use let in more."""
    scenario, running = load("arrival-wave"), {}

    def goodput(name):
        def watch(telemetry, sim):
            running[name] = int(telemetry.vm["running"][0].sum())

        return rollout(scenario, make_policy(load_group("agent", name)), [12], watch, apart=False).goodput[0]

    everybody, reserved, predicted = (goodput(name) for name in ("static", "admit_reservation", "rc_like"))
    assert running["static"] == 32
    assert 8 < running["admit_reservation"] < running["rc_like"] < 24
    assert predicted > reserved + 0.1 > everybody + 0.2
