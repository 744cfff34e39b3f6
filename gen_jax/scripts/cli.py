"""What the scripts share: the command line, one-line errors, progress."""

import contextlib
import dataclasses
import functools
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ParamSpec, TypeVar

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

import gen_jax_command
from gen_jax import checks, training
from gen_jax.likelihoods import Likelihood
from gen_jax.progress import progress_bar
from gen_jax.training import runtime_log

T = TypeVar("T")
P = ParamSpec("P")
Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
File = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
Images = Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="IMAGES")]
OutputFile = Annotated[str | None, tyro.conf.arg(aliases=("-o",), metavar="FILE")]
DataName = Annotated[str | None, tyro.conf.arg(name="data.name")]
DataDir = Annotated[str | None, tyro.conf.arg(name="data.data-dir")]
Hidden = tyro.conf.Suppress[int]
# True unless --no-… says otherwise: a --… would change nothing, and so is not offered.
UnlessOff = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Presets = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PRESET …")]


def run(main: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> None:
    """Runs a script's `main`: a mistake of the user is one line on stderr and exit status 2.

    A character that the terminal does not know is replaced, a warning is one line, and nobody
    reading is no mistake.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        if signal.getsignal(signal.SIGINT) is gen_jax_command.say_and_leave:  # imports are over
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with warnings.catch_warnings():
            warnings.simplefilter("once", training.DamagedWarning)
            warnings.showwarning = _warn
            main(*arguments, **options)
            sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain of it again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        fail(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            if runtime_log.of_a_lost_peer(error):
                runtime_log.end_without_peers(error)
            raise
        fail(f"not enough memory: {str(error).splitlines()[0] if str(error) else ''}")
    except training.NonFiniteError as error:
        fail(str(error), status=1)
    except KeyboardInterrupt:
        fail("interrupted", status=128 + signal.SIGINT)


def fail(message: str, status: int = 2) -> None:
    """Ends the script with one line on stderr."""
    _say("error: " + message)
    runtime_log.leave(status)
    sys.exit(status)


def stop(result: training.TrainResult) -> None:
    """Ends the script as the signal would have that stopped the training, if one did."""
    if result.signal is not None:
        sys.exit(128 + result.signal)


def _warn(message: Warning | str, *about: object, **more: object) -> None:
    del about, more
    _say(f"warning: {message}")


def say(line: str) -> None:
    """Prints a line; that nobody reads any more ends nothing."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        print(" ".join(message.split()), file=sys.stderr)


def parse(
    options: Any,
    prog: str,
    arguments: Sequence[str],
    *,
    hidden: Mapping[type, Collection[str]] | None = None,
    **kwargs: Any,
) -> Any:
    """`tyro.cli`, whose boxed complaint becomes one line.

    Fields that are `hidden`, by class, are not offered, and stay as the default has them.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _rules(hidden or {}):
            return tyro.cli(options, prog=prog, args=list(arguments), **kwargs)
    except TypeError as error:  # of a value that no type of a field rules out
        fail(str(error))
    except SystemExit as stop:
        if stop.code not in (0, None):
            fail(f"{_essence(complaint.getvalue())} (--help lists what is accepted)")
        raise


def _rules(hidden: Mapping[type, Collection[str]]) -> ConstructorRegistry:
    """What tyro cannot know of our dataclasses, whatever class declares a field."""
    rules, asked = ConstructorRegistry(), False

    @rules.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal asked
        default: Any = info.default
        if asked or not dataclasses.is_dataclass(default) or isinstance(default, type):
            return None
        asked = True  # the other rules, and not this one again
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asked = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        names = {x for kind, of in hidden.items() if isinstance(default, kind) for x in of}
        fields = tuple(_buildable(field) for field in spec.fields if field.name not in names)

        @functools.wraps(type(default), updated=())  # --help shows its docstring
        def replaced(**changes: Any) -> Any:
            return dataclasses.replace(default, **changes)

        return StructConstructorSpec(replaced if names else spec.instantiate, fields)

    return rules


def _buildable(field: StructFieldSpec) -> StructFieldSpec:
    """A likelihood is of the class of its default, and described as that: nothing can be built of
    a protocol."""
    if field.type is not Likelihood or not dataclasses.is_dataclass(field.default):
        return field
    return dataclasses.replace(field, type=type(field.default), helptext=None)


def _essence(complaint: str) -> str:
    """What tyro's box says, without its title and its advice; its lines may be ASCII."""
    sections: list[list[str]] = [[]]
    for line in complaint.splitlines():
        text = line.strip(" │")
        if len(text) > 3 and set(text) <= {"─", "-"}:
            sections.append([])
        elif text and text[0] not in "╭╰":
            sections[-1].append(text)
    titled = not complaint.startswith("╭") and len(sections) > 1
    return " ".join(sections[1 if titled else 0])


def noise_key(seed: int) -> jax.Array:
    """The key of a seed. ValueError if it has more than 64 bits."""
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed is {seed}; accepted: −2^63 … 2^63 − 1")
    return jax.random.key(seed)


def progress() -> Progress:
    """A progress bar on stderr, if that is a terminal, or in a notebook."""
    return progress_bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """`items`, with a progress bar that counts them."""
    with progress() as bar:
        yield from bar.track(items, total=total, description=description)


def check_counts(**counts: int | tuple[int, ...]) -> None:
    """ValueError unless all are at least 1, and there is one at least of each."""
    for name, value in counts.items():
        if isinstance(value, tuple):
            checks.wholes(name, value, 1)
        else:
            checks.whole(name, value, 1)


def round_up(count: int, multiple: int) -> int:
    """The next multiple: a batch that divides over the devices."""
    return -(-count // multiple) * multiple
