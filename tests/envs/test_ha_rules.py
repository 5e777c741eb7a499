"""Rules of high availability: what is packaged is consistent, survives a file, and what is wrong is said in one line."""

import math

import pytest
import yaml

from hvgym.envs import ha_rules
from hvgym.envs.errors import InputError
from hvgym.envs.ha_rules import STACKS, HaRules
from hvgym.envs.model import failure
from hvgym.envs.schema import build, plain


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_is_the_same_after_a_way_through_yaml(name):
    assert build(HaRules, yaml.safe_load(yaml.safe_dump(plain(STACKS[name]))), "ha") == ha_rules.named(name)


@pytest.mark.parametrize("name", STACKS)
def test_every_field_of_the_record_is_a_rule_and_is_written(name):
    row = STACKS[name].row()
    fields = set(plain(STACKS[name])) - {"name"}
    assert fields == set(failure.HA.names) - {"spare"}
    assert not any(math.isnan(row[field]) for field in fields - {"retry_s", "retry_times"})


def test_what_does_not_exist_is_infinite_in_the_record():
    row = HaRules("bare").row()
    assert row["watchdog_s"] == row["most_tries"] == row["starts_per_host"] == row["isolated_master_s"] == math.inf
    assert STACKS["none"].row()["dead_s"] == math.inf


def test_the_last_delay_between_tries_fills_the_list():
    row = HaRules("r", retry_s=(30.0, 1800.0), retry_times=(10, 1)).row()
    assert row["retry_s"].tolist() == [30.0, 1800.0, 1800.0, 1800.0]
    assert row["retry_times"].tolist() == [10.0, 1.0, math.inf, math.inf]


def test_a_host_that_leads_takes_itself_for_isolated_like_others_unless_it_is_said():
    assert HaRules("a", isolated_s=30.0).row()["isolated_master_s"] == 30.0
    assert STACKS["vsphere"].row()["isolated_master_s"] == 5.0


def test_words_become_the_constants_of_the_model():
    row = HaRules("a", fencing="resets", response="pause", isolated_s=10.0).row()
    assert (row["fencing"], row["response"]) == (failure.RESETS, failure.PAUSE)


def test_plain_data_change_a_stack_that_they_name():
    rules = ha_rules.from_dict({"like": "vsphere", "response": "power_off", "name": "mine"})
    assert (rules.name, rules.response, rules.dead_s) == ("mine", "power_off", 15.0)
    assert ha_rules.from_dict({}) == STACKS["none"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"like": "proxmux"}, "ha='proxmux': unknown (did you mean 'proxmox'?); choose one of vsphere, "),
        ({"like": ["vsphere"]}, "ha=['vsphere']: unknown"),
        ({"dead": 3}, "ha.dead: unknown key (did you mean 'dead_s'?)"),
        ({"dead_s": 0}, "ha.dead_s=0: must be above 0"),
        ({"like": "vsphere", "dead_s": None}, "ha: dead_s=None: a stack that restarts VMs must take hosts for dead"),
        ({"retry_s": []}, "ha: retry_s=[]: list 1 to 4 delays"),
        ({"retry_s": [1, 2, 3, 4, 5]}, "list 1 to 4 delays"),
        ({"retry_s": [1, 2], "retry_times": [3]}, "ha: retry_times=[3]: give one for each of the 2 delays of retry_s"),
        ({"retry_times": [0]}, "ha.retry_times[0]=0: must be at least 1"),
        ({"response": "power_off"}, "ha: isolated_s=None: response='power_off' needs a time"),
        ({"fencing": "reset"}, "ha.fencing='reset': choose one of locks, evicts, resets (did you mean 'resets'?)"),
    ],
)
def test_wrong_values_are_named(data, words):
    with pytest.raises(InputError) as error:
        ha_rules.from_dict(data)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
