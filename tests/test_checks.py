"""Configurations hold what their annotations say, in Python's own types, or are refused by name."""

import json
import math
from dataclasses import asdict, dataclass, fields

import numpy as np
import pytest

from worldplan.agents import FitConfig, SACConfig
from worldplan.checks import check_fields, check_name, episode_seed, positive_number, reset_options
from worldplan.data.recipes import EpisodeConfig, GeneralizedNormalOptions, Nuisances, WorldEpisodes
from worldplan.errors import InvalidInput, UnknownName, WorldplanError
from worldplan.eval import CompareConfig, PlanConfig
from worldplan.learning.excitation import Excitation
from worldplan.learning.objectives import InfoNCE, LeJEPA, VICReg, Whitening
from worldplan.learning.training import PretrainConfig
from worldplan.learning.views import Views

CONFIGS = [
    *(FitConfig, SACConfig, PlanConfig, CompareConfig, PretrainConfig, Excitation, LeJEPA, Whitening, VICReg, InfoNCE),
    *(Views, EpisodeConfig, WorldEpisodes, Nuisances, GeneralizedNormalOptions),
]
HOSTILE = [
    math.nan,
    math.inf,
    -1,
    "x",
    1.5,
    None,
    [],
    ["x"],
    (1.5,),
    b"x",
    True,
    10**30,
    np.array([1.0, 2.0]),
    object(),
]


@dataclass(frozen=True)
class Sample:
    number: float = 0.0
    count: int | None = None
    flag: bool = False
    word: str = "a"
    pair: tuple[float, float] = (0.0, 0.0)
    sizes: tuple[int, ...] = ()
    other: object = None

    def __post_init__(self):
        check_fields(self)


def test_numpys_numbers_become_pythons():
    taken = Sample(
        np.float32(0.5), np.array(3), np.bool_(True), np.str_("b"), np.array([1, 2.5]), [np.int64(4), np.uint8(5)]
    )
    assert json.loads(json.dumps(asdict(taken))) == {
        **{"number": 0.5, "count": 3, "flag": True, "word": "b", "pair": [1, 2.5], "sizes": [4, 5], "other": None}
    }
    assert type(taken.number) is float and type(taken.count) is int and type(taken.flag) is bool
    assert Sample(number=3).number == 3 and type(Sample(number=3).number) is int  # what is right stays as it is
    thing = object()
    assert Sample(other=thing).other is thing


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("number", math.nan, "a finite number"),
        ("number", "1", "a finite number"),
        ("number", True, "a finite number"),
        ("number", np.array([1.0]), "a finite number"),
        ("count", 1.5, "an integer or None"),
        ("count", np.float64(1.0), "an integer or None"),
        ("count", False, "an integer or None"),
        ("flag", 1, "True or False"),
        ("word", 1, "text"),
        ("pair", (1.0,), "2 finite numbers"),
        ("pair", "ab", "2 finite numbers"),
        ("sizes", 3, "a tuple of integers"),
        ("sizes", (1, None), "a tuple of integers"),
    ],
)
def test_other_types_are_refused_by_name(name, value, wanted):
    with pytest.raises(InvalidInput, match=f"{name} must be {wanted}"):
        Sample(**{name: value})


@pytest.mark.parametrize("config", CONFIGS)
def test_no_configuration_takes_nonsense(config):
    """It is refused by a typed error, or is JSON."""
    refused = 0
    for field in fields(config):
        for value in HOSTILE:
            try:
                made = config(**{field.name: value})
            except WorldplanError:
                refused += 1
                continue
            if field.name not in ("objective", "views", "goal_image"):  # objects
                json.dumps(asdict(made), allow_nan=False)
    assert refused > 5 * len(fields(config))


def test_what_is_no_name_is_unknown():
    for name in (["dmc"], {}, None, 5):
        with pytest.raises(UnknownName, match="known: dmc"):
            check_name("profile", name, {"dmc": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, -1, True, "1", None, 1j, [1.0], np.array([1.0]), 10**400])
def test_positive_numbers(value):
    with pytest.raises(InvalidInput, match="x must be a finite number > 0"):
        positive_number("x", value)
    assert [positive_number("x", one) for one in (2, np.float32(0.5), np.array(3))] == [2.0, 0.5, 3.0]


def test_seeds_of_numpy_are_seeds():
    for seed in (3, np.int64(3), np.uint8(3), np.array(3)):
        assert type(episode_seed(seed)) is int and episode_seed(seed) == 3
    assert episode_seed(None) is None
    for wrong in (-1, 1.5, "3", True, [3], np.array([3])):
        with pytest.raises(InvalidInput, match="seed must be an integer >= 0"):
            episode_seed(wrong)


def test_reset_options_are_a_dictionary_of_known_names():
    assert reset_options(None, ("start",)) == {}
    for wrong in (5, "start", [("start", 1)]):
        with pytest.raises(InvalidInput, match="dictionary"):
            reset_options(wrong, ("start",))
    for name in ("end", 5):
        with pytest.raises(UnknownName):
            reset_options({name: 1}, ("start",))
