"""The code of the README and of the pages runs as it stands."""

import pytest

from .pages import ROOT, code, run


def test_the_readme_is_short():
    page = ROOT / "README.md"
    assert len(page.read_text().split()) < 900
    (block,) = code(page, "python")
    assert len(block.strip().splitlines()) <= 15


def test_the_readme_and_what_goes_on_from_it(tmp_path, monkeypatch):
    blocks = [*code(ROOT / "README.md", "python"), *code(ROOT / "docs" / "python.md", "python")[:2]]
    page = run("\n".join(blocks), "readme", tmp_path, monkeypatch)
    assert page.images.shape == (16, 8, 8, 1)
    assert page.nats.shape == page.bits.shape == (16,)
    assert (page.completed == page.test)[:, :4].all()


def test_the_vae_of_the_python_page(tmp_path, monkeypatch):
    page = run(code(ROOT / "docs" / "python.md", "python")[2], "vae_page", tmp_path, monkeypatch)
    assert page.images.shape == (16, 8, 8, 1)
    assert page.posterior.loc.shape == page.posterior.log_scale.shape == (16, 8)
    assert page.logits.shape == (16, 8, 8, 1, 17)


def test_the_shipped_model_of_the_python_page(tmp_path, monkeypatch):
    page = run(code(ROOT / "docs" / "python.md", "python")[3], "shipped", tmp_path, monkeypatch)
    assert page.images.shape == (16, 8, 8, 1)


def test_the_codec_page(tmp_path, monkeypatch):
    page = run(code(ROOT / "docs" / "codec.md", "python")[0], "codec_page", tmp_path, monkeypatch)
    assert len(page.content) < page.images.size / 2  # bytes; uniform would be 4.09 bits a pixel


def test_a_model_and_a_likelihood_of_a_users_own_train(tmp_path, monkeypatch):
    blocks = code(ROOT / "docs" / "your-own-model.md", "python")
    page = run("\n\n".join(blocks), "neighbours", tmp_path, monkeypatch)
    assert 2 < page.objectives.bits_per_dim(page.nats, page.model.image_shape).mean() < 2.7
    assert (page.completed == page.dataset.test.images[:16])[:, :4].all()
    assert page.scored.nats == pytest.approx(float(page.nats.mean()), rel=1e-5)
