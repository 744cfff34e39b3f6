"""The models that the generic tests run over: a later model is one more row of `MODELS`."""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from gen_jax import likelihoods, models
from gen_jax.models.shared.parameters import abstract_variables
from gen_jax.models.shared.protocol import has_block_view, num_phases


class Row(NamedTuple):
    """small: fields of a small instance; deep: fields with which no earlier site goes unseen,

    or, where the model has a blind spot, the whole of `receptive_field()` is read.
    """

    model: type
    small: dict[str, Any]
    deep: dict[str, Any]
    multiple: int = 1
    """What heights and widths are multiples of."""
    depth: str = "num_layers"
    """The field that says how many layers."""
    whole_pixels: bool = False
    """Whether it takes only likelihoods with one site a pixel."""


_TRANSFORMER = {"features": 8, "num_layers": 2, "num_heads": 2}

MODELS = {
    "PixelCNN": Row(
        models.PixelCNN,
        {"features": 4, "num_layers": 2, "first_kernel_size": 3},
        {"features": 12, "num_layers": 3, "first_kernel_size": 5},
    ),
    "GatedPixelCNN": Row(
        models.GatedPixelCNN,
        {"features": 6, "num_layers": 2, "first_kernel_size": 3},
        {"features": 12, "num_layers": 3, "first_kernel_size": 5},
    ),
    "PixelCNNPlusPlus": Row(
        models.PixelCNNPlusPlus,
        {"features": 4, "num_resnets": 1},
        {"features": 6, "num_resnets": 2},
        multiple=4,
        depth="num_resnets",
        whole_pixels=True,
    ),
    "RowLSTM": Row(
        models.RowLSTM,
        {"features": 6, "num_layers": 2, "first_kernel_size": 3},
        {"features": 9, "num_layers": 3, "first_kernel_size": 3},
    ),
    "DiagonalBiLSTM": Row(
        models.DiagonalBiLSTM,
        {"features": 6, "num_layers": 2, "first_kernel_size": 3},
        {"features": 9, "num_layers": 2, "first_kernel_size": 3},
    ),
    "ImageTransformer-full": Row(
        models.ImageTransformer,
        {"attention": "full", **_TRANSFORMER, "num_layers": 1},
        {"attention": "full", **_TRANSFORMER},
    ),
    "ImageTransformer-1d": Row(
        models.ImageTransformer,
        {"attention": "local_1d", "query_block": 4, **_TRANSFORMER},
        {"attention": "local_1d", "query_block": 4, **_TRANSFORMER, "positions": "learned"},
    ),
    "ImageTransformer-2d": Row(
        models.ImageTransformer,
        {"attention": "local_2d", "query_block": (2, 3), "memory_flange": (1, 2), **_TRANSFORMER},
        {"attention": "local_2d", "query_block": (2, 2), "memory_flange": (2, 1), **_TRANSFORMER},
    ),
}

# name: likelihood, channels, classes
LIKELIHOODS = {
    "bernoulli": (likelihoods.Bernoulli(), 1, None),
    "categorical": (likelihoods.Categorical(3), 1, 2),
    "categorical-rgb": (likelihoods.Categorical(3), 3, None),
    "mixture": (likelihoods.DiscretizedLogisticMixture(5, 2), 1, None),
    "mixture-rgb": (likelihoods.DiscretizedLogisticMixture(5, 2), 3, 2),
}

# What attention reaches and what a token is do not depend on each other: two kinds suffice.
_FEWER = {"ImageTransformer-full": ("bernoulli", "categorical-rgb")}
_FEWER["ImageTransformer-1d"] = _FEWER["ImageTransformer-full"]
# And where compiling takes longest, one with classes and coupled channels, and one without.
_FEWER["PixelCNNPlusPlus"] = ("bernoulli", "mixture-rgb")
CASES = [(name, case) for name in MODELS for case in _FEWER.get(name, LIKELIHOODS)]
# A likelihood does not know the model. Causality, normalisation and two views are shown for every
# case; what rests on them needs every model with one likelihood, and every likelihood with one.
FEW = [(name, "categorical" if MODELS[name].whole_pixels else "categorical-rgb") for name in MODELS]
FEW += [case for case in CASES if case[0] == "GatedPixelCNN" and case not in FEW]
every_model = pytest.mark.parametrize("name", MODELS)
every_case = pytest.mark.parametrize(
    ("name", "case"), CASES, ids=["-".join(case) for case in CASES]
)
few_cases = pytest.mark.parametrize(("name", "case"), FEW, ids=["-".join(case) for case in FEW])

