"""`san eval`: what the user asked for is checked, cheap things first; then model by model, dataset by dataset."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from san_cli.cli import console, options
from san_cli.cli import eval_options as own
from san_cli.cli.eval_work import Found, Request, predictions_path, run_models, score_predictions, unwritable
from san_cli.cli.stray_words import refuse_stray_words
from san_cli.errors import ExitCode, SanError
from san_cli.text import nearest, printable, quoted
from san_cli.vocabulary.grammar import DATASET_NAMES

if TYPE_CHECKING:
    from san_cli.datasets.task import Task
    from san_cli.runs.team import Team
    from san_cli.vocabulary.grammar import Vocabulary


def evaluate(
    names: own.Names = None,
    data_root: options.DataRoot = None,
    split: own.Split = None,
    limit: own.Limit = None,
    images: options.Images = None,
    labels: options.Labels = None,
    classes: options.Classes = None,
    ignore: options.Ignore = None,
    label_name: options.LabelName = None,
    image_name: options.ImageName = None,
    predictions: own.Predictions = None,
    keep_going: own.KeepGoing = False,
    model: options.Model = None,
    weights: own.SeveralWeights = None,
    ensemble: own.Ensemble = None,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    vocab: own.OtherVocab = None,
    synonyms: own.Synonyms = None,
    templates: options.Templates = "vild",
    output: own.Output = None,
    save_predictions: own.SavePredictions = None,
    worst: own.Worst = 8,
    paper: own.Paper = False,
    as_json: own.Json = False,
    resume: own.Resume = False,
    workers: own.Workers = None,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate on the paper's benchmarks, or on labels of your own.

    Prints mIoU by both rules in use, fwIoU, mACC and pACC, beside the numbers of
    the official log and of the paper where they are comparable.

    \b
    Examples:
      san eval --images examples/scenes --labels examples/labels \\
        --classes examples/classes.txt --model tiny
      san eval voc pc59 --data-root /data -o report
      san eval all --weights san_vit_b_16.pth --json
      san eval ade847 --synonyms ade847_with_prompt_eng.txt
      san eval coco --predictions sem_seg_predictions.json
      torchrun --nproc-per-node 8 -m san_cli eval all -o report
    """
    with _explained(output is not None):
        names, weights = _sort_out(names or [], weights or [])
        own_data = _own_data(images, labels, classes)
        of_own_labels = {"--ignore": ignore, "--label-name": label_name, "--image-name": image_name}
        _refuse_idle(of_own_labels, "labels of your own", idle=own_data is None)
        _refuse_idle({"--split": split, "--data-root": data_root}, "datasets", idle=own_data is not None)
        of_models = {
            "--weights": weights, "--ensemble": ensemble, "--model": model, "--vocab": vocab,
            "--synonyms": synonyms, "--templates": templates if templates != "vild" else None,
        }  # fmt: skip
        _refuse_idle(of_models, "models; --predictions are scored without one", idle=predictions is not None)
        _refuse_contradictions(names, own_data, resume, output)
        refuse_stray_words(names, lambda name: name != "all" and not nearest(name, DATASET_NAMES))
        words = _words(vocab, synonyms)
        tasks, skipped = _tasks(names, data_root, split, limit, words, keep_going)
        if own_data is not None:
            tasks = [_own_task(own_data, ignore, label_name, image_name, limit, words, keep_going)]
        _refuse_outputs(output, save_predictions, weights, tasks)
        request = Request(
            model, tuple(weights or [None]), ensemble, device, precision, templates, output,
            save_predictions, predictions, keep_going, resume, worst, workers, quiet or as_json, _team(),
        )  # fmt: skip
        if request.leads and not quiet:
            for note in (note for task in tasks for note in task.notes):
                console.note(note)
        found = Found(skipped=skipped)
        with _alone(request), _reported(request, found, tasks, words, synonyms, paper, as_json):
            if predictions is not None:
                score_predictions(request, tasks, found)
            else:
                run_models(request, tasks, found)
        raise typer.Exit(_exit_code(request, found))


def _exit_code(request: Request, found: Found) -> ExitCode:
    """Only the leader knows; torchrun would end it if another process ended with an error."""
    if not request.leads:
        return ExitCode.DONE
    if not found.results:
        raise SanError(f"none of the datasets is usable; {found.skipped[0][1]}", code=ExitCode.NO_INPUT)
    partly = found.skipped or any(result.skipped for result in found.results)
    return ExitCode.SOME_FAILED if partly else ExitCode.DONE


