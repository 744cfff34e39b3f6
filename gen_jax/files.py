"""Writing so that a reader, a kill or a full disk finds the old file or the new one."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[pathlib.Path]:
    """Another path of the same suffix, to be written: it becomes `path` if nothing goes wrong.

    Raises OSError, with `path`, if it cannot: the old file is still there, and nothing else.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with naming(path):
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file as `replacing` does, onto the disk."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """An OSError of a write says where: that of an open file knows no name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
