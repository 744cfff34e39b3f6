"""The next-site view as compiled programs, between which the host supplies levels.

`step` draws in its middle: what comes before a draw gives the parameters of a site, what comes
after it needs the levels. Traced once, it is cut at its draws into segments; together they compute
what `step` computes, once, as the sampler's scan does. Each is compiled by itself, for one batch
size, and called by the encoder and the decoder alike.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from gen_jax.codec.entropy import STEPS
from gen_jax.likelihoods import level_log_probs
from gen_jax.models.shared.protocol import BlockModel, has_float64, num_phases, traits
from gen_jax.precision import matmul_precision
from gen_jax.typing import Array, Context, Float, Int, Labels, PyTree, UInt, Variables
from gen_jax.xla import compiler_options

Compiled: TypeAlias = Callable[..., Any]


Supply: TypeAlias = Callable[[int, int, np.ndarray], np.ndarray]
"""Who supplies the levels: from the number of a site, that of one of its values, from 0 on, and the
distribution of each image's, `[B, levels]` as `gen_jax.codec.entropy.frequencies` takes it, to the
levels `[B]`."""


class Segment(NamedTuple):
    """A part of `step`, up to a draw, or from the last one on."""

    run: Compiled
    reads: tuple[int, ...]
    """What it is given: numbers of values of the step."""
    writes: tuple[int, ...]
    """What it gives; before a draw, the parameters of the site are the first."""


class Step(NamedTuple):
    """A model's `step`, cut at its draws."""

    segments: tuple[Segment, ...]
    sites: tuple[int, ...]
    """Which of its sites each draw draws."""
    drawn: tuple[int, ...]
    """The number of what each draw gives."""
    constants: tuple[tuple[int, Array], ...]
    carry: tuple[int | Array, ...]
    """The numbers of the new carry's leaves; or a leaf that is always the same."""
    params: jax.ShapeDtypeStruct
    """What a draw is given."""


class NextSite(NamedTuple):
    """All programs of a model, for one batch size."""

    model: BlockModel
    batch: int
    init_carry: Compiled
    begin_block: tuple[Compiled, ...]
    """One for each phase."""
    steps: tuple[Step, ...]
    """One for each phase."""
    distributions: tuple[Compiled, ...]
    """One for each value of a site, from the parameters and the levels of those before."""
    fingerprint: bytes
    """Hash of all programs, and of the options that they are compiled with; 8 bytes."""

    def walk(
        self,
        variables: Variables,
        labels: Labels | None,
        supply: Supply,
        progress: Callable[[], object],
    ) -> None:
        """Asks `supply` for every level, in generation order; `progress` once a block."""
        blocks, values = self.model.blocks(), traits(self.model).values_per_site
        carry, phases = self.init_carry(variables, labels), len(self.steps)
        previous = np.zeros((*blocks.shape[1:], self.batch, values), np.int32)
        fixed = jax.tree.leaves(variables)
        for index, sites in enumerate(blocks):
            begin, step = self.begin_block[index % phases], self.steps[index % phases]
            carry, context = begin(variables, carry, np.int32(index), previous)
            leaves, form = jax.tree.flatten(carry)
            inputs = jax.tree.leaves(context)
            finished = np.zeros_like(previous)
            for t, at in enumerate(sites):
                values_of = dict(enumerate([*fixed, *leaves, *inputs, np.int32(t)]))
                values_of.update(step.constants)
                for segment, site, drawn in zip(
                    step.segments, step.sites, step.drawn, strict=False
                ):
                    params = self._run(segment, values_of)
                    levels = self._levels(params, int(at[site]), supply)
                    values_of[drawn] = finished[t, site] = levels
                self._run(step.segments[-1], values_of)
                leaves = [values_of[x] if isinstance(x, int) else x for x in step.carry]
            carry = jax.tree.unflatten(form, leaves)
            previous = finished
            progress()

    def _run(self, segment: Segment, values: dict[int, Any]) -> Any:
        results = segment.run(*(values[x] for x in segment.reads))
        values.update(zip(segment.writes, results, strict=True))
        return results[0] if results else None

    def _levels(self, params: Array, site: int, supply: Supply) -> Int[np.ndarray, "B V"]:
        levels = np.zeros((self.batch, len(self.distributions)), np.int32)
        if site >= 0:  # padding is nobody's
            for value, distribution in enumerate(self.distributions):
                steps = np.asarray(distribution(params, levels))
                levels[:, value] = supply(site, value, steps)
        return levels


