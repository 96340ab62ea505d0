"""Four mixings of the plane: how their encoders train, and what is told of them."""

import pytest

from worldplan.eval.laboratory import mixings
from worldplan.eval.laboratory.judge import Judged
from worldplan.eval.laboratory.setting import UNTRAINED, Member, Trained
from worldplan.eval.statistics.estimate import Estimate


@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
def test_batches_grow_for_lejepa_alone(scale):
    """Its controls, which have its name and another weight, train as the other objectives do."""
    growth = {}
    for own in mixings.settings(scale, 0):
        growth[own.mixing, own.trained_by(mixings.OBJECTIVES)] = own.training.growth
    assert set(growth) == {(m, o) for m in mixings.MIXINGS for o in (*mixings.OBJECTIVES, UNTRAINED)}
    assert {name for (_, name), share in growth.items() if share > 1} == {"LeJEPA"}


def test_extremes_are_of_single_encoders():
    def encoder(r2):
        member = Member((0, 0), mixings.LEJEPA, 0.9)
        sure = Estimate(r2, r2, r2)
        return Trained(member, 1.0, 0.5, 3.0, Judged(sure, sure), 1.0)

    rows = {("spiral", "LeJEPA"): [encoder(0.9), encoder(0.7)], ("sine", "LeJEPA"): [encoder(0.95)]}
    rows["sine", "whitening"] = [encoder(0.1)]
    assert mixings.extreme(rows, "LeJEPA") == (0.7, 0.95)
    assert mixings.extreme(rows, "whitening") == (0.1, 0.1)