def _sort_out(names: list[str], weights: list[str]) -> tuple[list[str], list[str]]:
    """Datasets and weights, as of `--weights A B C` the parser gives B and C to the datasets."""
    from san_cli.datasets.catalogue import CATALOGUE

    def is_file(name: str) -> bool:
        known = name.casefold() in CATALOGUE or name == "all"
        return not known and (name == "random" or "." in name or Path(name).exists())

    if not weights:
        return names, weights
    files = [name for name in names if is_file(name)]
    return [name for name in names if name not in files], [*weights, *files]


def _own_data(images: Path | None, labels: Path | None, classes: str | None) -> tuple[Path, Path, str] | None:
    """The user's own images, labels and classes, if they are to be evaluated."""
    if images is not None and labels is not None and classes is not None:
        return images, labels, classes
    if images is not None or labels is not None or classes is not None:
        raise SanError("--images, --labels and --classes belong together", hint="Give all three.")
    return None


def _refuse_idle(options: dict[str, Any], what: str, *, idle: bool) -> None:
    """SanError for an option that is given although it would silently do nothing."""
    given = [name for name, value in options.items() if value not in (None, [], "")]
    if idle and given:
        verb = "are" if len(given) > 1 else "is"
        raise SanError(
            f"{' and '.join(given)} {verb} for {what}", hint="It would do nothing here: leave it out."
        )


def _refuse_contradictions(
    names: list[str], own_data: tuple[Path, Path, str] | None, resume: bool, output: Path | None
) -> None:
    if own_data is not None and names:
        raise SanError("datasets and --images can't be evaluated in one go", hint="Run `san eval` twice.")
    if own_data is None and not names:
        raise SanError(
            "nothing to evaluate",
            hint="Name datasets, such as `san eval voc`, or give --images and --labels.",
        )
    if resume and output is None:
        raise SanError("--resume needs the folder of the interrupted run", hint="Add -o DIR.")


def _refuse_outputs(
    output: Path | None, save_predictions: Path | None, weights: list[str] | None, tasks: "Sequence[Task]"
) -> None:
    from san_cli.evaluate.prediction_parts import refuse_unwritable

    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SanError(
                f"can't use {quoted(output)} as a folder: {error.strerror}",
                hint="Choose another -o.",
            ) from error
    if save_predictions is None:
        return
    if len(weights or ()) > 1:
        raise SanError("--save-predictions is for one --weights", hint="Run `san eval` once for each.")
    if len(tasks) > 1 and "{dataset}" not in save_predictions.name:
        raise SanError(
            "--save-predictions names one file for several datasets",
            hint="Put {dataset} into the name, such as predictions-{dataset}.json.",
        )
    for task in tasks:
        refuse_unwritable(predictions_path(save_predictions, task))


def _words(vocab: list[str] | None, synonyms: str | None) -> "Vocabulary | None":
    from san_cli.datasets.task import other_words

    words = other_words(vocab, synonyms)
    for note in words.notes if words is not None else ():
        console.note(note)
    return words


def _own_task(
    own_data: tuple[Path, Path, str],
    ignore: list[str] | None,
    label_name: str | None,
    image_name: str | None,
    limit: int | None,
    words: "Vocabulary | None",
    keep_going: bool,
) -> "Task":
    """The user's own data, looked at."""
    from san_cli.datasets.own_pairs import NoPartner, ignored_values
    from san_cli.datasets.task import OwnData, own_task

    try:
        return own_task(
            OwnData(*own_data, ignored_values(ignore), image_name, label_name),
            keep_going=keep_going,
            limit=limit,
            words=words,
            say=console.note,
        )
    except NoPartner as fault:
        way = "" if keep_going else " Or skip and count it with --keep-going."
        raise SanError(fault.message, hint=fault.hint + way, code=fault.code) from None


