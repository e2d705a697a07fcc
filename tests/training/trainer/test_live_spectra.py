"""ΔW alive: a model in training shows the numbers of its saved adapter, and loses no time to speak of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lorabench.adapters.open import open_adapter
from lorabench.errors import LorabenchError
from lorabench.spectra.analysis import analyze_layer
from lorabench.spectra.moment import spectra_over
from lorabench.training.trainer.live_spectra import SHARE, LiveSpectra
from tests.adapters.peft_models import KINDS, Everything, adapted, peft_delta_weights


def learn(model: nn.Module, steps: int) -> None:
    """Train for so many steps on random tokens."""
    torch.manual_seed(3)
    tokens = torch.randint(5, 200, (4, 16))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(steps):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def demo(samples) -> Any:
    """The demo model with an adapter: rsLoRA, and o_proj with a rank and a lora_alpha of its own."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(samples / "demo-model", dtype=torch.float32)
    config = LoraConfig(
        r=8,
        lora_alpha=12,
        use_rslora=True,
        target_modules=["q_proj", "o_proj"],
        rank_pattern={"o_proj": 12},
        alpha_pattern={"o_proj": 30},
    )
    return get_peft_model(base, config)


class Clock:
    """A clock that one sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ticking(Clock):
    """A clock that goes on by a second at each look."""

    def __call__(self) -> float:
        self.now += 1
        return self.now


def far(tensors: Any) -> list[np.ndarray]:
    """Stand in for the copies from a GPU: nothing of the model is passed on, one tensor a device comes."""
    (tensor,) = tensors
    assert tensor.dtype is torch.float64
    return [tensor.numpy().copy()]


@pytest.mark.parametrize("fetch", [None, far], ids=["in memory", "from a GPU"])
def test_each_step_shows_what_analyze_finds_in_the_adapter_saved_at_it(demo, tmp_path, fetch) -> None:
    live = LiveSpectra(demo, fetch=fetch, clock=Clock())
    tolerance = 0 if fetch is None else 1e-12
    for step in (1, 4):
        learn(demo, step)
        demo.save_pretrained(tmp_path / f"checkpoint-{step}")
        event = live.measure(step)
        saved = [analyze_layer(layer) for layer in open_adapter(tmp_path / f"checkpoint-{step}").layers]
        assert len(saved) == 12
        assert list(event["modules"]) == [spectrum.layer.name for spectrum in saved]
        for numbers, spectrum in zip(event["modules"].values(), saved, strict=True):
            alpha = spectrum.alpha
            expected = {
                "norm": spectrum.frobenius_norm,
                "sigma1": spectrum.spectral_norm,
                "stable_rank": spectrum.stable_rank,
                "alpha": alpha.fit.alpha,
                "low": alpha.low,
                "high": alpha.high,
            }
            assert numbers == pytest.approx(expected, rel=5e-6, abs=0)
        now = [spectrum.frobenius_norm for spectrum in live.spectra()]
        assert now == pytest.approx([spectrum.frobenius_norm for spectrum in saved], rel=tolerance, abs=0)
        assert event["dead"] == []
    by_folder = list(spectra_over(tmp_path))
    assert [event["step"] for event in by_folder] == [1, 4]
    assert by_folder[-1]["modules"].keys() == event["modules"].keys()
    assert by_folder[0]["modules"] != by_folder[1]["modules"]


def test_norms_are_those_of_pefts_own_delta_weights(demo) -> None:
    learn(demo, 2)
    modules = LiveSpectra(demo, clock=Clock()).measure(2)["modules"]
    dense = peft_delta_weights(demo)
    assert modules.keys() == dense.keys()
    for name, weight in dense.items():
        values = np.linalg.svd(weight, compute_uv=False)
        assert modules[name]["norm"] == pytest.approx(np.linalg.norm(weight), rel=1e-5)
        assert modules[name]["sigma1"] == pytest.approx(values[0], rel=1e-5)
        assert modules[name]["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2, rel=1e-5)


def test_before_the_first_step_every_module_is_dead(demo) -> None:
    event = LiveSpectra(demo, clock=Clock()).measure(0)
    assert len(event["dead"]) == 12
    assert {numbers["norm"] for numbers in event["modules"].values()} == {0.0}
    assert {numbers["alpha"] for numbers in event["modules"].values()} == {None}


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("fetch", [None, far], ids=["in memory", "from a GPU"])
def test_embeddings_and_convolutions_have_spectra_and_dora_those_of_its_direction(dora, fetch) -> None:
    model = adapted(Everything(), r=4, lora_alpha=12, target_modules=list(KINDS), use_dora=dora)
    event = LiveSpectra(model, fetch=fetch, clock=Clock()).measure(1)
    assert event["dora"] is dora
    assert sorted(event["modules"]) == sorted(KINDS)
    if not dora:
        for name, weight in peft_delta_weights(model).items():
            assert event["modules"][name]["norm"] == pytest.approx(np.linalg.norm(weight), rel=1e-5)
    layer = model.base_model.model.linear
    direction = 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert event["modules"]["linear"]["norm"] == pytest.approx(direction.norm().item(), rel=1e-5)


def test_a_conv1d_of_gpt2_is_read_the_right_way_round() -> None:
    model = adapted(
        nn.ModuleDict({"c_attn": Conv1D(12, 6)}),
        r=2,
        lora_alpha=4,
        target_modules=["c_attn"],
        fan_in_fan_out=True,
    )
    event = LiveSpectra(model, clock=Clock()).measure(1)
    (weight,) = peft_delta_weights(model).values()
    assert weight.shape == (6, 12)
    assert event["modules"]["c_attn"]["norm"] == pytest.approx(np.linalg.norm(weight), rel=1e-5)


def test_only_the_active_adapter_is_looked_at() -> None:
    model = adapted(Everything(), r=4, lora_alpha=12, target_modules=["linear"])
    model.add_adapter("reference", LoraConfig(r=2, target_modules=["linear", "point"]))
    assert [layer.rank for layer in LiveSpectra(model).layers] == [4]
    model.set_adapter("reference")
    assert [layer.rank for layer in LiveSpectra(model).layers] == [2, 2]


@pytest.mark.parametrize("fetch", [None, far], ids=["in memory", "from a GPU"])
def test_a_nan_makes_one_module_unreadable_and_no_other(demo, fetch) -> None:
    learn(demo, 1)
    live = LiveSpectra(demo, fetch=fetch, clock=Clock())
    with torch.no_grad():
        live.layers[2].source_b.value[0, 0] = torch.nan
    event = live.measure(1)
    assert list(event["unreadable"]) == [live.layers[2].name]
    assert "1 NaN" in event["unreadable"][live.layers[2].name]
    assert len(event["modules"]) == 11


def test_looking_leaves_the_model_as_it_is(demo) -> None:
    learn(demo, 1)
    before = {name: value.clone() for name, value in demo.state_dict().items()}
    state = torch.get_rng_state()
    live = LiveSpectra(demo, clock=Clock())
    live.measure(1)
    live.spectra()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in demo.state_dict().items())
    assert not any(p.grad is not None and p.grad.any() for p in demo.parameters())


def test_it_takes_at_most_its_share_of_the_time_and_says_what_it_passed_over(demo) -> None:
    clock = Ticking()
    live = LiveSpectra(demo, clock=clock)
    assert (live.cost, live.spent) == (1, 1)
    events = {step: event for step in range(400) if (event := live.measure(step)) is not None}
    assert len(events) > 3
    assert live.spent == 1 + sum(event["seconds"] for event in events.values())
    for step, event in events.items():
        assert event["step"] == step
    assert live.spent <= SHARE * (clock.now - 1)
    assert sum(event["skipped"] for event in events.values()) + live.skipped == 400 - len(events)


def test_a_slower_measurement_is_waited_for_longer(demo) -> None:
    clock = Clock()
    live = LiveSpectra(demo, clock=clock)
    live.cost = live.spent = 1.0
    clock.now = 98.9
    assert live.measure(1) is None
    clock.now = 99.1
    assert live.measure(2)["skipped"] == 1
    live.cost = 3.0
    live.spent = 5.0
    clock.now = 396.9
    assert live.measure(3) is None
    clock.now = 397.1
    assert live.measure(4) is not None


def test_a_long_run_has_thousands_of_events_and_no_more(demo) -> None:
    clock = Clock()
    live = LiveSpectra(demo, clock=clock)
    live.spectra = list
    count = 0
    for step in range(200_000):
        clock.now = float(step)
        count += live.measure(step) is not None
    # From the 200th second on one in each half percent of the time: at most 200 + ln(1000) / ln(1.005).
    assert 1400 < count <= 1585


@pytest.mark.gpu
def test_on_a_gpu_the_numbers_are_those_of_the_same_model_in_memory(demo) -> None:
    learn(demo, 2)
    expected = LiveSpectra(demo, clock=Clock()).measure(2)["modules"]
    found = LiveSpectra(demo.to("cuda"), clock=Clock()).measure(2)["modules"]
    assert found.keys() == expected.keys()
    for name, numbers in found.items():
        assert numbers == pytest.approx(expected[name], rel=2e-6)


def test_without_an_adapter_there_is_a_sentence() -> None:
    with pytest.raises(LorabenchError, match="no active adapter"):
        LiveSpectra(nn.Linear(3, 3))


def test_an_adapter_in_shares_is_refused(demo) -> None:
    next(p for name, p in demo.named_parameters() if "lora_A" in name).ds_id = 7
    with pytest.raises(LorabenchError, match="spread over several processes"):
        LiveSpectra(demo)
