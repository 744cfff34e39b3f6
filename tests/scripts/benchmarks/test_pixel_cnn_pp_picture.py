"""experiments.benchmarks.pixel_cnn_pp_picture."""

import numpy as np

from experiments.benchmarks import pixel_cnn_pp_picture


def test_draws_two_panels(tmp_path):
    path = tmp_path / "new" / "pixelcnn-pp.png"
    pixel_cnn_pp_picture.main([f"--output={path}", "--image-size=8", "--pixel", "5", "3"])
    assert path.stat().st_size > 1000


def test_every_pixel_before_one_is_read_and_none_after():
    for row, column in np.ndindex(8, 8):
        regions = pixel_cnn_pp_picture.lowest_read(8, row, column).reshape(-1)
        pixel = row * 8 + column
        assert (regions[:pixel] > 0).all()
        assert regions[pixel] == 4
        assert not regions[pixel + 1 :].any()


def test_a_resolution_is_computed_at_each_of_its_blocks():
    counts = np.bincount(pixel_cnn_pp_picture.lowest_computed(8).reshape(-1), minlength=4)
    np.testing.assert_array_equal(counts, [0, 48, 12, 4])
