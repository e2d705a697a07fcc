"""Train the sample adapters on the demo model with TRL's SFTTrainer and PEFT."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from ruamel.yaml import YAML
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    set_seed,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lorabench.text import visible
from lorabench.training.demo.corpus import Row
from lorabench.training.demo.recipes import Recipe

KEPT = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "trainer_state.json")
"""What a sample keeps of what PEFT and the Trainer write: no pickled arguments, no copy of the tokenizer."""

_CLOCK_READINGS = ("_runtime", "_per_second")


def load_base(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the demo model in float32 and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def train_adapter(
    recipe: Recipe,
    folder: Path,
    *,
    base: Path,
    base_name: str,
    train_rows: Sequence[Row],
    test_rows: Sequence[Row],
    steps: int,
    seed: int,
) -> None:
    """Write the adapter of `recipe` to `folder`.

    `base` is where the model lies now, `base_name` what adapter_config.json calls it. With no steps the
    adapter stays as PEFT initialises it.
    """
    set_seed(seed)
    model, tokenizer = load_base(base)
    lora = LoraConfig(task_type="CAUSAL_LM", **recipe.lora)
    with tempfile.TemporaryDirectory() as scratch:
        if steps:
            trainer = SFTTrainer(
                model=model,
                args=SFTConfig(output_dir=scratch, disable_tqdm=True, **recipe.sft(seed, steps)),
                train_dataset=Dataset.from_list(train_rows[: recipe.rows]),
                eval_dataset=Dataset.from_list(test_rows),
                processing_class=tokenizer,
                peft_config=lora,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            adapter: Any = trainer.model
        else:
            adapter = get_peft_model(model, lora)
        adapter.save_pretrained(scratch, safe_serialization=not recipe.pickled)
        _keep_what_matters(Path(scratch), folder, base_name)


def assistant_loss(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]
) -> float:
    """Return the mean cross-entropy of the assistants' tokens in `rows`, in nats per token."""
    total, count = 0.0, 0
    for row in rows:
        encoded: Any = tokenizer.apply_chat_template(
            row["messages"], return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
        )
        spoken = torch.as_tensor(encoded["assistant_masks"]).reshape(-1)[1:].bool()
        with torch.inference_mode():
            logits = model(input_ids=encoded["input_ids"]).logits[0, :-1]
        targets = encoded["input_ids"][0, 1:]
        total += float(torch.nn.functional.cross_entropy(logits[spoken], targets[spoken], reduction="sum"))
        count += int(spoken.sum())
    return total / count


def write_run_yaml(recipe: Recipe, path: Path, *, root: str, steps: int, seed: int) -> None:
    """Write the run of `recipe` in TRL's own format: `trl sft --config` repeats it from beside `root`."""
    model_names = {"r": "lora_r", "target_modules": "lora_target_modules"}
    lora = {model_names.get(name, name): value for name, value in recipe.lora.items()}
    run = {
        "model_name_or_path": f"{root}/demo-model",
        "dtype": "float32",
        "dataset_name": f"{root}/demo-data",
        "output_dir": f"{root}/{recipe.name}",
        "use_peft": True,
        **lora,
        **recipe.sft(seed, steps),
    }
    with path.open("w", encoding="utf-8") as file:
        place = visible(root)
        file.write(f"# From the folder that holds {place}: trl sft --config {place}/{recipe.name}/run.yaml\n")
        YAML().dump(run, file)


def _keep_what_matters(scratch: Path, folder: Path, base_name: str) -> None:
    """Copy the files that a sample keeps, checkpoints included, without what differs from build to build."""
    for source in sorted(path for path in scratch.rglob("*") if path.name in KEPT):
        target = folder / source.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.name == "adapter_config.json":
            _write_json(_portable(_read_json(source), base_name), target)
        elif source.name == "trainer_state.json":
            _write_json(_timeless(_read_json(source)), target)
        else:
            shutil.copyfile(source, target)


def _portable(config: dict[str, Any], base_name: str) -> dict[str, Any]:
    """Name the base model relatively, and sort the modules, which PEFT writes from a set."""
    modules = sorted(config["target_modules"])
    return config | {"base_model_name_or_path": base_name, "target_modules": modules}


def _timeless(state: dict[str, Any]) -> dict[str, Any]:
    """Drop from the log what was read off a clock."""
    history = [
        {name: value for name, value in entry.items() if not name.endswith(_CLOCK_READINGS)}
        for entry in state["log_history"]
    ]
    return state | {"log_history": history}


def _read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _write_json(values: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
