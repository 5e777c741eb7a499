"""Published figures against the model, a card each. docs/validation.md (``page.py``) is made from the same cards."""

import functools
import importlib
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parent
MODULES = ("cards_guest", "cards_host", "cards_devices", "cards_migration", "cards_jvm", "cards_ha")
NUMBERED = {1: 5, 3: 2, 4: 4, 5: 2, 6: 4, 7: 3, 8: 3, 9: 6, 10: 6, 11: 2, 12: 6, 13: 2, 14: 3, 16: 2}
"""Cards of each model in the calibration: 1.1 to 1.5, and so on."""


def cards():
    """Of all modules that are there, which import ``card`` from this folder."""
    sys.path.insert(0, str(FOLDER))
    try:
        modules = [importlib.import_module(name) for name in MODULES if (FOLDER / f"{name}.py").exists()]
    finally:
        sys.path.remove(str(FOLDER))
    return [card for module in modules for card in module.CARDS]


CARDS = cards()


@functools.cache
def measured(card):
    return card.measure()


def named(card):
    return "card_" + "_".join([card.number, "-".join(card.title.split())])


each_card = pytest.mark.parametrize("card", CARDS, ids=named)


@each_card
def test_the_model_meets_the_card_or_the_reason_why_not_still_holds(card):
    result = measured(card)
    words = f"card {card.number}, {card.title}: expected {card.expected} ({card.tolerance}), got {result.got}"
    if card.unmet:
        assert not result.met, f"{words}; it is met now: remove its `unmet`"
    else:
        assert result.met, words


@each_card
def test_the_card_draws_itself(card):
    axes = Figure().subplots()
    measured(card).plot(axes)
    assert axes.has_data()
    assert axes.get_xlabel()


def test_every_card_is_there_once():
    numbers = [f"{model}.{i}" for model, count in NUMBERED.items() for i in range(1, count + 1)]
    assert sorted(card.number for card in CARDS) == sorted(numbers)