# case, size and likelihood: images so small that all of them can be enumerated
TINY = [
    ("bernoulli", (2, 3), likelihoods.Bernoulli()),
    ("categorical", (2, 2), likelihoods.Categorical(3)),
    ("mixture", (2, 2), likelihoods.DiscretizedLogisticMixture(3, 2)),
    ("categorical-rgb", (1, 2), likelihoods.Categorical(2)),
    ("mixture-rgb", (1, 2), likelihoods.DiscretizedLogisticMixture(2, 2)),
]
SMALLEST = ("bernoulli", (4, 4), likelihoods.Bernoulli())
"""The smallest that a model takes whose height and width are multiples of 4: 65,536 images."""


# rows, columns, query block and flange of local attention: blocks that divide the image, and not
SHAPES_2D = [
    (4, 6, (2, 3), (1, 2)),
    (4, 6, (2, 2), (3, 1)),
    (2, 21, (2, 11), (2, 3)),
    (21, 4, (11, 2), (5, 2)),
    (6, 6, (2, 2), (0, 0)),
]


def make(name: str, case: str, size: tuple[int, int] = (3, 4), **fields: Any) -> Any:
    """A small model of the tables above; `fields` override.

    Where the model takes no such size, it is of the next one that it does; where no channels one by
    one, they are those of a mixture.
    """
    row = MODELS[name]
    size = tuple(-(-side // row.multiple) * row.multiple for side in size)
    if "num_layers" in fields:
        fields[row.depth] = fields.pop("num_layers")
    distribution, channels, num_classes = LIKELIHOODS[case]
    distribution = fields.pop("likelihood", distribution)
    if row.whole_pixels and distribution.sites(channels) > 1:
        distribution = likelihoods.DiscretizedLogisticMixture(distribution.levels, 2)
    common = {"likelihood": distribution, "num_classes": num_classes}
    return row.model(**{"image_shape": (*size, channels), **common, **row.small, **fields})


WITH_BLOCKS = [name for name in MODELS if has_block_view(make(name, "bernoulli"))]
"""The models that have the block view."""


def perturbed(model: Any, seed: int = 0) -> Any:
    """Variables with every parameter, biases included, away from zero; fixed by the seed."""
    return _perturbed(model, seed, jax.config.jax_enable_x64)


@functools.cache  # tracing `init` takes longer than most of what the tests then do
def _perturbed(model: Any, seed: int, x64: bool) -> Any:
    shapes = abstract_variables(model)
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        scale = 0.3 if leaf.ndim < 2 else max(np.prod(leaf.shape[:-1]), 3) ** -0.5
        return jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)


def layer_variables(layer: Any, *inputs: Any, method: Any = None) -> Any:
    """Variables of a layer, of order one, biases included."""
    shapes = jax.eval_shape(lambda key: layer.init(key, *inputs, method=method), jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), leaf.dtype), shapes
    )


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def some_images(model: Any, batch: int, seed: int = 0) -> jax.Array:
    """Random levels, int32 [batch, H, W, C]."""
    rng = np.random.default_rng(seed)
    shape = (batch, *model.image_shape)
    return jnp.asarray(rng.integers(0, model.likelihood.levels, shape), jnp.int32)


def some_labels(model: Any, batch: int) -> jax.Array | None:
    """0, 1, … in turn; None for a model without classes."""
    if model.num_classes is None:
        return None
    return jnp.asarray(np.arange(batch) % model.num_classes, jnp.int32)


def every_image(model: Any) -> np.ndarray:
    """All images of the model's shape, int32 [levels^(HWC), H, W, C], the last value fastest."""
    size = int(np.prod(model.image_shape))
    grids = np.indices((model.likelihood.levels,) * size).reshape(size, -1)
    return np.ascontiguousarray(grids.T.reshape(-1, *model.image_shape), np.int32)


def generation_order(model: Any) -> np.ndarray:
    """Site ids in generation order, int [N]; every site stands in it once."""
    ids = model.blocks().reshape(-1)
    ids = ids[ids >= 0]
    height, width, channels = model.image_shape
    sites = model.likelihood.sites(channels)
    np.testing.assert_array_equal(np.sort(ids), np.arange(height * width * sites))
    return ids


def by_site(model: Any, x: Any) -> Any:
    """[B, H, W, C] -> [B, N, V], by site id; and [B, H, W, S, P] -> [B, N, P]."""
    height, width, channels = model.image_shape
    return x.reshape(x.shape[0], height * width * model.likelihood.sites(channels), -1)


@functools.partial(jax.jit, static_argnums=0)
def whole_image_params(model: Any, variables: Any, images: Any, labels: Any) -> jax.Array:
    """The whole-image view, [B, N, P] by site id."""
    return by_site(model, model.apply(variables, images, labels))


