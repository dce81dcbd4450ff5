"""`facekeep-models`: commands for those who make and measure models.

Exit codes as in docs/cli.md, and 14 for an evaluation or a training kit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from facekeep.cli.output import JsonOption, exit_code_of, say
from facekeep.errors import FacekeepError
from facekeep.packs import LoadPolicy, PackStore
from facekeep_models.evaluation.bootstrap import RESAMPLES
from facekeep_models.evaluation.embedding import DEFAULT_CACHE, EmbeddingCache
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.evaluate import FOLDS, MOST_PICTURES, Request
from facekeep_models.evaluation.evaluate import evaluate as run_evaluation
from facekeep_models.evaluation.measuring import TARGETS
from facekeep_models.evaluation.plotting import draw_evaluation, why_no_plot
from facekeep_models.evaluation.progress import ShownProgress
from facekeep_models.training.export.errors import ExportError

EXIT_EVALUATION: Final = 14
EXIT_INTERRUPTED: Final = 130
DEFAULT_PACKS: Final = Path("~/.facekeep/packs")
DEFAULT_TRAINED: Final = "facekeep-embedder/onnx-fp32"
# The one that ships: a kit is made on a machine that has pulled nothing.
_FINDER: Final = "facekeep-detector/onnx-fp32"

app = typer.Typer(
    name="facekeep-models",
    help="Making and measuring Facekeep's models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables: frames and vectors
)


@app.callback()
def root() -> None:
    """Make and measure Facekeep's models."""


