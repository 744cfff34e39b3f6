"""What `gen_jax NAME …` runs: the `main` of the script of that name."""

import importlib
from collections.abc import Mapping, Sequence

from gen_jax import checks
from gen_jax.scripts import cli

COMMANDS: Mapping[str, str] = {
    "train": "train a preset, or go on with a run that was stopped",
    "evaluate": "score a trained run on a whole split, or on images of yours",
    "sample": "draw images",
    "complete": "draw the rest of images of which a part is known",
    "reconstruct": "what an auto-encoder makes of images",
    "compress": "write images losslessly into a file as small as the likelihood says",
    "decompress": "give them back, bit for bit",
    "publish": "make weights and a card, which load by a name, from a finished run",
    "prepare": "download a TFDS image set, once",
    "demo": "all of it on digits, in minutes",
}


def main(arguments: Sequence[str]) -> None:
    """Runs the command that the first of `arguments` names, with the rest."""
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print("usage: gen_jax COMMAND [OPTIONS]\n\nCommands:")
        for command, what in COMMANDS.items():
            print(f"  {command:12} {what}")
        print("\ngen_jax COMMAND --help lists the options of a command.")
        return
    checks.choice("command", name, COMMANDS)
    importlib.import_module(f"gen_jax.scripts.{name}").main(arguments[1:])


def run(arguments: Sequence[str]) -> None:
    """`main`, with mistakes as one line and the exit status that goes with them."""
    cli.run(main, arguments)