def next_site(model: BlockModel, variables: Variables, batch: int, device: Any) -> NextSite:
    """The programs of a model for batches of `batch` images on a device; compiled once."""
    leaves, form = jax.tree.flatten(jax.eval_shape(lambda: variables))
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return _next_site(model, form, shapes, batch, device, has_float64())


@functools.lru_cache(maxsize=8)
def _next_site(
    model: BlockModel,
    form: Any,
    shapes: Sequence[tuple[Any, Any]],
    batch: int,
    device: Any,
    float64: bool,
) -> NextSite:
    del float64  # what else decides the programs
    of, phases, blocks = traits(model), num_phases(model), model.blocks()
    variables = jax.tree.unflatten(form, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    labels = None if of.num_classes is None else jax.ShapeDtypeStruct((batch,), jnp.int32)
    previous = jax.ShapeDtypeStruct((*blocks.shape[1:], batch, of.values_per_site), jnp.int32)
    index = jax.ShapeDtypeStruct((), jnp.int32)
    compiler = _Compiler(device.platform)

    def init_carry(variables: Variables, labels: Labels | None) -> PyTree:
        return model.apply(variables, batch, labels, method="init_carry")

    # Of float32 all digits count, as in evaluation.
    with matmul_precision("highest"):
        start, carry = compiler(init_carry, variables, labels)
        begins, steps = [], []
        for phase in range(phases):
            of_phase = {} if phases == 1 else {"phase": phase}

            def begin_block(*args: Any, of_phase: Any = of_phase) -> PyTree:
                return model.apply(*args, method="begin_block", **of_phase)

            begin, (carry, context) = compiler(begin_block, variables, carry, index, previous)
            begins.append(begin)
            steps.append(_cut_step(model, compiler, variables, carry, context))
        levels = jax.ShapeDtypeStruct((batch, of.values_per_site), jnp.int32)
        distributions = [
            compiler(functools.partial(_steps_below, model, value), steps[0].params, levels)[0]
            for value in range(of.values_per_site)
        ]
    return NextSite(
        model, batch, start, tuple(begins), tuple(steps), tuple(distributions), compiler.digest()
    )


class _Compiler:
    """Compiles programs, and hashes them."""

    def __init__(self, platform: str) -> None:
        self._options = compiler_options("coding", platform)
        self._hash = hashlib.sha256(repr(sorted(self._options.items())).encode())

    def __call__(
        self, function: Callable[..., Any], *shapes: Any, donate: tuple[int, ...] = ()
    ) -> tuple[Compiled, Any]:
        """A compiled program, and the shapes of what it gives."""
        lowered = jax.jit(
            function, donate_argnums=donate, compiler_options=self._options or None
        ).lower(*shapes)
        self._hash.update(lowered.as_text().encode())
        results = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)
        return lowered.compile(), results

    def digest(self) -> bytes:
        """Of all programs so far."""
        return self._hash.digest()[:8]


def _steps_below(
    model: BlockModel, value: int, params: Float[Array, "B P"], levels: Int[Array, "B V"]
) -> UInt[Array, "B levels"]:
    """Log-probabilities of a value's levels, rounded: how far each is below the greatest.

    No level of a row is 0 where the greatest is not finite, or any is NaN.
    """
    nats = level_log_probs(model.likelihood, params, levels, value)
    below = (jnp.max(nats, axis=-1, keepdims=True) - nats) * (STEPS / np.log(2))
    # NaN is no number below the last.
    return jnp.where(below < 65535, jnp.rint(below), 65535).astype(jnp.uint16)


# The draw of a site, in a traced step: what the host does.
_draw = jex.Primitive("draw_site")
_draw.def_abstract_eval(
    lambda params, *, site, values: params.update(
        shape=(params.shape[0], values), dtype=jnp.dtype("int32"), weak_type=False
    )
)


