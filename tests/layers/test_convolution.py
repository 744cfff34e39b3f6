"""Causal convolutions: what each tap may read, and the two views of every layer."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.layers import convolution
from gen_jax.layers.convolution import Head, MaskedConv, RowsConv
from tests.cases import layer_variables, normal

pytestmark = pytest.mark.quick


def reads(layer, height, width, in_features):
    """bool [H, W, O, H, W, I]: a layer's outputs by its inputs, from the Jacobian."""
    x = normal(1, height, width, in_features)
    variables = layer_variables(layer, x)
    jacobian = jax.jit(jax.jacobian(functools.partial(layer.apply, variables)))(x)
    return np.asarray(jacobian[0, :, :, :, 0] != 0)


CONVOLUTIONS = [  # groups, above, side, parts
    (1, 0, 0, 1),
    (3, 0, 0, 2),
    (1, 2, 2, 1),
    (3, 1, 1, 1),
    (3, 0, 2, 2),
    (2, 1, 1, 2),
]


PER_IN, PER_OUT = 2, 3  # features a group
every_convolution = pytest.mark.parametrize(("groups", "above", "side", "parts"), CONVOLUTIONS)
either_mask = pytest.mark.parametrize("mask", ["A", "B"])


def masked_conv(mask, groups, above, side, parts, beside=0):
    return MaskedConv(
        in_features=PER_IN * groups,
        features=PER_OUT * groups,
        mask=mask,
        groups=groups,
        above=above,
        side=side,
        parts=parts,
        beside=beside,
        dtype="float64",
    )


@every_convolution
@either_mask
def test_masked_convolution_reads_what_its_mask_opens(x64, mask, groups, above, side, parts):
    """Rows above and pixels to the left whole; at the centre, i < o (mask A) or i <= o (B)."""
    found = reads(masked_conv(mask, groups, above, side, parts), 4, 5, PER_IN * groups)
    for r, c, o, up, left, i in np.ndindex(found.shape):
        # Outputs are laid out [parts, groups, features a group].
        group_o, group_i = o // PER_OUT % groups, i // PER_IN
        if (up, left) == (r, c):
            expected = group_i < group_o if mask == "A" else group_i <= group_o
        elif up == r:
            expected = 0 < c - left <= side
        else:
            expected = 0 < r - up <= above and abs(c - left) <= side
        assert found[r, c, o, up, left, i] == expected, (r, c, o, up, left, i)


def test_one_group_and_mask_a_close_the_centre(x64):
    """Of a 1 × 1 convolution nothing is left but the bias."""
    layer = MaskedConv(in_features=3, features=4, mask="A", dtype="float64")
    assert not reads(layer, 2, 2, 3).any()


def test_rows_convolution_reads_rows_up_to_its_own(x64):
    """All columns in reach of this row and those above; shifted down it is causal by rows."""
    layer = RowsConv(in_features=2, features=3, kernel_height=3, kernel_width=5, dtype="float64")
    found = reads(layer, 5, 6, 2)
    for r, c, _, up, left, _ in np.ndindex(found.shape):
        assert found[r, c, 0, up, left, 0] == (0 <= r - up < 3 and abs(c - left) <= 2)
    assert (found == found[:, :, :1, :, :, :1]).all()


def test_shift_down(x64):
    x = normal(2, 3, 4, 5)
    shifted = convolution.shift_down(x)
    np.testing.assert_array_equal(shifted[:, 1:], x[:, :-1])
    assert not shifted[:, 0].any()


def test_gate_is_tanh_times_sigmoid(x64):
    x = np.asarray(normal(2, 6))
    expected = np.tanh(x[:, :3]) / (1 + np.exp(-x[:, 3:]))
    np.testing.assert_allclose(convolution.gate(jnp.asarray(x)), expected, rtol=1e-12)


def test_convolution_by_hand(x64):
    """The sum over taps, zeros outside the image, the bias everywhere."""
    layer = MaskedConv(in_features=2, features=3, mask="B", above=1, side=1, dtype="float64")
    x = np.asarray(normal(1, 3, 4, 2))
    variables = layer_variables(layer, jnp.asarray(x))
    p = jax.tree.map(np.asarray, variables["params"])
    padded = np.pad(x[0], ((1, 0), (1, 1), (0, 0)))
    expected = np.broadcast_to(p["bias"], (3, 4, 3)).copy()
    for r, c in np.ndindex(3, 4):
        for k in range(3):
            expected[r, c] += padded[r, c + k] @ p["kernel_above"][0, k]
        for k in range(2):
            expected[r, c] += padded[r + 1, c + k] @ p["kernel"][k]
    np.testing.assert_allclose(layer.apply(variables, jnp.asarray(x))[0], expected, rtol=1e-12)


# The two views.


def rows_of(x):
    """[B, H, W, F] -> rows [H, W, B, F]."""
    return jnp.transpose(x, (1, 2, 0, 3))


