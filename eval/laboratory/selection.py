"""Whether a loss that sees no label chooses the encoder that plans best, over every encoder of the laboratory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata

from worldplan.arrays import Floats
from worldplan.eval.laboratory.bound import BOUND_EXPERIMENT
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName
from worldplan.eval.laboratory.figure import legend_below
from worldplan.eval.laboratory.mixings import MIXINGS_EXPERIMENT
from worldplan.eval.laboratory.setting import Setting, Trained, trained
from worldplan.eval.laboratory.width import WIDTH_EXPERIMENT
from worldplan.eval.show.style import BLUE, ORANGE, RED, png, tidy
from worldplan.eval.show.table import Column, Table, number
from worldplan.eval.statistics.correlation import correlate
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.rounding import rounded
from worldplan.sweeps.jobs import Job

SOURCES = MIXINGS_EXPERIMENT, BOUND_EXPERIMENT, WIDTH_EXPERIMENT
"""Experiments whose encoders are chosen among; of their jobs those that train a `Setting`."""
PUBLISHED_ALPHA = 0.4
ALPHAS = tuple(round(0.1 * k, 1) for k in range(21))
FEWEST = 6  # encoders among which a choice is one
SCALED, CHANCE, BEST = "loss / weight^alpha", "chance", "control cost itself"
PUBLISHED = {"loss": "about .85", f"loss / weight^{PUBLISHED_ALPHA:g}": "nearly .99"}


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """All that the sources train: what they have run already is not run again."""
    return [job for source in SOURCES for job in source.jobs(scale, seed) if "setting" in job.arguments]


@dataclass(frozen=True, eq=False)
class Group:
    """Encoders of one world and one kind of objective: among these one would choose.

    Attributes:
        name: world, objective and last batch.
        terms: (N, 4) loss, alignment, regulariser, and weight (1 for objectives without one).
        costs: (N,) control costs; where there is no gain, the largest of the group.
        lacks: (N,) 1 - R2(h -> z).
    """

    name: str
    terms: Floats
    costs: Floats
    lacks: Floats


Score = Callable[[Floats], Floats]  # terms (N, 4) -> (N,); the least is chosen


def scaled(alpha: float) -> Score:
    """Loss over weight^alpha (Balestriero and LeCun 2025, section 6.2); infinite at weight 0."""

    def score(terms: Floats) -> Floats:
        powers = terms[:, 3] ** alpha
        found: Floats = np.divide(terms[:, 0], powers, out=np.full(len(terms), np.inf), where=powers > 0)
        return found

    return score


def column(k: int) -> Score:
    """One of the terms."""
    return lambda terms: terms[:, k]


def groups_of(found: Sequence[tuple[Setting, Trained]]) -> list[Group]:
    """Trained encoders by world and objective, in the order in which they come."""
    members: dict[str, list[Trained]] = {}
    for setting, encoder in found:
        if not setting.training.steps or not np.isfinite([encoder.loss, encoder.align, encoder.regulariser]).all():
            continue
        kind = encoder.member.objective
        rho = " ".join(f"{value:g}" for value in np.unique(encoder.member.rho)[::-1])
        name = (
            f"{setting.mixing}, n {setting.n}, m {setting.m or setting.n}, {setting.network}, rho {rho}, {kind['name']}"
            f"{' ' + kind['test'] if 'test' in kind else ''}, last batch {last_batch(setting)}"
        )
        members.setdefault(name, []).append(encoder)
    return [group(name, own) for name, own in members.items()]


def last_batch(setting: Setting) -> int:
    """Pairs of the last batch: SIGReg counts them, so that losses of other batches are on another scale."""
    return setting.training.batch_at(setting.training.steps - 1)


def group(name: str, own: Sequence[Trained]) -> Group:
    """Encoders as arrays."""
    weights = [e.member.objective.get("weight", 1.0) for e in own]
    terms = np.array([[e.loss, e.align, e.regulariser, w] for e, w in zip(own, weights, strict=True)])
    costs = np.array([e.control for e in own], dtype=np.float64)
    known = np.where(np.isfinite(costs), costs, costs[np.isfinite(costs)].max(initial=1.0))
    return Group(name, terms, known, 1 - np.array([e.judged.r2.value for e in own]))


# --- how well a score chooses ---------------------------------------------------------------------------------------


def last(score: Floats) -> Floats:
    """Scores with the infinite ones made finite, still last."""
    finite = np.isfinite(score)
    return np.where(finite, score, score[finite].max(initial=0.0) + 1.0)


def agreement(score: Floats, truth: Floats) -> float:
    """Spearman's correlation of two numbers (N,) of which less is better; NaN if one is the same for all."""
    ranks = np.stack([rankdata(score), rankdata(truth)])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    size = float(np.prod(np.linalg.norm(centred, axis=1)))
    return float(centred[0] @ centred[1]) / size if size > 0 else np.nan


def regret(score: Floats, costs: Floats) -> float:
    """Control cost of the encoder with the least score over that of the best."""
    return float(costs[np.argmin(score)] / costs.min())


