"""What recurrent layers compute, pixel by pixel in NumPy."""

import numpy as np

FEATURES = 6  # h, in three groups or in one


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_cell(gates, memory):
    """Van den Oord et al. 2016, equation 3."""
    o, f, i, g = np.split(gates, 4, axis=-1)
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def masked_input(kernel, groups, features=FEATURES):
    """The centre tap of input-to-state: each gate's group o reads groups i <= o. By hand."""
    kernel = kernel.copy()
    for i, o in np.ndindex(kernel.shape):
        if i // (2 * features // groups) > o % features // (features // groups):
            kernel[i, o] = 0
    return kernel


def masked_out(kernel, groups, features=FEATURES):
    kernel = kernel.copy()
    for i, o in np.ndindex(kernel.shape):
        if i // (features // groups) > o // (2 * features // groups):
            kernel[i, o] = 0
    return kernel


class Pixels(dict):
    """States by (row, column); zero outside the image."""

    def __init__(self, batch):
        super().__init__()
        self.zeros = np.zeros((batch, FEATURES))

    def __missing__(self, key):
        return self.zeros
