"""What the tests of the page share: a page that is built, and what the library draws."""

import functools
from typing import NamedTuple

import jax
import numpy as np

import gen_jax
from experiments import demo_page
from gen_jax import sampling
from gen_jax.pretrained import self_check

IMAGES, SIDE = 6, 28


class Expected(NamedTuple):
    """What the library completes, and from what."""

    given: np.ndarray
    """Levels [H, W], the same for all images."""
    known: np.ndarray
    """Bool [H, W]."""
    noise: np.ndarray
    """Uniform numbers [B, H · W]."""
    temperature: float
    images: np.ndarray
    """Levels [B, H, W]."""


@functools.cache
def expected(name: str) -> Expected:
    """Rows known whole, two known in part, the first among them, and rows to draw."""
    model, variables = gen_jax.load(name)
    key, given = jax.random.key(3), self_check.fixed_images(model)[0][4]
    known = np.zeros((SIDE, SIDE, 1), bool)
    known[:10] = known[12, 5:15] = True
    known[0, 20:] = False
    images = sampling.complete(
        model,
        variables,
        key,
        np.repeat(given[None], IMAGES, axis=0),
        known,
        temperature=0.9,
        precision="highest",
    )
    noise = np.asarray(sampling.site_noise(model, key, np.arange(IMAGES)))[..., 0]
    return Expected(given[..., 0], known[..., 0], noise, 0.9, np.asarray(images)[..., 0])


def differing(images: np.ndarray, name: str) -> float:
    """The fraction of sites to draw that differ from the library's."""
    wanted = expected(name)
    assert (images[:, wanted.known] == wanted.given[wanted.known]).all()
    return float((images != wanted.images)[:, ~wanted.known].mean())


@functools.cache
def names() -> tuple[str, ...]:
    return tuple(demo_page.runnable_names())
