"""The data sets of the shows of clusterings: which lines are run on each, for how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.methods.clusters_settings import Budget

SEEDS = (0, 1, 2, 3, 4)
KMEANS = ("kmeans", "kmeans, scikit-learn", "kmeans, faiss")
# A peer's form stands beside ours, so that the two are measured in turns.
_DEC, _IDEC = ("dec", "dec, bf16", "dec, ClustPy"), ("idec", "idec, bf16", "idec, ClustPy")
PEERS = (*_DEC, *_IDEC, "abdc", "abdc, bf16", "abdc, ClustPy", "den", "den, ClustPy", "vade", "vade, β 1/256",
         "vade, ClustPy")  # fmt: skip
SHALLOW = ("Gaussian mixture, scikit-learn", "spectral clustering, scikit-learn", "agglomerative (Ward), scikit-learn")


@dataclass(frozen=True)
class Show:
    """One data set.

    data    name in `clusters_data.SOURCES`
    title   of its table; text: what the rows are
    lines   names in `clusters_lines.LINES`, in the order of the table and of the runs
    """

    data: str
    title: str
    text: str
    lines: tuple[str, ...]
    budget: Budget = field(default_factory=Budget)
    seeds: tuple[int, ...] = SEEDS
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return f"clusters-{self.data}"


_SCAN = {"epochs": 30, "self_label_epochs": 10, "self_label_lr": 1e-3}

DIGITS = Show(
    "digits",
    "digits, clusters",
    "scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, 10 classes.",
    (
        *KMEANS,
        *PEERS,
        "vade, Gaussian",
        "imsat",
        "rim",
        "spectral_net",
        "party",
        "jule",
        "cluster_gan",
        "scan, vectors",
        "balanced_kmeans",
        *SHALLOW,
    ),
    Budget(
        20,
        20,
        {
            "imsat": {"epochs": 30},
            "rim": {"epochs": 50},
            "spectral_net": {"epochs": 60, "batch_size": 512},
            "party": {"epochs": 30},
            "scan": _SCAN,
            "cluster_gan": {"epochs": 60},
        },
    ),
)
MNIST = Show(
    "mnist",
    "MNIST-10k, clusters",
    "The 10,000 test digits of MNIST, 28 × 28 pixels, 10 classes.",
    (
        *KMEANS,
        *PEERS,
        "imsat",
        "rim",
        "spectral_net",
        "jule",
        "cluster_gan",
        "iic",
        "cc",
        "scan",
        "balanced_kmeans",
        *SHALLOW,
    ),
    Budget(
        8,
        8,
        {
            "imsat": {"epochs": 8},
            "rim": {"epochs": 20},
            "spectral_net": {"epochs": 30, "siamese": (512, 512, 10), "siamese_epochs": 20},
            "iic": {"epochs": 40, "heads": 10},
            "cc": {"epochs": 30},
            "vade": {"pretrain_epochs": 20, "epochs": 10},
            "cluster_gan": {"epochs": 60, "critic_steps": 1, "lr": 5e-4},
            "scan": {"pretext_epochs": 15, "epochs": 10, "self_label_epochs": 0},
        },
    ),
)
HAR = Show(
    "har",
    "HAR, clusters",
    "2,380 windows of four phone and watch sensors (12 channels × 64 steps, every channel with variance 1), 5 "
    "activities.",
    (*KMEANS, *_DEC, *_IDEC, "abdc", "den", "vade, Gaussian", "imsat", "rim", "spectral_net",
     "jule", "scan, vectors", *SHALLOW),
    Budget(10, 10, {"imsat": {"epochs": 15}, "rim": {"epochs": 50}, "spectral_net": {"epochs": 30, "batch_size": 512},
                    "scan": _SCAN}),
)  # fmt: skip
OMNIGLOT = Show(
    "omniglot",
    "Omniglot, clusters",
    "20 drawings of each of 136 characters, 35 × 35 pixels.",
    (
        *KMEANS,
        "dec",
        "abdc",
        "rim",
        "imsat",
        "jule",
        "spectral clustering, scikit-learn",
        "agglomerative (Ward), scikit-learn",
    ),
    Budget(15, 10, {"imsat": {"epochs": 15, "batch_size": 500}, "rim": {"epochs": 20, "batch_size": 500}}),
)
_UNSEEN = (
    "The two fifths of the rows that the small CLIP, from which some lines start, has never been shown; vector methods "
    "are given the pixels."
)
_STRUCTURE = ("abdc", "den", "spectral_net", "jule")
_PIXELS = (*KMEANS, *_STRUCTURE, "dec", "vade", "imsat", "rim", "iic", "cc", "scan", "kmeans, CLIP",
           "tac, training-free", "tac", "tac, training-free, nouns learnt", "tac, nouns learnt")  # fmt: skip
_PICTURES = Budget(
    8,
    8,
    {
        "imsat": {"epochs": 8},
        "rim": {"epochs": 20},
        "spectral_net": {"epochs": 20},
        "iic": {"epochs": 40, "heads": 10},
        "cc": {"epochs": 80},
        "scan": {"pretext_epochs": 30, "epochs": 10, "self_label_epochs": 0},
        "tac": {"epochs": 100},
    },
)
CIFAR10 = Show(
    "cifar10",
    "CIFAR-10 sample, clusters",
    f"4,000 test pictures of CIFAR-10 (lossy JPEG: not comparable with published figures), 10 classes. {_UNSEEN}",
    _PIXELS,
    _PICTURES,
)
PACS = Show(
    "pacs",
    "PACS, clusters",
    f"3,996 pictures of 7 classes: photographs, paintings, cartoons and sketches, 32 × 32 pixels. {_UNSEEN}",
    _PIXELS,
    replace(_PICTURES, own={**_PICTURES.own, "iic": {"epochs": 20, "heads": 10}, "cc": {"epochs": 40}}),
)
# Six steps make an epoch of them.
_FEW_PICTURES = replace(
    _PICTURES,
    own={
        **_PICTURES.own,
        "iic": {"epochs": 60, "heads": 10},
        "cc": {"epochs": 60},
        "scan": {"pretext_epochs": 40, "epochs": 15, "self_label_epochs": 0},
    },
)
EMOJI = Show(
    "emoji",
    "emoji, clusters",
    f"1,547 pictures of emoji in three styles, at 24 × 24 pixels, by their 10 groups. {_UNSEEN}",
    _PIXELS,
    _FEW_PICTURES,
)
_VIEWS = (*KMEANS, *_DEC, "idec", "imsat", "rim", "party", "jule", "scan, vectors", "balanced_kmeans",
          *SHALLOW)  # fmt: skip
_JOINED = "All views joined, each shifted to mean 0 and divided by the root of its total variance."
_TABLES = Budget(15, 15, {"imsat": {"epochs": 20}, "rim": {"epochs": 50}, "party": {"epochs": 20}, "scan": _SCAN})
HANDWRITTEN = Show(
    "handwritten",
    "handwritten digits in six views, clusters",
    f"2,000 digits by six sets of features (649 in all), 10 classes. {_JOINED}",
    _VIEWS,
    _TABLES,
)
SCENE15 = Show(
    "scene15",
    "Scene-15 in three views, clusters",
    f"4,485 scenes by three sets of features (119 in all), 15 classes. {_JOINED}",
    _VIEWS,
    Budget(8, 8, {"imsat": {"epochs": 10}, "rim": {"epochs": 30}, "scan": _SCAN}),
)
LANDUSE21 = Show(
    "landuse21",
    "LandUse-21 in three views, clusters",
    f"2,100 aerial pictures by three sets of features (119 in all), 21 classes. {_JOINED}",
    _VIEWS,
    _TABLES,
)
MSRCV1 = Show(
    "msrcv1",
    "MSRCV1 in six views, clusters",
    f"210 pictures by six sets of features (2,428 in all), 7 classes. {_JOINED}",
    _VIEWS,
    Budget(40, 40, {"imsat": {"epochs": 60, "batch_size": 64}, "rim": {"epochs": 100}, "scan": _SCAN}),
)
_TEXT_LINES = (*_VIEWS[:3], "kmeans, spherical", *_VIEWS[3:])
_TEXT = f"Rows of every view are divided by their norms first. {_JOINED}"
BBCSPORT = Show(
    "bbcsport",
    "BBCSport in two views, clusters",
    f"544 news texts cut in two (6,386 words in all), 5 kinds of sport. {_TEXT}",
    _TEXT_LINES,
    Budget(10, 10, {"imsat": {"epochs": 20, "batch_size": 128}, "rim": {"epochs": 50}, "scan": _SCAN}),
)
THREE_SOURCES = Show(
    "3sources",
    "3-sources in three views, clusters",
    f"169 stories told by three newspapers (10,259 words in all), 6 topics. {_TEXT}",
    _TEXT_LINES,
    Budget(20, 20, {"imsat": {"epochs": 30, "batch_size": 64}, "rim": {"epochs": 50}, "scan": _SCAN}),
)
SHOWS = (DIGITS, MNIST, HAR, HANDWRITTEN, SCENE15, LANDUSE21, MSRCV1, BBCSPORT, THREE_SOURCES, OMNIGLOT, CIFAR10, PACS,
         EMOJI)  # fmt: skip
