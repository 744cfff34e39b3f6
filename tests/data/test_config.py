"""What stands for a configuration, its form in JSON, and the types of its options."""

import json
from pathlib import Path

import numpy as np
import pytest

from gen_jax import data
from gen_jax.data import DataConfig
from tests.image_sets import gray, save_npz

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("binarize", "sometimes", ValueError, "binarize is 'sometimes'; accepted:"),
        ("values", "codes", ValueError, r"values is 'codes'; accepted: intensity, levels"),
        ("background", None, ValueError, "background is None; accepted:"),
        ("levels", 4.5, TypeError, "levels is 4.5; accepted: whole"),
        ("levels", "4", TypeError, "levels is '4'; accepted: whole"),
        ("size", 8, TypeError, r"size \(height, width\) is 8; accepted: 2"),
        ("size", (8,), ValueError, r"size \(height, width\) is \(8,\); accepted: 2"),
        ("seed", None, TypeError, "seed is None; accepted: whole"),
        ("flip", "yes", TypeError, "flip is 'yes'; accepted: True, False"),
        ("name", 3, TypeError, "name is 3; accepted: a text, or a path"),
        ("data_dir", 3, TypeError, "data_dir is 3; accepted: a text, or a path"),
    ],
)
def test_values_that_an_option_does_not_have(key: str, value, kind: type, message: str):
    config = DataConfig()
    object.__setattr__(config, key, value)  # past the type checker of the tests
    with pytest.raises(kind, match=message) as error:
        data.load(config)
    assert "\n" not in str(error.value)


def test_a_name_or_a_path_stands_for_a_configuration(tmp_path: Path):
    assert data.load("digits").fingerprint == data.load(DataConfig()).fingerprint
    path = Path(save_npz(tmp_path / "a.npz", images=gray(30)))
    assert data.load(path).fingerprint == data.load(DataConfig(str(path))).fingerprint
    config = DataConfig()
    object.__setattr__(config, "size", [np.int64(4), 4])
    object.__setattr__(config, "levels", np.int32(17))
    dataset = data.load(config)
    assert (dataset.image_shape, dataset.levels) == ((4, 4, 1), 17)


def test_configurations_of_before_and_as_json():
    before = {"name", "data_dir", "binarize", "levels", "size", "grayscale", "validation", "test"}
    fields = data.to_dict(DataConfig("x", size=(3, 4)))
    assert fields.keys() == {*before, "seed"}  # as runs of before have it
    config = DataConfig("x", values="levels", flip=True, shift=2)
    fields = json.loads(json.dumps(data.to_dict(config)))
    assert fields.keys() == {*before, "seed", "values", "flip", "shift"}
    assert DataConfig(**fields) == config
