"""One preset for each result in docs/results.md: a model, its data, its training."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from gen_jax import checks, likelihoods, models
from gen_jax.data import DataConfig
from gen_jax.training import (
    ELBO,
    IWAE,
    LOG_LIKELIHOOD,
    LearnedCodes,
    OptimizerConfig,
    Reconstruction,
    Target,
    TrainConfig,
)
from gen_jax.typing import Json

_DIGITS, _MNIST, _CIFAR10 = (8, 8, 1), (28, 28, 1), (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is trained, on what, and how."""

    model: models.ImageModel
    """The model."""
    data: DataConfig
    """The images, and what is done to them."""
    training: TrainConfig
    """How it is trained."""
    objective: Target = LOG_LIKELIHOOD
    """What training maximises."""


_digits_training = TrainConfig(
    steps=1500,
    batch_size=64,
    eval_every=100,
    eval_batch_size=250,
    log_every=20,
    optimizer=OptimizerConfig(
        learning_rate=6e-3, warmup_steps=50, weight_decay=0.01, ema_decay=0.99
    ),
)

_gated_digits = Experiment(
    models.GatedPixelCNN(
        _DIGITS,
        likelihoods.Categorical(17),
        features=40,
        num_layers=5,
        dropout=0.4,
        first_kernel_size=5,
    ),
    DataConfig("digits"),
    _digits_training,
)


def _pixel_rnn_digits(model: Callable[..., models.AutoregressiveModel]) -> Experiment:
    """PixelCNN and the PixelRNNs on digits: the same sizes."""
    network = model(
        _DIGITS,
        likelihoods.Categorical(17),
        features=32,
        num_layers=5,
        dropout=0.3,
        first_kernel_size=5,
    )
    return Experiment(network, DataConfig("digits"), _digits_training)


# About a quarter of an hour on two CPU cores, as two devices (see the README): a start, not
# convergence. On an accelerator, raise steps and batch_size.
_mnist_training = TrainConfig(
    steps=3800,
    batch_size=16,
    eval_every=1900,
    eval_batch_size=250,
    log_every=50,
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, ema_decay=0.998),
)

# To convergence: nine epochs, two hours of two CPU cores as two devices, or minutes of an
# accelerator.
_gated_mnist = dataclasses.replace(
    _mnist_training,
    steps=7000,
    batch_size=64,
    eval_every=500,
    optimizer=dataclasses.replace(_mnist_training.optimizer, ema_decay=0.999),
)
# Eight epochs: an hour and a half of one CPU core.
_pixelcnn_mnist = dataclasses.replace(
    _mnist_training,
    steps=25_000,
    eval_every=2500,
    log_every=100,
    optimizer=dataclasses.replace(_mnist_training.optimizer, ema_decay=0.999),
)
# Nineteen epochs: an hour of one CPU core with nothing else to do.
_row_lstm_mnist = dataclasses.replace(
    _mnist_training,
    steps=60_000,
    eval_every=3000,
    log_every=100,
    optimizer=dataclasses.replace(_mnist_training.optimizer, ema_decay=0.9995),
)
# Eleven and a half epochs: two hours of one CPU core.
_diagonal_bilstm_mnist = dataclasses.replace(_row_lstm_mnist, steps=36_000)

# For one accelerator.
_cifar10_training = TrainConfig(
    steps=200_000,
    batch_size=128,
    eval_every=5000,
    eval_batch_size=256,
    log_every=100,
    sample_every=10_000,
    optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=2000, ema_decay=0.9995),
)

# Warm-up and inverse square root, as in tensor2tensor.
_digits_transformer = dataclasses.replace(
    _digits_training,
    optimizer=dataclasses.replace(
        _digits_training.optimizer, learning_rate=3e-3, warmup_steps=200, schedule="inverse_sqrt"
    ),
)
# Eight epochs: five hours of two CPU cores as one device, or three and a quarter as two.
_mnist_transformer = dataclasses.replace(
    _mnist_training,
    steps=26_000,
    eval_every=4000,
    log_every=100,
    optimizer=dataclasses.replace(_mnist_training.optimizer, b2=0.98, ema_decay=0.999),
)
_cifar10_transformer = dataclasses.replace(
    _cifar10_training,
    optimizer=OptimizerConfig(
        learning_rate=7e-4,
        schedule="inverse_sqrt",
        warmup_steps=4000,
        b2=0.98,
        ema_decay=0.9995,
    ),
)
_cifar10_image_transformer = models.ImageTransformer(
    _CIFAR10,
    likelihoods.Categorical(256),
    features=512,
    feedforward_features=2048,
    num_layers=12,
    num_heads=4,
    dropout=0.3,
)