def is_choice(own: Group) -> bool:
    """Whether a group has enough encoders that differ."""
    return len(own.costs) >= FEWEST and bool(np.ptp(own.costs) > 0)


def mean_agreement(groups: Sequence[Group], alpha: float, truth: Callable[[Group], Floats]) -> float:
    """Of the scaled loss, over groups; NaN for none."""
    found = [agreement(scaled(alpha)(own.terms), truth(own)) for own in groups]
    return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan


def chosen_alphas(groups: Sequence[Group]) -> list[float]:
    """For each group the alpha that ranks control cost best in the other half of the groups, every second one.

    So no group's costs choose its own alpha. The published one where the other half has no choice to offer.
    """
    found = []
    for half in (0, 1):
        others = [own for own in groups[1 - half :: 2] if is_choice(own)]
        means = [mean_agreement(others, alpha, costs_of) for alpha in ALPHAS] if others else [np.nan]
        found.append(ALPHAS[int(np.nanargmax(means))] if np.isfinite(means).any() else PUBLISHED_ALPHA)
    return [found[k % 2] for k in range(len(groups))]


def costs_of(own: Group) -> Floats:
    """Control costs (N,)."""
    return own.costs


def lacks_of(own: Group) -> Floats:
    """1 - R2 (N,)."""
    return own.lacks


@dataclass(frozen=True)
class Rating:
    """How well a score ranks and chooses encoders.

    Attributes:
        cost: mean over groups of Spearman's correlation with the control cost, and its interval over groups.
        lack: the same with 1 - R2.
        all_cost: Spearman's correlation with the control cost over all encoders, and its interval over these.
        all_lack: the same with 1 - R2.
        regret: mean over groups of the control cost of the chosen encoder over that of the best.
        worst: the largest of these.
        overall: regret where one chooses among all encoders.
    """

    cost: Estimate
    lack: Estimate
    all_cost: Estimate
    all_lack: Estimate
    regret: Estimate
    worst: float
    overall: float


def rate(groups: Sequence[Group], scores: Sequence[Floats]) -> Rating:
    """A score (N,) in each group, judged."""
    own = [(one, score) for one, score in zip(groups, scores, strict=True) if is_choice(one)]
    regrets = [regret(score, one.costs) for one, score in own]
    pooled, costs = np.concatenate(scores), np.concatenate([one.costs for one in groups])
    lacks = np.concatenate([one.lacks for one in groups])
    return Rating(
        over_groups([agreement(score, one.costs) for one, score in own]),
        over_groups([agreement(score, one.lacks) for one, score in own]),
        correlate(last(pooled), costs).spearman,
        correlate(last(pooled), lacks).spearman,
        over_groups(regrets),
        max(regrets, default=np.nan),
        regret(pooled, costs),
    )


def over_groups(found: Sequence[float]) -> Estimate:
    """Mean over the groups that have the number, and its interval."""
    values = np.asarray(found, dtype=np.float64)
    return estimate(values[np.isfinite(values)])


def by_chance(groups: Sequence[Group]) -> Rating:
    """The mean of each group instead of a choice: what choosing at random costs on average, and at worst."""
    costs = np.concatenate([own.costs for own in groups])
    ratios = [own.costs / own.costs.min() for own in groups if is_choice(own)]
    means, worst = [float(own.mean()) for own in ratios], max((float(own.max()) for own in ratios), default=np.nan)
    none = Estimate(0.0, np.nan, np.nan)
    return Rating(none, none, none, none, over_groups(means), worst, float(costs.mean() / costs.min()))


# --- reading --------------------------------------------------------------------------------------------------------


