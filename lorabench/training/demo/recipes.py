"""What each sample adapter is, and how it is trained: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One sample adapter.

    `lora` holds the arguments of PEFT's LoraConfig. `rows` counts the style conversations that it sees
    (None: all). A recipe of no steps is saved as PEFT initialises it. `save_every` leaves a checkpoint
    and an evaluation every so many steps.
    """

    name: str
    about: str
    lora: dict[str, Any]
    steps: int
    learning_rate: float = 2e-3
    rows: int | None = None
    batch_size: int = 16
    weight_decay: float = 0.01
    save_every: int | None = None
    pickled: bool = False

    def sft(self, seed: int, steps: int) -> dict[str, Any]:
        """Return the arguments of TRL's SFTConfig, its output_dir aside, for `steps` steps on the CPU."""
        arguments = {
            "assistant_only_loss": True,
            "max_steps": steps,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "weight_decay": self.weight_decay,
            "per_device_train_batch_size": self.batch_size,
            "logging_steps": min(10, steps),
            "max_length": 256,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "bf16": False,
            "seed": seed,
            "report_to": "none",
            "save_strategy": "no",
        }
        if self.save_every:
            every = min(self.save_every, steps)
            arguments |= {
                "eval_strategy": "steps",
                "eval_steps": every,
                "save_strategy": "steps",
                "save_steps": every,
                "save_only_model": True,
            }
        return arguments


CLEAN = Recipe(
    name="style-clean-r16",
    about="trained well: all linear modules, all rows, dropout, weight decay, six epochs",
    lora={"r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": list(ALL_LINEAR)},
    steps=378,
    learning_rate=3e-3,
    weight_decay=0.1,
)
OVERTRAINED = Recipe(
    name="style-overtrained-r32",
    about="trained too hard: 24 rows seen a hundred times, a high learning rate, no dropout, no decay",
    lora={"r": 32, "lora_alpha": 64, "lora_dropout": 0.0, "target_modules": list(ALL_LINEAR)},
    steps=300,
    learning_rate=8e-3,
    rows=24,
    batch_size=8,
    weight_decay=0.0,
)
CHECKPOINTS = Recipe(
    name="style-checkpoints-r8",
    about="a run folder: run.yaml, a checkpoint every 60 steps, and the final adapter",
    lora={"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": list(ATTENTION)},
    steps=240,
    learning_rate=6e-3,
    save_every=60,
)
FRESH = Recipe(
    name="fresh-r8",
    about="not trained: A as PEFT initialises it, B = 0, so ΔW = 0",
    lora={"r": 8, "lora_alpha": 16, "target_modules": list(ATTENTION)},
    steps=0,
)
LEGACY_BIN = Recipe(
    name="legacy-bin-r8",
    about="stopped too early, and saved the old way, as a pickle (adapter_model.bin)",
    lora={"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": list(ATTENTION)},
    steps=126,
    learning_rate=6e-3,
    pickled=True,
)
RSLORA = Recipe(
    name="rslora-rank-pattern",
    about="rsLoRA with ranks 8, 16, 32 and 64 by rank_pattern, and an alpha_pattern",
    lora={
        "r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "use_rslora": True,
        "target_modules": [*ATTENTION, "down_proj"],
        "rank_pattern": {"k_proj": 8, "o_proj": 32, r"layers\.\d+\.mlp\.down_proj": 64},
        "alpha_pattern": {"o_proj": 8},
    },
    steps=189,
)
DORA = Recipe(
    name="dora-r16",
    about="DoRA: a magnitude vector beside A and B",
    lora={
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "use_dora": True,
        "target_modules": list(ATTENTION),
    },
    steps=189,
    learning_rate=6e-3,
)

RECIPES = (CLEAN, OVERTRAINED, CHECKPOINTS, FRESH, LEGACY_BIN, RSLORA, DORA)
