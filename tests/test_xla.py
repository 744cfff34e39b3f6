"""Options of XLA: for a purpose and a platform, as far as this version knows them."""

import pytest

from gen_jax import xla

pytestmark = pytest.mark.quick

PURPOSES = ("sampling", "training", "evaluation")


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    known = {"xla_cpu_copy_insertion_use_region_analysis": True}
    options = {("sampling", "cpu"): {**known, "xla_cpu_of_another_version": True}}
    monkeypatch.setattr(xla, "_OPTIONS", options)
    ask = xla.compiler_options.__wrapped__
    assert ask("sampling", "cpu") == known
    assert ask("training", "cpu") == ask("sampling", "tpu") == {}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_xla_knows_our_options(purpose):
    """Where it does not, programs are slower: see whether this version has another name."""
    assert xla.compiler_options(purpose, "cpu") == xla._OPTIONS[purpose, "cpu"] != {}
