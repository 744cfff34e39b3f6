"""Sampling and completing: what is asked is checked, then drawn by one compiled program."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, PartitionSpec

from gen_jax import checks
from gen_jax.keys import threefry
from gen_jax.meshes import check_context, data_mesh, in_force, replicate
from gen_jax.models.shared.parameters import check_parameters
from gen_jax.models.shared.protocol import Model, has_code, traits, unbound
from gen_jax.precision import Precision, matmul_precision
from gen_jax.reprs import brief
from gen_jax.sampling.methods import METHODS, Canvas, Method, methods_of
from gen_jax.sampling.noise import check_prior, prior_codes, site_noise
from gen_jax.sampling.request import Request, to_complete, to_sample
from gen_jax.typing import (
    AnyLabels,
    AnyLevels,
    AnyMask,
    Array,
    ArrayLike,
    Int,
    Key,
    UInt,
    Variables,
)
from gen_jax.xla import compiler_options


class Generation(NamedTuple):
    """What was drawn."""

    images: UInt[Array, "B H W C"]
    """Integer levels, uint8, or uint16 above 256 levels."""
    passes: Int[Array, ""]
    """Passes over the whole image, by block_fixed_point over a block; a scan counts as one."""

    __repr__ = brief


class Chunk(NamedTuple):
    """Some of the images of a request, on the host."""

    images: UInt[np.ndarray, "B H W C"]
    """Integer levels, as in `Generation`."""
    passes: int
    """What it took to draw these."""

    __repr__ = brief


def sample(
    model: Model,
    variables: Variables,
    key: Key,
    num_images: int,
    *,
    labels: AnyLabels | None = None,
    temperature: ArrayLike = 1.0,
    method: Method = "scan",
    precision: Precision = "default",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """Integer levels `[num_images, H, W, C]`: images `first …` of all those that `key` defines.

    `labels`: one an image, or one for all, of a model with classes. `temperature`, a number or a
    traced one: 1 draws from the model, 0 takes the most probable level of every site; a code is
    always drawn from the prior as it is. `method`: see `gen_jax.sampling`; images are the same by
    all. `precision`: see `gen_jax.precision`. With a `mesh`, any, the batch is split over all of
    its devices, and must divide evenly.

    ValueError for labels or parameters that are not this model's, a negative temperature, a method
    that it does not have, and a deterministic auto-encoder, which has no prior; NonFiniteError for
    parameters that are not finite.
    """
    request = to_sample(
        model, variables, key, num_images, labels=labels, temperature=temperature, first=first
    )
    return run(model, request, method=method, precision=precision, mesh=mesh).images


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
    precision: Precision = "default",
    first: int = 0,
    mesh: Mesh | None = None,
) -> UInt[Array, "B H W C"]:
    """`images` where `known`, drawn site by site elsewhere.

    `known` is bool, or 0 and 1: pixels `[H, W]` or `[B, H, W]`, or all that broadcasts to images.
    Every site is drawn given all sites before it in generation order, known or drawn; a known
    site has no influence on those before it. The rest is as in `sample`.
    Errors too, and for levels out of range.
    """
    request = to_complete(
        model, variables, key, images, known, labels=labels, temperature=temperature, first=first
    )
    return run(model, request, method=method, precision=precision, mesh=mesh).images


def run(
    model: Model,
    request: Request,
    *,
    method: Method = "scan",
    precision: Precision = "default",
    mesh: Mesh | None = None,
) -> Generation:
    """`generate`, compiled once for a model, shapes and settings, and split over the mesh.

    What can be looked at is checked: errors as in `sample`.
    """
    model = unbound(model)
    request, mesh = _checked(model, request, method, precision, mesh, len(request.ids))
    tempered = _is_tempered(model, request)
    # The second: in a jit, of whose arguments these are none. To evaluate them at once there, as
    # `jax.ensure_compile_time_eval` does, makes results of JAX's own constants: NaN, with which a
    # gather fills what is out of range, is one, and stops `jax_debug_nans`.
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(request))
    if traced or isinstance(jax.lax.stop_gradient(request.ids), Tracer):
        check_context(mesh)
        # Only an outermost jit can have options.
        return _compiled(None)(model, request, method, precision, mesh, tempered)
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    with in_force(mesh):
        if mesh is not None:  # a loaded model lies on one device
            variables, key = replicate((request.variables, request.key), mesh)
            request = request._replace(variables=variables, key=key)
        return _compiled(platform)(model, request, method, precision, mesh, tempered)


def run_in_chunks(
    model: Model,
    request: Request,
    chunk_size: int,
    *,
    method: Method = "scan",
    precision: Precision = "default",
    mesh: Mesh | None = None,
) -> Iterator[Chunk]:
    """What `run` gives, up to `chunk_size` images at a time; compiled once.

    Errors as in `sample`, at the call and not at the first chunk.
    """
    chunk_size = checks.whole("chunk_size", chunk_size, 1)
    checked, over = _checked(model, request, method, precision, mesh, chunk_size)
    request = request._replace(labels=checked.labels)
    count, devices = len(request.ids), 1 if over is None else over.size
    chunk_size = min(chunk_size, -(-count // devices) * devices)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, count, chunk_size):
            # As many in the last, which repeats one: one program for all.
            at = np.minimum(np.arange(start, start + chunk_size), count - 1)
            chunk = request._replace(
                ids=request.ids[at],
                given=request.given[at],
                known=None if request.known is None else request.known[at],
                labels=None if request.labels is None else request.labels[at],
            )
            result = run(model, chunk, method=method, precision=precision, mesh=mesh)
            yield Chunk(np.asarray(result.images)[: count - start], int(result.passes))

    return chunks()


def generate(
    model: Model,
    request: Request,
    *,
    method: Method = "scan",
    precision: Precision = "default",
) -> Generation:
    """The pure function behind `sample` and `complete`, for use inside any transformation.

    Nothing is checked: labels are integers `[B]`, the temperature has the type of the parameters.
    """
    model = unbound(model)
    with matmul_precision(precision):
        return _generate(model, request, method, _is_tempered(model, request))


def _is_tempered(model: Model, request: Request) -> bool:
    """Whether the temperature is known to be above 0, if that is something to the likelihood."""
    likelihood, temperature = traits(model).likelihood, request.temperature
    if isinstance(temperature, Tracer) or not hasattr(likelihood, "draw_tempered"):
        return False
    return bool(np.asarray(temperature) > 0)


def _generate(model: Model, request: Request, method: Method, tempered: bool) -> Generation:
    of, labels, temperature = traits(model), request.labels, jnp.asarray(request.temperature)
    per_site = (len(request.ids), -1, of.values_per_site)
    known = jnp.zeros(request.given.shape, bool) if request.known is None else request.known
    canvas = Canvas(
        site_noise(model, request.key, request.ids),
        jnp.asarray(request.given, jnp.int32).reshape(per_site),
        jnp.reshape(known, per_site),
        completing=request.known is not None,
        tempered=tempered,
    )
    if has_code(model):
        codes = prior_codes(model, request.variables, request.key, request.ids, labels)
        params = model.apply(request.variables, codes, labels, method="decode")
        params = params.reshape(*canvas.noise.shape[:2], -1)
        levels = canvas.draw(model, params, canvas.noise, temperature, canvas.given, canvas.known)
        passes = jnp.ones((), jnp.int32)
    else:
        sites = METHODS[method]
        levels, passes = sites(model, request.variables, canvas, labels, temperature)
    dtype = jnp.uint8 if of.likelihood.levels <= 256 else jnp.uint16
    return Generation(levels.reshape(request.given.shape).astype(dtype), passes)


def _checked(
    model: Model,
    request: Request,
    method: Method,
    precision: Precision,
    mesh: Mesh | None,
    batch: int,
) -> tuple[Request, Mesh | None]:
    """The request in the model's types, and the mesh along one axis, for batches of `batch`."""
    _check_method(model, method)
    checks.choice("precision", precision, Precision)
    of, count = traits(model), len(request.ids)
    labels = checks.labels(request.labels, of.num_classes, count)
    if request.known is not None:
        if request.given.shape != (count, *of.image_shape):
            raise ValueError(
                f"given has shape {request.given.shape}; accepted: {(count, *of.image_shape)}"
            )
        checks.levels("given", request.given, of.likelihood.levels)
    dtype, temperature = np.dtype(of.real_dtype), request.temperature
    if isinstance(temperature, Tracer):
        if temperature.shape != ():
            raise ValueError(f"temperature has shape {temperature.shape}; accepted: one number")
        temperature = temperature.astype(dtype)
    else:
        temperature = dtype.type(checks.real("temperature", temperature, 0))
        if temperature < jnp.finfo(dtype).tiny:  # XLA rounds it to 0 in one place and not in others
            temperature = dtype.type(0)
    check_parameters(model, request.variables)
    if mesh is not None:
        mesh = data_mesh(mesh)
        if batch % mesh.size:
            raise ValueError(
                f"the batch is {batch} images; accepted, over {mesh.size} devices: multiples of "
                f"{mesh.size}"
            )
    key = threefry(request.key)
    return request._replace(key=key, labels=labels, temperature=temperature), mesh


