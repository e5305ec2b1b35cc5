"""What papers report on MNIST beside what their methods did here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.methods import results
from benchmarks.methods.clusters_beside import values
from benchmarks.methods.results import Column
from benchmarks.methods.spread import markdown, show, spread

TITLE = "MNIST in the papers and here"
TEXT = (
    "The papers cluster all 70,000 digits (IIC and ClusterGAN train on all or on the 60,000 for training) for hundreds "
    "of epochs, some with the best of several runs or settings; here it is the 10,000 test digits for 8 to 60 epochs"
    " (the settings of MNIST-10k, clusters), a seventh of the rows and far fewer steps. The two columns are not a "
    "comparison of implementations: that is the table before."
)
# Line here: (ACC, who reports it). SpectralNet's figure is that in the space of an autoencoder with a Siamese net.
REPORTED = {
    "dec": (0.843, "DEC, Xie et al. 2016"),
    "idec": (0.881, "IDEC, Guo et al. 2017"),
    "vade": (0.9446, "VaDE, Jiang et al. 2017"),
    "imsat": (0.984, "IMSAT, Hu et al. 2017"),
    "spectral_net": (0.971, "SpectralNet, Shaham et al. 2018"),
    "jule": (0.964, "JULE, Yang et al. 2016"),
    "cluster_gan": (0.95, "ClusterGAN, Mukherjee et al. 2019 (mean of ten runs in its repository: 0.910)"),
    "iic": (0.992, "IIC, Ji et al. 2019"),
}
FOLDER = "clusters-mnist"


def section(root: Path) -> str:
    """Markdown of the table; "" where MNIST has not been clustered."""
    if not (root / FOLDER / results.ABOUT).exists():
        return ""
    rows = results.read(root / FOLDER).rows
    column, lines = Column("acc", "ACC", "%"), []
    for name, (reported, who) in REPORTED.items():
        found = values(rows, name, "acc")
        here = show(spread(found.values()) if found else None, column)
        lines.append((who, f"{100 * reported:.1f}", name, here, str(len(found))))
    head = ("paper", "ACC (%) on 70,000 digits", "here", "ACC (%) on 10,000 digits", "seeds")
    return f"### {TITLE}\n\n{TEXT}\n\n{markdown(head, lines)}"
