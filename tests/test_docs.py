"""What the pages say exists: links, anchors, names, files, commands, options."""

import dataclasses
import importlib
import json
import re

import pytest
import yaml

import gen_jax
from experiments import gallery, results_table
from experiments.benchmarks import accelerator_table
from gen_jax import pretrained
from gen_jax.scripts.presets import PRESETS

from .pages import DOCS, MODULES, PAGES, ROOT, code, prose

pytestmark = pytest.mark.quick

SCRIPTS = [
    ROOT / "gen_jax" / "scripts",
    ROOT / "experiments" / "benchmarks",
    ROOT / "experiments",
]

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])


def anchors(page):
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            file = (page.parent / path) if path else page
            assert file.exists(), target
            if anchor.startswith("gen_jax."):  # of an object on a page of the API
                assert_documented(anchor, file)
            else:
                assert not anchor or anchor in anchors(file), target


def assert_documented(name, page):
    """The object exists, and the page is of its module, or of one that holds it."""
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), name
    assert re.search(rf"^::: {re.escape(module)}$", page.read_text(), re.MULTILINE), name


@every_page
def test_names_and_files_exist(page):
    text, modules = prose(page), "|".join(MODULES)
    for module, dotted in re.findall(rf"`(?:gen_jax\.)?({modules})\.(\w+(?:\.\w+)*)", text):
        value = importlib.import_module(f"gen_jax.{module}")
        for name in dotted.split("."):
            assert hasattr(value, name), f"gen_jax.{module}.{dotted}"
            value = getattr(value, name)
    for name in re.findall(r"`gen_jax\.(\w+)`", text):
        if not hasattr(gen_jax, name):
            importlib.import_module(f"gen_jax.{name}")
    for name in re.findall(r"^::: (\S+)", text, re.MULTILINE):
        importlib.import_module(name)
    for file in re.findall(r"`([\w.]+/[\w./]*)`", text):
        if not file.startswith(("runs/", "site/")):
            assert (ROOT / file).exists(), file


def commands(page):
    """Each command of a page: the script, and its arguments."""
    shell = [*code(page, "sh"), *re.findall(r"`([^`\n]+)`", prose(page))]
    text = "\n".join(shell).replace("\\\n", " ")
    found = re.findall(
        r"(?:gen_jax |python -m experiments\.(?:benchmarks\.)?)(\w+)([^\n#&]*)", text
    )
    return [(script, arguments.split()) for script, arguments in found]


@every_page
def test_commands_exist(page):
    for script, arguments in commands(page):
        files = [folder / f"{script}.py" for folder in SCRIPTS]
        sources = [file.read_text() for file in files if file.exists()]
        assert sources, script
        for argument in arguments:
            if argument.startswith("--"):
                name = argument[2:].rpartition(".")[2].replace("-", "_")
                assert "." in argument or re.search(rf"\b{name}\b", sources[0]), argument
            elif argument.startswith("runs/"):
                assert argument[5:] in {*PRESETS, "PRESET"}, argument
        if script == "train" and arguments and not arguments[0].startswith("-"):
            assert arguments[0] in {*PRESETS, "PRESET"}, arguments


def test_every_option_of_the_data_is_told():
    config = importlib.import_module("gen_jax.data").DataConfig
    told = set(re.findall(r"--data\.([\w-]+)", (ROOT / "docs" / "data.md").read_text()))
    assert told == {field.name.replace("_", "-") for field in dataclasses.fields(config)}


def test_every_preset_has_a_line_among_the_results():
    text = (ROOT / "docs" / "results.md").read_text()
    named = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", text))
    assert named == set(PRESETS)


def test_the_results_of_shipped_models_are_what_their_cards_say():
    """Made anew, the table is the one in the page."""
    text = (ROOT / "docs" / "results.md").read_text()
    assert results_table.with_table(text) == text
    rows = re.findall(r"^\| `([\w-]+)` .* `gen_jax train", text, re.MULTILINE)
    assert tuple(rows) == pretrained.names()


def test_a_row_says_what_its_card_says():
    card = pretrained.card("gated-pixelcnn-digits")
    test = dataclasses.replace(card.test, nats=-80.004, nats_standard_error=0.196)
    record = {**card.run, "data": {**card.run["data"], "levels": 2, "binarization": "dynamic"}}
    row = results_table.row("name", dataclasses.replace(card, test=test, run=record, epochs=7.46))
    assert row == (
        "| `name` | digits, **dynamic** | validation, 250 | 7.46 | **80.00 ± 0.20 nats** |  "
        "| `gen_jax train gated-pixelcnn-digits` |\n"
    )
    bound = dataclasses.replace(
        test, measure="-ELBO", iwae_samples=9, iwae_nats=-70.0, iwae_nats_standard_error=0.5
    )
    assert results_table.score(dataclasses.replace(card, test=bound, run=record)) == (
        "**70.00 ± 0.50 nats** by the IWAE bound of k = 9 (-ELBO 80.00 ± 0.20)"
    )
    with pytest.raises(ValueError, match="has no place for the table"):
        results_table.with_table("# Results\n")


def test_the_table_of_accelerators_is_what_was_measured():
    result = json.loads((ROOT / "docs" / "accelerators.json").read_text())
    page = (ROOT / "docs" / "accelerators.md").read_text()
    assert accelerator_table.with_table(page, result) == page
    row = (
        "| Gated PixelCNN, 7 x 64 | 28×28×1 | 1,024 | 14.6 ms | **80 ms** | 12,800 | naive: 11.9 s "
        "(149 ×)<br>PyTorch, naive: 32.9 s (411 ×)<br>PyTorch, cached: 124 ms (1.6 ×) |"
    )
    assert row in page.splitlines()
    with pytest.raises(ValueError, match="has no place for the table"):
        accelerator_table.with_table("# Accelerators\n", result)


def test_every_shipped_model_is_in_the_gallery():
    page = ROOT / "docs" / "gallery.md"
    assert tuple(gallery.read_sections(page)) == pretrained.names()
    pictures = set(re.findall(r"\]\(gallery/([\w.-]+)\)", page.read_text()))
    assert pictures == {path.name for path in (ROOT / "docs" / "gallery").iterdir()}
    for name in pretrained.names():
        card = pretrained.card(name)
        said = f"\n`{card.command}`: {results_table.score(card)} on the test split.\n"
        assert said in gallery.read_sections(page)[name], "draw it anew: another model is shipped"


def test_every_page_is_in_the_menu():
    def pages(menu):
        for entry in menu:
            if isinstance(entry, str):
                yield entry
            else:
                yield from pages(*entry.values())

    menu = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(menu) == [str(page.relative_to(ROOT / "docs")) for page in DOCS]


def test_the_version_is_that_of_the_changelog():
    """Past the last release it is that of the next: a card says which code it is of."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    last = re.search(r"^## (\d\S+) – (\S+)$", changelog, re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert last is not None
    assert last.groups() == (citation["version"], citation["date-released"])
    major, minor, _ = citation["version"].split(".")
    unreleased = "\n## Unreleased\n" in changelog
    expected = f"{major}.{int(minor) + 1}.0.dev0" if unreleased else citation["version"]
    assert gen_jax.__version__ == expected
