"""What the scripts share: the command line, one-line errors, a trained run with its data."""

import contextlib
import dataclasses
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import experiments
import gen_jax
from gen_jax import data, models, training
from gen_jax.training.workdir import Workdir

T = TypeVar("T")
RunFolder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WORKDIR")]
Presets = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PRESET …")]


def run(main: Callable[..., None], *arguments: Any) -> None:
    """Runs a script's `main`: a mistake of the user is one line on stderr and exit status 2.

    A character that the terminal does not know is replaced, a warning is one line, and nobody
    reading is no mistake.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        if signal.getsignal(signal.SIGINT) is experiments.say_and_leave:  # imports are over
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with warnings.catch_warnings():
            warnings.simplefilter("once", training.DamagedWarning)
            warnings.showwarning = _warn
            main(*arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain of it again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        fail(str(error))
    except MemoryError as error:
        fail(f"not enough memory: {error}")
    except training.NonFiniteError as error:
        fail(str(error), status=1)
    except KeyboardInterrupt:
        fail("interrupted", status=128 + signal.SIGINT)


def fail(message: str, status: int = 2) -> None:
    """Ends the script with one line on stderr."""
    _say("error: " + message)
    sys.exit(status)


def stop(result: training.TrainResult) -> None:
    """Ends the script as the signal would have that stopped the training, if one did."""
    if result.signal is not None:
        sys.exit(128 + result.signal)


def _warn(message: Warning | str, *about: Any, **more: Any) -> None:
    del about, more
    _say(f"warning: {message}")


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        print(" ".join(message.split()), file=sys.stderr)


def parse(options: Any, script: str, arguments: Sequence[str], **kwargs: Any) -> Any:
    """`tyro.cli`, whose boxed complaint becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                options, prog=f"python -m experiments.{script}", args=list(arguments), **kwargs
            )
    except SystemExit as stop:
        if stop.code not in (0, None):
            fail(f"{_essence(complaint.getvalue())} (--help lists what is accepted)")
        raise


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


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, opened."""

    workdir: Workdir
    record: dict[str, Any]
    model: Any
    variables: Any
    step: int

    @property
    def objective(self) -> training.Target:
        """What it was trained with (runs of old say nothing: it was the log-likelihood)."""
        default = training.target_to_dict(training.LOG_LIKELIHOOD)
        return training.target_from_dict(self.record.get("objective", default))

    def labels(self, batch: Mapping[str, Any]) -> Any:
        """The labels of a batch if the model takes them."""
        return None if self.model.num_classes is None else batch["labels"]

    def load_data(self, data_dir: str | None = None) -> data.Dataset:
        """The data set that it was trained on. ValueError if the content is another."""
        dataset = load_data(data_config(self.record["data"]["config"], data_dir))
        expected = self.record["data"]["fingerprint"]
        if dataset.fingerprint != expected:
            raise ValueError(
                f"{dataset.name} is not the data of this run any more: "
                f"fingerprint {dataset.fingerprint} here, {expected} in {self.workdir.run}"
            )
        return dataset


def open_run(workdir: str, step: str = "best") -> Run:
    """Reads a run and its model: the EMA at `step` (best, last or a number)."""
    folder = Workdir(workdir)
    record = folder.read()
    if step not in ("best", "last") and not step.isdigit():
        raise ValueError(f"step is {step!r}; accepted: best, last or a number")
    chosen = step if step == "best" or step == "last" else int(step)
    number = training.resolve_step(workdir, chosen)
    model, variables = gen_jax.load(workdir, number)
    return Run(folder, record, model, variables, number)


def expected_images(run: Run, codes: Any, labels: Any) -> np.ndarray:
    """The expected levels of each code's image, real numbers `[B, H, W, C]`."""
    params = run.model.apply(run.variables, codes, labels, method="decode")
    return np.asarray(run.model.likelihood.mean(params, run.model.image_shape[-1]))


def data_config(fields: dict[str, Any], data_dir: str | None = None) -> data.DataConfig:
    """A DataConfig from JSON; `data_dir` goes before the one in it."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    config = data.DataConfig(**fields)
    return dataclasses.replace(config, data_dir=data_dir or config.data_dir)


def load_data(config: data.DataConfig) -> data.Dataset:
    """`data.load` with a bar while images decode."""
    with progress("reading " + config.name) as bar:
        task = bar.add_task(f"reading {config.name}", total=None)
        return data.load(config, lambda done, total: bar.update(task, completed=done, total=total))


def progress(description: str) -> Progress:
    """A progress bar on stderr, on a terminal only."""
    del description
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """`items`, with a progress bar that counts them."""
    with progress(description) as bar:
        yield from bar.track(items, total=total, description=description)


def check_counts(**counts: int | tuple[int, ...]) -> None:
    """ValueError unless all are at least 1, and there is one at least of each."""
    for name, value in counts.items():
        if value == () or min(value if isinstance(value, tuple) else (value,)) < 1:
            raise ValueError(f"{name} is {value}; accepted: numbers of at least 1")


def round_up(count: int, multiple: int) -> int:
    """The next multiple: a batch that divides over the devices."""
    return -(-count // multiple) * multiple


def autoregressive(model: models.ImageModel) -> models.AutoregressiveModel:
    """The model, if it draws site by site. ValueError for another."""
    if not isinstance(model, models.AutoregressiveModel):
        raise ValueError(f"{type(model).__name__} is not an autoregressive model")
    return model


def labels_for(model: Any, count: int, label: int | None) -> Any:
    """Labels of `count` samples: `label`, or all classes in turn; None without classes."""
    if model.num_classes is None:
        if label is not None:
            raise ValueError(f"label is {label}, but the model has no classes")
        return None
    if label is not None and not 0 <= label < model.num_classes:
        raise ValueError(f"label is {label}; the model's classes are 0 … {model.num_classes - 1}")
    if label is not None:
        return [label] * count
    return [i % model.num_classes for i in range(count)]


def environment() -> dict[str, Any]:
    """Device and versions, for results."""
    import flax

    devices = jax.devices()
    return {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "gen_jax": gen_jax.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "python": sys.version.split()[0],
    }
