"""Four mixings of the plane: which optimiser undoes them, and what is told of them."""

import pytest

from worldplan.eval.laboratory import mixings
from worldplan.eval.laboratory.judge import Judged
from worldplan.eval.laboratory.setting import UNTRAINED, Member, Trained
from worldplan.eval.statistics.estimate import Estimate


@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
def test_objectives_are_minimised_at_once_and_controls_are_not(scale):
    """Also not what compares all pairs, nor what takes no steps."""
    methods = {}
    for own, job in zip(mixings.settings(scale, 0), mixings.jobs(scale, 0), strict=True):
        methods[own.mixing, own.trained_by(mixings.OBJECTIVES)] = job.arguments.get("method", "adamw")
    assert set(methods) == {(m, o) for m in mixings.MIXINGS for o in (*mixings.OBJECTIVES, UNTRAINED)}
    fitted = {name for (_, name), method in methods.items() if method == "l-bfgs"}
    assert fitted == {"LeJEPA", "VICReg", "whitening"}
    assert set(methods.values()) == {"adamw", "l-bfgs"}


def test_extremes_are_of_single_encoders():
    def encoder(r2):
        member = Member((0, 0), mixings.LEJEPA, 0.9)
        sure = Estimate(r2, r2, r2)
        return Trained(member, 1.0, 0.5, 3.0, Judged(sure, sure), 1.0)

    rows = {("spiral", "LeJEPA"): [encoder(0.9), encoder(0.7)], ("sine", "LeJEPA"): [encoder(0.95)]}
    rows["sine", "whitening"] = [encoder(0.1)]
    assert mixings.extreme(rows, "LeJEPA") == (0.7, 0.95)
    assert mixings.extreme(rows, "whitening") == (0.1, 0.1)
