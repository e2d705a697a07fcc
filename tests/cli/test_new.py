"""`lorabench new` from the command line; what it writes is tested with the configuration."""

from lorabench.training.config.fields import FIELDS
from lorabench.training.config.run_config import RunConfig


def test_a_new_run_is_written_once_and_what_to_do_next_is_said(lorabench, tmp_path):
    done = lorabench("new", "my run", "--preset", "all-linear", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "trl sft --config 'my run/run.yaml'" in done.stdout
    path = tmp_path / "my run" / "run.yaml"
    config = RunConfig.load(path)
    assert (config.get("lora_r"), config.folder) == (64, tmp_path / "my run")
    before = path.read_bytes()
    again = lorabench("new", "my run", cwd=tmp_path)
    assert again.returncode == 2
    assert "my run/run.yaml is there already" in again.stderr
    assert path.read_bytes() == before


def test_an_unknown_preset_and_data_that_are_not_there_write_nothing(lorabench, tmp_path):
    for words, said in (
        (("--preset", "lora"), "There are style, qlora, all-linear."),
        (("--data", "rows.jsonl"), "rows.jsonl is not there."),
        (("--model", "./model"), "model is not there."),
    ):
        done = lorabench("new", "run", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_declared_field_is_listed_with_what_it_may_be(lorabench):
    done = lorabench("new", "--fields")
    assert (done.returncode, done.stderr) == (0, "")
    for field in FIELDS.values():
        assert any(field.name in line and field.allowed in line for line in done.stdout.splitlines()), (
            field.name
        )
