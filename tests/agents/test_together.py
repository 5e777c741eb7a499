"""Parts beside each other behave as each does alone, and what does not fit together is named."""

from collections.abc import Collection, Sequence

import numpy as np
import pytest

from hvgym.agents.policy import META_KEYS, ClairvoyantPolicy, Policy, make_policy
from hvgym.agents.together import Together, least_profile
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Targets, Telemetry, Visibility

P0, P1, P2, P3, P4 = Visibility
HERE = __name__


class Asks(Policy):
    """Answers one channel with a number, and notes when it was asked and what it saw."""

    made: list["Asks"] = []  # noqa: RUF012

    def __init__(
        self, channel: str = "memory_mib", value: float = 1.0, every_s: float = 5.0, profile: str = "P1", late: int = 0
    ) -> None:
        self.channel, self.value, self.period_s, self.visibility, self.late = (
            channel,
            value,
            every_s,
            Visibility[profile],
            late,
        )
        self.times: list[float] = []
        self.seen: list[Telemetry] = []
        self.resets: list[tuple[Telemetry, int]] = []
        Asks.made.append(self)

    def reset(self, first: Telemetry, seed: int) -> None:
        self.resets.append((first, seed))

    def decide(self, telemetry: Telemetry) -> Targets:
        self.times.append(float(telemetry.time_s[0]))
        self.seen.append(telemetry)
        return Targets(**{self.channel: np.full((1, 1), self.value)}) if len(self.times) > self.late else Targets()


class Listens(Asks):
    """Decides half as often where it has one channel only."""

    def granted(self, channels: Collection[str]) -> None:
        self.channels = list(channels)
        self.period_s = 10.0 if len(self.channels) == 1 else 5.0


class Knows(ClairvoyantPolicy):
    def decide(self, hidden) -> Targets:
        return Targets()


def part(name: str = "part", cls: str = "Asks", **arguments: object) -> dict[str, object]:
    return {"name": name, "_target_": f"{HERE}.{cls}", **arguments}


def together(*parts: dict[str, object]) -> Together:
    Asks.made.clear()
    policy = make_policy({"name": "both", "_target_": "hvgym.agents.together.Together", "parts": list(parts)})
    assert isinstance(policy, Together)
    return policy


def reading(time_s: float) -> Telemetry:
    vm, host = np.ones((1, 1), VM_TELEMETRY), np.ones((1, 1), HOST_TELEMETRY)
    return Telemetry(np.array([time_s]), vm, host)


def run(policy: Policy, until_s: int, step_s: int = 1) -> list[Targets]:
    """Ask as a rollout does: when the period has passed."""
    policy.reset(reading(0.0), 7)
    answers, due_s = [], 0.0
    for now in range(0, until_s, step_s):
        if now >= due_s:
            answers.append(policy.decide(reading(float(now))))
            due_s += policy.period_s
    return answers


@pytest.mark.parametrize(
    ("periods", "expected"), [([10, 60], 10), ([15, 10], 5), ([7, 5], 1), ([4], 4), ([6, 10, 15], 1), ([6, 12, 9], 3)]
)
def test_it_runs_at_the_greatest_common_divisor_of_the_periods(periods: Sequence[float], expected: float) -> None:
    assert together(*(part(every_s=float(period)) for period in periods)).period_s == expected


def test_a_part_is_told_which_channels_it_has_and_may_change_its_pace() -> None:
    policy = together(part(cls="Listens", channels=["admit"]), part(cls="Listens", channel="reclaim_mib"))
    policy.granted(["memory_mib", "admit"])
    assert [one.channels for one in Asks.made if isinstance(one, Listens)] == [["admit"], ["memory_mib", "admit"]]
    assert policy.period_s == 5.0
    policy.granted(["memory_mib"])
    assert [one.channels for one in Asks.made if isinstance(one, Listens)] == [[], ["memory_mib"]]
    policy.granted(["admit"])
    assert policy.period_s == 10.0


@pytest.mark.parametrize("step_s", [1, 5, 12])
def test_each_part_is_asked_when_it_would_be_alone(step_s: int) -> None:
    run(together(part(every_s=10.0), part(every_s=15.0, channel="reclaim_mib")), 100, step_s)
    asked = [one.times for one in Asks.made]
    for every_s, times in zip((10.0, 15.0), asked, strict=True):
        alone = Asks(every_s=every_s)
        run(alone, 100, step_s)
        assert times == alone.times


def test_answers_are_merged_and_channels_of_a_part_that_is_not_due_are_left_alone() -> None:
    answers = run(together(part(value=3.0, every_s=5.0), part(channel="scan_pages_per_s", value=4.0, every_s=10.0)), 15)
    first, second = answers[:2]
    assert first.memory_mib is not None
    assert first.scan_pages_per_s is not None
    assert (first.memory_mib[0, 0], first.scan_pages_per_s[0, 0]) == (3.0, 4.0)
    assert second.memory_mib is not None
    assert second.scan_pages_per_s is None
    assert [answers[2].reclaim_mib, answers[2].reclaim_age_s, answers[2].report_free_pages, answers[2].admit] == [
        None
    ] * 4


def test_two_parts_that_answer_one_channel_are_named_with_it() -> None:
    policy = together(part("one"), part("two", channel="admit"), part("three"))
    with pytest.raises(InputError, match="one and three both answer memory_mib"):
        run(policy, 1)