def read(scale: ScaleName, results: Results) -> Finding:
    """Rank correlations and regret of each score, within groups and over all encoders."""
    groups = groups_of(trained(results))
    alphas = chosen_alphas(groups)
    scores: dict[str, list[Floats]] = {
        "loss": [column(0)(own.terms) for own in groups],
        f"loss / weight^{PUBLISHED_ALPHA:g}": [scaled(PUBLISHED_ALPHA)(own.terms) for own in groups],
        SCALED: [scaled(alpha)(own.terms) for own, alpha in zip(groups, alphas, strict=True)],
        "alignment": [column(1)(own.terms) for own in groups],
        "regulariser": [column(2)(own.terms) for own in groups],
        BEST: [own.costs for own in groups],
    }
    ratings = {name: rate(groups, own) for name, own in scores.items()} | {CHANCE: by_chance(groups)}
    choices = [own for own in groups if is_choice(own)]
    table = Table(
        f"Choosing encoders without labels, scale {scale}",
        [
            Column("chosen by", named=True),
            Column("Spearman with control cost, within groups", short="control, within"),
            Column("Spearman with 1 - R2, within groups", short="1 - R2, within"),
            Column("published", short="published"),
            Column("Spearman with control cost, all", short="control, all"),
            Column("Spearman with 1 - R2, all", short="1 - R2, all"),
            Column("regret", short="regret"),
            Column("largest regret", short="largest"),
            Column("regret, all", short="regret, all"),
        ],
        [
            [
                name,
                number(own.cost),
                number(own.lack),
                PUBLISHED.get(name, "not given"),
                number(own.all_cost),
                number(own.all_lack),
                number(own.regret),
                number(own.worst),
                number(own.overall),
            ]
            for name, own in ratings.items()
        ],
        [
            f"{sum(len(own.costs) for own in groups)} encoders in {len(groups)} groups of one world, objective and "
            f"batch; within {len(choices)} groups of {FEWEST} or more one has a choice. Correlations are positive "
            "where the lower score plans better (control cost) or tells more (1 - R2). Intervals within groups are "
            "over groups, others over encoders.",
            "Regret: control cost of the encoder with the least score over that of the best. An encoder without a gain "
            "counts as its group's worst. Losses are means over the last tenth of the training, whose batches are all "
            "new; only control cost and R2 look at true states.",
            "Groups may hold controls of `mixings`: alignment alone lets the embedding collapse, where the loss is "
            "least, and a loss that is not divided by its weight chooses that.",
            f"alpha is chosen on the other half of the groups: {', '.join(f'{a:g}' for a in sorted(set(alphas)))}.",
        ],
    )
    return Finding(
        sentence(ratings, alphas),
        table,
        draw(groups, choices, scores),
        {
            "ratings": ratings,
            "alphas": dict(zip((own.name for own in groups), alphas, strict=True)),
            "by_alpha": {
                name: [mean_agreement(choices, alpha, truth) for alpha in ALPHAS]
                for name, truth in (("control", costs_of), ("1 - R2", lacks_of))
            },
            "grid": ALPHAS,
            "groups": {own.name: len(own.costs) for own in groups},
        },
        (
            "Published: Spearman's correlation of LeJEPA's loss with the accuracy of linear probes on images, over "
            "learning rates, weights, epochs and architectures; here with control cost and R2, over weights and seeds.",
            "Published: one alpha for all, near .4; here also the alpha that another half of the groups prefers.",
        ),
    )


def sentence(ratings: dict[str, Rating], alphas: Sequence[float]) -> str:
    """Correlations and regrets of the loss, plain and scaled, beside the nulls."""
    plain, law = ratings["loss"], ratings[SCALED]
    scale = " and ".join(f"{alpha:g}" for alpha in sorted(set(alphas)))
    return (
        f"Among encoders of one world and objective the training loss ranks control cost with Spearman {plain.cost}, "
        f"and divided by weight^alpha (alpha {scale}, chosen on other groups) with {law.cost}. What the loss chooses "
        f"costs {rounded(plain.regret.value)} times the best of its group, what the scaled loss chooses "
        f"{rounded(law.regret.value)} times, what alignment chooses "
        f"{rounded(ratings['alignment'].regret.value)} times, and a random choice "
        f"{rounded(ratings[CHANCE].regret.value)} times."
    )


def draw(groups: Sequence[Group], choices: Sequence[Group], scores: dict[str, list[Floats]]) -> bytes:
    """Correlation by alpha, the scaled loss beside control cost, and the regret in each group."""
    figure = Figure(figsize=(10.5, 3.8), dpi=110, layout="constrained")
    law, cloud, regrets = figure.subplots(1, 3)
    for name, truth, colour in (("control cost", costs_of, BLUE), ("1 - R2", lacks_of, ORANGE)):
        means = [mean_agreement(choices, alpha, truth) for alpha in ALPHAS]
        law.plot(ALPHAS, means, "o-", ms=3, color=colour, label=name)
    law.axvline(PUBLISHED_ALPHA, color=RED, lw=1, ls="--", label="published alpha")
    law.axhline(0, color="0.7", lw=1)
    tidy(law, title="loss / weight^alpha, within groups", xlabel="alpha", ylabel="Spearman's correlation, mean")
    legend_below(law, -0.1)
    for one, score in zip(groups, scores[SCALED], strict=True):
        if is_choice(one):
            # Ranks: the loss of a collapsed embedding is smaller by many orders of magnitude.
            cloud.plot((rankdata(last(score)) - 1) / (len(score) - 1), one.costs, ".", ms=4)
    tidy(cloud, title="each colour a group", xlabel="rank of scaled loss, 0: chosen", ylabel="control cost")
    cloud.set_yscale("log")
    dots = {
        name: [regret(score, one.costs) for one, score in zip(groups, own, strict=True) if is_choice(one)]
        for name, own in scores.items()
        if name != BEST
    }
    dots[CHANCE] = [float(one.costs.mean() / one.costs.min()) for one in choices]
    for k, (name, heights) in enumerate(dots.items()):
        place = k + np.linspace(-0.3, 0.3, len(heights) + 2)[1:-1]
        regrets.plot(place, heights, ".", color=RED if name == CHANCE else BLUE, ms=4)
    tidy(regrets, title="regret, a dot a group", ylabel="control cost over the best of the group")
    regrets.set_xticks(range(len(dots)), list(dots), rotation=40, ha="right", fontsize=8)
    regrets.set_yscale("log")
    return png(figure)


SELECTION_EXPERIMENT = Experiment(
    "selection",
    "The training loss of LeJEPA tells without labels which encoder is better, more so over weight^alpha "
    "(Balestriero and LeCun 2025, arXiv 2511.08544, section 6.2).",
    jobs,
    read,
)
