"""experiments.benchmarks.accelerator: figures that belong together, as far as there is time."""

import json
import threading
import time

import pytest

from experiments.benchmarks import accelerator, accelerator_table
from experiments.benchmarks.accelerator_figure import Figure


def test_measures_to_the_end_on_a_cpu(tmp_path, capsys):
    accelerator.main([f"--output={tmp_path}", "--repeats=1", "--precision=highest"])
    result = json.loads((tmp_path / "accelerator.json").read_text())
    assert result["sizes"] == "small"
    assert result["precision"] == "highest"
    figures = result["figures"]
    assert not [x for x in figures if "failed" in x]
    methods = {(x["model"], x["method"]) for x in figures}
    ours = ("scan", "block_fixed_point", "one pass")
    for model in ("Gated PixelCNN, 1 x 4", "Image Transformer, full, 1 x 4"):
        assert {(model, method) for method in ours} <= methods
    (step,) = [x for x in figures if x["kind"] == "training"]
    assert step["share_of_matmul"] == pytest.approx(step["tflops"] / result["matmul_tflops"])
    for figure in figures:
        assert figure["images_per_second"] == pytest.approx(figure["batch"] / figure["seconds"])
        assert figure["seconds"] > 0
    printed = capsys.readouterr().out
    table = (tmp_path / "accelerator.md").read_text()
    for figure in figures:
        assert accelerator_table.line(figure) in printed
        assert figure["model"] in table
    assert "left out" not in printed


def figure(name, prepare):
    return Figure({"kind": "sampling", "model": name}, prepare)


def test_nothing_is_timed_while_anything_compiles():
    """The figures come in order, a wave of compilations at a time."""
    compiling, seen = threading.Semaphore(2), []

    def prepare(name):
        with compiling:
            time.sleep(0.02)

        def measure():
            assert compiling._value == 2
            seen.append(name)
            return {"seconds": 1.0}

        return measure

    wanted = [figure(name, lambda name=name: prepare(name)) for name in "abcde"]
    found = list(accelerator.measured(wanted, time.monotonic() + 60, compilers=2))
    assert seen == [x["model"] for x in found] == list("abcde")


def test_what_is_there_when_time_is_up_is_the_result():
    """And a figure that fails does not take the others with it."""
    for_ever = threading.Event()

    def fails():
        raise RuntimeError("RESOURCE_EXHAUSTED: out\nof memory")

    wanted = [
        figure("first", lambda: lambda: {"seconds": 1.0}),
        figure("large", fails),
        figure("slow", lambda: for_ever.wait(30)),
    ]
    start = time.monotonic()
    found = list(accelerator.measured(wanted, start + 0.3, compilers=2))
    for_ever.set()
    assert time.monotonic() - start < 10
    assert [x["model"] for x in found] == ["first", "large"]
    assert found[1]["failed"] == "RESOURCE_EXHAUSTED: out of memory"


def test_one_that_compiles_too_long_does_not_take_its_wave_with_it():
    for_ever = threading.Event()
    wanted = [
        figure("first", lambda: lambda: {"seconds": 1.0}),
        figure("slow", lambda: for_ever.wait(30)),
        figure("third", lambda: lambda: {"seconds": 2.0}),
        figure("of the next wave", lambda: lambda: {"seconds": 3.0}),
    ]
    found = list(accelerator.measured(wanted, time.monotonic() + 1, compilers=3))
    for_ever.set()
    assert [(x["model"], x["while_others_compiled"]) for x in found] == [
        ("first", True),
        ("third", True),
    ]


def test_the_table_says_what_failed():
    about = {"kind": "sampling", "model": "Large", "batch": 8192, "method": "naive"}
    result = {"device": "1 x card", "precision": "default", "repeats": 3}
    table = accelerator_table.markdown(result | {"figures": [about | {"failed": "no memory"}]})
    assert table.endswith("\n- Large, batch 8192, naive: failed: no memory\n")
