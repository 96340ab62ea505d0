"""Numbers as people read them: three digits or two, intervals to match, whole counts."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from worldplan.rounding import bounds, percent, rounded, shown

SIZES = st.floats(1e-9, 1e9).flatmap(lambda size: st.sampled_from([size, -size]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9999998, "1.00"),
        (1.0, "1.00"),
        (12.82, "12.8"),
        (104.3, "104"),
        (999.6, "1,000"),
        (12345.6, "12,346"),
        (2.5e7, "2.50e+07"),
        (0.0301, "0.030"),
        (2.13e-5, "2.1e-05"),
        (-0.2, "-0.200"),
        (-0.0, "0"),
        (300, "300"),
        (np.int64(60000), "60,000"),
        (np.float32(0.1), "0.100"),
        (np.nan, "–"),
        (np.inf, "–"),
    ],
)
def test_digits(value, text):
    assert rounded(value) == text


def test_other_forms_say_less_or_more():
    assert f"{0.9999998:.3g}" == "1" and str(0.9999998) != rounded(0.9999998)


@given(SIZES)
def test_nothing_is_off_by_more_than_half_a_digit(value):
    text = rounded(value).replace(",", "")
    exact = abs(value) >= 0.1
    assert float(text) == pytest.approx(value, rel=5.01e-3 if exact else 5.01e-2)
    if abs(value) < 999.5:
        assert len(text.partition("e")[0].lstrip("-0.").replace(".", "")) == (3 if exact else 2)
    assert rounded(-value) == (f"-{rounded(value)}" if value > 0 else rounded(value)[1:])


@pytest.mark.parametrize(
    ("estimate", "ends"),
    [
        ((1.0261, 1.0101, 1.0552), ("1.01", "1.06")),
        ((12.8, 6.5901, 20.63), ("6.6", "20.6")),
        ((104.2, 81.3, 127.4), ("81", "127")),
        ((12345.0, 9000.0, 15000.0), ("9,000", "15,000")),
        ((0.0012, -0.35, 0.4), ("-0.350", "0.400")),  # no finer than its width
        ((-0.1, -0.11, -0.0001), ("-0.110", "0.000")),  # no minus before nothing
        ((1.0, 1.0, 1.0), ("1.00", "1.00")),
        ((0.0, -0.01, 0.0123), ("-0.010", "0.012")),
        ((0.0054, 0.0037, 0.0089), ("0.0037", "0.0089")),
        ((2e-5, 1e-5, 3e-5), ("1.0e-05", "3.0e-05")),
    ],
)
def test_an_interval_has_the_decimals_of_its_estimate(estimate, ends):
    assert bounds(*estimate) == ends


@given(SIZES, st.floats(0.01, 10), st.floats(0.01, 10))
def test_an_interval_lies_where_it_was(value, below, above):
    low, high = value - below * abs(value), value + above * abs(value)
    for end, text in zip((low, high), bounds(value, low, high), strict=True):
        assert float(text.replace(",", "")) == pytest.approx(end, abs=5.01e-2 * max(high - low, abs(value)))


@pytest.mark.parametrize(
    ("share", "text"),
    [(1, "100%"), (0.927, "92.7%"), (0.003, "0.3%"), (0.0002, "0.020%"), (0, "0%"), (np.nan, "–"), (-0.05, "-5%")],
)
def test_per_cent(share, text):
    assert percent(share) == text


def test_json_values():
    assert shown([0.02745906553302717, 3, None]) == "0.027  3  None"
    assert (shown(True), shown("a"), shown(0.0)) == ("True", "a", "0")
