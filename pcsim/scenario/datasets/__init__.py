"""Known data sets and synthetic tasks: each is a row, a family of them a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.scenario.datasets.cifar import CIFAR10, CIFAR100
from pcsim.scenario.datasets.digits import DIGITS
from pcsim.scenario.datasets.idx_files import FASHION_MNIST, MNIST
from pcsim.scenario.datasets.image_folder import IMAGE_FOLDER
from pcsim.scenario.datasets.name_lists import NAMES
from pcsim.scenario.datasets.svhn import SVHN
from pcsim.scenario.datasets.synthetic import ADDING, COPY, HETEROSCEDASTIC, RANDOM_NETWORK, SENSORS
from pcsim.scenario.datasets.text_corpus import TEXT

if TYPE_CHECKING:
    from pcsim.scenario.datasets.dataset import Dataset

_ROWS = (
    DIGITS, MNIST, FASHION_MNIST, CIFAR10, CIFAR100, SVHN, IMAGE_FOLDER, NAMES, TEXT, RANDOM_NETWORK,
    HETEROSCEDASTIC, SENSORS, COPY, ADDING,
)  # fmt: skip
DATASETS: dict[str, Dataset] = {row.name: row for row in _ROWS}
"""The rows of ``pcsim list datasets``."""
