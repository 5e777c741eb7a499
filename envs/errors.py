"""The one exception that users are meant to see: a single line that names the key or file, the value, and what would be
right.
"""

import difflib
import traceback
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a user (configuration, trace file, study folder). Verbs print its text on one line and exit with
    2.
    """


def in_words(error: BaseException) -> str:
    """An unexpected error on one line, with the place in the code where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def shown(value: object, most: int = 80) -> str:
    """A value as it stands in a message: not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}..."


def many(count: int, what: str) -> str:
    """So many of something, in words: ``1 VM``, ``2 VMs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
