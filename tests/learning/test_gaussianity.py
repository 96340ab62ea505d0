"""Tests of Gaussianity against independent oracles, what they see, and what they are blind to."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import special, stats
from scipy.integrate import quad

from worldplan.learning.gaussianity import (
    TESTS,
    anderson_darling,
    cramer_von_mises,
    epps_pulley,
    jarque_bera,
    moments,
    watson,
)
from worldplan.learning.objectives import sigreg

seeds = st.integers(0, 2**32 - 1)
samples = st.builds(
    lambda seed, size, scale, shift: shift + scale * np.random.default_rng(seed).standard_normal(size),
    seeds,
    st.integers(6, 60),
    st.floats(0.2, 3.0),
    st.floats(-2.0, 2.0),
)
every_test = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def column(sample):
    return tensor(np.asarray(sample, dtype=float))[:, None]


def epps_pulley_oracle(sample, cutoff):
    """Adaptive quadrature of the definition, complex exponentials and both signs of t."""

    def integrand(t):
        return abs(np.exp(1j * t * sample).mean() - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)

    return len(sample) * quad(integrand, -cutoff, cutoff, limit=500, epsabs=1e-11, epsrel=1e-11)[0]


# --- Epps-Pulley ----------------------------------------------------------------------------------------------------


@given(
    seed=seeds,
    size=st.integers(1, 80),
    scale=st.floats(0.0, 3.0),
    shift=st.floats(-2.0, 2.0),
    cutoff=st.floats(1.0, 4.0),
)
def test_epps_pulley_is_the_integral_it_says(seed, size, scale, shift, cutoff):
    sample = shift + scale * np.random.default_rng(seed).standard_normal(size)
    oracle = epps_pulley_oracle(sample, cutoff)
    fine = float(epps_pulley(tensor(sample)[:, None], knots=2001, cutoff=cutoff))
    assert fine == pytest.approx(oracle, rel=1e-4, abs=1e-6 * size)
    coarse = float(epps_pulley(tensor(sample)[:, None], cutoff=cutoff))
    assert coarse == pytest.approx(oracle, rel=0.1, abs=0.02 * size)


def test_the_default_rule_is_accurate_for_an_embedding_near_the_optimum():
    sample = np.random.default_rng(0).standard_normal(500)
    statistic = float(epps_pulley(tensor(sample)[:, None]))
    assert statistic == pytest.approx(epps_pulley_oracle(sample, 3.0), rel=3e-3)
    assert statistic != pytest.approx(epps_pulley_oracle(sample * 1.1, 3.0), rel=0.1)  # it could have failed


def test_epps_pulley_of_a_point_mass_in_closed_form():
    """phi_N = 1 for zeros: N * integral (1 - exp(-t^2/2))^2 exp(-t^2/2) dt, by error functions."""

    def gauss(a):
        return math.sqrt(math.pi / a) * math.erf(3.0 * math.sqrt(a))  # integral of exp(-a t^2) over [-3, 3]

    exact = 7 * (gauss(0.5) - 2 * gauss(1.0) + gauss(1.5))
    assert float(epps_pulley(torch.zeros(7, 1, dtype=torch.float64))) == pytest.approx(exact, rel=2e-3)


def test_epps_pulley_judges_each_column_by_itself():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 3)))
    together = epps_pulley(x)
    assert together.shape == (3,)
    torch.testing.assert_close(together, torch.stack([epps_pulley(x[:, [k]])[0] for k in range(3)]))


def test_gradients_stay_bounded_for_outliers():
    x = torch.tensor([[0.0], [1.0], [1e4]], dtype=torch.float64, requires_grad=True)
    epps_pulley(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 10
    moments = x.detach().requires_grad_()  # negative control: the fourth moment's gradient is not
    (moments**4).mean().backward()
    assert moments.grad is not None
    assert moments.grad.abs().max() > 1e9


# --- the others, from their definitions -----------------------------------------------------------------------------


def steps(sample):
    """Pieces (from, to, F_N) in p = F(u) on which the empirical distribution function is constant."""
    p = np.r_[0.0, np.sort(stats.norm.cdf(sample)), 1.0]
    return [(p[i], p[i + 1], i / len(sample)) for i in range(len(p) - 1)]


def integral(sample, antiderivative):
    """Of a function of (p, F_N) over p in [0, 1], given its antiderivative in p."""
    return sum(antiderivative(b, c) - antiderivative(a, c) for a, b, c in steps(sample))


def cramer_von_mises_oracle(sample):
    return len(sample) * integral(sample, lambda p, c: (p - c) ** 3 / 3)


def watson_oracle(sample):
    """N * integral (F_N - F - mean of it)^2 dF."""
    mean = integral(sample, lambda p, c: c * p - p * p / 2)
    return len(sample) * integral(sample, lambda p, c: (p - c + mean) ** 3 / 3)


def anderson_darling_oracle(sample):
    """(c - p)^2 / (p (1 - p)) = -1 + c^2 / p + (1 - c)^2 / (1 - p), piece by piece; tails without cancellation."""
    u, size = np.sort(sample), len(sample)
    left, right = stats.norm.logcdf(u), stats.norm.logsf(u)
    total = -1.0
    for i in range(1, size + 1):  # log p from below u_i (c = (i - 1) / N) and from above (c = i / N)
        total += left[i - 1] * (((i - 1) / size) ** 2 - (i / size) ** 2)
        total += right[i - 1] * ((1 - i / size) ** 2 - (1 - (i - 1) / size) ** 2)
    return size * total


def moments_oracle(sample):
    """Hermite polynomials by NumPy's own recursion."""
    basis = np.polynomial.hermite_e.hermevander(sample, 4)[:, 1:]
    return len(sample) * sum(basis[:, k - 1].mean() ** 2 / math.factorial(k) for k in range(1, 5))