# Salimans et al. 2017, as in their code: Adam without warm-up or clipping, its eps inside the root,
# the learning rate times 0.999995 a step. Their loss is the sum over a batch, in nats; ours is the
# mean, in bits/dim, so for the same step eps is smaller by the square of the gradients' ratio.
_cifar10_pixel_cnn_pp = dataclasses.replace(
    _cifar10_training,
    steps=500_000,
    optimizer=OptimizerConfig(
        learning_rate=1e-3,
        schedule="exponential",
        warmup_steps=0,
        b1=0.95,
        b2=0.9995,
        eps=0.0,
        eps_root=1e-8 / (128 * 32 * 32 * 3 * math.log(2)) ** 2,
        clip_norm=None,
        ema_decay=0.9995,
    ),
)

# Convolutions and weight decay: 1,297 images are soon learned by heart.
_CONV_DIGITS: Json = {
    "network": "conv",
    "hidden": (32, 64, 64),
    "activation": "gelu",
}
_digits_codes = dataclasses.replace(
    _digits_training,
    steps=3000,
    eval_every=250,
    log_every=50,
    optimizer=OptimizerConfig(
        learning_rate=2e-3, warmup_steps=100, weight_decay=0.2, ema_decay=0.99
    ),
)
_vae_digits = Experiment(
    models.VAE(_DIGITS, likelihoods.Categorical(17), num_latents=16, **_CONV_DIGITS),
    DataConfig("digits"),
    _digits_codes,
    ELBO(),
)

# Burda et al. 2016: 784-200-200-50, tanh, on MNIST binarized anew at each look. About half an
# hour of one CPU core: 862 epochs.
_vae_mnist = Experiment(
    models.VAE(_MNIST, likelihoods.Bernoulli(), num_latents=50, hidden=(200, 200)),
    DataConfig("mnist", binarize="dynamic", validation=2000),
    TrainConfig(
        steps=500_000,
        batch_size=100,
        eval_every=20_000,
        eval_batch_size=1000,
        log_every=5000,
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1000, ema_decay=0.999),
    ),
    ELBO(),
)
_vae_mnist_short = dataclasses.replace(
    _vae_mnist,
    training=dataclasses.replace(_vae_mnist.training, steps=120_000, eval_every=10_000),
)
# Their schedule: 3280 epochs of batches of 20. Their loss is a sum over the batch, in nats, and
# Adam's eps 1e-4; ours is the mean, in bits/dim, so for the same step eps is smaller by as much as
# the gradient. They train on all 60,000 images; here the last 2,000 choose the checkpoint.
_burda = TrainConfig(
    steps=3280 * 2500,
    batch_size=20,
    eval_every=50_000,
    eval_batch_size=1000,
    log_every=1000,
    optimizer=OptimizerConfig(
        learning_rate=1e-3,
        schedule="stages",
        warmup_steps=0,
        eps=1e-4 / (20 * 784 * math.log(2)),
        clip_norm=None,
        ema_decay=0.0,
    ),
)

