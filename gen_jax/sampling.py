"""Draw images from a model, or complete images of which a part is known.

A model with a latent code draws it from the prior, and all sites at once given the code. For
autoregressive models three methods draw the same images from the same key:

* `scan`: one nested scan over the model's blocks and steps, about the cost of one whole-image pass;
* `naive`: one whole-image pass for every site; the oracle of the tests;
* `fixed_point`: Jacobi iteration of the whole-image pass with an early exit (Song et al. 2021,
  "Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving"); it needs no
  carry, so it serves any causal model, and ends after N + 1 passes at the latest for N sites.

**Noise belongs to an image and a site.** Image n of a key has its own stream of uniform numbers,
`num_noise` for each site, whatever the batch, the method and the number of devices. In float64 the
images are equal; in float32 a site may differ where its noise lies within rounding of a boundary.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.models.image_model import ImageModel, at_least, check_labels
from gen_jax.models.latent import LatentModel
from gen_jax.site_by_site import METHODS, Canvas, Method, generation_order
from gen_jax.typing import Array, Float, Int, Integer, Key, Known, Labels, Levels, UInt
from gen_jax.xla import WIDE_VECTORS, Options, known_options


class Generation(NamedTuple):
    """images: levels `[B, H, W, C]`; passes: whole-image passes used (a scan counts as one)."""

    images: UInt[Array, "B H W C"]
    passes: Int[Array, ""]


def sample(
    model: ImageModel,
    variables: Any,
    key: Key,
    num_images: int,
    *,
    labels: Labels | None = None,
    temperature: float = 1.0,
    method: Method = "scan",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """Integer levels `[num_images, H, W, C]`: images `first …` of all those that `key` defines.

    With a mesh the batch is split over its devices, and `num_images` must divide evenly. The
    temperature is that of the sites: a code is always drawn from the prior as it is.
    ValueError for labels that the model does not take, a negative temperature, an unknown method,
    and a deterministic auto-encoder, which has no prior.
    """
    at_least("num_images", num_images, 1)
    if isinstance(model, LatentModel):
        _check_latent(model, method)
    given = np.zeros((num_images, *model.image_shape), np.int32)
    check_labels(model.num_classes, labels, num_images)
    known = np.zeros(given.shape, bool)
    return run(model, variables, key, given, known, labels, temperature, method, first, mesh).images


def complete(
    model: AutoregressiveModel,
    variables: Any,
    key: Key,
    images: Levels,
    known: Known,
    *,
    labels: Labels | None = None,
    temperature: float = 1.0,
    method: Method = "scan",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """`images` where `known` (bool, broadcasts to images), drawn site by site elsewhere.

    Every site is drawn given all sites before it in generation order, known or drawn; a known
    site has no influence on those before it. Errors as in `sample`, and for levels out of range.
    """
    if not isinstance(model, AutoregressiveModel):
        raise ValueError(
            f"{type(model).__name__} does not draw site by site given the sites before: "
            "only autoregressive models complete images"
        )
    model.check(images, labels)
    if len(images) == 0:
        raise ValueError(f"images have shape {images.shape}: there are 0 to complete")
    known = np.asarray(known)
    if known.dtype != bool:
        raise ValueError(f"known has dtype {known.dtype}; it must be bool")
    try:
        known = np.broadcast_to(known, images.shape)
    except ValueError:
        raise ValueError(
            f"known has shape {known.shape}, which does not broadcast to {images.shape}"
        ) from None
    return run(
        model, variables, key, images, known, labels, temperature, method, first, mesh
    ).images


def sample_in_chunks(
    model: ImageModel,
    variables: Any,
    key: Key,
    num_images: int,
    chunk_size: int,
    *,
    labels: Labels | None = None,
    temperature: float = 1.0,
    method: Method = "scan",
    mesh: Mesh | None = None,
) -> Iterator[np.ndarray]:
    """The images of `sample`, `chunk_size` at a time, as NumPy arrays; compiled once."""
    at_least("num_images", num_images, 1)
    at_least("chunk_size", chunk_size, 1)
    check_labels(model.num_classes, labels, num_images)
    for first in range(0, num_images, chunk_size):
        indices = np.minimum(np.arange(first, first + chunk_size), num_images - 1)
        images = sample(
            model,
            variables,
            key,
            chunk_size,
            labels=None if labels is None else np.asarray(labels)[indices],
            temperature=temperature,
            method=method,
            first=first,
            mesh=mesh,
        )
        yield np.asarray(images)[: num_images - first]


def canvases(
    model: AutoregressiveModel,
    images: Levels,
    num_frames: int,
    known: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """How `images` came to be: levels `[frames, B, H, W, C]` and which of them stood by then.

    A drawn site never changes, so the canvas after n sites is the image's first n sites in
    generation order, and what was `known`. Sites to come are 0. Frames are evenly spaced from
    the empty canvas to the whole image.
    """
    images = np.asarray(images)
    order = generation_order(model)
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    rank = np.repeat(rank, model.values_per_site).reshape(images.shape[1:])
    counts = np.round(np.linspace(0, order.size, num_frames)).astype(int)
    drawn = rank[None, None] < counts[:, None, None, None, None]
    drawn = np.broadcast_to(drawn, (num_frames, *images.shape))
    if known is not None:
        drawn = drawn | np.broadcast_to(known, images.shape)[None]
    return np.where(drawn, images[None], 0).astype(images.dtype), drawn


def run(
    model: ImageModel,
    variables: Any,
    key: Key,
    given: Levels,
    known: Known,
    labels: Labels | None,
    temperature: float,
    method: Method,
    first: int = 0,
    mesh: Mesh | None = None,
) -> Generation:
    """`generate`, compiled once for a model, shapes, method and mesh, and split over the mesh."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be 0 or more, and finite")
    at_least("first", first, 0)
    model.check_dtype()
    if method not in get_args(Method):
        raise ValueError(f"unknown method {method!r}; known: {', '.join(get_args(Method))}")
    if mesh is not None and given.shape[0] % mesh.size:
        raise ValueError(f"{given.shape[0]} images do not divide over {mesh.size} devices")
    if mesh is not None:  # a loaded model lies on one device
        variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    ids = np.arange(first, first + given.shape[0], dtype=np.int32)
    dtype = np.dtype(model.real_dtype)
    arguments = (variables, key, ids, given, known, labels, dtype.type(temperature))
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
        # Only an outermost jit can have options.
        return _compiled(None)(model, *arguments, method, mesh)
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    with jax.ensure_compile_time_eval():  # for a call with plain arrays inside another jit
        return _compiled(platform)(model, *arguments, method, mesh)


