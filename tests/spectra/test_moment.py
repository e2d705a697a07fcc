"""ΔW over a run's checkpoints: an event of each, as a trainer writes them."""

import json
import math
import shutil

import pytest

from lorabench.adapters.open import open_adapter
from lorabench.runs.events import EventWriter, Follower
from lorabench.runs.record import RunRecord
from lorabench.spectra.analysis import spectra_of
from lorabench.spectra.moment import spectra_event, spectra_over
from tests.spectra.made import random_pair, write_adapter


@pytest.fixture(scope="module")
def events(samples):
    """The events of a sample that kept four checkpoints."""
    return list(spectra_over(samples / "style-checkpoints-r8"))


def test_each_checkpoint_is_there_in_order_with_what_analyze_says(events, samples):
    assert [event["step"] for event in events] == [60, 120, 180, 240]
    adapter = open_adapter(samples / "style-checkpoints-r8" / "checkpoint-120")
    for spectrum in spectra_of(adapter):
        numbers = events[1]["modules"][spectrum.layer.name]
        assert numbers["norm"] == pytest.approx(spectrum.frobenius_norm, rel=5e-6)
        interval = (spectrum.alpha.low, spectrum.alpha.high)
        assert (numbers["low"], numbers["high"]) == pytest.approx(interval, rel=5e-6)
    assert all(event["dead"] == [] and event["unreadable"] == {} for event in events)


def test_the_record_of_a_run_takes_them_as_its_own(events, tmp_path):
    with EventWriter(tmp_path) as writer:
        for event in events:
            fields = {name: value for name, value in event.items() if name != "kind"}
            writer.write(event["kind"], **fields)
    record = RunRecord()
    for event in Follower(tmp_path / "events.jsonl").read():
        record.add(event)
    assert (record.spectra_before["step"], record.spectra["step"]) == (180, 240)
    norms = [number["norm"] for number in events[-1]["modules"].values()]
    assert record.norms.last == pytest.approx(math.sqrt(sum(norm**2 for norm in norms)))


def test_a_torn_checkpoint_is_passed_over_and_one_comes_at_a_time(samples, tmp_path):
    run = shutil.copytree(samples / "style-checkpoints-r8", tmp_path / "run")
    torn = run / "checkpoint-120" / "adapter_model.safetensors"
    torn.write_bytes(torn.read_bytes()[:1000])
    (run / "checkpoint-90").mkdir()
    (run / "checkpoint-last").mkdir()
    stream = spectra_over(run)
    assert next(stream)["step"] == 60
    shutil.rmtree(run / "checkpoint-180")
    assert [event["step"] for event in stream] == [240]


def test_the_adapter_at_the_end_counts_as_the_last_step_unless_it_is_a_checkpoints(samples, tmp_path):
    run = shutil.copytree(samples / "style-checkpoints-r8", tmp_path / "run")
    shutil.rmtree(run / "checkpoint-240")
    final = samples / "style-checkpoints-r8" / "checkpoint-240"
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(final / name, run / name)
    assert [event["step"] for event in spectra_over(run, last=250)] == [60, 120, 180, 250]
    (event,) = spectra_over(run, after=238, last=250)
    norms = [spectrum.frobenius_norm for spectrum in spectra_of(open_adapter(final))]
    assert [module["norm"] for module in event["modules"].values()] == pytest.approx(norms, rel=5e-6)
    assert [event["step"] for event in spectra_over(run, after=120, last=180)] == [180]
    best = run / "checkpoint-60" / "adapter_model.safetensors"
    shutil.copy(best, run / best.name)
    assert [event["step"] for event in spectra_over(run, after=120, last=250)] == [180]


def test_a_dead_layer_and_one_with_a_nan_are_told_apart(tmp_path):
    dead_a, dead_b = random_pair(24, 32, 8)
    nan_a, nan_b = random_pair(24, 32, 8)
    nan_b[3, 3] = float("nan")
    pairs = {"0.q": (dead_a, dead_b * 0), "1.q": (nan_a, nan_b), "2.q": random_pair(24, 32, 8)}
    event = spectra_event(3, 0.5, spectra_of(open_adapter(write_adapter(tmp_path, pairs))))
    assert event["dead"] == ["model.layers.0.q"]
    assert list(event["unreadable"]) == ["model.layers.1.q"]
    assert list(event["modules"]) == ["model.layers.0.q", "model.layers.2.q"]
    assert event["modules"]["model.layers.0.q"] == {
        "norm": 0.0,
        "sigma1": 0.0,
        "stable_rank": 0.0,
        "alpha": None,
        "low": None,
        "high": None,
    }
    assert json.loads(json.dumps(event)) == event