def jarque_bera_oracle(sample):
    size, variance = len(sample), np.var(sample, ddof=1)
    location = size * np.mean(sample) ** 2 / variance
    shape = size / 6 * (stats.skew(sample) ** 2 + stats.kurtosis(sample) ** 2 / 4)
    return location + (size - 1) * (variance - 1) ** 2 / 2 + shape


ORACLES = {
    "moments": moments_oracle,
    "jarque-bera": jarque_bera_oracle,
    "cramer-von-mises": cramer_von_mises_oracle,
    "watson": watson_oracle,
    "anderson-darling": anderson_darling_oracle,
}


def test_every_test_has_an_oracle():
    assert {"epps-pulley", *ORACLES} == set(TESTS)


@pytest.mark.parametrize("name", ORACLES)
@given(sample=samples)
def test_each_is_its_definition(name, sample):
    statistic = float(TESTS[name](column(sample)))
    assert statistic == pytest.approx(ORACLES[name](sample), rel=1e-8, abs=1e-9)
    moved = sample + (np.abs(sample) == np.abs(sample).min())  # not one far off, where all distributions are flat
    assert statistic != pytest.approx(ORACLES[name](moved), rel=1e-6)  # it could have failed


@given(sample=samples)
def test_cramer_von_mises_and_jarque_bera_are_scipys(sample):
    assert float(cramer_von_mises(column(sample))) == pytest.approx(stats.cramervonmises(sample, "norm").statistic)
    standard = (sample - sample.mean()) / sample.std(ddof=1)  # mean and variance then add nothing
    assert float(jarque_bera(column(standard))) == pytest.approx(stats.jarque_bera(sample).statistic)


@pytest.mark.filterwarnings("ignore:As of SciPy 1.17")
@given(sample=samples)
def test_anderson_darling_of_a_standardised_sample_is_scipys(sample):
    """SciPy's test estimates mean and variance; on a sample that has the right ones they are the known ones."""
    standard = (sample - sample.mean()) / sample.std(ddof=1)
    scipys = stats.anderson(sample).statistic
    assert float(anderson_darling(column(standard))) == pytest.approx(scipys, rel=1e-9, abs=1e-10)
    assert float(anderson_darling(column(standard + 0.3))) != pytest.approx(scipys, rel=1e-6)


def test_known_mean_and_variance_give_the_null_laws_of_the_tables():
    """Means under N(0, 1): 1/6, 1/12, 1, 4, 4 (degrees of freedom); of Epps-Pulley by its kernel's closed form."""
    x = tensor(np.random.default_rng(0).standard_normal((300, 1000)))
    weight = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))  # integral of (1 - exp(-t^2)) exp(-t^2 / 2)
    means = {
        "epps-pulley": weight,
        "moments": 4.0,
        "jarque-bera": 4.0,
        "cramer-von-mises": 1 / 6,
        "watson": 1 / 12,
        "anderson-darling": 1.0,
    }
    assert means.keys() == TESTS.keys()
    for name, mean in means.items():
        statistics = TESTS[name](x)
        error = float(statistics.std()) / math.sqrt(1000)
        assert float(statistics.mean()) == pytest.approx(mean, rel=0.03, abs=4 * error), name
        assert float(TESTS[name](1.2 * x).mean()) > mean + 8 * error, name  # a wrong scale is not of that law


# --- one contract ---------------------------------------------------------------------------------------------------


@every_test
def test_each_column_is_judged_by_itself_whatever_the_order(test):
    x = tensor(np.random.default_rng(0).standard_normal((40, 3)) * (0.5, 1.0, 2.0))
    together = test(x)
    assert together.shape == (3,)
    torch.testing.assert_close(together, torch.stack([test(x[:, [k]])[0] for k in range(3)]))
    torch.testing.assert_close(together, test(x[torch.randperm(40, generator=torch.Generator().manual_seed(0))]))
    mixed = torch.stack([column[torch.randperm(3)] for column in x])  # negative control: across columns it matters
    assert not torch.allclose(together, test(mixed))


