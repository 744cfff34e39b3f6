"""Writing so that a reader, a kill or a full disk finds the old text or the new one."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes `path` so that a reader, or a kill, sees the old text or the new one.

    Raises OSError, with the path, if it cannot: the old text is still there, and nothing else.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with naming(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError of a write says where: that of an open file knows no name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