def test_even_when_they_answer_it_at_different_times() -> None:
    policy = together(part("one", every_s=5.0), part("two", every_s=7.0, late=1))
    run(policy, 7)
    with pytest.raises(InputError, match="one and two both answer memory_mib"):
        policy.decide(reading(7.0))


def test_a_reset_forgets_who_answered_what() -> None:
    policy = together(part("one"), part("two", late=1))
    run(policy, 1)
    Asks.made[0].late = 99
    run(policy, 1)


def test_each_part_sees_its_own_profile_only() -> None:
    policy = together(part(profile="P0"), part(profile="P2", channel="admit"))
    run(policy, 1)
    blind, sighted = Asks.made
    for telemetry in (blind.seen[0], blind.resets[0][0]):
        assert np.isnan(telemetry.vm["guest_free_mib"]).all()
        assert telemetry.vm["size_mib"].tolist() == [[1.0]]
    for telemetry in (sighted.seen[0], sighted.resets[0][0]):
        assert telemetry.vm["guest_committed_mib"].tolist() == [[1.0]]
        assert np.isnan(telemetry.vm["guest_psi_some10"]).all()


def test_the_seed_goes_to_every_part() -> None:
    run(together(part(), part(channel="admit")), 1)
    assert [one.resets[0][1] for one in Asks.made] == [7, 7]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [([P0], P0), ([P0, P1], P1), ([P2, P0], P2), ([P3, P0], P3), ([P1, P4], P4), ([P2, P4, P2], P4), ([P1, P2], P2)],
)
def test_it_counts_as_the_least_profile_that_includes_all(seen: list[Visibility], expected: Visibility) -> None:
    assert least_profile(seen) == expected


def test_a_reset_starts_all_clocks_anew() -> None:
    policy = together(part(every_s=10.0))
    run(policy, 25)
    run(policy, 25)
    assert Asks.made[0].times == [0.0, 10.0, 20.0] * 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], r"agent.parts=\[\]: expected a list of agents"),
        ("proxmox", "agent.parts='proxmox': expected a list"),
        (["proxmox"], "expected a list of agents"),
        ([part("seer", "Knows")], "agent.parts: seer sees the hidden state"),
        ([part("hasty", every_s=0.5)], "agent.parts: hasty runs every 0.5 s"),
        ([part("odd", every_s=2.5)], "agent.parts: odd runs every 2.5 s"),
        ([part(profile="P1"), part(profile="P3")], "no profile includes P1 and P3"),
        ([part("wrong", chanel="admit")], "agent wrong: unknown key 'chanel'.*did you mean 'channel'"),
    ],
)
def test_what_does_not_fit_is_named(parts: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_policy({"name": "both", "_target_": "hvgym.agents.together.Together", "parts": parts})


def test_a_part_without_a_name_goes_by_its_class() -> None:
    nameless = {key: value for key, value in part().items() if key != "name"}
    with pytest.raises(InputError, match=rf"{HERE}.Asks and two both answer memory_mib"):
        run(together(nameless, part("two")), 1)


def test_proxmox_beside_ksmtuned_asks_for_what_each_asks_for_alone() -> None:
    """The same reading to all three, for two minutes."""
    config = load_group("agent", "proxmox_ksmtuned")
    beside, proxmox, ksmtuned = (
        make_policy(load_group("agent", name)) for name in (config["name"], "proxmox", "ksmtuned")
    )
    assert isinstance(beside, Together)
    assert isinstance(proxmox, Policy)
    assert isinstance(ksmtuned, Policy)
    assert (beside.period_s, beside.visibility) == (10.0, P1)
    draw = np.random.default_rng(5)
    one = reading(0.0)
    one.vm["startup_mib"] = np.nan
    for policy in (beside, proxmox, ksmtuned):
        policy.reset(one, 0)
    for now in range(0, 120, 10):
        one = reading(float(now))
        one.vm["min_mib"], one.vm["memory_mib"], one.vm["shares"], one.vm["resident_mib"] = 1024, 4096, 1000, 3000
        one.vm["size_mib"], one.vm["guest_free_mib"] = 3000, draw.uniform(0, 3000)
        one.vm["startup_mib"] = np.nan
        one.host["total_mib"], one.host["available_mib"] = 4096, draw.uniform(0, 2000)
        answer = beside.decide(one)
        np.testing.assert_array_equal(answer.memory_mib, proxmox.decide(one).memory_mib)
        if now % 60 == 0:
            np.testing.assert_array_equal(answer.scan_pages_per_s, ksmtuned.decide(one).scan_pages_per_s)
        else:
            assert answer.scan_pages_per_s is None


def test_the_parts_of_the_packaged_pair_are_the_packaged_agents() -> None:
    for one in load_group("agent", "proxmox_ksmtuned")["parts"]:
        packaged = load_group("agent", one["name"])
        assert {key: packaged[key] for key in one} == one
        assert set(packaged) - set(one) <= META_KEYS


def test_a_rollout_with_one_part_is_the_rollout_of_that_part() -> None:
    scenario = resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", "kvm"))
    proxmox = load_group("agent", "proxmox")
    alone = rollout(scenario, make_policy(proxmox), [2_000_000_000])
    assert rollout(scenario, together(proxmox), [2_000_000_000]).rows() == alone.rows()
    assert rollout(scenario, make_policy(load_group("agent", "static")), [2_000_000_000]).rows() != alone.rows()