@every_test
def test_the_sign_does_not_matter(test):
    x = tensor(np.random.default_rng(0).gamma(2.0, size=(50, 2)) - 1.5)
    torch.testing.assert_close(test(x), test(-x))


@every_test
def test_gradients_equal_finite_differences(test):
    x = tensor(np.random.default_rng(0).standard_normal((9, 3)) * 1.5 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(test, (x,), eps=1e-6, atol=1e-5)


@every_test
@pytest.mark.parametrize(
    "sample",
    [[0.0] * 5, [3.0] * 5, [1e-30, 0.0, -1e-30], [0.5], [-300.0, 0.0, 300.0], [-1.0, -1.0, 1.0, 1.0]],
    ids=["zeros", "a point", "nearly a point", "one", "outliers", "ties"],
)
def test_degenerate_samples_give_finite_statistics_and_gradients(test, sample):
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor(sample, dtype=dtype)[:, None].requires_grad_()
        statistic = test(x)
        statistic.sum().backward()
        assert statistic.isfinite().all()
        assert statistic > -1e-4
        assert x.grad.isfinite().all()


@every_test
def test_a_better_law_is_preferred(test):
    """In the order of one large stratified sample each: no chance is involved."""
    normal = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    uniform = special.ndtr(normal)
    best = float(test(column(normal)))
    others = {
        "a point": 0.0 * normal,
        "small": 0.7 * normal,
        "large": 1.4 * normal,
        "shifted": normal + 0.4,
        "two points": np.sign(normal),
        "uniform": math.sqrt(12) * (uniform - 0.5),
        "Laplace": stats.laplace.ppf(uniform, scale=math.sqrt(0.5)),
        "skew": (stats.gamma.ppf(uniform, 4.0) - 4.0) / 2.0,
    }
    assert best < 0.05
    for name, other in others.items():
        assert float(test(column(other))) > best + 0.3, name


# --- what some are blind to -----------------------------------------------------------------------------------------


def test_finitely_many_moments_are_not_a_law():
    """The three-point law of Gauss-Hermite quadrature shares moments 1 to 5 with N(0, 1)."""
    points = column(np.repeat([-math.sqrt(3), 0.0, math.sqrt(3)], [100, 400, 100]))
    assert float(moments(points)) < 1e-20
    assert float(jarque_bera(points)) < 0.01  # an unbiased variance is 600 / 599
    for name in ("epps-pulley", "cramer-von-mises", "watson", "anderson-darling"):
        assert float(TESTS[name](points)) > 5, name


def test_watson_does_not_care_where_a_point_lies():
    here, there = (torch.full((20, 1), value, dtype=torch.float64) for value in (0.0, 1.5))
    assert float(watson(here)) == pytest.approx(float(watson(there)), rel=1e-12)
    for name in TESTS.keys() - {"watson"}:
        assert float(TESTS[name](there)) > 1.2 * float(TESTS[name](here)), name


def test_gradients_of_far_outliers_fade_grow_or_stay():
    def gradient(test, value):
        x = torch.tensor([[-1.0], [0.1], [1.2], [value]], dtype=torch.float64, requires_grad=True)
        test(x).sum().backward()
        return abs(float(x.grad[-1]))

    for test in (cramer_von_mises, watson):
        assert gradient(test, 30.0) < 1e-100  # nothing pulls it back
    assert gradient(anderson_darling, 300.0) == pytest.approx(300 / 4, rel=0.01)
    assert gradient(moments, 300.0) > 1e10


def test_anderson_darlings_gradient_is_right_far_out_in_single_precision():
    """torch's own logarithm of the distribution function is not: 6 times too steep at 1e4, 0 at 1e5."""
    for far in (1e3, 1e4, 1e5):
        x = torch.tensor([[-far], [far]], requires_grad=True)
        anderson_darling(x).sum().backward()
        torch.testing.assert_close(x.grad, torch.tensor([[-far / 2], [far / 2]]), rtol=1e-4, atol=0.0)
    x = torch.tensor([-1e4], requires_grad=True)
    torch.special.log_ndtr(x).backward()
    assert abs(float(x.grad) / 1e4 - 1) > 0.1


# --- sliced ---------------------------------------------------------------------------------------------------------


@every_test
def test_sigreg_takes_any_of_them(test):
    h = tensor(np.random.default_rng(0).standard_normal((30, 3)))
    value = sigreg(h, 16, torch.Generator().manual_seed(5), test)
    directions = torch.randn(3, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    by_hand = np.mean([float(test((h @ (a / a.norm()))[:, None])) for a in directions.T])
    assert float(value) == pytest.approx(by_hand, rel=1e-12)
