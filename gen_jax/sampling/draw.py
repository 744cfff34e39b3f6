"""Sampling and completing: what is asked is checked, then drawn by one compiled program."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gen_jax import checks
from gen_jax.keys import threefry
from gen_jax.meshes import check_context, data_mesh, in_force
from gen_jax.models.shared.parameters import check_parameters
from gen_jax.models.shared.protocol import (
    Model,
    check_inputs,
    has_code,
    has_next_site_view,
    refuse,
    traits,
)
from gen_jax.sampling.methods import METHODS, Canvas, Method
from gen_jax.sampling.noise import check_prior, prior_codes, site_noise
from gen_jax.typing import (
    AnyLabels,
    AnyLevels,
    AnyMask,
    Array,
    ArrayLike,
    Float,
    Int,
    Integer,
    Key,
    Known,
    Labels,
    Levels,
    UInt,
    Variables,
)
from gen_jax.xla import compiler_options


class Generation(NamedTuple):
    """What was drawn."""

    images: UInt[Array, "B H W C"]
    """Integer levels."""
    passes: Int[Array, ""]
    """Whole-image passes used; a scan counts as one."""


class Request(NamedTuple):
    """All arrays that a drawing depends on."""

    variables: Variables
    key: Key
    ids: Integer[Array | np.ndarray, " B"]
    """The images' numbers in the key's stream."""
    given: Levels
    """Levels that stand where `known`."""
    known: Known
    labels: Labels | None
    temperature: Float[Array | np.generic, ""]


class Options(TypedDict, total=False):
    """What `sample` and `complete` take, and their forms in chunks too."""

    temperature: ArrayLike
    method: Method
    mesh: Mesh | None


def sample(
    model: Model,
    variables: Variables,
    key: Key,
    num_images: int,
    *,
    labels: AnyLabels | None = None,
    temperature: ArrayLike = 1.0,
    method: Method = "scan",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """Integer levels `[num_images, H, W, C]`: images `first …` of all those that `key` defines.

    `labels`: one an image, or one for all. With a mesh, any, the batch is split over all of its
    devices, and `num_images` must divide evenly. The temperature, a number or a traced one, is that
    of the sites: a code is always drawn from the prior as it is.
    ValueError for labels or parameters that are not this model's, a negative temperature, a method
    that it does not have, and a deterministic auto-encoder, which has no prior; NonFiniteError for
    parameters that are not finite.
    """
    of = traits(model)
    num_images = checks.whole("num_images", num_images, 1)
    labels = checks.labels(labels, of.num_classes, num_images)
    given = np.zeros((num_images, *of.image_shape), np.int32)
    known = np.zeros(given.shape, bool)
    return run(model, variables, key, given, known, labels, temperature, method, first, mesh).images


def complete(
    model: Model,
    variables: Variables,
    key: Key,
    images: AnyLevels,
    known: AnyMask,
    *,
    labels: AnyLabels | None = None,
    temperature: ArrayLike = 1.0,
    method: Method = "scan",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """`images` where `known`, drawn site by site elsewhere.

    `known` is bool, or 0 and 1: pixels `[H, W]` or `[B, H, W]`, or all that broadcasts to images.
    Every site is drawn given all sites before it in generation order, known or drawn; a known
    site has no influence on those before it. Errors as in `sample`, and for levels out of range.
    """
    images, known, labels = _to_complete(model, images, known, labels)
    return run(
        model, variables, key, images, known, labels, temperature, method, first, mesh
    ).images


def sample_in_chunks(
    model: Model,
    variables: Variables,
    key: Key,
    num_images: int,
    chunk_size: int,
    *,
    labels: AnyLabels | None = None,
    **options: Unpack[Options],
) -> Iterator[np.ndarray]:
    """The images of `sample`, `chunk_size` at a time, as NumPy arrays; compiled once."""
    num_images = checks.whole("num_images", num_images, 1)
    labels = checks.labels(labels, traits(model).num_classes, num_images)
    for first, rows in _chunks(num_images, chunk_size):
        some = None if labels is None else labels[rows]
        images = sample(model, variables, key, len(rows), labels=some, first=first, **options)
        yield np.asarray(images)[: num_images - first]


def complete_in_chunks(
    model: Model,
    variables: Variables,
    key: Key,
    images: AnyLevels,
    known: AnyMask,
    chunk_size: int,
    *,
    labels: AnyLabels | None = None,
    **options: Unpack[Options],
) -> Iterator[np.ndarray]:
    """The images of `complete`, `chunk_size` at a time, as NumPy arrays; compiled once."""
    images, known, labels = _to_complete(model, images, known, labels)
    for first, rows in _chunks(len(images), chunk_size):
        some = None if labels is None else labels[rows]
        completed = complete(
            model, variables, key, images[rows], known[rows], labels=some, first=first, **options
        )
        yield np.asarray(completed)[: len(images) - first]


def _to_complete(
    model: Model, images: AnyLevels, known: AnyMask, labels: AnyLabels | None
) -> tuple[Levels, Known, Labels | None]:
    """Levels as int32, a mask of the same shape, and labels."""
    images, labels = check_inputs(model, images, labels)
    if has_code(model):
        refuse(model, "an autoregressive model")
    if len(images) == 0:
        raise ValueError(f"images has shape {images.shape}; accepted: at least one image")
    # As `sample` has them: the same program, whatever integers they were.
    images = images if isinstance(images, Tracer) else np.asarray(images).astype(np.int32)
    return images, checks.mask(known, images.shape), labels


def _chunks(num_images: int, chunk_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """The first image of each chunk, and all of it: as many in the last, which repeats one."""
    chunk_size = checks.whole("chunk_size", chunk_size, 1)
    for first in range(0, num_images, chunk_size):
        yield first, np.minimum(np.arange(first, first + chunk_size), num_images - 1)


def run(
    model: Model,
    variables: Variables,
    key: Key,
    given: Levels,
    known: Known,
    labels: Labels | None,
    temperature: ArrayLike,
    method: Method,
    first: int = 0,
    mesh: Mesh | None = None,
) -> Generation:
    """`generate`, compiled once for a model, shapes, method and mesh, and split over the mesh."""
    batch = given.shape[0]
    _check_method(model, method)
    first = checks.whole("first", first, 0, 2**31 - batch)
    dtype = np.dtype(traits(model).real_dtype)
    if isinstance(temperature, Tracer):
        if temperature.shape != ():
            raise ValueError(f"temperature has shape {temperature.shape}; accepted: one number")
        of_sites = temperature.astype(dtype)
    else:
        of_sites = dtype.type(checks.real("temperature", temperature, 0))
    traced = check_parameters(model, variables)
    if mesh is not None:
        mesh = data_mesh(mesh)
        if batch % mesh.size:
            raise ValueError(
                f"{batch} images do not divide over {mesh.size} devices; accepted: multiples of "
                f"{mesh.size}"
            )
    ids = np.arange(first, first + batch, dtype=np.int32)
    request = Request(variables, threefry(key), ids, given, known, labels, of_sites)
    traced |= any(isinstance(leaf, Tracer) for leaf in request[1:])
    # The second: in a jit, of whose arguments these are none. To evaluate them at once there, as
    # `jax.ensure_compile_time_eval` does, makes results of JAX's own constants: NaN, with which a
    # gather fills what is out of range, is one, and stops `jax_debug_nans`.
    if traced or isinstance(jax.lax.stop_gradient(ids), Tracer):
        check_context(mesh)
        # Only an outermost jit can have options.
        return _compiled(None)(model, request, method, mesh)
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    with in_force(mesh):
        if mesh is not None:  # a loaded model lies on one device
            whole = NamedSharding(mesh, PartitionSpec())
            variables, key = jax.device_put((variables, request.key), whole)
            request = request._replace(variables=variables, key=key)
        return _compiled(platform)(model, request, method, mesh)


@functools.cache
def _compiled(platform: str | None) -> Callable[..., Generation]:
    options = {} if platform is None else compiler_options("sampling", platform)
    static = ("model", "method", "mesh")
    return jax.jit(_spread, static_argnames=static, compiler_options=options or None)


def _spread(model: Model, request: Request, method: Method, mesh: Mesh | None) -> Generation:
    def local(request: Request) -> Generation:
        result = _draw(model, request, method)
        return Generation(result.images, result.passes[None])

    if mesh is not None:
        # Images are independent, so each device runs its own loop: nothing is communicated.
        batch, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        specs = Request(*(whole, whole, batch, batch, batch, batch, whole))  # pyright: ignore
        local = jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=batch, check_vma=False)
    images, passes = local(request)
    return Generation(images, jnp.max(passes))


def generate(
    model: Model,
    variables: Variables,
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
    request = Request(variables, key, ids, given, known, labels, temperature)
    return _draw(model, request, method)


def _draw(model: Model, request: Request, method: Method) -> Generation:
    of, labels, temperature = traits(model), request.labels, jnp.asarray(request.temperature)
    per_site = (len(request.ids), -1, of.values_per_site)
    canvas = Canvas(
        site_noise(model, request.key, request.ids),
        jnp.asarray(request.given, jnp.int32).reshape(per_site),
        jnp.reshape(request.known, per_site),
    )
    if has_code(model):
        codes = prior_codes(model, request.variables, request.key, request.ids, labels)
        params = model.apply(request.variables, codes, labels, method="decode")
        params = params.reshape(*canvas.noise.shape[:2], -1)
        levels = of.likelihood.draw(params, canvas.noise, temperature, canvas.given, canvas.known)
        passes = jnp.ones((), jnp.int32)
    else:
        draw = METHODS[method]
        levels, passes = draw(model, request.variables, canvas, labels, temperature)
    dtype = jnp.uint8 if of.likelihood.levels <= 256 else jnp.uint16
    return Generation(levels.reshape(request.given.shape).astype(dtype), passes)


def _check_method(model: Model, method: Method) -> None:
    """ValueError unless the model can be drawn from by the method."""
    checks.choice("method", method, Method)
    if has_code(model):
        check_prior(model)
        if method != "scan":
            raise ValueError(
                f"method is {method!r}; accepted, by a {type(model).__name__}, which draws all "
                "sites at once: 'scan'"
            )
    elif method == "scan" and not has_next_site_view(model):
        others = ", ".join(other for other in METHODS if other != "scan")
        raise ValueError(
            f"method is 'scan', but {type(model).__name__} has no next-site view (blocks, "
            f"init_carry, begin_block, step); accepted: {others}"
        )
