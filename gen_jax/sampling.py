"""Draw images from a model, or complete images of which a part is known.

A model with a latent code draws it from the prior, and all sites at once given the code. For
autoregressive models three methods draw the same images from the same key:

* `scan`: one nested scan over the model's blocks and steps, about the cost of one whole-image pass;
* `naive`: one whole-image pass for every site; the oracle of the tests;
* `fixed_point`: Jacobi iteration of the whole-image pass with an early exit (Song et al. 2021,
  "Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving"); it needs no
  carry, so it serves any causal model, and ends after N + 1 passes at the latest for N sites.

**Noise belongs to an image and a site.** Image n of a key has its own stream of uniform numbers,
`num_noise` for each site, whatever the batch, the method, the number of devices and JAX's default
generator. In float64 the images are equal; in float32 a site may differ where its noise lies within
rounding of a boundary.

**Levels cannot be NaN.** What is wrong raises, but inside a jit of one's own, where values are not
known yet, nothing can: there parameters that are not finite, a label that does not exist or a
temperature below 0 give levels that mean nothing.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gen_jax import checks
from gen_jax.keys import threefry
from gen_jax.meshes import check_context, data_mesh, in_force
from gen_jax.models.autoregressive import AutoregressiveModel
from gen_jax.models.image_model import ImageModel, check_model
from gen_jax.models.latent import LatentModel
from gen_jax.models.parameters import check_parameters
from gen_jax.noise import check_prior, prior_codes, site_noise
from gen_jax.site_by_site import METHODS, Canvas, Method, generation_order
from gen_jax.typing import (
    AnyLabels,
    AnyLevels,
    Array,
    Float,
    Int,
    Integer,
    Key,
    Known,
    Labels,
    Levels,
    UInt,
)
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
    labels: AnyLabels | None = None,
    temperature: Any = 1.0,
    method: Method = "scan",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """Integer levels `[num_images, H, W, C]`: images `first …` of all those that `key` defines.

    `labels`: one an image, or one for all. With a mesh, any, the batch is split over all of its
    devices, and `num_images` must divide evenly. The temperature, a number or a traced one, is that
    of the sites: a code is always drawn from the prior as it is.
    ValueError for labels or parameters that are not this model's, a negative temperature, an
    unknown method, and a deterministic auto-encoder, which has no prior; NonFiniteError for
    parameters that are not finite.
    """
    check_model(model)
    num_images = checks.whole("num_images", num_images, 1)
    if isinstance(model, LatentModel):
        _check_latent(model, method)
    given = np.zeros((num_images, *model.image_shape), np.int32)
    labels = checks.labels(labels, model.num_classes, num_images)
    known = np.zeros(given.shape, bool)
    return run(model, variables, key, given, known, labels, temperature, method, first, mesh).images


def complete(
    model: AutoregressiveModel,
    variables: Any,
    key: Key,
    images: AnyLevels,
    known: Any,
    *,
    labels: AnyLabels | None = None,
    temperature: Any = 1.0,
    method: Method = "scan",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """`images` where `known`, drawn site by site elsewhere.

    `known` is bool, or 0 and 1: pixels `[H, W]` or `[B, H, W]`, or all that broadcasts to images.
    Every site is drawn given all sites before it in generation order, known or drawn; a known
    site has no influence on those before it. Errors as in `sample`, and for levels out of range.
    """
    return run(
        model,
        variables,
        key,
        *_to_complete(model, images, known, labels),
        temperature,
        method,
        first,
        mesh,
    ).images


def complete_in_chunks(
    model: AutoregressiveModel,
    variables: Any,
    key: Key,
    images: AnyLevels,
    known: Any,
    chunk_size: int,
    *,
    labels: AnyLabels | None = None,
    temperature: Any = 1.0,
    method: Method = "scan",
    mesh: Mesh | None = None,
) -> Iterator[np.ndarray]:
    """The images of `complete`, `chunk_size` at a time, as NumPy arrays; compiled once."""
    images, known, labels = _to_complete(model, images, known, labels)
    for first, indices in _chunks(len(images), chunk_size):
        completed = run(
            model,
            variables,
            key,
            images[indices],
            known[indices],
            None if labels is None else labels[indices],
            temperature,
            method,
            first,
            mesh,
        ).images
        yield np.asarray(completed)[: len(images) - first]


def _to_complete(
    model: AutoregressiveModel, images: Any, known: Any, labels: Any
) -> tuple[Any, Any, Any]:
    """Levels as int32, a mask of the same shape, and labels."""
    check_model(model)
    if not isinstance(model, AutoregressiveModel):
        raise ValueError(
            f"{type(model).__name__} does not draw site by site given the sites before: "
            "only autoregressive models complete images"
        )
    images, labels = model.check(images, labels)
    if len(images) == 0:
        raise ValueError(f"images has shape {images.shape}: there are 0 to complete")
    # As `sample` has them: the same program, whatever integers they were.
    images = images if isinstance(images, Tracer) else np.asarray(images).astype(np.int32)
    return images, checks.mask(known, images.shape), labels


def sample_in_chunks(
    model: ImageModel,
    variables: Any,
    key: Key,
    num_images: int,
    chunk_size: int,
    *,
    labels: AnyLabels | None = None,
    temperature: Any = 1.0,
    method: Method = "scan",
    mesh: Mesh | None = None,
) -> Iterator[np.ndarray]:
    """The images of `sample`, `chunk_size` at a time, as NumPy arrays; compiled once."""
    check_model(model)
    num_images = checks.whole("num_images", num_images, 1)
    labels = checks.labels(labels, model.num_classes, num_images)
    for first, indices in _chunks(num_images, chunk_size):
        images = sample(
            model,
            variables,
            key,
            len(indices),
            labels=None if labels is None else labels[indices],
            temperature=temperature,
            method=method,
            first=first,
            mesh=mesh,
        )
        yield np.asarray(images)[: num_images - first]


def _chunks(num_images: int, chunk_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """The first image of each chunk, and all of it: as many in the last, which repeats one."""
    chunk_size = checks.whole("chunk_size", chunk_size, 1)
    for first in range(0, num_images, chunk_size):
        yield first, np.minimum(np.arange(first, first + chunk_size), num_images - 1)


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
    num_frames = checks.whole("num_frames", num_frames, 1)
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
    temperature: Any,
    method: Method,
    first: int = 0,
    mesh: Mesh | None = None,
) -> Generation:
    """`generate`, compiled once for a model, shapes, method and mesh, and split over the mesh."""
    batch = given.shape[0]
    checks.choice("method", method, Method)
    first = checks.whole("first", first, 0, 2**31 - batch)
    dtype = np.dtype(model.real_dtype)
    if isinstance(temperature, Tracer):
        if temperature.shape != ():
            raise ValueError(f"temperature has shape {temperature.shape}; accepted: one number")
        temperature = temperature.astype(dtype)
    else:
        temperature = dtype.type(checks.real("temperature", temperature, 0))
    model.check_dtype()
    traced = check_parameters(model, variables)
    key = threefry(key)
    if mesh is not None:
        mesh = data_mesh(mesh)
        if batch % mesh.size:
            raise ValueError(
                f"{batch} images do not divide over {mesh.size} devices; accepted: multiples of "
                f"{mesh.size}"
            )
    ids = np.arange(first, first + batch, dtype=np.int32)
    arguments = (variables, key, ids, given, known, labels, temperature)
    traced |= any(isinstance(leaf, Tracer) for leaf in arguments[1:])
    # The second: in a jit, of whose arguments these are none. To evaluate them at once there, as
    # `jax.ensure_compile_time_eval` does, makes results of JAX's own constants: NaN, with which a
    # gather fills what is out of range, is one, and stops `jax_debug_nans`.
    if traced or isinstance(jax.lax.stop_gradient(ids), Tracer):
        check_context(mesh)
        # Only an outermost jit can have options.
        return _compiled(None)(model, *arguments, method, mesh)
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    with in_force(mesh):
        if mesh is not None:  # a loaded model lies on one device
            placed = jax.device_put((variables, key), NamedSharding(mesh, PartitionSpec()))
            arguments = (*placed, *arguments[2:])
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
        key, _ = jax.random.split(threefry(key))  # the other half is that of the codes
    canvas = Canvas(
        site_noise(model, key, ids),
        jnp.asarray(given, jnp.int32).reshape(per_site),
        jnp.reshape(known, per_site),
    )
    levels, passes = draw(model, variables, canvas, labels, temperature)
    dtype = jnp.uint8 if model.likelihood.levels <= 256 else jnp.uint16
    return Generation(levels.reshape(given.shape).astype(dtype), passes)


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


def _check_latent(model: LatentModel, method: Method) -> None:
    check_prior(model)
    if method != "scan":
        raise ValueError(
            f"method is {method!r}, but {type(model).__name__} draws all sites at once: "
            "leave it at 'scan'"
        )
