"""A Gated PixelCNN in plain PyTorch, and a sampler with a cache written by hand: to compare with.

The model of `gen_jax.models.GatedPixelCNN` for binary images of one channel, as one would write it
in PyTorch, with the same parameters. `CachedSampler` keeps what a pixel needs of those before it;
on CUDA each row is one CUDA graph. Needs `pip install torch`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]


class GatedPixelCNN(torch.nn.Module):
    """Logits `[B, 1, H, W]` of images of 0 and 1, `[B, 1, H, W]`."""

    def __init__(self, features: int, num_layers: int, kernel_size: int, first_kernel_size: int):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            [GatedLayer(1, features, first_kernel_size, reads_image=True)]
            + [GatedLayer(features, features, kernel_size) for _ in range(num_layers - 1)]
        )
        convs = torch.nn.Conv2d(features, features, 1), torch.nn.Conv2d(features, 1, 1)
        self.head = torch.nn.ModuleList(convs)

    def forward(self, images: Any) -> Any:
        vertical = horizontal = 2 * images - 1
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        for conv in self.head:
            horizontal = conv(functional.relu(horizontal))
        return horizontal


class GatedLayer(torch.nn.Module):
    """One layer of both stacks."""

    def __init__(self, inputs: int, features: int, kernel_size: int, reads_image: bool = False):
        super().__init__()
        side = kernel_size // 2
        self.reads_image, self.side = reads_image, side
        self.vertical = torch.nn.Conv2d(inputs, 2 * features, (side + 1, kernel_size))
        self.horizontal = torch.nn.Conv2d(inputs, 2 * features, (1, side + 1))
        self.beside = torch.nn.Conv2d(2 * features, 2 * features, 1, bias=False)
        self.out = torch.nn.Conv2d(features, features, 1)
        if reads_image:  # mask A
            self.horizontal.weight.data[..., -1] = 0

    def forward(self, v: Any, h: Any) -> Any:
        maps = self.vertical(functional.pad(v, (self.side, self.side, self.side, 0)))
        above = functional.pad(maps[:, :, :-1], (0, 0, 1, 0))
        gates = self.horizontal(functional.pad(h, (self.side, 0, 0, 0))) + self.beside(above)
        out = self.out(gate(gates))
        return gate(maps), out if self.reads_image else out + h


def gate(x: Any, dim: int = 1) -> Any:
    """tanh · σ of the two halves."""
    a, b = x.chunk(2, dim)
    return torch.tanh(a) * torch.sigmoid(b)


def load(model: GatedPixelCNN, params: Mapping[str, Any]) -> GatedPixelCNN:
    """The module, with the parameters of a `gen_jax.models.GatedPixelCNN` of the same sizes."""
    for n, layer in enumerate(model.layers):
        theirs = params[f"layers_{n}"]
        _set(layer.vertical, theirs["vertical"]["kernel"], theirs["vertical"]["bias"])
        kernel = np.array(theirs["horizontal"]["kernel"])
        if layer.reads_image:
            kernel[-1] = 0
        _set(layer.horizontal, kernel[None], theirs["horizontal"]["bias"])
        _set(layer.beside, theirs["horizontal"]["kernel_beside"][None, None])
        _set(layer.out, theirs["out"]["kernel"][None], theirs["out"]["bias"])
    for n, conv in enumerate(model.head):
        theirs = params["head"][f"convs_{n}"]
        _set(conv, theirs["kernel"][None], theirs["bias"])
    return model


def _set(conv: Any, kernel: Any, bias: Any = None) -> None:
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1))
        if bias is not None:
            conv.bias.copy_(torch.from_numpy(np.array(bias)))


@torch.inference_mode()
def draw_by_passes(model: GatedPixelCNN, noise: Any, num_sites: int | None = None) -> Any:
    """Images `[B, H, W]` by a whole-image pass a pixel, or the first `num_sites` of each."""
    batch, height, width = noise.shape
    images = torch.zeros(batch, 1, height, width, device=noise.device)
    for site in range(height * width if num_sites is None else num_sites):
        r, c = divmod(site, width)
        images[:, 0, r, c] = (noise[:, r, c] < torch.sigmoid(model(images)[:, 0, r, c])).float()
    return images[:, 0]


class CachedSampler:
    """Images `[B, H, W]` from uniform noise of that shape, a pixel's window at a time."""

    def __init__(self, model: GatedPixelCNN, batch: int, height: int, width: int, device: str):
        self.layers, self.height, self.width = model.layers, height, width
        self.device = device

        def zeros(*shape: int) -> Any:
            return torch.zeros(*shape, device=device)

        # What a graph reads and writes stays where it is.
        self.row, self.noise = zeros(batch, 1, 1, width), zeros(batch, width)
        sizes = [(layer.vertical.in_channels, layer.side) for layer in self.layers]
        self.above = [zeros(batch, inputs, side, width) for inputs, side in sizes]
        with torch.inference_mode():
            self.kernels = [_window_kernel(layer) for layer in self.layers]
            self.outs = [_dense(layer.out) for layer in self.layers]
            self.head = [_dense(conv) for conv in model.head]
            self.draw_first_row = self._replayable(lambda: self._draw_row(top=True))
            self.draw_row = self._replayable(lambda: self._draw_row(top=False))

    @torch.inference_mode()
    def __call__(self, noise: Any) -> Any:
        for above in self.above:
            above.zero_()
        rows = []
        for r in range(self.height):
            self.noise.copy_(noise[:, r])
            (self.draw_row if r else self.draw_first_row)()
            rows.append(((self.row[:, 0, 0] + 1) / 2).round())
        return torch.stack(rows, 1)

    def _replayable(self, function: Callable[[], None]) -> Callable[[], None]:
        if not self.device.startswith("cuda"):
            return function
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()  # cuBLAS and cuDNN make themselves ready
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph.replay

    def _draw_row(self, top: bool) -> None:
        maps = None if top else self._maps()
        batch = self.row.shape[0]
        windows = [self.row.new_zeros(batch, x.shape[1] * x.shape[2]) for x in self.above]
        pixels = []
        for c in range(self.width):
            x = None
            for n, (kernel, bias) in enumerate(self.kernels):
                inputs = windows[n] if x is None else torch.cat([windows[n], x], 1)
                gates = torch.addmm(bias, inputs, kernel)
                if maps is not None:  # above row 0 there is nothing
                    gates = gates + maps[n][c]
                kernel, bias = self.outs[n]
                out = torch.addmm(bias, gate(gates), kernel)
                if x is not None:
                    windows[n] = inputs[:, x.shape[1] :]
                    out = out + x
                x = out
            for kernel, bias in self.head:
                x = torch.addmm(bias, functional.relu(x), kernel)
            pixel = 2 * (self.noise[:, c : c + 1] < torch.sigmoid(x)).float() - 1
            windows[0] = torch.cat([windows[0], pixel], 1)[:, 1:]
            pixels.append(pixel)
        self.row.copy_(torch.cat(pixels, 1)[:, None, None])

    def _maps(self) -> list[Any]:
        """What each layer's horizontal stack reads of the rows above, `[W, B, 2 F]`."""
        x, found = self.row, []
        for layer, above in zip(self.layers, self.above, strict=True):
            rows = torch.cat([above, x], 2)
            above.copy_(rows[:, :, 1:])
            maps = layer.vertical(functional.pad(rows, (layer.side, layer.side, 0, 0)))
            found.append(layer.beside(maps)[:, :, 0].permute(2, 0, 1).contiguous())
            x = gate(maps)
        return found


def _window_kernel(layer: GatedLayer) -> tuple[Any, Any]:
    """The horizontal convolution as a matrix over a flattened window, the oldest pixel first."""
    weight = layer.horizontal.weight[:, :, 0]  # [O, I, taps]
    taps = weight.shape[2] - (1 if layer.reads_image else 0)
    kernel = weight[:, :, :taps].permute(2, 1, 0).reshape(-1, weight.shape[0])
    return kernel.contiguous(), layer.horizontal.bias


def _dense(conv: Any) -> tuple[Any, Any]:
    return conv.weight[:, :, 0, 0].T.contiguous(), conv.bias