@functools.cache
def _compiled(platform: str | None) -> Callable[..., Generation]:
    options = {} if platform is None else compiler_options("sampling", platform)
    static = ("model", "method", "precision", "mesh", "tempered")
    return jax.jit(_spread, static_argnames=static, compiler_options=options or None)


def _spread(
    model: Model,
    request: Request,
    method: Method,
    precision: Precision,
    mesh: Mesh | None,
    tempered: bool,
) -> Generation:
    def local(request: Request) -> Generation:
        with matmul_precision(precision):
            result = _generate(model, request, method, tempered)
        return Generation(result.images, result.passes[None])

    if mesh is not None:
        # Images are independent, so each device runs its own loop: nothing is communicated.
        batch, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        specs = Request(*(whole, whole, batch, batch, batch, batch, whole))  # pyright: ignore
        local = jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=batch, check_vma=False)
    images, passes = local(request)
    return Generation(images, jnp.max(passes))


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
    elif method not in methods_of(model):
        views = {
            "scan": "next-site view (blocks, init_carry, begin_block, step)",
            "block_fixed_point": "block view (block, beside the next-site view)",
        }
        raise ValueError(
            f"method is {method!r}, but {type(model).__name__} has no {views[method]}; "
            f"accepted: {', '.join(methods_of(model))}"
        )
