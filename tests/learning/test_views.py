"""Global and local views: crops against slices, LeJEPA's terms by hand, and timm's networks trained on them."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sklearn.neighbors import KNeighborsRegressor
from torch.nn import functional

import worldplan as wp
from worldplan.__main__ import main
from worldplan.commands.pretrain import Pretrain
from worldplan.data.shards import digest
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.learning import foreign
from worldplan.learning.encoder import load_encoder
from worldplan.learning.foreign import check_outputs, new_network
from worldplan.learning.gaussianity import sigreg
from worldplan.learning.objectives import LeJEPA, Whitening, alignment
from worldplan.learning.pretraining import ViewsRun, pretrain
from worldplan.learning.training import PretrainConfig
from worldplan.learning.views import RATIO, Views, crop, random_boxes

seeds = st.integers(0, 2**32 - 1)
SIDE = 32


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def embeddings(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


# --- crops ----------------------------------------------------------------------------------------------------------


@given(seed=seeds, side=st.integers(8, 24), box=st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(8, 12)] * 2))
def test_a_crop_is_the_resized_slice(seed, side, box):
    x, y, w, h = box
    frame = torch.rand((1, 3, SIDE, SIDE), generator=generator(seed), dtype=torch.float64)
    unit = torch.tensor([[x, y, w, h]], dtype=torch.float64) / SIDE
    sliced = functional.interpolate(frame[:, :, y : y + h, x : x + w], (side, side), mode="bilinear")
    # Inside by one pixel of the source: at the border a slice has no neighbours, a crop has the frame's.
    border = 1 + side // min(w, h)
    inner = slice(border, side - border)
    for flip in (False, True):
        found = crop(frame, unit, torch.tensor([flip]), side)
        wanted = sliced.flip(3) if flip else sliced
        torch.testing.assert_close(found[..., inner, inner], wanted[..., inner, inner], rtol=0, atol=1e-12)


def test_the_whole_frame_is_itself():
    frames = torch.rand((4, 3, SIDE, SIDE), generator=generator())
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, 4)
    torch.testing.assert_close(crop(frames, whole, torch.zeros(4, dtype=torch.bool), SIDE), frames, rtol=0, atol=1e-5)


@given(seed=seeds, low=st.floats(0.02, 0.9), spread=st.floats(0, 0.1))
def test_boxes_lie_inside_and_have_the_shares_and_ratios_asked(seed, low, spread):
    left, top, width, height = random_boxes(200, (low, low + spread), generator(seed)).double().unbind(dim=1)
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    uncut = (width < 1) & (height < 1)
    share, ratio = (width * height)[uncut], (width / height)[uncut]
    assert ((share > low - 1e-6) & (share < low + spread + 1e-6)).all()
    assert ((ratio > RATIO[0] - 1e-5) & (ratio < RATIO[1] + 1e-5)).all()


def test_views_take_the_frames_of_a_set_in_turn():
    frames = torch.linspace(-0.4, 0.4, 3)[None, :, None, None, None].expand(2, 3, 3, SIDE, SIDE)
    views = Views(2, 5, local_size=16)
    large, small = views.draw(frames, generator())
    assert large.shape == (2, 2, 3, SIDE, SIDE)
    assert small.shape == (2, 5, 3, 16, 16)
    shades = torch.cat([large.mean(dim=(2, 3, 4)), small.mean(dim=(2, 3, 4))], dim=1)
    torch.testing.assert_close(shades, torch.tensor([[-0.4, 0.0, 0.4, -0.4, 0.0, 0.4, -0.4]]).expand(2, 7))


def test_a_view_shows_the_share_it_should():
    across = torch.linspace(-0.5, 0.5, 64).expand(1, 1, 3, 64, 64)
    large, small = Views(64, 64, flip=0.5).draw(across, generator())
    spans = [np.ptp(part.numpy(), axis=(2, 3, 4))[0] for part in (large, small)]  # as wide as the crop
    assert spans[0].min() > np.sqrt(0.3 * RATIO[0]) - 0.05
    assert spans[1].max() < np.sqrt(0.3 * RATIO[1]) + 0.05
    rising = (large[0, :, 0, 0, -1] > large[0, :, 0, 0, 0]).float().mean()
    assert 0.3 < rising < 0.7


def test_jitter_moves_contrast_and_light_within_its_bounds():
    frames = torch.full((1, 1, 3, SIDE, SIDE), 0.25)
    plain, lit = (Views(64, 0, jitter=j).draw(frames, generator())[0].mean(dim=(2, 3, 4)) for j in (0.0, 0.4))
    torch.testing.assert_close(plain, torch.full_like(plain, 0.25))
    assert lit.std() > 0.05
    assert (lit - 0.25).abs().max() <= 0.4 * 0.25 + 0.2 + 1e-6


def test_the_same_generator_gives_the_same_views():
    frames = torch.rand((2, 2, 3, SIDE, SIDE), generator=generator())
    first, again, other = (Views(1, 2).draw(frames, generator(seed))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"global_views": 0},
        {"global_views": 1, "local_views": 0},
        {"local_views": -1},
        {"global_area": (0.5, 0.3)},
        {"local_area": (0.0, 0.3)},
        {"local_area": (0.1, float("nan"))},
        {"global_area": (0.3,)},
        {"local_size": -1},
        {"flip": 1.5},
        {"jitter": float("nan")},
    ],
)
def test_impossible_views_are_refused(wrong):
    with pytest.raises(InvalidInput):
        Views(**wrong)


# --- LeJEPA of views ------------------------------------------------------------------------------------------------


@given(seed=seeds, leading=st.integers(1, 3), local=st.integers(0, 3))
def test_terms_by_hand(seed, leading, local):
    h = embeddings(5, leading + local + 1, 2, seed=seed)
    found = LeJEPA(weight=0.3, slices=8).of_views(h, leading, generator(7))
    given, wanted = h.numpy(), 0.0
    for views in given:
        centre = views[:leading].mean(axis=0)
        wanted += np.mean([((view - centre) ** 2).mean() for view in views]) / len(given)
    draws = generator(7)
    gauss = np.mean([float(sigreg(h[:, v], 8, draws)) for v in range(h.shape[1])])
    assert float(found["align"]) == pytest.approx(wanted, rel=1e-12)
    assert float(found["sigreg"]) == pytest.approx(gauss, rel=1e-12)
    assert float(found["loss"]) == pytest.approx(0.3 * gauss + 0.7 * wanted, rel=1e-12)


def test_global_views_alone_are_drawn_to_their_mean():
    h = embeddings(6, 4, 3)
    assert float(LeJEPA().of_views(h, 4)["align"]) == pytest.approx(float(alignment(h)), rel=1e-12)
    assert float(LeJEPA().of_views(h, 2)["align"]) > float(alignment(h))  # the centre of all is the nearest point


@pytest.mark.parametrize(("shape", "leading"), [((4, 3, 2), 0), ((4, 3, 2), 4), ((4, 2), 1), ((4, 1, 2), 1)])
def test_views_that_are_none_are_refused(shape, leading):
    with pytest.raises(InvalidInput):
        LeJEPA().of_views(embeddings(*shape), leading)


# --- training -------------------------------------------------------------------------------------------------------


class Pictures:
    """Single frames of a world that crops leave as it is (two colours on texture), or do not (the place of a dot)."""

    provenance: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, kind, count=320, side=SIDE):
        rng = np.random.default_rng(0)
        self.states = rng.normal(size=(count, 2)).clip(-2, 2)
        self.frames = rng.integers(90, 150, (count, side, side, 3))
        if kind == "colours":
            self.frames[..., [0, 2]] += np.round(40 * self.states).astype(int)[:, None, None]
        else:
            for frame, (x, y) in zip(self.frames, np.round(side * (0.5 + 0.2 * self.states)).astype(int), strict=True):
                frame[max(y - 3, 0) : y + 3, max(x - 3, 0) : x + 3] = 255
        self.frames = self.frames.clip(0, 255).astype(np.uint8)
        self.manifest_sha256 = digest({"kind": kind, "count": count})

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        return self.frames[index][:, None]

    def split(self, held_out, rng):
        order = rng.permutation(len(self))
        return order[:held_out], order[held_out:]


CONFIG = PretrainConfig(
    network="timm:test_resnet",
    objective=LeJEPA(weight=0.05, slices=32),
    batch=32,
    epochs=10,  # 8 steps each
    lr=3e-3,
    validation=64,
    device="cpu",
    views=Views(2, 2, local_size=16),
)


def told(data, folder):
    """Share of each state's variance that the nearest embeddings tell, on frames held out.

    Crops leave these colours exactly as they are. So any map that keeps the Gaussian is as good for LeJEPA as a
    rotation, and an affine map would be asked too much.
    """
    held, seen = data.split(CONFIG.validation, np.random.default_rng([CONFIG.seed, 0]))
    latents = load_encoder(folder)(data.frames)
    near = KNeighborsRegressor(5).fit(latents[seen], data.states[seen]).predict(latents[held])
    return 1 - (near - data.states[held]).var(axis=0) / data.states[held].var(axis=0)


@pytest.fixture(scope="module")
def colours():
    return Pictures("colours")


@pytest.mark.parametrize("network", ["timm:test_resnet", "timm:test_vit"])
def test_timm_networks_learn_what_all_crops_of_a_frame_share(network, colours, tmp_path):
    config = replace(CONFIG, network=network)
    folder = pretrain(colours, tmp_path / "a", config)
    assert told(colours, folder).min() > 0.6
    card = load_encoder(folder).card
    assert PretrainConfig.from_dict(card["config"]) == config
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["validation_loss"] == pytest.approx(card["validation"]["loss"])
    assert ViewsRun(colours, config).validate()["loss"] > 1.5 * card["validation"]["loss"]


def test_crops_hide_where_things_are(tmp_path):
    data = Pictures("places")
    try:
        folder = pretrain(data, tmp_path / "a", CONFIG)
    except EncoderCollapsed:
        return
    assert told(data, folder).max() < 0.5


def test_an_interrupted_run_goes_on_to_the_same_bytes(colours, tmp_path):
    config = replace(CONFIG, network="timm:test_vit", epochs=4, checkpoint_every=3, objective=LeJEPA(0.5, slices=32))

    def stop(steps, start, total):
        for step in steps:
            if step == 5:
                raise KeyboardInterrupt
            yield step

    whole = pretrain(colours, tmp_path / "a", config, progress=lambda steps, *_: steps)
    with pytest.raises(KeyboardInterrupt):
        pretrain(colours, tmp_path / "b", config, progress=stop)
    pretrain(colours, tmp_path / "b", config, resume=True)
    assert (whole / "encoder.safetensors").read_bytes() == (tmp_path / "b" / "encoder.safetensors").read_bytes()
    other = pretrain(colours, tmp_path / "c", config, views=Views(2, 2))
    assert (whole / "encoder.safetensors").read_bytes() != (other / "encoder.safetensors").read_bytes()


def test_a_network_of_one_size_takes_local_views_of_that_size_alone(colours, tmp_path):
    config = replace(CONFIG, network="conv", epochs=0.125, width=4, hidden=8)
    with pytest.raises(InvalidInput, match="leave local_size at 0"):
        pretrain(colours, tmp_path / "a", config)
    row = ViewsRun(colours, replace(config, views=Views(2, 2))).step(0)
    assert np.isfinite(row["loss"])


def test_views_are_of_lejepa_alone():
    with pytest.raises(InvalidInput, match="of LeJEPA"):
        replace(CONFIG, objective=Whitening())


def test_pairs_in_time_and_views_from_arrays(tmp_path):
    rng = np.random.default_rng(0)
    shades = rng.normal(size=(16, 9, 1, 1, 3)).clip(-2, 2)
    frames = list((128 + 50 * shades + rng.normal(size=(16, 9, 32, 32, 3))).clip(0, 255).astype(np.uint8))
    options = {"epochs": 12, "validation": 8, "batch": 16, "network": "timm:test_resnet", "size": 32, "weight": 0.1}
    views = wp.Views(1, 2)
    made = wp.pretrain(frames, tmp_path / "a", list(rng.normal(size=(16, 8, 1))), objective="lejepa", views=views,
                       lr=3e-3, **options)  # fmt: skip
    assert made.card["config"]["views"] == views.to_dict()
    assert np.isfinite(made(frames[0])).all()


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    for args, says in ((["--views", "two"], "such as 2,6"), (["--local-size", "16"], "give --views too")):
        assert main(["pretrain", str(tmp_path), *args, "--out", str(tmp_path / "out")]) != 0
        assert says in capsys.readouterr().err
    assert Pretrain(data=tmp_path, views="3,4", local_size=16)._config().views == Views(3, 4, local_size=16)


# --- timm beside a torch without CUDA -------------------------------------------------------------------------------


def test_transformers_and_convolutions_take_other_sizes_than_theirs():
    for name in ("test_vit", "test_resnet"):
        network = new_network(f"timm:{name}", ("line", "line"), 64, 8, 8)
        assert check_outputs(network, 32).shape == (2, 2)


def test_other_faults_of_an_import_are_told(monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == "timm":
                raise RuntimeError("something else")

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(InvalidInput, match="something else"):
        foreign.new_network("timm:test_vit", ("line",), 64, 8, 8)
