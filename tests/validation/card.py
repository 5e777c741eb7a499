"""What a validation card is: a published figure, what the model gives for it, and whether the two agree.

Cards are tests (``test_cards.py``) and rows of docs/validation.md (``page.py``): both call `Card.measure`, so the page
cannot say anything that is not tested. A card that the model cannot meet carries the reason in `unmet`; its test then
checks that it is still not met, so that the list does not rot.
"""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
    """What the model gave. `plot` draws expected and got into a matplotlib ``Axes``."""

    got: str
    met: bool
    plot: Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class Card:
    """One figure. given: the input; expected and tolerance: as published, in words and units; source: who says so."""

    number: str
    title: str
    source: str
    given: str
    expected: str
    tolerance: str
    measure: Callable[[], Result]
    unmet: str = ""
