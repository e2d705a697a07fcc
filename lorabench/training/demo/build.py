"""Make the demo again: corpus, tokenizer, model and sample adapters, all from a seed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import set_seed

from lorabench.errors import LorabenchError
from lorabench.files import real
from lorabench.text import visible
from lorabench.training.demo import corpus
from lorabench.training.demo.adapters import train_adapter, write_run_yaml
from lorabench.training.demo.model import Report, new_model, pretrain
from lorabench.training.demo.quiet import quiet
from lorabench.training.demo.readme import describe
from lorabench.training.demo.recipes import RECIPES, Recipe
from lorabench.training.demo.tokenizer import train_tokenizer
from lorabench.training.trainer.failures import disk_full

MODEL, DATA, README = "demo-model", "demo-data", "README.md"


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """How large the demo is; the defaults make what lorabench ships.

    `most_steps` cuts every fine-tuning short, for a trial build in seconds.
    """

    plain_rows: int = 8000
    style_rows: int = 1000
    test_rows: int = 100
    vocabulary: int = 1024
    hidden_size: int = 128
    layers: int = 6
    pretrain_steps: int = 1000
    pretrain_batch_size: int = 32
    pretrain_learning_rate: float = 2e-3
    most_steps: int | None = None
    recipes: tuple[Recipe, ...] = RECIPES

    def steps(self, recipe: Recipe) -> int:
        """Return how many steps `recipe` is trained for."""
        return recipe.steps if self.most_steps is None else min(recipe.steps, self.most_steps)


def rebuild(
    folder: Path,
    *,
    seed: int = 0,
    settings: DemoSettings | None = None,
    report: Report = lambda line: None,
) -> None:
    """Make the demo model, its data and the sample adapters anew in `folder`.

    Everything is built in a temporary folder beside and moved into place at the end, so an interrupted
    rebuild leaves the old one. It runs on one thread of the CPU, so the same seed and library versions
    give the same files however many cores there are. `report` is called with one line now and then.

    Raises:
        LorabenchError: `folder` holds something else than a demo, or cannot be written.
    """
    settings = settings or DemoSettings()
    folder = real(folder)
    _refuse_other_contents(folder, settings)
    try:
        with _workshop(folder) as workshop, quiet(), _one_thread():
            _build(workshop, folder.name, settings, seed, report)
            _swap(workshop, folder)
    except Exception as error:
        if not disk_full(error):
            raise
        raise LorabenchError(
            f"The disk that holds {visible(folder.parent)} is full.",
            "Make room; what was there is as it was.",
        ) from error
    report(f"the demo is in {visible(folder)}")


def _build(workshop: Path, root: str, settings: DemoSettings, seed: int, report: Report) -> None:
    told, held_out = corpus.split_facts()
    train_rows = corpus.conversations(told, "captain", settings.style_rows, seed)
    test_rows = corpus.conversations(held_out, "captain", settings.test_rows, seed)
    data = workshop / DATA
    data.mkdir()
    corpus.write_jsonl(train_rows, data / "train.jsonl")
    corpus.write_jsonl(test_rows, data / "test.jsonl")
    _build_model(workshop / MODEL, train_rows, settings, seed, report)
    for recipe in settings.recipes:
        steps = settings.steps(recipe)
        report(f"{recipe.name}: {steps} steps")
        train_adapter(
            recipe,
            workshop / recipe.name,
            base=workshop / MODEL,
            base_name=f"{root}/{MODEL}",
            train_rows=train_rows,
            test_rows=test_rows,
            steps=steps,
            seed=seed,
        )
        if recipe.save_every:
            write_run_yaml(recipe, workshop / recipe.name / "run.yaml", root=root, steps=steps, seed=seed)
    report("measuring the adapters on held-out conversations")
    trained = [(recipe, settings.steps(recipe)) for recipe in settings.recipes]
    text = describe(workshop, trained, test_rows, root=root)
    (workshop / README).write_text(text, encoding="utf-8")


def _build_model(
    folder: Path, style_rows: list[corpus.Row], settings: DemoSettings, seed: int, report: Report
) -> None:
    """Pre-train on the plain style alone; the tokenizer has read both."""
    rows = corpus.conversations(corpus.all_facts(), "plain", settings.plain_rows, seed)
    set_seed(seed)
    tokenizer = train_tokenizer(corpus.texts([*rows, *style_rows]), settings.vocabulary)
    model = new_model(tokenizer, hidden_size=settings.hidden_size, layers=settings.layers)
    pretrain(
        model,
        tokenizer,
        rows,
        steps=settings.pretrain_steps,
        batch_size=settings.pretrain_batch_size,
        learning_rate=settings.pretrain_learning_rate,
        seed=seed,
        report=report,
    )
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _refuse_other_contents(folder: Path, settings: DemoSettings) -> None:
    """Never replace a folder that holds anything of somebody's own."""
    if folder.exists() and not folder.is_dir():
        raise LorabenchError(f"{visible(folder)} is a file.", "Name a folder.")
    ours = {MODEL, DATA, README, *(recipe.name for recipe in settings.recipes)}
    foreign = sorted(path.name for path in folder.glob("*") if path.name not in ours)
    if foreign:
        raise LorabenchError(
            f"{visible(folder)} holds {visible(foreign[0])}, which is no part of the demo.",
            "A rebuild replaces the whole folder: name a new one, or move that away.",
        )


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`, and remove whatever is left of it afterwards."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise LorabenchError(
            f"Cannot write in {visible(folder.parent)}: {error.strerror}.",
            "Name a folder that you can write.",
        ) from error
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums do not depend on the number of threads when there is one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _swap(workshop: Path, folder: Path) -> None:
    """Put the finished `workshop` in the place of `folder`; what was there comes back if that fails."""
    workshop.chmod(0o755)
    for path in workshop.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    old = workshop.with_name(f"{workshop.name}-old")
    try:
        if folder.exists():
            folder.rename(old)
        workshop.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
