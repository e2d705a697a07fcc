"""Build SFTTrainer from a configuration as `trl sft` 1.16 does (trl/scripts/sft.py)."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lorabench.errors import LorabenchError
from lorabench.text import visible
from lorabench.training.preflight import slow_template
from lorabench.training.preflight.meta_model import described, own_modules
from lorabench.training.preflight.patterns import patterns_problem, unlisted_problem
from lorabench.training.trainer.hardware import Hardware, device_arguments, find_hardware

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from lorabench.training.config.run_config import RunConfig
    from lorabench.training.trainer.watched import WatchedTrainer

Stage = Callable[[str], None]
IN_THREAD = {"dataloader_num_workers": 0, "dataset_num_proc": None, "enable_jit_checkpoint": False}
"""What a training beside a screen cannot have: child processes for its data, and signal handlers."""


class BuildError(LorabenchError):
    """A configuration from which TRL builds no trainer."""


def parse(config: RunConfig, **overrides: Any) -> tuple[Any, Any, Any, Any]:
    """Return TRL's ScriptArguments, SFTConfig, ModelConfig and DatasetMixtureConfig, by TRL's own parser.

    `overrides` count more than the file. What stands under `env:` is not applied here.

    Raises:
        BuildError: the parser refuses a value; says which.
    """
    from trl.scripts.utils import DatasetMixtureConfig, ScriptArguments, TrlParser
    from trl.trainer.model_config import ModelConfig
    from trl.trainer.sft_config import SFTConfig

    parser: Any = TrlParser([ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig])  # type: ignore[list-item]
    values = {name: value for name, value in config.values.items() if name != "env"}
    parser.set_defaults_with_config(**values | overrides)
    told = io.StringIO()
    try:
        # argparse ends the process when it refuses something, and says why on stderr.
        with contextlib.redirect_stderr(told):
            script, training, model, data = parser.parse_args_into_dataclasses(args=[])
    except SystemExit as error:
        why = visible(told.getvalue().rpartition("error: ")[2].strip())
        raise BuildError(f"TRL's parser refuses the file: {why}") from error
    return script, training, model, data


def build(
    config: RunConfig,
    *,
    hardware: Hardware | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    in_thread: bool = False,
    stage: Stage = lambda _: None,
) -> WatchedTrainer:
    """Return the trainer of this configuration, its model loaded and its rows prepared.

    `in_thread` sets what `IN_THREAD` says. `stage` is told "loading" and "preparing" when these begin.

    Raises:
        LorabenchError, OSError, ValueError, …: whatever TRL, transformers, datasets or PEFT raise.
    """
    from transformers import PrinterCallback, set_seed
    from trl.trainer.utils import get_quantization_config

    from lorabench.training.trainer.watched import WatchedTrainer

    stage("loading")
    _refuse_endless_patterns(config)
    overrides: dict[str, Any] = device_arguments(config, hardware or find_hardware())
    overrides["output_dir"] = str(config.folder)
    if not config.has("logging_nan_inf_filter"):
        overrides["logging_nan_inf_filter"] = False  # it would log the losses before a NaN in its place
    if in_thread:
        overrides |= IN_THREAD
    script, training, model, data = parse(config, **overrides)
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": training.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    } | (training.model_init_kwargs or {})
    # TRL splits a mixture at random: unseeded, a resumed run would train on what it evaluated on before.
    set_seed(training.seed)
    rows = load_rows(script, data)
    try:
        with slow_template.templates_bounded(each=True):
            trainer = WatchedTrainer(
                stage=stage,
                model=model.model_name_or_path,
                args=training,
                train_dataset=rows[script.dataset_train_split],
                eval_dataset=rows[script.dataset_test_split] if training.eval_strategy != "no" else None,
                quantization_config=get_quantization_config(model),
                peft_config=config.peft_config(),
                callbacks=list(callbacks),
            )
    except slow_template.SlowTemplate:
        raise BuildError(slow_template.endless(config, "one row")) from None
    # The Trainer puts this one in for `disable_tqdm`; it prints.
    trainer.remove_callback(PrinterCallback)
    if training.fp16 and not trainer.is_deepspeed_enabled:  # DeepSpeed scales by itself
        train_in_float32(trainer.model)
    return trainer


def _refuse_endless_patterns(config: RunConfig) -> None:
    """Refuse expressions that PEFT would try for years on this model, or on one with code of its own.

    Raises:
        BuildError: names the expression.
    """
    model = described(config)
    if model is not None:
        if not model.asked:
            raise BuildError(model.problem)
        return
    lora = config.peft_config()
    if lora is None:
        return
    try:
        modules = own_modules(config)
    except Exception:  # noqa: BLE001  code of its own can raise anything; loading the model says what
        problem = unlisted_problem(lora)
    else:
        problem = patterns_problem(lora, modules)
    if problem:
        raise BuildError(problem)


def train_in_float32(model: Any) -> None:
    """Make the trained parameters float32, as fp16 needs them; to be called before the optimizer is made.

    fp16 scales the loss, and PyTorch's GradScaler unscales gradients of float32 only: those of float16 it
    refuses, and for bfloat16, to which SFTTrainer casts the adapter of a quantized model, it has no kernel.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def overridden(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each field of the file that a training in the workbench's thread overrides."""
    for name, value in IN_THREAD.items():
        if config.has(name) and config.get(name) != value:
            asked, taken = json.dumps(config.get(name)), json.dumps(value)
            yield (
                f"{name} is {taken} here, not {asked} as in the file, which cannot be beside the screens. "
                "lorabench train, and lorabench --own-process, do as the file says."
            )


def load_rows(script: Any, data: Any) -> Any:
    """Return the splits that the file names; `datasets` counts more than `dataset_name`, as in `trl sft`.

    Raises:
        BuildError: the file names no data.
    """
    import datasets
    from trl.scripts.utils import get_dataset

    if data.datasets:
        return get_dataset(data)
    if script.dataset_name:
        return datasets.load_dataset(
            script.dataset_name, name=script.dataset_config, streaming=script.dataset_streaming
        )
    raise BuildError("No data: neither dataset_name nor datasets is set.", "Set dataset_name to a folder.")
