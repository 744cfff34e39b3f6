"""The order of names, and how some of many are told."""

import pytest

from gen_jax.data.sources.source import natural, reading, some

pytestmark = pytest.mark.quick


def test_numbers_in_names_are_sorted_as_numbers():
    names = ["10", "2", "a10b2", "a10b1", "a9b3", "a", "07", "7"]
    expected = ["2", "07", "7", "10", "a", "a9b3", "a10b1", "a10b2"]
    for given in (names, names[::-1]):
        assert sorted(given, key=natural) == expected


def test_of_many_names_the_first_are_told_and_that_there_are_more():
    assert some("abc") == "'a', 'b', 'c'"
    assert some(iter("abcd")) == "'a', 'b', 'c', ..."
    assert some([7, 8], most=1, show=str) == "7, ..."


def test_whatever_a_reader_raises_is_one_line():
    def read(error):
        with reading("x.npz"):
            raise error

    for error, said in (
        (ValueError("no header\nat all"), "no header"),
        (RuntimeError("no\nway"), "RuntimeError: no"),
        (EOFError(), "EOFError"),
    ):
        with pytest.raises(ValueError, match=r"^x\.npz cannot be read: ") as caught:
            read(error)
        message = f"x.npz cannot be read: {said}; accepted: what is whole"
        assert str(caught.value) == message
