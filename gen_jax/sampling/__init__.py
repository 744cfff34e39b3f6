"""Draw images from a model, or complete images of which a part is known.

A model with a latent code draws it from the prior, and all sites at once given the code. For
autoregressive models four methods draw the same images from the same key:

* `scan`: one nested scan over the model's blocks and steps, about the cost of one whole-image pass;
* `naive`: one whole-image pass for every site; the oracle of the tests;
* `fixed_point`: Jacobi iteration of the whole-image pass with an early exit (Song et al. 2021,
  "Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving"); it needs no
  carry, so it serves any causal model, and ends after N + 1 passes at the latest for N sites;
* `block_fixed_point`: the same inside a block, blocks in order, for models with a block view. Few
  images, easy to guess, take far fewer passes over blocks than there are sites.

Where a block is known whole, completing reads it in one pass if the model has a block view.

**Noise belongs to an image and a site.** Image n of a key has its own stream of uniform numbers,
`num_noise` for each site, whatever the batch, the method, the number of devices and JAX's default
generator. In float64 the images are equal; in float32 a site may differ where its noise lies within
rounding of a boundary. On an accelerator that is so with `precision="highest"`; by default its
matmuls have fewer digits (`gen_jax.precision`), and more sites differ.

**Levels cannot be NaN.** What is wrong raises, but inside a jit of one's own, where values are not
known yet, nothing can: there parameters that are not finite, a label that does not exist or a
temperature below 0 give levels that mean nothing.
"""

from gen_jax.sampling.draw import (
    Chunk,
    Generation,
    complete,
    generate,
    run,
    run_in_chunks,
    sample,
)
from gen_jax.sampling.methods import Method, generation_order
from gen_jax.sampling.noise import prior_codes, site_noise
from gen_jax.sampling.request import Request, to_complete, to_sample

__all__ = [
    "Chunk",
    "Generation",
    "Method",
    "Request",
    "complete",
    "generate",
    "generation_order",
    "prior_codes",
    "run",
    "run_in_chunks",
    "sample",
    "site_noise",
    "to_complete",
    "to_sample",
]
