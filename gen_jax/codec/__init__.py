"""Lossless compression: a file about as small as the likelihood says, proof that it is one.

`compress` codes every site by the model's own conditional distribution, with a range coder;
`decompress` gives back every image, bit for bit, or one line that says why not. It needs
`pip install 'gen_jax[codec]'`.

**The decoder computes what the encoder computed.** Where a decoder finds a probability another in
its last bit, it decodes noise from there on. Here both run the same compiled programs, of the
next-site view, on batches of the same size; only who supplies the levels differs: the images, or
the stream. Log-probabilities are rounded, and become integer frequencies by integer arithmetic
alone.

**What cannot be proved the same is refused.** A file holds fingerprints of the model with its
parameters, and of the programs and the machine that ran them, and checksums of all that it holds
and of the levels that it decodes to. With `force` another machine may try: the checksums still say
whether it succeeded.
"""

from gen_jax.codec.coding import compress, decompress
from gen_jax.codec.container import MAGIC, MAX_BATCH, Container, parse

__all__ = ["MAGIC", "MAX_BATCH", "Container", "compress", "decompress", "parse"]
