"""The preflight: every check of a configuration, the cheap ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lorabench.errors import LorabenchError
from lorabench.text import visible
from lorabench.training.config.field import FieldProblem
from lorabench.training.config.field import described as spelled
from lorabench.training.config.fields import FIELDS, OUR_KEY
from lorabench.training.config.later import later_problems
from lorabench.training.config.run_config import RunConfig
from lorabench.training.config.trl_check import trl_problems
from lorabench.training.preflight.advice import USUAL_RATE, advice_findings
from lorabench.training.preflight.coverage import coverage_findings
from lorabench.training.preflight.data import data_findings, train_row_count
from lorabench.training.preflight.finding import Finding, Mend
from lorabench.training.preflight.mask import mask_findings
from lorabench.training.preflight.measure import measure
from lorabench.training.preflight.memory import memory_findings
from lorabench.training.preflight.meta_model import described, model_findings
from lorabench.training.preflight.precision import precision_findings
from lorabench.training.preflight.resume import resume_findings
from lorabench.training.preflight.serving import serving_findings
from lorabench.training.preflight.steps import steps_findings
from lorabench.training.preflight.trainable import trainable_findings

_MOST_ADAPTIVE, _MOST_PLAIN = 1e-2, 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """A check under the name that its findings carry."""

    name: str
    run: Callable[[RunConfig], Iterable[Finding]]


def preflight(config: RunConfig, *, advice: bool = False) -> Iterator[Finding]:
    """Yield what each check finds, as it finds it; `advice` asks for the opinions too."""
    for check in checks_of(config, advice=advice):
        yield from findings_of(check, config)


def checks_of(config: RunConfig, *, advice: bool) -> tuple[Check, ...]:
    """Return the checks in the order in which they are made; of a text that is no YAML, why it is none."""
    if config.broken:
        return CHECKS[:1]
    return (*CHECKS, ADVICE) if advice else CHECKS


def findings_of(check: Check, config: RunConfig) -> Iterator[Finding]:
    """Yield what one check finds; one that fails is itself a finding, an error that names the exception."""
    try:
        yield from check.run(config)
    except LorabenchError as error:
        yield Finding(check.name, "error", error.message, error.hint)
    except Exception as error:  # noqa: BLE001  the other checks still have something to say
        yield Finding(
            check.name,
            "error",
            f"This check failed with {type(error).__name__}: {error}",
            "It could not be foreseen what this configuration does here. If the configuration is right, "
            "this is a defect of lorabench: please report this line.",
        )


def _config(config: RunConfig) -> list[Finding]:
    """Say what is wrong with the fields that lorabench declares."""
    fine = Finding("config", "ok", "Every field has a value that it can have.")
    found = [_of("config", each, _meanwhile(config, each.name)) for each in config.problems] or [fine]
    return [*found, *_learning_rate(config), *_passed_by(config)]


def _learning_rate(config: RunConfig) -> Iterator[Finding]:
    """Warn of a learning rate with which no LoRA run is known to learn.

    An adaptive optimizer moves each number by about the rate itself, SGD by the rate times its gradient.
    """
    rate = float(config.get("learning_rate"))
    optimizer = str(getattr(config.get("optim"), "value", config.get("optim")))
    plain = "sgd" in optimizer
    if rate > (_MOST_PLAIN if plain else _MOST_ADAPTIVE):
        message = f"learning_rate {rate:g} is far above what LoRA runs use with {visible(optimizer)}."
        usual = (
            "1e-5 … 1e-3 is usual with AdamW and its kin; plain SGD bears up to 1. Beyond it the loss grows "
        )
        mend = None if plain else Mend(f"learning_rate {USUAL_RATE:g}", {"learning_rate": USUAL_RATE})
        yield Finding("config", "warning", message, f"{usual}or becomes NaN.", mend, "learning_rate")


def _passed_by(config: RunConfig) -> Iterator[Finding]:
    """Warn of the LoRA fields that TRL has no name for: `trl sft` trains something else than lorabench."""
    fields = {name: FIELDS[name].default for name in config.lora_extra if name in FIELDS}
    names = [name for name, value in config.lora_extra.items() if value != fields.get(name)]
    if names and config.get("use_peft"):
        it = "it" if len(names) == 1 else "them"
        yield Finding(
            "config",
            "warning",
            f"`trl sft` would train without {visible(', '.join(names))} (under env: {OUR_KEY}: lora:).",
            f"TRL has no field for {it}; lorabench train uses {it}. Start the run with lorabench train, or "
            f"take {it} out for trl sft.",
        )


def _trl(config: RunConfig) -> list[Finding]:
    """Say what TRL's own dataclasses refuse, and what they let pass and the start of the run would not."""
    fine = Finding("trl", "ok", "TRL knows every field, and accepts them.")
    problems = [*trl_problems(config), *later_problems(config)]
    return [_of("trl", problem) for problem in problems] or [fine]


def _meanwhile(config: RunConfig, name: str) -> str:
    """Say what stands for a field whose value cannot be; "" where it is another thing that is wrong."""
    value = {**config.values, **config.lora_extra}.get(name)
    if name not in FIELDS or not config.has(name) or FIELDS[name].problem(value) is None:
        return ""
    return f"Meanwhile all other checks take its default, {spelled(FIELDS[name].default)}."


def _of(check: str, problem: FieldProblem, taken: str = "") -> Finding:
    told = problem.line is None or problem.message.startswith(f"Line {problem.line}")
    where = "" if told else f"line {problem.line}"
    detail = "\n".join(filter(None, (where, problem.allowed and f"allowed: {problem.allowed}", taken)))
    return Finding(check, problem.level, problem.message, detail, problem.mend)


def _steps(config: RunConfig) -> Iterable[Finding]:
    """Count the steps of the rows that will be trained on."""
    model = described(config)
    if config.get("streaming" if config.get("datasets") else "dataset_streaming"):
        return steps_findings(config, None)
    try:
        rows, measured = train_row_count(config), measure(config)
    except LorabenchError as error:
        message = "The steps cannot be counted before the rows can be read and prepared."
        return [Finding("steps", "warning", message, error.message)]
    tokens = round(measured.seen * rows / len(measured.lengths)) if config.get("packing") else None
    return steps_findings(config, rows, tokens=tokens, trainable=model.trainable if model else 0)


def _memory(config: RunConfig) -> Iterable[Finding]:
    """Estimate the memory; without data that can be measured, for rows as long as they may be."""
    try:
        longest = max(measure(config).lengths.values())
    except LorabenchError:
        longest = None
    return memory_findings(config, longest=longest)


def _advice(config: RunConfig) -> Iterable[Finding]:
    try:
        rows = train_row_count(config)
    except LorabenchError:
        rows = None
    return advice_findings(config, rows=rows)


CHECKS = (
    Check("config", _config),
    Check("precision", precision_findings),
    Check("serving", serving_findings),
    Check("resume", resume_findings),
    Check("model", model_findings),
    Check("coverage", coverage_findings),
    Check("trainable", trainable_findings),
    Check("trl", _trl),
    Check("data", data_findings),
    Check("loss", mask_findings),
    Check("steps", _steps),
    Check("memory", _memory),
)
ADVICE = Check("advice", _advice)
