"""The fields that lorabench knows without asking TRL: those of the form, and PEFT's that TRL has no name for.

Names, types, defaults and choices are those of TRL 1.16's ScriptArguments, SFTConfig, ModelConfig and
DatasetMixtureConfig, and of PEFT's LoraConfig (a test compares them); ranges, groups and help are ours. The
rest of TRL's fields come from TRL itself: `trl_fields.all_fields`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lorabench.training.config.field import Field, Kind, Range

_POSITIVE = Range(above=0)
_AT_LEAST_ONE = Range(least=1)
_NOT_NEGATIVE = Range(least=0)
_INTERVALS = ("no", "steps", "epoch")

_BOOL: tuple[Kind, ...] = ("bool",)
_INT: tuple[Kind, ...] = ("int",)
_FLOAT: tuple[Kind, ...] = ("float",)
_STR: tuple[Kind, ...] = ("str",)
_LIST: tuple[Kind, ...] = ("list",)
_MAP: tuple[Kind, ...] = ("mapping",)

# One field a line or two, in the order of the form: name, kind, default, help.
# fmt: off
_model: Callable[..., Field] = partial(Field, group="model", owner="ModelConfig", form=True)
_MODEL = (
    _model("model_name_or_path", _STR, None, "the base model: a folder, or a name on the hub", optional=True),
    _model("model_revision", _STR, "main", "its branch, tag or commit on the hub", form=False),
    _model("dtype", _STR, "float32", "type of the frozen weights; auto: as they were saved", optional=True,
           choices=("auto", "bfloat16", "float16", "float32")),
    _model("attn_implementation", _STR, None, "sdpa, eager, flash_attention_2 …", optional=True),
    _model("load_in_4bit", _BOOL, False, "QLoRA: frozen weights in 4 bits (bitsandbytes)"),
    _model("load_in_8bit", _BOOL, False, "frozen weights in 8 bits (bitsandbytes)"),
    _model("bnb_4bit_quant_type", _STR, "nf4", "the 4-bit type", choices=("fp4", "nf4")),
    _model("use_bnb_nested_quant", _BOOL, False, "quantise the quantisation constants too"),
    _model("chat_template_path", _STR, None, "a Jinja file or tokenizer, in place of the model's template",
           owner="SFTConfig", optional=True),
    _model("trust_remote_code", _BOOL, False, "run Python code that comes with the model", owner="SFTConfig",
           form=False),
)

_data: Callable[..., Field] = partial(Field, group="data", form=True)
_DATA = (
    _data("dataset_name", _STR, None, "a folder of jsonl, csv or parquet files, or a name on the hub; "
          "a single file goes under datasets", owner="ScriptArguments", optional=True),
    _data("dataset_config", _STR, None, "the configuration's name, for data that have several",
          owner="ScriptArguments", optional=True),
    _data("dataset_train_split", _STR, "train", "the split to train on", owner="ScriptArguments"),
    _data("dataset_test_split", _STR, "test", "the split to evaluate on", owner="ScriptArguments"),
    _data("datasets", _LIST, [], "single files, or several datasets, in place of dataset_name",
          owner="DatasetMixtureConfig", items="mapping", form=False),
    _data("test_split_size", _FLOAT, None, "share (or rows) of `datasets` that is kept for evaluation",
          owner="DatasetMixtureConfig", range=_POSITIVE, optional=True, form=False),
    _data("dataset_text_field", _STR, "text", "the column, for plain text"),
    _data("max_length", _INT, 1024, "tokens a row; the rest is cut", range=_AT_LEAST_ONE, optional=True),
    _data("packing", _BOOL, False, "put several rows into one sequence of max_length"),
    _data("assistant_only_loss", _BOOL, False, "train on the assistant's words only (for messages)"),
    _data("completion_only_loss", _BOOL, None, "train on the completion only; null: where there is a prompt",
          optional=True),
)

_lora: Callable[..., Field] = partial(Field, group="LoRA", owner="ModelConfig", form=True)
_peft: Callable[..., Field] = partial(Field, group="LoRA", owner="LoraConfig", optional=True, form=True)
_LORA = (
    _lora("use_peft", _BOOL, False, "train an adapter, not the model"),
    _lora("lora_r", _INT, 16, "rank of the update, the r of B (out × r) and A (r × in)", range=_AT_LEAST_ONE),
    _lora("lora_alpha", _INT, 32, "scaling of the update: lora_alpha / r", range=_AT_LEAST_ONE),
    _lora("lora_dropout", _FLOAT, 0.05, "share of A's inputs dropped", range=Range(least=0, below=1)),
    _lora("lora_target_modules", _LIST, None, "names of modules; one text is a pattern, or all-linear",
          optional=True),
    _lora("lora_modules_to_save", _LIST, None, "modules that are trained whole and saved", optional=True),
    _lora("lora_target_parameters", _LIST, None, "parameters, for experts that are no modules", optional=True,
          form=False),
    _lora("use_rslora", _BOOL, False, "scaling lora_alpha / √r"),
    _lora("use_dora", _BOOL, False, "train a magnitude beside B·A"),
    _peft("rank_pattern", _MAP, {}, "another r for modules that fit a pattern: {q_proj: 16}"),
    _peft("alpha_pattern", _MAP, {}, "another lora_alpha for modules that fit a pattern"),
    _peft("exclude_modules", ("str", "list"), None, "modules to leave out of the targets"),
    _peft("layers_to_transform", ("list", "int"), None, "only these layers", items="int"),
    _peft("layers_pattern", ("str", "list"), None, "what the list of layers is called, if not layers or h",
          form=False),
    _peft("init_lora_weights", ("bool", "str"), True, "how A and B begin; true: B = 0", optional=False,
          choices=("gaussian", "eva", "olora", "pissa", "pissa_niter_…", "corda", "loftq", "orthogonal",
                   "mica")),
    _peft("bias", _STR, "none", "biases to train", optional=False, choices=("none", "all", "lora_only")),
)

_optimisation: Callable[..., Field] = partial(Field, group="optimisation", form=True)
_OPTIMISATION = (
    _optimisation("per_device_train_batch_size", _INT, 8, "rows at a time, on each device",
                  range=_AT_LEAST_ONE),
    _optimisation("gradient_accumulation_steps", _INT, 1, "batches that make one update",
                  range=_AT_LEAST_ONE),
    _optimisation("num_train_epochs", _FLOAT, 3.0, "passes over the data", range=_POSITIVE),
    _optimisation("max_steps", _INT, -1, "updates, in place of epochs; -1: as the epochs say",
                  range=Range(least=-1)),
    _optimisation("learning_rate", _FLOAT, 2e-5, "LoRA wants about ten times that of full training",
                  range=_POSITIVE),
    _optimisation("lr_scheduler_type", _STR, "linear", "how the learning rate falls",
                  choices=("linear", "cosine", "cosine_with_restarts", "polynomial", "constant",
                           "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau",
                           "cosine_with_min_lr", "cosine_warmup_with_min_lr",
                           "warmup_stable_decay", "greedy")),
    _optimisation("warmup_steps", _FLOAT, 0, "updates of warm-up; below 1: that share of all",
                  range=_NOT_NEGATIVE),
    _optimisation("weight_decay", _FLOAT, 0.0, "of A and B", range=_NOT_NEGATIVE),
    _optimisation("max_grad_norm", _FLOAT, 1.0, "gradients are clipped to this norm; 0: not",
                  range=_NOT_NEGATIVE),
    _optimisation("optim", _STR, "adamw_torch_fused", "the optimizer; paged_adamw_8bit saves memory"),
    _optimisation("gradient_checkpointing", _BOOL, True, "compute activations twice, to save their memory"),
    _optimisation("precision", _STR, "auto", "auto: bf16, on a V100 or T4 fp16, on CPU fp32",
                  owner="lorabench", choices=("auto", "bf16", "fp16", "fp32")),
    _optimisation("bf16", _BOOL, None, "compute in bfloat16; null: unless fp16", optional=True, form=False),
    _optimisation("fp16", _BOOL, False, "compute in float16", form=False),
    _optimisation("use_cpu", _BOOL, False, "train on the CPU, even beside a GPU"),
    _optimisation("seed", _INT, 42, "of the order of rows, of A, of dropout", range=_NOT_NEGATIVE),
    _optimisation("num_processes", _INT, None, "processes, one a GPU; null: as `accelerate config` says",
                  owner="accelerate", range=_AT_LEAST_ONE, optional=True, form=False),
)

_saving: Callable[..., Field] = partial(Field, group="saving", form=True)
_SAVING = (
    _saving("output_dir", _STR, None, "where the checkpoints and the adapter go", optional=True),
    _saving("save_strategy", _STR, "steps", "when to save a checkpoint", choices=(*_INTERVALS, "best")),
    _saving("save_steps", _FLOAT, 500, "updates between checkpoints; below 1: that share of all",
            range=_POSITIVE),
    _saving("save_total_limit", _INT, None, "checkpoints to keep", range=_AT_LEAST_ONE, optional=True),
    _saving("save_only_model", _BOOL, False, "no optimizer in checkpoints: small, but not to be resumed"),
    _saving("logging_steps", _FLOAT, 10, "updates between lines of the log; below 1: that share of all",
            range=_POSITIVE),
    _saving("eval_strategy", _STR, "no", "when to evaluate", choices=_INTERVALS),
    _saving("eval_steps", _FLOAT, None, "updates between evaluations; null: logging_steps", range=_POSITIVE,
            optional=True),
    _saving("per_device_eval_batch_size", _INT, 8, "rows at a time when evaluating", range=_AT_LEAST_ONE),
    _saving("report_to", ("str", "list"), "none", "tensorboard, wandb, trackio …", optional=True),
)

OUR_KEY = "LORABENCH"
"""Under `env:`, where TRL reads a variable that nobody asks for: see run_config.py."""

LORA_EXTRA = frozenset({
    *(field.name for field in _LORA if field.owner == "LoraConfig"),
    "alora_invocation_tokens", "arrow_config", "corda_config", "ensure_weight_tying", "eva_config",
    "fan_in_fan_out", "kasa_config", "layer_replication", "loftq_config", "lora_bias", "lora_ga_config",
    "megatron_config", "megatron_core", "monteclora_config", "qalora_group_size", "trainable_token_indices",
    "use_bdlora", "use_qalora", "velora_config",
})
"""All arguments of PEFT's LoraConfig that TRL has no name for."""
# fmt: on

FIELDS: dict[str, Field] = {
    field.name: field for field in (*_MODEL, *_DATA, *_LORA, *_OPTIMISATION, *_SAVING)
}
