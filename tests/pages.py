"""The pages of the documentation: their prose, their code, and how it is run."""

import importlib
import re
import sys
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *DOCS]

# Those of gen_jax that pages name, with its name before them or without.
MODULES = ["checks", "codec", "data", "figures", "inversion", "layers", "likelihoods", "models"]
MODULES += ["objectives", "precision", "pretrained", "sampling", "training", "typing", "xla"]


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def code(page, language):
    """Its blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def run(text, name, folder, monkeypatch):
    """A module of that text, imported; in the promotion of types and ranks that users have."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        try:
            return importlib.import_module(name)
        finally:
            sys.modules.pop(name, None)
