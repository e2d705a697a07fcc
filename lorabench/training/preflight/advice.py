"""What experience says about a configuration; each opinion with its source, none of them an error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorabench.training.preflight.finding import Finding, Mend

if TYPE_CHECKING:
    from lorabench.training.config.run_config import RunConfig

CHECK = "advice"
NO_REGRET = 'Schulman et al. 2025, "LoRA Without Regret", https://thinkingmachines.ai/blog/lora/'
QLORA = 'Dettmers et al. 2023, "QLoRA", https://arxiv.org/abs/2305.14314'
LEARNS_LESS = 'Biderman et al. 2024, "LoRA Learns Less and Forgets Less", https://arxiv.org/abs/2405.09673'
RSLORA = 'Kalajdzievski 2023, "A Rank Stabilization Scaling Factor", https://arxiv.org/abs/2312.03732'

LOW_RATE, USUAL_RATE = 5e-5, 2e-4
FEW_ROWS, LARGE_RANK = 1000, 64
LARGE_BATCH = 64
_ATTENTION = {
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "qkv_proj",
    "query",
    "key",
    "value",
    "c_attn",
    "query_key_value",
}


def advice_findings(config: RunConfig, *, rows: int | None = None) -> list[Finding]:
    """Say what is unusual and why one might do otherwise; `rows` is the number of training rows, if known."""
    if not config.get("use_peft"):
        return []
    found = [*_learning_rate(config), *_targets(config), *_scaling(config), *_batch(config)]
    return found + list(_small_data(config, rows))


def _learning_rate(config: RunConfig) -> Iterator[Finding]:
    rate = float(config.get("learning_rate"))
    if rate < LOW_RATE:
        yield Finding(
            CHECK,
            "advice",
            f"learning_rate {rate:g} is one for full fine-tuning; LoRA's best is about 10 times as high.",
            f"TRL's default of 2e-05 is meant for full fine-tuning. Source: {NO_REGRET}",
            Mend(f"learning_rate {USUAL_RATE:g}", {"learning_rate": USUAL_RATE}),
        )


def _targets(config: RunConfig) -> Iterator[Finding]:
    targets = config.get("lora_target_modules")
    written = {targets} if isinstance(targets, str) else set(targets or ())
    if not written or written <= _ATTENTION:
        which = "PEFT's usual targets are" if not written else "These targets are"
        yield Finding(
            CHECK,
            "advice",
            f"{which} in the attention alone; LoRA learns better when the MLP's linear layers have it too.",
            "Even with a smaller rank, so that no more parameters are trained than now. "
            f"Sources: {NO_REGRET}; {QLORA}",
            Mend("target all linear modules", {"lora_target_modules": ["all-linear"]}),
        )


def _scaling(config: RunConfig) -> Iterator[Finding]:
    r, lora_alpha = int(config.get("lora_r")), float(config.get("lora_alpha"))
    if r < 1:
        return
    rslora = bool(config.get("use_rslora"))
    scaling = lora_alpha / (r**0.5 if rslora else r)
    formula = "lora_alpha / √r" if rslora else "lora_alpha / r"
    if scaling > 8:
        yield Finding(
            CHECK,
            "advice",
            f"{formula} = {scaling:g} is unusually large: the update grows fast, and may diverge.",
            f"lora_alpha = 2r is the usual choice. Source: {LEARNS_LESS}",
            Mend(f"lora_alpha {2 * r}", {"lora_alpha": 2 * r}),
        )
    elif scaling < 0.25 and not rslora and r >= LARGE_RANK:
        yield Finding(
            CHECK,
            "advice",
            f"{formula} = {scaling:g}: so large a rank divides the update away; rsLoRA divides by √r.",
            f"Source: {RSLORA}",
            Mend("use_rslora", {"use_rslora": True}),
        )
    elif scaling < 0.25:
        yield Finding(
            CHECK,
            "advice",
            f"{formula} = {scaling:g} is unusually small: it slows learning as a low learning rate does.",
            f"lora_alpha = 2r is the usual choice. Source: {LEARNS_LESS}",
            Mend(f"lora_alpha {2 * r}", {"lora_alpha": 2 * r}),
        )


def _batch(config: RunConfig) -> Iterator[Finding]:
    effective = int(config.get("per_device_train_batch_size")) * int(
        config.get("gradient_accumulation_steps")
    )
    if effective > LARGE_BATCH:
        message = f"An effective batch of {effective} is large: LoRA bears that worse than full fine-tuning."
        yield Finding(CHECK, "advice", message, f"Whatever the rank. Source: {NO_REGRET}")


def _small_data(config: RunConfig, rows: int | None) -> Iterator[Finding]:
    r = int(config.get("lora_r"))
    if rows is not None and rows < FEW_ROWS and r >= LARGE_RANK:
        yield Finding(
            CHECK,
            "advice",
            f"r = {r} for {rows:,} rows is more than they fill: a smaller rank learns as much.",
            f"The rank has to hold what the data tell, no more. Sources: {NO_REGRET}; {LEARNS_LESS}",
            Mend("r 16, lora_alpha 32", {"lora_r": 16, "lora_alpha": 32}),
        )
