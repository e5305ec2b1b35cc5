"""What the survey of deep clustering and the papers of its methods say that can be checked here."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.claims import Claim

_ACC: dict[str, Any] = {"measure": "acc", "name": "ACC"}
_DIGITS, _MNIST, _CIFAR, _PACS, _EMOJI = (
    f"clusters-{name}" for name in ("digits", "mnist", "cifar10", "pacs", "emoji")
)
_HANDWRITTEN = "clusters-handwritten"
_CONTRAST = "contrastive methods beat structure priors on natural images (survey of deep clustering; CC against {})"
_WITHOUT = (
    "external knowledge helps without training (training-free TAC, Li et al. 2024, against the same CLIP alone{})"
)
_TRAINED = "and more with training (TAC against its training-free form, Li et al. 2024)"
_EMBEDDED = "an embedding that learns to cluster beats k-means of the rows (DEC, Xie et al. 2016)"
_IMPROVED = "reconstruction kept beside clustering does better (IDEC, Guo et al. 2017)"
_SPECTRAL = "a network reaches what spectral clustering of all rows does (SpectralNet, Shaham et al. 2018)"
_PERTURBED = "a network that stays sure of rows moved a little beats a linear one (IMSAT against RIM, Hu et al. 2017)"
_MERGING = "clusters that merge while the network learns from them beat {} (JULE, Yang et al. 2016)"
_AGREEING = (
    "rows that agree with their neighbours are better clusters than k-means of them (SCAN, Van Gansbeke et al. 2020)"
)
_MIXTURE = "a mixture in the space of a variational autoencoder beats a mixture of the rows (VaDE, Jiang et al. 2017)"

EMBEDDINGS = (
    Claim(
        _EMBEDDED,
        _DIGITS,
        line="dec",
        than="kmeans",
        why="Pixels of 8 × 8 digits are a good space already, and 20 epochs of 8 steps leave the autoencoder short of "
        "a better one on some seeds.",
        **_ACC,
    ),
    Claim(
        _EMBEDDED,
        _MNIST,
        line="dec",
        than="kmeans",
        why="Codes of 28 × 28 pixels drop what k-means trips over: shifts and the width of strokes. After eight epochs "
        "they do so on some seeds more than on others.",
        **_ACC,
    ),
    Claim(
        _EMBEDDED,
        _HANDWRITTEN,
        line="dec",
        than="kmeans",
        why="Six views hold the same digits in six ways, of which the code keeps what they share.",
        **_ACC,
    ),
    Claim(
        _IMPROVED,
        _DIGITS,
        line="idec",
        than="dec",
        why="The codes have no time to be spoilt in a training as short as this: there is nothing to hold them to.",
        **_ACC,
    ),
    Claim(
        _IMPROVED,
        _MNIST,
        line="idec",
        than="dec",
        why="The same: its gain is against many epochs of clustering alone.",
        **_ACC,
    ),
    Claim(
        _SPECTRAL,
        _DIGITS,
        line="spectral_net",
        than="spectral clustering, scikit-learn",
        why="Batches hold a quarter of the rows, so that neighbours within a batch are real neighbours.",
        **_ACC,
    ),
    Claim(
        _PERTURBED,
        _DIGITS,
        line="imsat",
        than="rim",
        why="Where it starts well it is far ahead, and some starts are lost: a mean over few seeds says little.",
        **_ACC,
    ),
    Claim(
        _PERTURBED,
        _MNIST,
        line="imsat",
        than="rim",
        why="Classes of digits are not parted by planes between pixels; rows moved a little along what the network is "
        "sensitive to are.",
        **_ACC,
    ),
    Claim(
        _MIXTURE,
        _MNIST,
        line="vade",
        than="Gaussian mixture, scikit-learn",
        why="Neighbouring pixels go together, which Gaussians with a variance for every pixel cannot say; codes can.",
        **_ACC,
    ),
    Claim(
        _MIXTURE,
        _DIGITS,
        line="vade, Gaussian",
        than="Gaussian mixture, scikit-learn",
        why="It starts from a mixture in code space that is a little better, and a training as short as this stays "
        "near it.",
        **_ACC,
    ),
)
_CHAINS = (
    "Chains of neighbours reach around corners where a mean does not, and what has merged surely teaches the network "
    "what to bring together."
)
# Every set of vectors, so that none is picked; the reason where it is another than on digits.
_MERGES = {
    "digits": _CHAINS,
    "mnist": "The same.",
    "har": "The same, by little: windows of one activity hang together along each person's own way of doing it.",
    "handwritten": "k-means is right already where views are this clear; merges that go wrong early stay wrong.",
    "scene15": "The same as on digits.",
    "landuse21": "The same as on digits.",
    "msrcv1": "The same as on digits.",
    "bbcsport": "The same: texts are far from any mean, and near a few others about the same event.",
    "3sources": "The same.",
    "omniglot": "Of twenty drawings of a character too few are among the neighbours of each.",
}
_FRIENDS = "Most neighbours of a row are of its class, and rows that must agree with their neighbours carry that on."
_AGREES = {
    "digits": _FRIENDS,
    "har": "The neighbours of a window are the same person's more than the same activity's.",
    "handwritten": "The same as on digits.",
    "scene15": "The same as on digits.",
    "landuse21": "The same as on digits.",
    "msrcv1": "The same as on digits.",
    "bbcsport": "The spread over seeds is wide on either side.",
    "3sources": "The same; 169 rows are few for a network.",
}
MERGED = (
    *(
        Claim(_MERGING.format("k-means"), f"clusters-{data}", line="jule", than="kmeans", why=why, **_ACC)
        for data, why in _MERGES.items()
    ),
    Claim(
        _MERGING.format("spectral clustering"),
        _DIGITS,
        line="jule",
        than="spectral clustering, scikit-learn",
        why="Both cut a graph of neighbours; merges that go wrong early stay wrong, which some seeds show.",
        **_ACC,
    ),
)
NEIGHBORS = tuple(
    Claim(_AGREEING, f"clusters-{data}", line="scan, vectors", than="kmeans", why=why, **_ACC)
    for data, why in _AGREES.items()
)
SURVEY = (
    Claim(
        _CONTRAST.format("abdc"),
        _CIFAR,
        line="cc",
        than="abdc",
        why="An autoencoder keeps colours and their places, because these are most of the pixels; two crops of a "
        "picture share what is in it.",
        **_ACC,
    ),
    Claim(
        _CONTRAST.format("den"),
        _CIFAR,
        line="cc",
        than="den",
        why="Neighbours in pixels are pictures of the same colours, seldom of the same thing.",
        **_ACC,
    ),
    Claim(
        _CONTRAST.format("spectral_net"),
        _CIFAR,
        line="cc",
        than="spectral_net",
        why="The same: its graph is that of pixels.",
        **_ACC,
    ),
    Claim(
        _CONTRAST.format("abdc"),
        _PACS,
        line="cc",
        than="abdc",
        why="The same. Photographs, paintings, cartoons and sketches show the same things, crops of a picture share "
        "its style too, which is some of what contrast finds.",
        **_ACC,
    ),
    Claim(
        _CONTRAST.format("spectral_net"),
        _PACS,
        line="cc",
        than="spectral_net",
        why="By less: a graph of pixels sets white backgrounds and dark ones apart, which go with some classes.",
        **_ACC,
    ),
    Claim(
        _WITHOUT.format(""),
        _CIFAR,
        line="tac, training-free",
        than="kmeans, CLIP",
        why="Nouns help as far as the text tower knows them. This small CLIP has learnt some 1,500 of the 41,000, and "
        "the words of four of the classes never beside their photographs: most of WordNet is noise to it, and noise is "
        "what it adds to the pictures. The paper's CLIP has read 400 million captions.",
        **_ACC,
    ),
    Claim(
        _WITHOUT.format("; only nouns that the CLIP has learnt"),
        _CIFAR,
        line="tac, training-free, nouns learnt",
        than="kmeans, CLIP",
        why="They are names of emoji, learnt from drawings: a photograph's nearest are seldom right.",
        **_ACC,
    ),
    Claim(
        _WITHOUT.format(""),
        _PACS,
        line="tac, training-free",
        than="kmeans, CLIP",
        why="As on CIFAR-10.",
        **_ACC,
    ),
    Claim(
        _WITHOUT.format(""),
        _EMOJI,
        line="tac, training-free",
        than="kmeans, CLIP",
        why="Here the words are known, but the ten groups are not what nouns of single emoji tell apart.",
        **_ACC,
    ),
    Claim(
        _TRAINED,
        _CIFAR,
        line="tac",
        than="tac, training-free",
        why="Two heads teach each other what both can see; a text that says little teaches little.",
        **_ACC,
    ),
    Claim(
        _TRAINED,
        _PACS,
        line="tac",
        than="tac, training-free",
        why="The heads win back what the nouns had cost, and end level with k-means of the CLIP alone.",
        **_ACC,
    ),
)
CLUSTERS = (*EMBEDDINGS, *MERGED, *NEIGHBORS, *SURVEY)
