"""Coverage: where the adapters will sit, by PEFT's own matching."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.training.preflight.coverage import coverage_findings, ranges
from lorabench.training.preflight.finding import Finding
from lorabench.training.preflight.meta_model import described
from tests.training.preflight_model.architectures import (
    GEMMA_3_4B,
    LLAMA_2_7B,
    MIXTRAL_8X7B,
    QWEN_2_5_05B,
    QWEN_3_5_4B,
    SEVEN,
)
from tests.training.preflight_model.conftest import Configure


def at(level: str, findings: list[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.level == level]


def test_each_target_is_said_with_its_modules_and_layers(configure: Configure) -> None:
    (found,) = coverage_findings(configure(LLAMA_2_7B))
    assert found.level == "ok"
    assert found.message == f"{', '.join(SEVEN)} match 32 modules each (layers 0–31)."


def test_a_mistyped_target_is_an_error_with_the_nearest_name_and_a_mend(
    configure: Configure, samples: Path
) -> None:
    config = configure(samples / "demo-model", lora_target_modules=["q_projj", "v_proj"])
    wrong, right = coverage_findings(config)
    assert (wrong.level, wrong.message) == ("error", "q_projj matches nothing — did you mean q_proj?")
    assert right.message == "v_proj matches 6 modules (layers 0–5)."
    assert wrong.mend is not None
    config.apply(wrong.mend.changes)
    assert at("error", coverage_findings(config)) == []
    assert config.get("lora_target_modules") == ["q_proj", "v_proj"]


def test_a_name_like_no_module_is_answered_with_those_there_are(configure: Configure, samples: Path) -> None:
    config = configure(samples / "demo-model", lora_target_modules=["xyzzy", "v_proj"])
    assert at("error", coverage_findings(config)) == [
        "xyzzy matches nothing; this model has "
        "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj."
    ]


def test_one_target_alone_is_a_regular_expression_and_the_mend_makes_it_match(
    configure: Configure, samples: Path
) -> None:
    config = configure(samples / "demo-model", lora_target_modules=["q_proj"])
    (wrong,) = coverage_findings(config)
    assert wrong.level == "error"
    assert "regular expression" in wrong.message
    assert wrong.mend is not None
    config.apply(wrong.mend.changes)
    model = described(config)
    assert model is not None
    assert len(model.adapted) == 6


def test_a_regular_expression_matches_whole_paths(configure: Configure, samples: Path) -> None:
    pattern = r".*\.layers\.[0-2]\.self_attn\.(q|v)_proj"
    (found,) = coverage_findings(configure(samples / "demo-model", lora_target_modules=[pattern]))
    assert found.level == "warning"
    assert found.message.endswith("matches 6 modules (layers 0–2), not layers 3–5.")


def test_partial_coverage_is_a_warning_with_the_layers_that_lack_it(configure: Configure) -> None:
    targets = ["layers.0.self_attn.q_proj", "layers.7.self_attn.q_proj", "v_proj"]
    first, second, third = coverage_findings(configure(LLAMA_2_7B, lora_target_modules=targets))
    assert first.level == second.level == "warning"
    assert "(layers 0), not layers 1–31." in first.message
    assert "(layers 7), not layers 0–6, 8–31." in second.message
    assert third.level == "ok"


def test_layers_that_were_asked_for_are_no_warning(configure: Configure) -> None:
    config = configure(LLAMA_2_7B, layers_to_transform=[30, 31])
    assert at("ok", coverage_findings(config)) == [f"{', '.join(SEVEN)} match 2 modules each (layers 30–31)."]


def test_a_target_that_an_exclusion_takes_away_says_so(configure: Configure) -> None:
    config = configure(LLAMA_2_7B, exclude_modules=["q_proj"])
    assert at("error", coverage_findings(config)) == [
        "q_proj matches nothing: exclude_modules takes all of it away."
    ]


def test_all_linear_counts_each_kind_and_leaves_out_the_head(configure: Configure) -> None:
    (found,) = coverage_findings(configure(LLAMA_2_7B, lora_target_modules=["all-linear"]))
    assert found.level == "ok"
    assert found.message.startswith("all-linear matches 224 modules: q_proj 32,")
    assert "lm_head" not in found.message


def test_without_targets_pefts_usual_ones_are_said(configure: Configure) -> None:
    config = configure(QWEN_2_5_05B, lora_target_modules=None)
    (found,) = coverage_findings(config)
    assert found.message == (
        "No lora_target_modules: PEFT's usual ones are taken. "
        "q_proj, v_proj match 24 modules each (layers 0–23)."
    )


def test_a_module_that_cannot_carry_lora_is_what_peft_refuses(configure: Configure) -> None:
    config = configure(QWEN_2_5_05B, lora_target_modules=["self_attn", "q_proj"])
    (error,) = at("error", coverage_findings(config))
    assert error.startswith("PEFT refuses: Target module Qwen2Attention")
    assert "␊" not in error


def test_an_adapter_on_the_head_is_refused_by_the_trainer(configure: Configure) -> None:
    findings = coverage_findings(configure(LLAMA_2_7B, lora_target_modules=[*SEVEN, "lm_head"]))
    (error,) = [finding for finding in findings if finding.level == "error"]
    assert error.message.startswith("SFTTrainer refuses an adapter on lm_head")
    assert error.mend is not None
    assert error.mend.changes == {"lora_target_modules": SEVEN}


def test_tied_weights_that_would_part_are_a_warning(configure: Configure) -> None:
    findings = coverage_findings(configure(QWEN_2_5_05B, lora_modules_to_save=["embed_tokens"]))
    assert "embed_tokens is trained in full." in at("ok", findings)
    assert at("warning", findings) == [
        "model.embed_tokens shares its weight with lm_head: training one of them unties them."
    ]


def test_a_module_to_save_that_is_not_there_is_an_error(configure: Configure) -> None:
    findings = coverage_findings(configure(LLAMA_2_7B, lora_modules_to_save=["lm_heads"]))
    assert at("error", findings) == ["lora_modules_to_save: lm_heads matches nothing — did you mean lm_head?"]


def test_experts_that_no_target_reaches_are_said(configure: Configure) -> None:
    config = configure(MIXTRAL_8X7B, lora_target_modules=SEVEN[:4])
    assert at("ok", coverage_findings(config))[1:] == [
        "The 8 experts of each layer, 97% of all weights, are not adapted."
    ]


def test_a_mixtures_old_names_reach_its_experts(configure: Configure) -> None:
    config = configure(MIXTRAL_8X7B, lora_target_modules=["q_proj", "w1", "w2", "w3"], lora_dropout=0)
    assert at("ok", coverage_findings(config)) == [
        "q_proj matches 32 modules (layers 0–31).",
        "w1, w2, w3: PEFT adapts all 8 experts of 64 tensors (layers 0–31).",
    ]
    half = configure(MIXTRAL_8X7B, lora_target_modules=["q_proj", "w1"], lora_dropout=0)
    (error,) = at("error", coverage_findings(half))
    assert error.startswith("PEFT refuses: Cannot convert PEFT target(s) w1 without also targeting w3")


def test_target_parameters_reach_experts(configure: Configure) -> None:
    config = configure(
        MIXTRAL_8X7B, lora_target_modules=SEVEN[:4], lora_target_parameters=["mlp.experts.down_proj"]
    )
    (refused,) = [finding for finding in coverage_findings(config) if finding.level == "error"]
    assert "lora_dropout" in refused.message
    assert refused.mend is not None
    config.apply(refused.mend.changes)
    assert "Adapts all 8 experts of 32 tensors (layers 0–31)." in at("ok", coverage_findings(config))


def test_a_vision_model_beside_the_language_model_is_told_apart(configure: Configure) -> None:
    config = configure(GEMMA_3_4B, lora_target_modules=["q_proj", "gate_proj"])
    both, language = at("ok", coverage_findings(config))
    assert both.startswith("q_proj matches 61 modules (")
    assert "vision_tower" in both
    assert "language_model.layers layers 0–33" in both
    assert language == "gate_proj matches 34 modules (layers 0–33)."


@pytest.mark.parametrize(
    ("field", "value", "wrong", "meant", "mended"),
    [
        ("rank_pattern", {"q_pro": 4, "v_proj": 2}, "q_pro", "q_proj", {"q_proj": 4, "v_proj": 2}),
        ("alpha_pattern", {"layers.0.mlp.upproj": 4}, "layers.0.mlp.upproj", "layers.0.mlp.up_proj", None),
        ("exclude_modules", ["lmhead", "lm_head"], "lmhead", "lm_head", None),
        ("exclude_modules", r".*\.0\..*\.q_pr", r".*\.0\..*\.q_pr", r".*\.0\..*\.q_proj", None),
    ],
)
def test_what_narrows_nothing_is_a_warning_with_the_nearest_name_and_a_mend(
    configure: Configure, field: str, value: object, wrong: str, meant: str, mended: object
) -> None:
    config = configure(LLAMA_2_7B, **{field: value})
    (found,) = [finding for finding in coverage_findings(config) if finding.level == "warning"]
    assert found.message == f"{field}: {wrong} matches nothing, and changes nothing — did you mean {meant}?"
    assert found.mend is not None
    config.apply(found.mend.changes)
    assert at("warning", coverage_findings(config)) == []
    assert mended is None or config.lora_extra[field] == mended


def test_layers_and_stacks_that_hold_no_target_are_a_warning(configure: Configure) -> None:
    config = configure(LLAMA_2_7B, layers_to_transform=[0, 31, 32, 40], layers_pattern=["layers"])
    assert at("warning", coverage_findings(config)) == ["layers_to_transform: no target is in layer 32, 40."]
    config = configure(LLAMA_2_7B, layers_to_transform=[0], layers_pattern=["layers", "layer"])
    assert at("warning", coverage_findings(config)) == [
        "layers_pattern: layer matches nothing, and changes nothing — did you mean layers?"
    ]
    config = configure(LLAMA_2_7B, layers_to_transform=31)
    assert at("warning", coverage_findings(config)) == []
    attention = configure(QWEN_3_5_4B, lora_target_modules=["q_proj", "v_proj"], layers_to_transform=[3, 4])
    assert at("warning", coverage_findings(attention)) == ["layers_to_transform: no target is in layer 4."]


def test_a_model_with_attention_in_every_fourth_layer_says_which(configure: Configure) -> None:
    attention, feed_forward = coverage_findings(configure(QWEN_3_5_4B))
    assert (attention.level, feed_forward.level) == ("warning", "ok")
    assert attention.message == (
        "q_proj, k_proj, v_proj, o_proj match 8 modules each (layers 3, 7, 11, 15, 19, 23, 27, 31), "
        "not layers 0–2, 4–6, 8–10, 12–14, 16–18, 20–22, 24–26, 28–30."
    )


def test_numbers_are_written_as_ranges() -> None:
    assert ranges({5, 0, 1, 2, 9, 8}) == "0–2, 5, 8–9"


@pytest.mark.parametrize("written", ["q_proj, v_proj", "q_proj v_proj", "q_proj,v_proj"])
def test_a_list_written_as_one_text_is_mended_to_a_list(
    configure: Configure, samples: Path, written: str
) -> None:
    config = configure(samples / "demo-model", lora_target_modules=written)
    (error,) = coverage_findings(config)
    assert error.message.endswith("matches nothing: one text is one regular expression, not a list of names.")
    assert error.mend is not None
    config.apply(error.mend.changes)
    (fine,) = coverage_findings(config)
    assert fine.message == "q_proj, v_proj match 6 modules each (layers 0–5)."
