"""`lorabench demo` from the command line; what it trains is tested with the training."""

import json


def test_a_folder_of_somebody_elses_is_not_rebuilt_into(lorabench, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = lorabench("demo", "--rebuild", tmp_path)
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_adapter_that_is_not_there_is_named(lorabench, tmp_path, samples):
    done = lorabench("demo", "--ask", "Hello?", "--adapter", tmp_path / "nothing", cwd=samples.parent)
    assert done.returncode == 2
    assert done.stderr.startswith("lorabench: ")
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_model_answers_and_an_adapter_changes_its_style(lorabench, samples):
    rows = (samples / "demo-data" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    question = json.loads(rows[0])["messages"][0]["content"]
    plain = lorabench("demo", "--ask", question, cwd=samples.parent)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert len(plain.stdout.split()) >= 3
    adapter = samples / "style-overtrained-r32"
    styled = lorabench("demo", "--ask", question, "--adapter", adapter, cwd=samples.parent)
    assert (styled.returncode, styled.stderr) == (0, "")
    assert styled.stdout != plain.stdout
