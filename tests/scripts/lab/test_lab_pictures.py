"""Lines of one picture are told apart, whatever coincides."""

from hvgym.scripts.lab import pictures


def test_ten_lines_and_more_are_all_different_also_without_colour_of_the_same_mark():
    looks = [pictures.style(i, 24, 61) for i in range(24)]
    assert len({(look["color"], look["marker"]) for look in looks}) == 24
    ten = [pictures.style(i, 10, 61) for i in range(10)]
    assert len({look["marker"] for look in ten}) == 10
    for i, one in enumerate(ten):
        assert not [
            other for other in ten[:i] if other["color"] == one["color"] and other["linestyle"] == one["linestyle"]
        ]


def test_of_lines_that_coincide_each_is_narrower_than_those_below_it_and_marked_elsewhere():
    looks = [pictures.style(i, 10, 61) for i in range(10)]
    widths = [look["linewidth"] for look in looks]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 10
    assert len({look["markevery"] for look in looks}) == 10


def test_both_of_two_lines_that_coincide_are_seen():
    """Two lines of the same values: pixels of either colour are left."""
    import io

    import numpy as np
    from matplotlib.colors import to_rgb
    from PIL import Image

    figure, (axes,) = pictures.grid(1, 1, (5.0, 3.0))
    looks = [pictures.style(i, 2, 40) | {"marker": None} for i in range(2)]
    for look in looks:
        axes.plot(range(40), range(40), **look)
    pixels = np.asarray(Image.open(io.BytesIO(pictures.png(figure))).convert("RGB")).astype(int)
    for look in looks:
        near = np.abs(pixels - np.array([round(255 * part) for part in to_rgb(look["color"])])).sum(axis=-1) < 30
        assert near.sum() > 200