_COMPILER_OPTIONS: dict[str, Options] = {
    "cpu": {
        # Otherwise what a scan carries is copied where it need not be.
        "xla_cpu_copy_insertion_use_region_analysis": True,
        # It makes two programs of each sum: as long as the sum itself, where one image is drawn.
        "xla_disable_hlo_passes": "tree_reduction_rewriter",
        # At level 3 LLVM unrolls loops over 16 or 32 features whole, and then leaves them scalar.
        "xla_backend_optimization_level": 2,
        **WIDE_VECTORS,
    }
}


@functools.cache
def compiler_options(platform: str | None) -> dict[str, bool | int | str]:
    """Options of XLA for sampling on a platform: those of ours that this version knows."""
    if platform is None or platform not in _COMPILER_OPTIONS:
        return {}
    return known_options(_COMPILER_OPTIONS[platform], platform)


@functools.cache
def _compiled(platform: str | None) -> Any:
    return jax.jit(
        _spread,
        static_argnames=("model", "method", "mesh"),
        compiler_options=compiler_options(platform) or None,
    )


def _spread(
    model: ImageModel,
    variables: Any,
    key: Key,
    ids: Integer[Array | np.ndarray, " B"],
    given: Levels,
    known: Known,
    labels: Labels | None,
    temperature: Any,
    method: Method,
    mesh: Mesh | None,
) -> Generation:
    def local(variables: Any, key: Key, temperature: Array, *batch: Any) -> Generation:
        result = generate(model, variables, key, *batch, temperature=temperature, method=method)
        return Generation(result.images, result.passes[None])

    arguments = (variables, key, temperature, ids, given, known, labels)
    if mesh is not None:
        # Images are independent, so each device runs its own loop: nothing is communicated.
        batch = PartitionSpec(mesh.axis_names)
        whole = PartitionSpec()
        in_specs = (whole, whole, whole, batch, batch, batch, batch)
        local = jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=batch, check_vma=False)
    images, passes = local(*arguments)
    return Generation(images, jnp.max(passes))


