"""How long six images take on the page where one draws, in a headless Chromium.

python -m experiments.benchmarks.demo_page
"""

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments import demo_page
from experiments.benchmarks import chromium
from gen_jax.scripts import cli

# Six images of a seed, given so many rows: seconds in which they are computed, and shown.
_TIME = """new Promise((done) => {
    const begun = performance.now();
    const known = new Uint8Array(SITES).fill(1, 0, ROWS * SIDE);
    run({ given: drawing.ink, known, seed: SEED, what: "completions" });
    const look = () => {
        if (result.shown < SITES || result.seconds === null) return requestAnimationFrame(look);
        done([result.seconds, (performance.now() - begun) / 1000]);
    };
    look();
})"""


@dataclasses.dataclass(frozen=True)
class Options:
    """How often."""

    repeats: int = 9
    """Times that each is drawn; the median is shown."""


def main(arguments: Sequence[str]) -> None:
    """Parses, draws, and prints a table."""
    options = cli.parse(Options, "python -m experiments.benchmarks.demo_page", arguments)
    cli.check_counts(repeats=options.repeats)
    names = demo_page.runnable_names()
    table = Table("model", "rows known", "computed (s)", "shown (s)")
    with tempfile.TemporaryDirectory() as folder:
        demo_page.main(["--no-open", f"--output={folder}"])
        with chromium.Page((Path(folder) / "index.html").as_uri(), offline=True) as page:
            for name in names:
                page.evaluate(f"element('model').value = {json.dumps(name)}")
                for num_rows in (0, 14):
                    times = [measure(page, num_rows, seed) for seed in range(options.repeats + 1)]
                    # The first compiles, and hands the weights over.
                    computed, shown = (statistics.median(x) for x in zip(*times[1:], strict=True))
                    table.add_row(name, str(num_rows), f"{computed:.2f}", f"{shown:.2f}")
    Console().print(table)


def measure(page: chromium.Page, num_rows: int, seed: int) -> tuple[float, float]:
    """Seconds in which six images are computed, and until all of them are seen."""
    computed, shown = page.evaluate(
        _TIME.replace("ROWS", str(num_rows), 1).replace("SEED", str(seed), 1)
    )
    return computed, shown


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
