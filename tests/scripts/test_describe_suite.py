"""What `hvgym describe suite=` says: contents, a hash of them, and what it takes to play them."""

from dataclasses import replace

import pytest

from hvgym.bench import contents, suites
from hvgym.envs.scenario import load_group
from hvgym.scripts import describe_suite
from tests.scripts.calling import hvgym


def described(*words, cwd, code=0):
    return hvgym("describe", *words, cwd=cwd, code=code, COLUMNS="140")


def micro(**changes):
    suite = replace(suites.Suite.from_dict(load_group("suite", "micro")), **changes)
    return contents.protocol_of(suite, [suites.scenario_of(name, rules=suite.rules) for name in suite.scenarios])


def test_a_suite_is_described_by_contents_hash_and_cost(tmp_path):
    done = described("suite=micro", cwd=tmp_path)
    for said in ("suite micro", "idle-giants-short", "no-guest-swap-short", "no learner", contents.hash_of(micro())):
        assert said in done.stdout
    assert "test 4 from 2,000,000,000" in " ".join(done.stdout.split())


def test_the_hash_of_a_suite_is_of_its_contents_and_not_of_who_plays():
    plain = contents.hash_of(micro())
    assert contents.hash_of(micro(agents=("stock", "proxmox"))) == plain
    assert contents.hash_of(micro(eval_seeds=5)) != plain
    changed = micro()
    longer = changed.scenarios[0] | {"episode_s": changed.scenarios[0]["episode_s"] + 60}
    assert contents.hash_of(replace(changed, scenarios=(longer, *changed.scenarios[1:]))) != plain


def test_a_suite_and_a_scenario_do_not_stand_side_by_side(tmp_path):
    done = described("suite=micro", "scenario=idle-giants", cwd=tmp_path, code=2)
    assert "scenario=idle-giants: stands beside suite=micro; give one of the two" in done.stderr


def test_the_cost_counts_what_the_suite_plays():
    protocol = micro(agents=("static", "ppo"), eval_seeds=5, train_seeds=3)
    cost = contents.cost_of(protocol, suites.scenario_of("idle-giants-short", rules="open"))
    assert cost.episodes == 5 * (1 + 1 + 3)  # stock, static, three networks
    assert cost.of_references == 5
    assert 0.0 < cost.episode_s < cost.reference_s
    assert cost.total_s == pytest.approx(25 * cost.episode_s + 5 * cost.reference_s)


def test_the_stratum_is_that_of_the_most_hot_memory_over_ram():
    scenario = suites.scenario_of("idle-giants-short", rules="open")
    more = replace(scenario, host=replace(scenario.host, overcommit=2 * scenario.host.overcommit))
    assert contents.hot_share(more) == pytest.approx(2 * contents.hot_share(scenario))
    assert [contents.stratum(share) for share in (0.1, 0.69, 0.7, 0.94, 0.95, 3.0)] == [
        "roomy", "roomy", "tight", "tight", "short", "short",
    ]  # fmt: skip


def test_scenarios_with_the_same_demand_are_named():
    of_it = [suites.scenario_of(name).to_dict() for name in ("tenants-kvm", "hosting-xen", "tenants-esxi")]
    (line,) = describe_suite.shared_demands(of_it)
    assert line.endswith("in intervals and p-values: tenants-kvm = tenants-esxi.")
    assert describe_suite.shared_demands(of_it[:2]) == []
