"""Choosing encoders by a loss: ranks, regret, and the law of scale."""

import numpy as np
import pytest

from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.judge import Judged
from worldplan.eval.laboratory.selection import (
    Group,
    agreement,
    by_chance,
    chosen_alphas,
    column,
    group,
    groups_of,
    last,
    rate,
    regret,
    scaled,
)
from worldplan.eval.laboratory.setting import Member, Setting, Trained
from worldplan.eval.statistics.estimate import Estimate

SURE = Estimate(0.9, 0.9, 0.9)


def encoder(loss=1.0, control=2.0, rho=0.5, weight=0.1, name="lejepa"):
    objective = {"name": name, "weight": weight} if name != "infonce" else {"name": name}
    return Trained(Member((0, 0), objective, rho), loss, 0.5, 3.0, Judged(SURE, SURE), control)


def lawful(seed, power=0.4):
    """A group whose cost is the loss over weight^power, and whose weights differ by much more than its costs."""
    rng = np.random.default_rng(seed)
    costs, weights = rng.uniform(1, 3, 30), 10 ** rng.uniform(-3, 0, 30)
    terms = np.stack([costs * weights**power, rng.uniform(size=30), rng.uniform(size=30), weights], axis=1)
    return Group(str(seed), terms, costs, costs / 10)


def test_the_law_of_scale_is_found_on_other_groups():
    groups = [lawful(seed) for seed in range(6)]
    assert chosen_alphas(groups) == [0.4] * 6
    law = rate(groups, [scaled(0.4)(own.terms) for own in groups])
    assert law.cost.value == pytest.approx(1) and law.lack.value == pytest.approx(1)
    assert law.regret.value == law.worst == law.overall == 1
    plain, other = (rate(groups, [column(k)(own.terms) for own in groups]) for k in (0, 1))
    assert plain.cost.value < 0.8 and plain.regret.value > 1.05
    assert abs(other.cost.value) < 0.2  # a term that has nothing to do with the costs
    chance = by_chance(groups)
    assert 1 < chance.regret.value < chance.worst and chance.cost.value == 0


def test_no_group_chooses_its_own_alpha():
    groups = [lawful(seed, power) for seed, power in enumerate([0.4, 1.0, 0.4, 1.0])]
    assert chosen_alphas(groups) == [1.0, 0.4, 1.0, 0.4]
    assert chosen_alphas(groups[:1]) == [0.4]  # nothing else to choose on: the published one


def test_weight_zero_comes_last_unless_it_is_not_scaled():
    terms = np.array([[0.001, 0.0, 0.0, 0.0], [0.2, 0.3, 0.1, 0.01], [0.3, 0.2, 0.1, 0.1]])
    costs = np.array([9.0, 1.0, 2.0])
    assert regret(column(0)(terms), costs) == 9  # a collapsed encoder has the least loss
    assert scaled(0.0)(terms)[0] == 0.001 and np.isinf(scaled(0.4)(terms)[0])
    assert regret(scaled(0.1)(terms), costs) == 1 and regret(scaled(0.4)(terms), costs) == 2
    assert np.argsort(last(scaled(0.1)(terms))).tolist() == [1, 2, 0]


def test_agreement():
    assert agreement(np.array([1.0, 2.0, np.inf]), np.array([3.0, 7.0, 8.0])) == pytest.approx(1)
    assert agreement(np.array([3.0, 2.0, 1.0]), np.array([3.0, 7.0, 8.0])) == pytest.approx(-1)
    assert np.isnan(agreement(np.ones(3), np.arange(3.0)))


def test_groups_are_of_one_world_and_objective():
    setting = Setting("spiral", (), Training(10, 64))
    found = [(setting, encoder(rho=rho, name=name)) for rho in (0.5, 0.8) for name in ("lejepa", "infonce")] * 2
    found += [(Setting("sine", (), Training(10, 64)), encoder()), (Setting("spiral", (), Training(10, 32)), encoder())]
    untrained = (Setting("spiral", (), Training(0)), encoder(loss=np.nan))
    groups = groups_of([*found, untrained])
    assert sorted(len(own.costs) for own in groups) == [1, 1, 2, 2, 2, 2]
    assert len({own.name for own in groups}) == 6


def test_batches_that_grow_make_another_group():
    """SIGReg counts samples, and losses are of the last batches."""
    steady, growing = (Setting("spiral", (), Training(10, 64, growth=growth)) for growth in (1, 16))
    groups = groups_of([(steady, encoder()), (growing, encoder()), (growing, encoder())])
    assert [(own.name[-4:], len(own.costs)) for own in groups] == [("h 64", 1), ("1024", 2)]


def test_an_encoder_without_a_gain_is_the_worst_of_its_group():
    own = group("", [encoder(control=5.0), encoder(control=np.nan), encoder(control=2.0)])
    assert own.costs.tolist() == [5, 5, 2]
    assert own.terms[:, 3].tolist() == [0.1] * 3
    assert group("", [encoder(name="infonce")]).terms[0, 3] == 1
