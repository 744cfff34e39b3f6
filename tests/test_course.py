"""The chapters of the course run, in little; their answers are right; they link what they use."""

import ast
import re
import types

import jax
import pytest

from experiments import course

from .pages import MODULES, ROOT, code, prose

# How much a chapter computes here; `make docs` runs what it says itself.
QUICK = {
    "1-generators": {"num_images": 20},
    "2-auto-encoders": {"steps": 100, "repeats": 500},
    "3-variational-auto-encoders": {"steps": 300, "repeats": 50},
    "4-autoregressive": {
        "names": ["gated-pixelcnn-digits"],
        "drawn_by": "gated-pixelcnn-digits",
        "batch": 16,
    },
    "5-image-transformer": {"sides": (6,), "batch": 4},
    "6-side-by-side": {
        "names": ["gated-pixelcnn-digits", "pixelcnn-digits", "vae-digits"],
        "num_samples": 50,
        "batch": 8,
        "num_stored": 40,
    },
}

every_chapter = pytest.mark.parametrize("chapter", course.CHAPTERS, ids=lambda path: path.stem)


def test_there_are_six_chapters():
    assert [path.stem for path in course.CHAPTERS] == sorted(QUICK)


@every_chapter
def test_a_chapter_runs_and_its_answers_are_right(chapter):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        executed = course.run(chapter, QUICK[chapter.stem])
    for name, picture in executed.pictures.items():
        assert f"]({name})" in executed.markdown
        assert picture.startswith(b"\x89PNG")
    assert executed.pictures, "nothing drawn"
    assert code(chapter, "python") == re.findall(
        r"```python\n(.*?)```", executed.markdown, re.DOTALL
    )


MODULES_USED = {*MODULES, "gen_jax", "query_blocks"}


def used(chapter):
    """`module.name` of gen_jax that the cells name."""
    tree = ast.parse("\n".join(code(chapter, "python")))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(module), name) if module in MODULES_USED:
                yield f"{module}.{name}"


@every_chapter
@pytest.mark.quick
def test_a_chapter_links_what_it_uses(chapter):
    names = set(used(chapter))
    assert names
    for name in names:
        assert f"[`{name}`](../api/" in prose(chapter), name


@every_chapter
@pytest.mark.quick
def test_nothing_else_looks_like_html(chapter):
    """A `<` in a formula outside of a block would begin a tag, and answers would not fold."""
    assert set(re.findall(r"<.{8}", prose(chapter))) == {
        "<details ",
        "<summary>",
        "</summary",
        "</details",
    }


@every_chapter
@pytest.mark.quick
def test_a_chapter_has_two_exercises_with_answers_that_assert(chapter):
    text = chapter.read_text()
    summary = text.split("\n\n")[1]
    assert len(re.findall(r"\.(?=\s|$)", summary)) == 2, "what to take away, in two sentences"
    exercises = text.partition("## Exercises")[2]
    assert re.findall(r"^\*\*(\d)\.\*\*", exercises, re.MULTILINE) == ["1", "2"]
    answers = re.findall(r"<details.*?</details>", exercises, re.DOTALL)
    assert len(answers) == 2
    for answer in answers:
        assert re.search(r"```python\n.*\bassert", answer, re.DOTALL)


@pytest.mark.quick
def test_a_cell_is_shown_as_in_a_notebook(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n```python\nn = 3\nn + 1\n```\n\nThen\n\n```python\nprint('n is', n)\n"
        "import matplotlib.pyplot as plt\nplt.plot([n])\nplt.show()\n```\n\nend\n"
    )
    executed = course.run(page, {"n": 5})
    assert executed.markdown.count("```python") == 2
    assert "```\n\n```text\n4\n```\n\nThen" in executed.markdown, "the parameter comes after it"
    assert "```text\nn is 5\n```\n\n![What the code above draws](page-1.png)\n\nend\n" in (
        executed.markdown
    )
    assert list(executed.pictures) == ["page-1.png"]
    with pytest.raises(ValueError, match=r"parameters are \['m'\]; accepted"):
        course.run(page, {"m": 1})


@pytest.mark.quick
def test_an_error_names_the_line_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```python\nx = 1\n\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as error:
        course.run(page)
    last = error.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(page), 6)


@pytest.mark.quick
def test_the_site_shows_chapters_executed(tmp_path, monkeypatch):
    """By the hook that mkdocs calls, which leaves other pages alone."""
    hooks = re.search(r"^hooks: \[(.*?)\]", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert hooks is not None
    assert (ROOT / hooks[1]).samefile(course.__file__)
    text = "```python\nimport matplotlib.pyplot as plt\nplt.figure()\nplt.show()\n```\n"
    chapter = tmp_path / "1-page.md"
    chapter.write_text(text)

    class File(types.SimpleNamespace):
        @classmethod
        def generated(cls, config, src_uri, *, content):
            return cls(config=config, src_uri=src_uri, content=content)

    page, files = types.SimpleNamespace(file=File(abs_src_path=str(chapter))), []
    assert course.on_page_markdown(text, page=page, config=None, files=files) == text
    assert not files
    monkeypatch.setattr(course, "CHAPTERS", (chapter,))
    shown = course.on_page_markdown(text, page=page, config=None, files=files)
    assert shown == f"{text}\n![What the code above draws](1-page-1.png)\n"
    (picture,) = files
    assert picture.src_uri == "course/1-page-1.png"
    assert picture.content.startswith(b"\x89PNG")