PRESETS: Mapping[str, Experiment] = {
    "gated-pixelcnn-digits": _gated_digits,
    "gated-pixelcnn-digits-classes": dataclasses.replace(
        _gated_digits, model=_gated_digits.model.clone(num_classes=10)
    ),
    "pixelcnn-digits": _pixel_rnn_digits(models.PixelCNN),
    "gated-pixelcnn-mnist": Experiment(
        models.GatedPixelCNN(
            _MNIST,
            likelihoods.Bernoulli(),
            features=32,
            num_layers=12,
            dropout=0.1,
            kernel_size=5,
        ),
        DataConfig("binarized_mnist"),
        _gated_mnist,
    ),
    "pixelcnn-mnist": Experiment(
        models.PixelCNN(
            _MNIST,
            likelihoods.Bernoulli(),
            features=32,
            num_layers=12,
            kernel_size=5,
            head_features=32,
        ),
        DataConfig("binarized_mnist"),
        _pixelcnn_mnist,
    ),
    "pixelcnn-pp-digits": Experiment(
        models.PixelCNNPlusPlus(
            _DIGITS,
            likelihoods.DiscretizedLogisticMixture(17, 5),
            features=32,
            num_resnets=2,
        ),
        DataConfig("digits"),
        dataclasses.replace(
            _digits_training,
            steps=700,  # it knows its images by heart from 450 on
            eval_every=50,
            optimizer=dataclasses.replace(
                _digits_training.optimizer, learning_rate=3e-3, ema_decay=0.995
            ),
        ),
    ),
    "pixelcnn-pp-mnist": Experiment(
        models.PixelCNNPlusPlus(
            _MNIST, likelihoods.Bernoulli(), features=32, num_resnets=2, dropout=0.2
        ),
        DataConfig("binarized_mnist"),
        _gated_mnist,
    ),
    # The paper's: 53.7 million parameters.
    "pixelcnn-pp-cifar10": Experiment(
        models.PixelCNNPlusPlus(_CIFAR10),
        DataConfig("cifar10", flip=True),
        _cifar10_pixel_cnn_pp,
    ),
    # 3.9 million, and batches of 16: for a CPU, at about 5 s a step on a busy one.
    "pixelcnn-pp-cifar10-small": Experiment(
        models.PixelCNNPlusPlus(_CIFAR10, features=64, num_resnets=2, dropout=0.0),
        DataConfig("cifar10", flip=True),
        dataclasses.replace(
            _cifar10_pixel_cnn_pp,
            steps=2000,
            batch_size=16,
            eval_every=1000,
            eval_batch_size=100,
            log_every=20,
            sample_every=0,
            optimizer=dataclasses.replace(
                _cifar10_pixel_cnn_pp.optimizer,
                schedule="cosine",
                warmup_steps=50,
                eps_root=1e-8 / (16 * 32 * 32 * 3 * math.log(2)) ** 2,
                ema_decay=0.998,
            ),
        ),
    ),
    "row-lstm-digits": _pixel_rnn_digits(models.RowLSTM),
    "diagonal-bilstm-digits": _pixel_rnn_digits(models.DiagonalBiLSTM),
    "row-lstm-mnist": Experiment(
        models.RowLSTM(
            _MNIST, likelihoods.Bernoulli(), features=16, num_layers=7, head_features=32
        ),
        DataConfig("binarized_mnist"),
        _row_lstm_mnist,
    ),
    "diagonal-bilstm-mnist": Experiment(
        models.DiagonalBiLSTM(
            _MNIST, likelihoods.Bernoulli(), features=16, num_layers=7, head_features=32
        ),
        DataConfig("binarized_mnist"),
        _diagonal_bilstm_mnist,
    ),
    # The sizes of the paper's ImageNet model, 20 layers of 384 maps, 5 x 5, 200,000 updates of 128
    # images; of its CIFAR-10 model it gives the score only. 117 million parameters are many for
    # 50,000 images: hence dropout, which is ours.
    "gated-pixelcnn-cifar10": Experiment(
        models.GatedPixelCNN(
            _CIFAR10,
            likelihoods.Categorical(256),
            features=384,
            num_layers=20,
            kernel_size=5,
            head_features=1024,
            dropout=0.1,
        ),
        DataConfig("cifar10"),
        _cifar10_training,
    ),
    "pixelcnn-cifar10": Experiment(
        models.PixelCNN(
            _CIFAR10, likelihoods.Categorical(256), features=128, num_layers=15, head_features=1024
        ),
        DataConfig("cifar10"),
        _cifar10_training,
    ),
    "row-lstm-cifar10": Experiment(
        models.RowLSTM(
            _CIFAR10, likelihoods.Categorical(256), features=128, num_layers=12, head_features=1024
        ),
        DataConfig("cifar10"),
        _cifar10_training,
    ),
    "diagonal-bilstm-cifar10": Experiment(
        models.DiagonalBiLSTM(
            _CIFAR10, likelihoods.Categorical(256), features=128, num_layers=12, head_features=1024
        ),
        DataConfig("cifar10"),
        _cifar10_training,
    ),
    "image-transformer-digits": Experiment(
        models.ImageTransformer(
            _DIGITS,
            likelihoods.Categorical(17),
            attention="full",
            features=64,
            num_layers=5,
            num_heads=4,
            dropout=0.3,
            positions="learned",
        ),
        DataConfig("digits"),
        _digits_transformer,
    ),
    "image-transformer-mnist": Experiment(
        models.ImageTransformer(
            _MNIST,
            likelihoods.Bernoulli(),
            attention="local_2d",
            query_block=(4, 28),
            memory_flange=(6, 0),
            features=64,
            num_layers=4,
            num_heads=2,
            positions="learned",
        ),
        DataConfig("binarized_mnist"),
        _mnist_transformer,
    ),
    "image-transformer-cifar10-1d": Experiment(
        _cifar10_image_transformer, DataConfig("cifar10"), _cifar10_transformer
    ),
    "image-transformer-cifar10-2d": Experiment(
        _cifar10_image_transformer.clone(attention="local_2d"),
        DataConfig("cifar10"),
        _cifar10_transformer,
    ),
    "image-transformer-cifar10-full": Experiment(
        _cifar10_image_transformer.clone(attention="full"),
        DataConfig("cifar10"),
        _cifar10_transformer,
    ),
    "image-transformer-cifar10-dmol": Experiment(
        _cifar10_image_transformer.clone(likelihood=likelihoods.DiscretizedLogisticMixture(256)),
        DataConfig("cifar10"),
        _cifar10_transformer,
    ),
    "vae-digits": _vae_digits,
    "vae-digits-classes": dataclasses.replace(
        _vae_digits, model=_vae_digits.model.clone(num_classes=10)
    ),
    # Two latents: a plane, to be looked at.
    "vae-digits-plane": dataclasses.replace(
        _vae_digits, model=_vae_digits.model.clone(num_latents=2)
    ),
    # A code of bits, by the score function: of one draw an image, so what it subtracts is a mean of
    # batches before, where `discrete-vae-mnist` has the other draws of the same image.
    "discrete-vae-digits": Experiment(
        _vae_digits.model.clone(latents="bernoulli", num_latents=32),
        DataConfig("digits"),
        _digits_codes,
        ELBO(estimator="score_function", baseline="constant"),
    ),
    "autoencoder-digits": Experiment(
        models.AutoEncoder(_DIGITS, likelihoods.Categorical(17), num_latents=8, **_CONV_DIGITS),
        DataConfig("digits"),
        _digits_codes,
        Reconstruction(),
    ),
    "implicit-autoencoder-digits": Experiment(
        models.ImplicitAutoEncoder(
            _DIGITS, likelihoods.Categorical(17), num_latents=8, **_CONV_DIGITS
        ),
        DataConfig("digits"),
        # The codes have their prior: weight decay would be another.
        dataclasses.replace(
            _digits_codes, optimizer=dataclasses.replace(_digits_codes.optimizer, weight_decay=0.0)
        ),
        LearnedCodes(),
    ),
    "vae-mnist": _vae_mnist,
    # Five codes an image; fifty cost ten times as much. An hour and a half of two CPU cores.
    "iwae-mnist": dataclasses.replace(
        _vae_mnist,
        training=dataclasses.replace(
            _vae_mnist.training,
            steps=420_000,
            eval_every=10_000,
            log_every=1000,
            optimizer=dataclasses.replace(_vae_mnist.training.optimizer, learning_rate=3e-3),
        ),
        objective=IWAE(5, estimator="doubly_reparametrized"),
    ),
    "vae-mnist-paper": dataclasses.replace(_vae_mnist, training=_burda),
    "iwae-mnist-paper": dataclasses.replace(_vae_mnist, training=_burda, objective=IWAE(50)),
    # 138 epochs: an hour and a half of one CPU core.
    "vae-mnist-conv": dataclasses.replace(
        _vae_mnist,
        training=dataclasses.replace(
            _vae_mnist.training, steps=80_000, eval_every=8000, log_every=1000
        ),
        model=models.VAE(
            _MNIST,
            likelihoods.Bernoulli(),
            num_latents=32,
            network="conv",
            hidden=(32, 64, 144),
            activation="relu",
        ),
    ),
    "vae-mnist-plane": dataclasses.replace(
        _vae_mnist_short, model=_vae_mnist.model.clone(num_latents=2)
    ),
    "discrete-vae-mnist": dataclasses.replace(
        _vae_mnist_short,
        model=_vae_mnist.model.clone(latents="bernoulli", num_latents=200),
        objective=ELBO(4, estimator="score_function", baseline="leave_one_out"),
    ),
    "vae-frey": Experiment(
        models.VAE(
            (28, 20, 1),
            likelihoods.DiscretizedLogisticMixture(256, components=1),
            num_latents=2,
            hidden=(200, 200),
        ),
        # --data.name is the path of the .npz.
        DataConfig("frey_faces.npz", validation=200, test=200),
        TrainConfig(
            steps=6000,
            batch_size=100,
            eval_every=1000,
            eval_batch_size=200,
            log_every=100,
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, ema_decay=0.998),
        ),
        ELBO(),
    ),
}


def find(name: str) -> Experiment:
    """The preset of that name. ValueError, with the nearest one, if there is none."""
    checks.choice("preset", name, PRESETS)
    return PRESETS[name]
