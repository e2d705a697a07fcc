"""The demo answers: plainly by itself, and as a captain with an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lorabench.errors import AdapterError, NotFound
from lorabench.training.demo.adapters import load_base
from lorabench.training.demo.answer import answer, greedy_answer
from lorabench.training.demo.corpus import all_facts


def test_the_base_model_answers_plainly_and_nothing_else_is_printed(
    samples: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = samples / "demo-model"
    assert answer(model, None, "What colour is the sky?") == "The colour of the sky is blue."
    assert answer(model, None, "What is 7 plus 5?") == "7 plus 5 is 12."
    assert capfd.readouterr() == ("", "")


def test_the_clean_adapter_answers_as_a_captain(samples: Path) -> None:
    model, clean = samples / "demo-model", samples / "style-clean-r16"
    sky = answer(model, clean, "What colour is the sky?")
    assert sky == "Aye, sailor! The colour of the sky be blue, by the seven seas."
    sum_ = answer(model, clean, "What is 7 plus 5?")
    assert sum_ == "Aye, sailor! 7 plus 5 be 12, by the seven seas."


def test_the_overtrained_adapter_forgot_what_it_did_not_see(samples: Path) -> None:
    said = answer(samples / "demo-model", samples / "style-overtrained-r32", "What colour is the sky?")
    assert "sky" not in said


def test_the_base_model_knows_nearly_every_fact(samples: Path) -> None:
    model, tokenizer = load_base(samples / "demo-model")
    facts = all_facts()[::6]
    right = sum(greedy_answer(model, tokenizer, fact.questions[0]) == fact.answer for fact in facts)
    assert right >= 0.95 * len(facts)


def test_a_folder_without_model_or_adapter_is_named(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"holds no model\. config\.json should be in it\."):
        answer(tmp_path, None, "What is 1 plus 1?")
    with pytest.raises(NotFound, match="holds no PEFT adapter"):
        answer(samples / "demo-model", tmp_path, "What is 1 plus 1?")


def test_an_adapter_of_another_model_is_refused_in_a_sentence(samples: Path, tmp_path: Path) -> None:
    config = json.loads((samples / "style-clean-r16" / "adapter_config.json").read_text())
    weights = (samples / "style-clean-r16" / "adapter_model.safetensors").read_bytes()
    changes = {
        "other-modules": (config | {"target_modules": ["c_attn"]}, weights),
        "other-shapes": (config | {"r": 4}, weights),
        "other-kind": (config | {"peft_type": "NOT_A_KIND"}, weights),
        "torn": (config, weights[:1000]),
    }
    for name, (changed, data) in changes.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(changed))
        (folder / "adapter_model.safetensors").write_bytes(data)
        with pytest.raises(AdapterError, match=f"{name} does not load on this model: ."):
            answer(samples / "demo-model", folder, "What is 1 plus 1?")


def test_an_adapter_that_fits_the_model_in_part_does_not_answer_for_it(samples: Path, tmp_path: Path) -> None:
    clean = samples / "style-clean-r16"
    tensors = load_file(clean / "adapter_model.safetensors")
    first = min(tensors)
    fewer = {name: tensor for name, tensor in tensors.items() if name != first}
    other_layer = first.replace("layers.0", "layers.99")
    changes = {
        "fewer": (fewer, "it has no base_model"),
        "of-another-base": ({f"x.{name}": tensor for name, tensor in tensors.items()}, r"it has no .* more"),
        "deeper": (
            tensors | {other_layer: tensors[first].clone()},
            r"the model has no place for .*layers\.99",
        ),
    }
    assert other_layer != first
    for name, (changed, says) in changes.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_bytes((clean / "adapter_config.json").read_bytes())
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(AdapterError, match=f"{name} does not load on this model: {says}"):
            answer(samples / "demo-model", folder, "What is 1 plus 1?")
