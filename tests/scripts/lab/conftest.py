"""Of the laboratory."""

import pytest


@pytest.fixture(scope="module")
def no_lab_pictures():
    """Blank pictures, for tests that do not look at them; ``test_lab_pictures.py`` and ``tests/test_tour.py`` draw them."""
    from hvgym.scripts.lab import copies, pictures, timelines

    with pytest.MonkeyPatch.context() as patch:
        for module in (copies, pictures, timelines):
            patch.setattr(module, "png", lambda figure: b"\x89PNG")
        yield
