"""``python smooth_worker.py train …`` as ``python -m jaxcnn train …``, where vgg6 is a small
network without kinks.

At a kink rounding decides: of about ten million numbers that meet ReLU or max pooling in a run, one
or two lie so near that another order of sums puts them on the other side, and from that step on two
runs differ by 1e-4 and more. No two layouts would agree for long, however right the resuming is.
"""

import sys

from jaxcnn import layers, models
from jaxcnn.__main__ import main


def smooth(classes: int) -> layers.Serial:
    return layers.serial(
        conv1=layers.conv(8),
        tanh=layers.activation("tanh"),
        pool=layers.avg_pool(2),
        conv2=layers.conv(16),
        gelu=layers.activation("gelu"),
        dropout=layers.dropout(0.3),
        flatten=layers.flatten(),
        dense=layers.dense(classes),
    )


if __name__ == "__main__":
    models.MODELS["vgg6"] = smooth
    sys.exit(main(sys.argv[1:]))
