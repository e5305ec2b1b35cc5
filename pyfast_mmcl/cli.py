"""pyfast-mmcl: demo · train · cluster · report · methods · bench · doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import __version__
from .cli_errors import PoliteGroup

app = typer.Typer(
    cls=PoliteGroup,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    help="Keep learning from streams of several modalities, and cluster large sets of embeddings.",
)

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter of the method; may be given several times."),
]
_STREAM = (
    "The data: digits, a real set by name (har, emoji, …), a manifest (.csv, .tsv, .json, .jsonl) with a column per "
    "modality, or a folder of pictures. [default: digits]"
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pyfast-mmcl {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the command."""
    if context.invoked_subcommand is None:
        print(context.get_help())


# Commands import what they need when they run: --help and --version answer without loading torch.


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report; an earlier demo in it is replaced.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Show the main job on scikit-learn's digits: continual learning, clustering, search, and its speed."""
    from . import cli_report

    cli_report.demo(out, seed)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    method: Annotated[str | None, typer.Option(help="A recipe listed by `methods`. [default: er]")] = None,
    stream: Annotated[str | None, typer.Option(help=_STREAM)] = None,
    scenario: Annotated[
        str | None, typer.Option(help="cil, dil, til, gdil or mdtil. [default: the stream's, cil for digits]")
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(help="Tasks in the stream. [default: the stream's, 5 for digits]")
    ] = None,
    clip: Annotated[str | None, typer.Option(help="A CLIP to start from: an open_clip name, or tiny.")] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights: a .safetensors file or a folder with one.")] = None,
    epochs: Annotated[str | None, typer.Option(help="Passes over each task: 10, or 5,3,3. [default: 10]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="New rows per step. [default: 32]")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, adam or sgd. [default: adamw]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: the recipe's or the learner's]")] = None,
    schedule: Annotated[str | None, typer.Option(help="Of the learning rate: constant or cosine.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Steps until the full rate, or a share of the task.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop a task after so many epochs that validation rows gain nothing from.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="no, bf16 or fp16. [default: no]")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a step's rows go through the model in.")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None,
    measure: Annotated[str | None, typer.Option(help="accuracy or recall_at_1. [default: the stream's]")] = None,
    by_modality: Annotated[
        bool | None, typer.Option("--by-modality", help="Measure every modality alone as well.")
    ] = None,
    trackers: Annotated[
        list[str] | None, typer.Option("--tracker", help="csv, tensorboard, wandb, …; may be given several times.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [default: cuda where there is one]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    settings: Settings = None,
    stream_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--stream-set", metavar="NAME=VALUE", help="An argument of the stream; may be given several times."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out with its options.")] = False,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints, beside those at the ends of epochs and tasks.")
    ] = None,
) -> None:
    """Train one recipe on one stream; a killed run continues with --resume and ends the same."""
    from . import cli_learner, cli_streams, cli_train

    given = {
        "method": method,
        "stream": cli_streams.located(stream),
        "scenario": scenario,
        "tasks": tasks,
        "clip": clip,
        "weights": None if weights is None else str(Path(weights).resolve()),
        "epochs": cli_learner.parse_epochs(epochs),
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "schedule": schedule,
        "warmup": cli_learner.parse_warmup(warmup),
        "patience": patience,
        "precision": precision,
        "accumulate": accumulate,
        "clip_norm": clip_norm,
        "measure": measure,
        "by_modality": by_modality,
        "trackers": trackers or [],
        "device": device,
        "seed": seed,
        "set": cli_train.parse_settings(settings or []),
        "stream_set": cli_train.parse_settings(stream_settings or [], "--stream-set"),
    }
    cli_train.train(given, out, resume=resume, checkpoint_every=checkpoint_every)


