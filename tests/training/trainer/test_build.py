"""The trainer that lorabench builds, compared with the one that `trl sft` builds from the same file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trl
import yaml
from peft import LoraConfig
from transformers import PrinterCallback
from trl.scripts import sft

from lorabench.training.config.run_config import RunConfig
from lorabench.training.trainer import watched
from lorabench.training.trainer.build import BuildError, build, overridden, parse
from lorabench.training.trainer.hardware import Hardware, device_arguments, find_hardware, gpus_of
from tests.training.trainer.runs import SAMPLES, rows_file, run_file

GPU = Hardware("cuda", "NVIDIA A100", (8, 0))
CPU = Hardware("cpu", "CPU")
DATA = SAMPLES / "demo-data"


class Recorder:
    """Stands where SFTTrainer does, and keeps what it was given."""

    given: dict[str, Any]

    def __init__(self, **given: Any) -> None:
        Recorder.given = given

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self

    accelerator = property(lambda self: self)


def as_trl_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(trl, "SFTTrainer", Recorder)
    parsed = sft.make_parser().parse_args_and_config(["--config", str(path)], fail_with_unknown_args=False)
    np.random.seed(
        parsed[1].seed
    )  # TRL's split of a mixture takes NumPy's own state; ours has the run's seed
    sft.main(*parsed)
    return Recorder.given


def as_we_build(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(watched, "WatchedTrainer", Recorder)
    build(RunConfig.load(path))
    return Recorder.given


FILES: dict[str, dict[str, Any]] = {
    "a folder of messages": {},
    "a number that YAML reads as text": {"learning_rate": "2e-4"},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 5},
    "a mixture with a test split": {
        "dataset_name": None,
        "datasets": [
            {"path": "json", "data_files": str(DATA / "train.jsonl"), "fraction": 0.9},
            {"path": str(DATA), "split": "test[:20%]", "columns": ["messages"], "fraction": 0.1},
        ],
        "test_split_size": 0.1,
        "eval_strategy": "epoch",
        "seed": 3,
    },
    "another split": {"dataset_train_split": "test"},
    "a stream": {"dataset_streaming": True},
    "four bits": {"load_in_4bit": True, "use_bnb_nested_quant": True, "dtype": "bfloat16"},
    "eight bits": {"load_in_8bit": True},
    "arguments for the model": {
        "attn_implementation": "eager",
        "model_revision": "main",
        "model_init_kwargs": {"low_cpu_mem_usage": True, "dtype": "float16"},
    },
    "checkpointing by its newer name": {"gradient_checkpointing": None, "activation_checkpointing": False},
    "no adapter": {"use_peft": False},
    "LoRA's options": {"use_rslora": True, "lora_dropout": 0.1, "lora_modules_to_save": ["lm_head"]},
    "hub and reports": {"push_to_hub": True, "hub_model_id": "a/b", "report_to": ["tensorboard"]},
}


@pytest.mark.parametrize("changes", FILES.values(), ids=FILES)
def test_sfttrainer_is_given_what_trl_sft_gives_it(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {"use_cpu": True, "logging_nan_inf_filter": True, "gradient_checkpointing": False}
    path = run_file(tmp_path, **(same | changes))
    theirs, ours = as_trl_builds(path, monkeypatch), as_we_build(path, monkeypatch)
    del ours["stage"]
    assert ours.pop("callbacks") == []
    assert ours.keys() == theirs.keys()
    assert ours["model"] == theirs["model"] == str(SAMPLES / "demo-model")
    assert ours["args"].to_dict() == theirs["args"].to_dict()
    assert settings(ours["peft_config"]) == settings(theirs["peft_config"])
    assert settings(ours["quantization_config"]) == settings(theirs["quantization_config"])
    for split in ("train_dataset", "eval_dataset"):
        assert rows(ours[split]) == rows(theirs[split])


def settings(config: Any) -> Any:
    return None if config is None else config.to_dict()


def rows(dataset: Any) -> Any:
    return None if dataset is None else list(dataset)


def test_what_trl_has_no_name_for_reaches_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_file(tmp_path, env={"LORABENCH": {"lora": {"rank_pattern": {"q_proj": 2}}}})
    lora = as_we_build(path, monkeypatch)["peft_config"]
    assert isinstance(lora, LoraConfig)
    assert lora.rank_pattern == {"q_proj": 2}


def test_whether_nan_ends_a_run_is_true_or_false(tmp_path: Path) -> None:
    told = {value: RunConfig.of({"env": {"LORABENCH": {"stop_on_nan": value}}}) for value in (True, False, 3)}
    assert {value: config.stop_on_nan for value, config in told.items()} == {
        True: True,
        False: False,
        3: True,
    }
    assert [bool(config.problems) for config in told.values()] == [False, False, True]
    assert RunConfig.of({}).stop_on_nan


def test_a_value_that_the_parser_refuses_is_a_sentence_and_no_exit(tmp_path: Path) -> None:
    path = run_file(tmp_path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"max_steps": "ten"}))
    with pytest.raises(BuildError, match="argument --max_steps/--max-steps: invalid int value: 'ten'"):
        parse(RunConfig.load(path))


def test_data_that_nobody_names_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="neither dataset_name nor datasets"):
        build(RunConfig.load(run_file(tmp_path, dataset_name=None)))


@pytest.mark.parametrize(
    ("hardware", "changes", "expected"),
    [
        (CPU, {}, {"use_cpu": True, "bf16": False, "fp16": False}),
        (CPU, {"bf16": None}, {"use_cpu": True, "bf16": False, "fp16": False}),
        (GPU, {"bf16": None}, {"use_cpu": False, "bf16": True, "fp16": False}),
        (GPU, {"bf16": False}, {"use_cpu": False, "bf16": False, "fp16": False}),
        (GPU, {"env": {"LORABENCH": {"precision": "auto"}}}, {"use_cpu": False, "bf16": True, "fp16": False}),
        (Hardware("cuda", "T4", (7, 5)), {"bf16": None}, {"use_cpu": False, "bf16": False, "fp16": True}),
        (Hardware("cuda", "P100", (6, 0)), {"bf16": None}, {"use_cpu": False, "bf16": False, "fp16": False}),
        (Hardware("mps", "mps"), {"bf16": None}, {"use_cpu": False, "bf16": False, "fp16": False}),
        (GPU, {"use_cpu": True, "bf16": None}, {"use_cpu": True, "bf16": False, "fp16": False}),
    ],
)
def test_the_device_decides_precision(
    hardware: Hardware, changes: dict[str, Any], expected: dict[str, bool], tmp_path: Path
) -> None:
    assert device_arguments(RunConfig.load(run_file(tmp_path, **changes)), hardware) == expected


def test_pytorch_says_which_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_hardware() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert find_hardware() == GPU


@pytest.mark.parametrize(
    ("devices", "count", "expected"),
    [
        (["cpu"], 0, []),
        (["cpu", "meta"], 1, []),
        (["cuda:1", "cuda:1"], 1, ["uuid of 1"]),
        (["cuda:0", "cuda:2", "cpu"], 1, ["uuid of 0", "uuid of 2"]),
        (["cuda:0"], 3, ["uuid of 0", "uuid of 1", "uuid of 2"]),
    ],
    ids=["CPU", "offloaded", "one", "device_map", "DataParallel"],
)
def test_the_gpus_that_train_are_told_by_pytorch(
    devices: list[str], count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"uuid of {device.index}")
    )
    weights = [SimpleNamespace(device=torch.device(name)) for name in devices]
    trainer: Any = SimpleNamespace(
        model=SimpleNamespace(parameters=lambda: weights), args=SimpleNamespace(n_gpu=count)
    )
    assert gpus_of(trainer) == expected


def test_a_thread_starts_no_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "WatchedTrainer", Recorder)
    path = run_file(tmp_path, dataloader_num_workers=4, dataset_num_proc=4)
    build(RunConfig.load(path), in_thread=True)
    args = Recorder.given["args"]
    assert (args.dataloader_num_workers, args.dataset_num_proc) == (0, None)


def test_what_a_thread_sets_otherwise_than_the_file_is_said_and_nothing_else() -> None:
    assert list(overridden(RunConfig("dataloader_num_workers: 0\ndataset_num_proc: null\n"))) == []
    told = list(overridden(RunConfig("dataset_num_proc: 4\nenable_jit_checkpoint: true\n")))
    assert [text.split(",")[0] for text in told] == [
        "dataset_num_proc is null here",
        "enable_jit_checkpoint is false here",
    ]


@pytest.mark.parametrize("quantized", [torch.bfloat16, torch.float16])
def test_fp16_trains_float32_whatever_sfttrainer_has_cast_the_adapter_to(
    quantized: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast = watched.WatchedTrainer.__init__

    def as_quantized(self: watched.WatchedTrainer, **arguments: Any) -> None:
        # Without a GPU: fp16 is refused, and so is a model in 4 bits, whose adapter SFTTrainer 1.16 casts.
        arguments["args"].fp16 = False
        cast(self, **arguments)
        arguments["args"].fp16 = True
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(quantized)

    monkeypatch.setattr(watched.WatchedTrainer, "__init__", as_quantized)
    trainer = build(RunConfig.load(run_file(tmp_path)))
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in trainer.model.parameters() if not p.requires_grad} == {quantized}
    optimizer = trainer.create_optimizer()
    assert {p.dtype for group in optimizer.param_groups for p in group["params"]} == {torch.float32}


def test_nothing_is_printed_for_want_of_a_progress_bar_and_lora_is_injected_once(tmp_path: Path) -> None:
    stages: list[str] = []
    trainer = build(RunConfig.load(run_file(tmp_path, disable_tqdm=True)), stage=stages.append)
    assert stages == ["loading", "preparing"]
    assert not any(isinstance(each, PrinterCallback) for each in trainer.callback_handler.callbacks)
    names = [name for name, _ in trainer.model.named_parameters() if "lora_" in name]
    assert len(names) == 24
    assert all(name.count("lora_") == 1 and name.count("base_model") == 1 for name in names)


TEXT = [{"text": f"Once upon a time there was a cat, and {n} dogs."} for n in range(8)]
PROMPTS = [{"prompt": f"How many dogs? Take {n}.", "completion": f" {n} dogs."} for n in range(8)]


@pytest.mark.parametrize("rows", [TEXT, PROMPTS], ids=["text", "prompt and completion"])
def test_rows_of_each_kind_reach_the_trainer_as_tokens(rows: list[dict[str, str]], tmp_path: Path) -> None:
    folder = rows_file(tmp_path / "rows", rows)
    path = run_file(tmp_path, dataset_name=str(folder), assistant_only_loss=None)
    trainer = build(RunConfig.load(path))
    tokenizer = trainer.processing_class
    first = trainer.train_dataset[0]
    whole = rows[0].get("text") or rows[0]["prompt"] + rows[0]["completion"]
    assert tokenizer.decode(first["input_ids"], skip_special_tokens=True).strip() == whole
    trained = [
        token for token, label in zip(first["input_ids"], first["labels"], strict=True) if label != -100
    ]
    expected = rows[0].get("text") or rows[0]["completion"]
    assert tokenizer.decode(trained, skip_special_tokens=True).strip() == expected.strip()
