"""p(pixel | parameters): what an image model's output means.

A likelihood is a frozen dataclass, so it hashes and can be a static argument of `jax.jit`.
Images are integer levels `0 … levels - 1`. A pixel has `sites(C)` sites, each described by
`num_params(C)` parameters and drawn from `num_noise(C)` uniform numbers:

* `Bernoulli` and `Categorical`: a site is a channel (R, then G, then B);
* `DiscretizedLogisticMixture`: a site is a whole pixel, whose channels the mixture couples.

The log-probability of what is no level is NaN, and so is its gradient: inside a jit nothing else
can be said. Nothing here forces float32: results have the dtype of the parameters.
"""

from collections.abc import Mapping

from gen_jax.likelihoods.discrete import Bernoulli, Categorical
from gen_jax.likelihoods.logistic_mixture import DiscretizedLogisticMixture
from gen_jax.likelihoods.protocol import Likelihood, level_log_probs

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "DiscretizedLogisticMixture",
    "Likelihood",
    "level_log_probs",
]

LIKELIHOODS: Mapping[str, type] = {
    "Bernoulli": Bernoulli,
    "Categorical": Categorical,
    "DiscretizedLogisticMixture": DiscretizedLogisticMixture,
}
"""The likelihoods of this library by name, as run.json writes them."""