@app.command()
def evaluate(
    pack: Annotated[str, typer.Option(help="Embedder to evaluate: pack or pack/build.")],
    images: Annotated[Path, typer.Option(help="Directory with one folder of pictures for each person.")],
    pairs: Annotated[Path | None, typer.Option(help="File of pairs, as LFW's View 1 or View 2; all pairs if left out.")] = None,
    threshold_pairs: Annotated[
        Path | None,
        typer.Option(help="File of other pairs to choose the threshold of the accuracy on (View 1: pairsDevTrain.txt)."),
    ] = None,
    draw: Annotated[int | None, typer.Option(help="Draw this many mated and non-mated pairs instead.", min=1)] = None,
    probe_pack: Annotated[
        str | None, typer.Option(help="Another embedder of the same space for the probes: can old templates be kept?")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="Detector: pack or pack/build; yunet-s, or facekeep-detector where that is not here.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many people, or pairs of either kind.", min=1)] = None,
    most_pictures: Annotated[int, typer.Option(help="Pictures of one person that take part.", min=1)] = MOST_PICTURES,
    one_each: Annotated[bool, typer.Option("--one-each", help="Non-mated: one picture of each person only.")] = False,
    folds: Annotated[int, typer.Option(help="Sets that pairs without sets are dealt out to; 0 for none.", min=0)] = FOLDS,
    target_fmr: Annotated[list[float] | None, typer.Option(help="False match rate to report at; may be repeated.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Threshold to report at; may be repeated.")] = None,
    resamples: Annotated[int, typer.Option(help="Draws of people for the intervals.", min=1)] = RESAMPLES,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn by lot.", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="Threads inside one model.", min=1)] = 1,
    name: Annotated[str | None, typer.Option(help="What the data are called in the report.")] = None,
    packs: Annotated[Path, typer.Option(envvar="FACEKEEP_PACKS", help="Directory of model packs.")] = DEFAULT_PACKS,
    commercial_only: Annotated[bool, typer.Option("--commercial-only", help="Refuse packs not for commercial use.")] = False,
    consented_only: Annotated[bool, typer.Option("--consented-only", help="Refuse packs trained on people not asked.")] = False,
    cache: Annotated[Path, typer.Option(help="Where embeddings lie while the run lasts; outside any repository.")] = DEFAULT_CACHE,
    keep_cache: Annotated[bool, typer.Option("--keep-cache", help="Keep the embeddings for another run.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw DET curve and histograms into this PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an embedder on pictures of people. Ctrl-C stops; the same command goes on from there."""
    request = Request(
        images=images.expanduser(),
        embedder=pack,
        probe_embedder=probe_pack,
        detector=detector,
        pairs=pairs,
        threshold_pairs=threshold_pairs,
        draw=draw,
        limit=limit,
        most_pictures=most_pictures,
        one_each=one_each,
        folds=folds,
        targets=tuple(target_fmr) if target_fmr else TARGETS,
        thresholds=tuple(threshold or ()),
        resamples=resamples,
        seed=seed,
        threads=threads,
        name=name,
    )
    # Standard error, so that standard output holds the report and nothing else.
    shown, kept = ShownProgress(sys.stderr), EmbeddingCache(cache)
    policy = LoadPolicy(commercial_only=commercial_only, consented_only=consented_only)
    try:
        evaluation, comparisons = run_evaluation(request, PackStore(packs), kept, progress=shown, say=shown.say, policy=policy)
    except KeyboardInterrupt:
        # Here and not in `main`: typer would say "Aborted" and no more.
        shown.say("interrupted; the same command goes on from here")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    value: dict[str, Any] = evaluation.to_json()
    if plot is not None:
        skipped = why_no_plot()
        if skipped is None:
            draw_evaluation(evaluation, comparisons, plot)
        else:
            shown.say(skipped)
        value |= {"plot": str(plot) if skipped is None else None, "plot_skipped": skipped}
    say(evaluation.to_text(), value, as_json=as_json)
    if keep_cache:
        shown.say(f"embeddings kept in {cache}: biometric data of the people pictured, delete them when done")
    else:
        kept.delete()


@app.command("training-kit")
def training_kit(
    into: Annotated[Path, typer.Option(help="Folder to write kit.json, train.onnx and anchors.f32 into.")],
    pack: Annotated[str, typer.Option(help="Embedder that the devices of the federation train: pack/build.")] = DEFAULT_TRAINED,
    people: Annotated[
        int | None, typer.Option(help="People who do not exist to take anchors from; all if left out.", min=1)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of pictures, one folder for each person, who become anchors too: ask them first.")
    ] = None,
    packs: Annotated[Path, typer.Option(envvar="FACEKEEP_PACKS", help="Directory of model packs.")] = DEFAULT_PACKS,
    as_json: JsonOption = False,
) -> None:
    """Write what the devices of a federation train with: the training graph, and anchors to learn against."""
    # Imported here: evaluating needs none of it.
    from facekeep.assembly import ModelChoice, load_models
    from facekeep_models.evaluation.pictures import pictures_of_directory
    from facekeep_models.people.person import screened_people
    from facekeep_models.training.gradients.kit import KitRequest, make_kit

    store, shown = PackStore(packs), ShownProgress(sys.stderr)
    pictures = tuple(pictures_of_directory(images)) if images else ()
    detector = load_models(store, ModelChoice(_FINDER, pack), policy=LoadPolicy()).detector if pictures else None
    count = min(people or screened_people(), screened_people())
    kit = make_kit(KitRequest(pack, count, pictures), store, into, detector=detector, say=shown.say)
    sizes = {"parameters": kit.parameters.length, "anchors": len(kit.anchors), "graph_bytes": len(kit.graph)}
    text = (
        f"{into}: kit of {kit.pack}, {kit.parameters.length} parameters, {len(kit.anchors)} anchors "
        f"({kit.made_of}).\nState it in the policy: sha256 {kit.sha256}"
    )
    say(text, {"pack": kit.pack, "sha256": kit.sha256, "made_of": kit.made_of, **sizes}, as_json=as_json)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FacekeepError as error:
        _fail(error, as_json="--json" in sys.argv)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(141) from None


def _fail(error: FacekeepError, *, as_json: bool) -> NoReturn:
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": error.code, "message": error.args[0]}}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"{error.code}: {error.args[0]}\n")
    raise SystemExit(EXIT_EVALUATION if isinstance(error, EvaluationError | ExportError) else exit_code_of(error))