@pytest.mark.parametrize("platform", ["default", "cuda"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 7)])
def test_rows_convolution_row_by_row(x64, monkeypatch, rows, columns, platform):
    """`row` of the rows so far, with zeros above the image, is the whole image's row."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, **forms: forms[platform](*x))
    monkeypatch.setattr(convolution, "CACHED_WINDOWS", 0)
    layer = RowsConv(
        in_features=2, features=3, kernel_height=rows, kernel_width=columns, dtype="float64"
    )
    x = normal(2, 5, 4, 2)
    variables = layer_variables(layer, x)
    whole = rows_of(layer.apply(variables, x))
    padded = jnp.pad(rows_of(x), ((rows - 1, 0), (0, 0), (0, 0), (0, 0)))
    for r in range(5):
        row = layer.apply(variables, padded[r : r + rows], method="row")
        np.testing.assert_allclose(row, whole[r], atol=1e-12)


@pytest.mark.parametrize(
    ("batch", "platform", "kind"),
    [(8192, "cuda", "convolution"), (8192, "cpu", "windows"), (64, "cuda", "windows")],
)
def test_long_windows_are_not_written_on_cuda(batch, platform, kind):
    """Where memory bounds it: as long as rows × columns of the row's features."""
    layer = RowsConv(in_features=64, features=8, kernel_height=2, kernel_width=3)
    rows = jax.ShapeDtypeStruct((2, 28, batch, 64), jnp.float32)
    variables = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, method="row"), rows)
    traced = jax.jit(lambda *x: layer.apply(*x, method="row")).trace(variables, rows)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    texts = {"convolution": "stablehlo.convolution", "windows": f"tensor<28x{batch}x384xf32>"}
    assert [name for name, text in texts.items() if text in program] == [kind]


@pytest.mark.parametrize("beside", [0, 4])
@every_convolution
@either_mask
def test_masked_convolution_site_by_site(x64, mask, groups, above, side, parts, beside):
    """Rows above once a row, then a group at a time from a window and the groups so far."""
    batch, height, width = 2, 3, 4
    layer = masked_conv(mask, groups, above, side, parts, beside)
    x = normal(batch, height, width, PER_IN * groups)
    second = normal(batch, height, width, beside, seed=1) if beside else None
    variables = layer_variables(layer, x, second)
    whole = jax.jit(layer.apply)(variables, x, second)
    whole = whole.reshape(batch, height, width, parts, groups, PER_OUT)
    padded = jnp.pad(rows_of(x), ((above, 0), (side, 0), (0, 0), (0, 0)))

    @jax.jit
    def pixel(window, centre, context, second):
        # The groups still to come are not there at all, so they cannot be read.
        def site(layer, s):
            groups = centre[: s + (mask == "B")]
            if second is None:
                out = layer.site(s, window, groups)
            else:
                known = layer.from_beside(second[None])[0]
                known = known if window is None else known + layer.from_left(window)
                out = layer.pick(known, s) + layer.from_centre(s, groups)
            return out if context is None else out + layer.pick(context, s)

        return [layer.apply(variables, s, method=site) for s in range(groups)]

    for r, c in np.ndindex(height, width):
        context = None
        if above:
            rows = padded[r : r + above][:, side:]
            context = layer.apply(variables, rows, method="row_above")[c]
        window = None
        if side:
            left = padded[r + above, c : c + side]  # [side, B, F]
            window = jnp.swapaxes(left, 0, 1).reshape(batch, -1)
        centre = tuple(jnp.split(x[:, r, c], groups, axis=-1))
        at = None if second is None else second[:, r, c]
        for g, out in enumerate(pixel(window, centre, context, at)):
            expected = whole[:, r, c, :, g].reshape(batch, -1)
            np.testing.assert_allclose(jnp.broadcast_to(out, expected.shape), expected, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
def test_head_site_by_site(x64, groups):
    """Group g of the output from groups 0 … g of the input, which come one by one."""
    layer = Head(
        in_features=2 * groups,
        hidden=(4 * groups, 3 * groups),
        features=5 * groups,
        groups=groups,
        dtype="float64",
    )
    x = normal(2, 3, 4, 2 * groups)
    variables = layer_variables(layer, x)
    whole = jax.jit(layer.apply)(variables, x)

    def sites_in_turn(head):
        state = head.open_pixel()
        for s in range(groups):
            state, params = head.site(s, state, x[:, 1, 2, 2 * s : 2 * s + 2])
            yield params

    @jax.jit
    def sites(variables):
        return layer.apply(variables, method=lambda head: list(sites_in_turn(head)))

    outputs = sites(variables)
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=-1), whole[:, 1, 2], atol=1e-12)


def test_head_is_causal_by_groups(x64):
    layer = Head(in_features=6, hidden=(12, 9), features=15, groups=3, dtype="float64")
    found = reads(layer, 1, 2, 6)
    for c, o, left, i in itertools.product(range(2), range(15), range(2), range(6)):
        if left != c or i // 2 > o // 5:
            assert not found[0, c, o, 0, left, i]
    blocks = found[0, 0, :, 0, 0].reshape(3, 5, 3, 2).any(axis=(1, 3))
    np.testing.assert_array_equal(blocks, np.tril(np.ones((3, 3), bool)))


def test_push_moves_the_window_by_a_pixel(x64):
    window = jnp.zeros((2, 6))
    pixels = [normal(2, 2, seed=s) for s in range(5)]
    for pixel in pixels:
        window = convolution.push(window, pixel)
    np.testing.assert_array_equal(window, jnp.concatenate(pixels[-3:], axis=-1))


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("groups", [1, 3])
def test_initial_outputs_have_the_variance_of_the_inputs(mask, groups):
    """The fan-in counts open taps only, so that depth neither blows up nor dies out."""
    layer = MaskedConv(in_features=24, features=240, mask=mask, groups=groups, above=1, side=1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 24)), jnp.float32)
    out, _ = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert 0.8 < float(jnp.std(out[:, 1:, 1:-1])) < 1.25


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_stay_float32(dtype):
    """The compute type is that of the input; parameters are float32."""
    x = jnp.zeros((1, 3, 3, 2), dtype)
    sizes = {"in_features": 2, "features": 4, "dtype": dtype}
    for layer in (
        MaskedConv(**sizes, mask="B", above=1, side=1),
        RowsConv(**sizes, kernel_height=2, kernel_width=3),
    ):
        out, variables = layer.init_with_output(jax.random.key(0), x)
        assert out.dtype == dtype
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
