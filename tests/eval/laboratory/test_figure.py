"""Figures of the laboratory: where the numbers of a logarithmic axis stand."""

import pytest
from matplotlib.figure import Figure

from worldplan.eval.laboratory.figure import logarithmic


@pytest.mark.parametrize("largest, between", [(30, {2, 5, 20}), (3000, set())])
def test_numbers_of_an_axis_stay_apart(largest, between):
    """Between decades there are some only where the axis spans little."""
    axes = Figure().subplots()
    axes.plot([1, largest], [1, 2])
    logarithmic(axes)
    shown = {round(at) for at in axes.get_xticks() if 1 <= at <= largest}
    assert shown == {10**k for k in range(4) if 10**k <= largest} | between
