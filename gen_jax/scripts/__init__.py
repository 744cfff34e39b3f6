"""The `gen_jax` command: parse, call the library, write files."""