def _tasks(
    names: list[str] | None,
    data_root: Path | None,
    split: str | None,
    limit: int | None,
    words: "Vocabulary | None",
    keep_going: bool,
) -> "tuple[list[Task], list[tuple[str, str]]]":
    """What to evaluate, and the datasets that are skipped with the reason."""
    from san_cli.datasets.catalogue import BENCHMARKS, dataset_name
    from san_cli.datasets.task import dataset_task

    asked = [name for given in names or () for name in (BENCHMARKS if given == "all" else (given,))]
    tasks, skipped = [], []
    for name in dict.fromkeys(dataset_name(name) for name in asked):
        try:
            tasks.append(dataset_task(name, data_root, split=split, limit=limit, words=words))
        except SanError as error:
            if not keep_going or error.code == ExitCode.USAGE:
                raise
            skipped.append((name, error.message))
            console.warn(f"skipped {name}: {error.message}")
    if asked and not tasks:
        raise SanError(f"none of the datasets is usable; {skipped[0][1]}", code=ExitCode.NO_INPUT)
    return tasks, skipped


@contextmanager
def _alone(request: Request) -> Iterator[None]:
    """Have -o for ourselves."""
    from san_cli.evaluate.state import locked

    if request.output is None or not request.leads:
        yield
        return
    with locked(request.output):
        yield


@contextmanager
def _reported(
    request: Request,
    found: Found,
    tasks: "Sequence[Task]",
    words: "Vocabulary | None",
    synonyms: str | None,
    paper: bool,
    as_json: bool,
) -> Iterator[None]:
    """Report what was found; also where a later dataset ends the run, as the first may have taken hours."""

    def report() -> None:
        if request.leads and found.results:
            settings = _settings(request, found, words, synonyms, paper=paper)
            _report(request, found, settings, paper=paper, as_json=as_json)

    try:
        yield
    except (SanError, KeyboardInterrupt) as end:
        if request.leads:
            why = end.message if isinstance(end, SanError) else "interrupted"
            done = {result.dataset for result in found.results}
            found.skipped += [(task.name, why) for task in tasks if task.name not in done]
            report()
        raise
    report()


def _team() -> "Team | None":
    from san_cli.runs.team import Team, team_share

    share = team_share()
    return None if share is None else Team.meet(share)


def _settings(
    request: Request, found: Found, words: "Vocabulary | None", synonyms: str | None, *, paper: bool
) -> dict[str, Any]:
    """What the report says of how the numbers came about."""
    from san_cli.engine.versions import versions
    from san_cli.evaluate.published import OFFICIAL_LOG_SOURCE, TABLE_2_SOURCE

    quotes_log = any(result.logged for result in found.results)
    quotes_paper = paper or any(result.paper for result in found.results)
    return {
        "weights": [
            {"dataset": r.dataset, "weights": r.weights, "sha256": r.weights_sha256} for r in found.results
        ],
        "ensemble": request.ensemble,
        "templates": request.templates,
        "words": "the datasets' own" if words is None else (synonyms or "--vocab"),
        "device": found.device or None,
        "precision": found.precision or None,
        "processes": 1 if request.team is None else request.team.share.count,
        "predictions": None if request.predictions is None else str(request.predictions),
        "keep_going": request.keep_going,
        **({"official log": OFFICIAL_LOG_SOURCE} if quotes_log else {}),
        **({"paper": TABLE_2_SOURCE} if quotes_paper else {}),
        "versions": versions(),
    }


def _report(
    request: Request,
    found: Found,
    settings: dict[str, Any],
    *,
    paper: bool,
    as_json: bool,
) -> None:
    from san_cli.cli.eval_table import print_json, print_tables
    from san_cli.evaluate.published import paper_rows
    from san_cli.evaluate.report import write_report
    from san_cli.evaluate.report_data import trials_of

    trials = trials_of(found.results)
    quoted = paper_rows() if paper else []
    if request.output is not None:
        try:
            write_report(
                request.output, found.results, trials, settings, quoted, found.skipped, found.pictures
            )
        except OSError as error:
            raise unwritable(request.output, error) from error
    if as_json:
        print_json(found.results, trials, found.skipped)
    else:
        print_tables(found.results, trials, quoted, found.skipped, settings)
    if request.output is not None and not request.quiet:
        console.say(f"report: {printable(str(request.output))} (results.md, results.json, per_class.csv)")


@contextmanager
def _explained(keeps_state: bool) -> Iterator[None]:
    """Tell an interrupted run the way on."""
    try:
        yield
    except KeyboardInterrupt:
        hint = "Add --resume to go on." if keeps_state else "With -o DIR a run can be resumed."
        raise SanError("interrupted", hint=hint, code=ExitCode.INTERRUPTED) from None
