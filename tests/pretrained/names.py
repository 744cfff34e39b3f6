"""The shipped models, and one that stands for any."""

import pytest

from gen_jax import pretrained

NAMES = pretrained.names()
ANY = "gated-pixelcnn-digits"
every_model = pytest.mark.parametrize("name", NAMES)