@app.command()
def cluster(
    data: Annotated[Path, typer.Argument(help="Rows: .npy, .npz or .parquet; or a folder of pictures.")],
    out: Annotated[Path, typer.Option(help="New folder of the labels, the model, the summary and the page.")],
    k: Annotated[
        str | None, typer.Option("--k", help="Number of clusters, or auto, silhouette, gap, x-means, g-means.")
    ] = None,
    auto_k: Annotated[
        bool, typer.Option("--auto-k", help="Find the number of clusters: the same as --k auto.")
    ] = False,
    method: Annotated[str | None, typer.Option(help="An estimator listed by `methods`. [default: kmeans]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    key: Annotated[list[str] | None, typer.Option(help="An array of a .npz file; several are views.")] = None,
    columns: Annotated[list[str] | None, typer.Option(help="A column of a .parquet file; may be repeated.")] = None,
    truth: Annotated[
        str | None,
        typer.Option(help="True classes [N]: .npy, file.npz:member, or folders (of pictures); adds ACC, NMI and ARI."),
    ] = None,
    image_shape: Annotated[str | None, typer.Option(help="What rows are images of: 28x28, 3x32x32.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side of pictures without encoder. [default: 32]")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out pictures that cannot be read, and say which.")
    ] = False,
    encoder: Annotated[
        str | None, typer.Option(help="Cluster embeddings by a CLIP: an open_clip name, or tiny.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Its weights by open_clip's tag, fetched from the Hub.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights: a .safetensors file or a folder with one.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [default: cuda where there is one]")] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="CPU threads of networks; 0 for all. [default: 1]")] = None,
    precision: Annotated[str | None, typer.Option(help="Of networks: no or bf16. [default: no]")] = None,
    projection: Annotated[str | None, typer.Option(help="Rows in the plane: pca, tsne or none. [default: pca]")] = None,
    settings: Settings = None,
    predict: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Label the rows with the model of this earlier run instead.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training in --out with its options.")] = False,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints, beside those at the ends of epochs.")
    ] = None,
) -> None:
    """Cluster rows or pictures by any method; a killed training continues with --resume and ends the same."""
    from . import cli_cluster, cli_predict, cli_train

    given = {
        "method": method,
        "k": cli_cluster.parse_k(k, auto_k),
        "seed": seed,
        "key": key or [],
        "columns": columns or [],
        "truth": truth,
        "image_shape": image_shape,
        "image_size": image_size,
        "skip_broken": skip_broken or None,
        "encoder": encoder,
        "pretrained": pretrained,
        "weights": weights,
        "device": device,
        "threads": threads,
        "precision": precision,
        "projection": projection,
        "set": cli_train.parse_settings(settings or []),
    }
    if predict is not None:
        cli_predict.predict(data, given, predict, out)
    else:
        cli_cluster.cluster(data, given, out, resume=resume, checkpoint_every=checkpoint_every)


@app.command()
def report(
    places: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Folders of runs, or folders that hold them: runs/*.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page over several runs. [default: report.html in the folder they share]")
    ] = None,
) -> None:
    """Draw one run, or compare any number of training runs on one HTML page with CSV and LaTeX tables."""
    from . import cli_report

    cli_report.report(places, out)


@app.command()
def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/methods.md.")] = False,
) -> None:
    """List every method with its family and defaults."""
    from . import cli_methods

    if markdown:
        print(cli_methods.markdown(), end="")
    else:
        cli_methods.show(Console())


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(min=7, help="Timed calls of each contender, interleaved.")] = 7,
    seed: Annotated[int, typer.Option(help="Seed of the data.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="Sizes for a first look, seconds in all.")] = False,
) -> None:
    """Time knn, nearest and lloyd_step beside torch, faiss and scikit-learn on this machine."""
    from . import cli_bench

    cli_bench.show(Console(), rounds=rounds, seed=seed, small=small)


@app.command()
def doctor() -> None:
    """Say which backends exist here, and why others do not."""
    from . import cli_doctor

    cli_doctor.show(Console())


def main() -> None:
    """Entry point of the `pyfast-mmcl` script."""
    app()


if __name__ == "__main__":
    main()