def _cut_step(
    model: BlockModel, compiler: _Compiler, variables: Variables, carry: PyTree, context: Context
) -> Step:
    """Traces `step`, and compiles what is between its draws."""
    values = traits(model).values_per_site

    def step(variables: Variables, carry: PyTree, context: Context, t: Array) -> PyTree:
        def draw(i: int, params: Array) -> Array:
            # Constant parameters may be literals: the barrier makes a variable of them.
            return _draw.bind(jax.lax.optimization_barrier(params), site=i, values=values)

        inputs = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, 0, False), context)
        return jax.tree.leaves(model.apply(variables, carry, inputs, draw, method="step"))

    t = jax.ShapeDtypeStruct((), jnp.int32)
    closed = jax.make_jaxpr(step)(variables, carry, context, t)
    jaxpr = closed.jaxpr
    num_variables = len(jax.tree.leaves(variables))
    # Of two leaves that are one array neither is given away.
    carried = {
        leaf: new
        for leaf, new in zip(jaxpr.invars[num_variables:], jaxpr.outvars, strict=False)
        if jaxpr.outvars.count(new) == 1
    }
    number = {var: i for i, var in enumerate([*jaxpr.invars, *jaxpr.constvars])}
    cuts = [i for i, eqn in enumerate(jaxpr.eqns) if eqn.primitive is _draw]
    draw_eqns = [jaxpr.eqns[i] for i in cuts]
    sites = tuple(eqn.params["site"] for eqn in draw_eqns)
    if sorted(sites) != list(range(model.blocks().shape[-1])):
        raise ValueError(
            f"the step of {type(model).__name__} draws the sites {sites} outside of other "
            f"transformations; accepted: each of {model.blocks().shape[-1]} once"
        )

    segments: list[Segment] = []
    for start, stop in zip([-1, *cuts], [*cuts, len(jaxpr.eqns)], strict=True):
        eqns = jaxpr.eqns[start + 1 : stop]
        made = [var for eqn in eqns for var in eqn.outvars]
        later = {*_variables(jaxpr.eqns[stop:]), *_variables_of(jaxpr.outvars)}
        reads = [var for var in _variables(eqns) if var not in set(made)]
        writes = [var for var in made if var in later]
        if stop < len(jaxpr.eqns):
            params = jaxpr.eqns[stop].invars[0]
            if params not in made:  # what the context or an earlier segment gave
                reads = list(dict.fromkeys([*reads, params]))
            writes = list(dict.fromkeys([params, *writes]))
        # What is carried is written where it stood, unless something reads it later.
        donate = tuple(
            i
            for i, var in enumerate(reads)
            if var not in later and carried.get(var) in writes and var not in writes
        )
        part = jaxpr.replace(
            eqns=eqns,
            constvars=[],
            invars=reads,
            outvars=writes,
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        run, _ = compiler(
            _named(jex.jaxpr_as_fun(jex.ClosedJaxpr(part, []))),
            *(_shape(var) for var in reads),
            donate=donate,
        )
        drawn = jaxpr.eqns[stop].outvars if stop < len(jaxpr.eqns) else []
        for var in [*writes, *drawn]:
            number.setdefault(var, len(number))
        segments.append(
            Segment(run, tuple(number[x] for x in reads), tuple(number[x] for x in writes))
        )
    return Step(
        segments=tuple(segments),
        sites=sites,
        drawn=tuple(number[eqn.outvars[0]] for eqn in draw_eqns),
        constants=tuple(
            (number[v], jnp.asarray(x)) for v, x in zip(jaxpr.constvars, closed.consts, strict=True)
        ),
        carry=tuple(
            jnp.asarray(x.val, _shape(x).dtype) if isinstance(x, jex.Literal) else number[x]
            for x in jaxpr.outvars
        ),
        params=_shape(draw_eqns[0].invars[0]),
    )


def _variables(eqns: Sequence[jex.JaxprEqn]) -> list[jex.Var]:
    """What equations read, each once, in order."""
    return _variables_of(x for eqn in eqns for x in eqn.invars)


def _variables_of(atoms: Iterable[jex.Var | jex.Literal]) -> list[jex.Var]:
    return list(dict.fromkeys(x for x in atoms if not isinstance(x, jex.Literal)))


def _shape(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def _named(function: Callable[..., Any]) -> Callable[..., Any]:
    """With a name, which the program has: that of a partial is all of what it holds."""

    def segment(*args: Any) -> Any:
        return function(*args)

    return segment