def generate(
    model: ImageModel,
    variables: Any,
    key: Key,
    ids: Integer[Array, " B"],
    given: Levels,
    known: Known,
    labels: Labels | None = None,
    *,
    temperature: Float[Array, ""],
    method: Method = "scan",
) -> Generation:
    """The pure function behind `sample` and `complete`, for use inside any transformation.

    `ids` are the images' numbers in the key's stream; `given` stands where `known`.
    """
    batch = given.shape[0]
    per_site = (batch, -1, model.values_per_site)
    draw: Any = METHODS[method]
    if isinstance(model, LatentModel):
        draw = functools.partial(_draw_given_codes, prior_codes(model, key, ids))
        key, _ = jax.random.split(key)  # the other half is that of the codes
    canvas = Canvas(
        site_noise(model, key, ids),
        jnp.asarray(given, jnp.int32).reshape(per_site),
        jnp.reshape(known, per_site),
    )
    levels, passes = draw(model, variables, canvas, labels, temperature)
    dtype = jnp.uint8 if model.likelihood.levels <= 256 else jnp.uint16
    return Generation(levels.reshape(given.shape).astype(dtype), passes)


def prior_codes(
    model: Any, key: Key, ids: Integer[Array | np.ndarray, " B"]
) -> Float[Array, "B Z"]:
    """The codes, drawn from the prior of a `LatentModel`, of the images that `key` defines.

    `ids` are the images' numbers: 0 … num_images − 1 are those of `sample`.
    """
    if model.prior is None:
        raise ValueError(_no_prior(model))
    _, key = jax.random.split(key)

    def code(n: Array) -> Array:
        shape = (model.num_latents,)
        return model.prior.prior_sample(jax.random.fold_in(key, n), shape, model.real_dtype)

    return jax.vmap(code)(jnp.asarray(ids))


def _draw_given_codes(
    codes: Float[Array, "B Z"],
    model: LatentModel,
    variables: Any,
    canvas: Canvas,
    labels: Labels | None,
    temperature: Float[Array, ""],
) -> tuple[Int[Array, "B N V"], Int[Array, ""]]:
    params: Any = model.apply(variables, codes, labels, method="decode")
    params = params.reshape(*canvas.noise.shape[:2], -1)
    levels = model.likelihood.draw(params, canvas.noise, temperature, canvas.given, canvas.known)
    return levels, jnp.ones((), jnp.int32)


def site_noise(model: ImageModel, key: Key, ids: Integer[Array, " B"]) -> Float[Array, "B N R"]:
    """Uniform numbers in (0, 1) for every site, by site id: image n's come from fold_in(key, n)."""
    height, width, channels = model.image_shape
    shape = (height * width * model.sites, model.likelihood.num_noise(channels))
    dtype = model.real_dtype
    eps = float(jnp.finfo(dtype).eps)

    def image(n: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, n), shape, dtype, eps, 1 - eps)

    return jax.vmap(image)(ids)


def _check_latent(model: LatentModel, method: Method) -> None:
    if model.prior is None:
        raise ValueError(_no_prior(model))
    if method != "scan":
        raise ValueError(
            f"method is {method!r}, but {type(model).__name__} draws all sites at once: "
            "leave it at 'scan'"
        )


def _no_prior(model: LatentModel) -> str:
    return f"{type(model).__name__} has no distribution over codes: there is nothing to draw from"