@functools.partial(jax.jit, static_argnums=0)
def next_site_params(model: Any, variables: Any, images: Any, labels: Any) -> jax.Array:
    """The next-site view under teacher forcing, [B, N, P] by site id."""
    blocks = model.blocks()
    given = jnp.moveaxis(by_site(model, images)[:, np.maximum(blocks, 0)], 0, 3)

    def step(carry: Any, inputs: Any) -> Any:
        context, levels = inputs
        seen = {}

        def draw(i: int, params: jax.Array) -> jax.Array:
            assert i not in seen, "a site is drawn once"
            seen[i] = params
            return levels[i]

        carry = model.apply(variables, carry, context, draw, method="step")
        assert sorted(seen) == list(range(blocks.shape[-1])), "every site of a step is drawn"
        return carry, jnp.stack([seen[i] for i in range(blocks.shape[-1])])

    phases = num_phases(model)

    def block(state: Any, inputs: Any) -> Any:
        """One block of each phase."""
        (carry, previous), found = state, []
        for phase in range(phases):
            index, levels = inputs[0][phase], inputs[1][phase]
            of_phase = {"phase": phase} if phases > 1 else {}
            carry, context = model.apply(
                variables, carry, index, previous, method="begin_block", **of_phase
            )
            carry, params = jax.lax.scan(step, carry, (context, levels))
            previous = levels
            found.append(params)
        return (carry, previous), jnp.stack(found)

    carry = model.apply(variables, images.shape[0], labels, method="init_carry")
    # Before the first block nothing may be read: a level that exists, but not 0.
    before = jnp.ones_like(given[0])
    inputs = (jnp.arange(len(blocks)).reshape(-1, phases), given.reshape(-1, phases, *before.shape))
    _, params = jax.lax.scan(block, (carry, before), inputs)
    params = params.reshape(-1, *params.shape[-2:])
    flat = blocks.reshape(-1)
    position = np.empty(flat.max() + 1, np.int64)
    position[flat[flat >= 0]] = np.flatnonzero(flat >= 0)
    return jnp.swapaxes(params[position], 0, 1)


@functools.partial(jax.jit, static_argnums=0)
def block_params(model: Any, variables: Any, images: Any, labels: Any) -> jax.Array:
    """The block view, [B, N, P] by site id."""
    blocks = model.blocks()
    given = jnp.moveaxis(by_site(model, images)[:, np.maximum(blocks, 0)], 0, 3)

    def block(state: Any, inputs: Any) -> Any:
        carry, previous = state
        index, levels = inputs
        carry, context = model.apply(variables, carry, index, previous, method="begin_block")
        carry, params = model.apply(variables, carry, context, levels, method="block")
        return (carry, levels), params

    carry = model.apply(variables, images.shape[0], labels, method="init_carry")
    start = (carry, jnp.ones_like(given[0]))
    _, params = jax.lax.scan(block, start, (jnp.arange(len(blocks)), given))
    params = params.reshape(-1, *params.shape[-2:])
    flat = blocks.reshape(-1)
    position = np.empty(flat.max() + 1, np.int64)
    position[flat[flat >= 0]] = np.flatnonzero(flat >= 0)
    return jnp.swapaxes(params[position], 0, 1)


def dependencies(model: Any, batch: int = 6, seeds: int = 2) -> np.ndarray:
    """bool [N, N]: whether the parameters of site i change, even by a bit, with the levels of j."""
    variables = [perturbed(model, seed) for seed in range(seeds)]
    images = some_images(model, batch)
    labels = some_labels(model, batch)
    sites = by_site(model, images)
    count = sites.shape[1]
    found = np.zeros((count, count), bool)
    for v in variables:
        base = whole_image_params(model, v, images, labels)
        for j in range(count):
            # Every value of the site changes, in every image: the same program on the same
            # places of the batch, so what does not depend on it stays equal to the last bit.
            changed = sites.at[:, j].set((sites[:, j] + 1) % model.likelihood.levels)
            params = whole_image_params(model, v, changed.reshape(images.shape), labels)
            found[:, j] |= np.asarray(jnp.any(params != base, axis=(0, 2)))
    return found


def documented_field(model):
    """bool [N, N] by site id: the earlier sites that a model says it reads."""
    order = generation_order(model)
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    earlier = rank[None, :] < rank[:, None]
    if not hasattr(model, "receptive_field"):
        return earlier
    return model.receptive_field().reshape(order.size, order.size)


def chain_rule(joint: np.ndarray) -> np.ndarray:
    """p(v_i | v_<i) for each value i, `[values, levels^values …]`, from a joint over all values."""
    conditionals, below = [], np.ones(())
    for i in range(joint.ndim):
        up_to = joint.sum(axis=tuple(range(i + 1, joint.ndim)), keepdims=True)
        conditionals.append(np.broadcast_to(up_to / below, joint.shape))
        below = up_to
    return np.stack(conditionals)


@contextlib.contextmanager
def one_line_error(match: str):
    """An error of value or type, of one line; as users see it, so without checked annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises((ValueError, TypeError), match=match) as caught:
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert "\n" not in str(caught.value)
