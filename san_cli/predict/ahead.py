"""What a run would find to do: asked of its folder and of the headers of its images, which change by neither."""

from dataclasses import dataclass

from san_cli.datasets.image_header import header_fault
from san_cli.datasets.images import displayed_size
from san_cli.predict.finish import still_there
from san_cli.predict.folder import Run
from san_cli.predict.request import Job
from san_cli.predict.search import FailedInput, InputImage
from san_cli.runs.voice import Voice


@dataclass(frozen=True)
class Ahead:
    """What there is to do of a list, or of our share of it."""

    images: int
    done: int  # before, and their results are whole
    changed: int  # results of those that somebody has worked on, which stay
    todo: tuple[InputImage, ...]  # but for those that will fail
    sizes: tuple[
        tuple[int, int], ...
    ]  # height and width of these; of some files an average, as no header tells
    failing: tuple[FailedInput, ...]
    gone: int  # inputs whose results would be removed


def look_ahead(run: Run, job: Job, voice: Voice, *, overwrite: bool) -> Ahead:
    """Look what there is to do; nothing is decoded."""
    images, done, changed = run.listing.images, 0, 0
    todo: list[InputImage] = []
    sizes: list[tuple[int, int] | None] = []
    failing: list[FailedInput] = []
    positions = list(run.share.positions(len(images), job.batch))
    with voice.progress("looking at images", len(positions)) as step:
        for number, position in enumerate(positions, start=1):
            image = images[position]
            if not overwrite and run.is_done(image):
                done += 1
                changed += len(run.edited(image))
            elif cause := header_fault(image.path, job.max_pixels):
                failing.append(FailedInput(image.name, cause, str(image.path)))
            else:
                todo.append(image)
                sizes.append(displayed_size(image.path))
            step(number)
    known = [size for size in sizes if size is not None] or [(640, 640)]
    usual = sorted(known)[len(known) // 2]
    names = {image.name for image in images}
    gone = run.journal.entries.keys() - names - set(still_there(run.journal, run.listing))
    return Ahead(
        len(positions),
        done,
        changed,
        tuple(todo),
        tuple(size or usual for size in sizes),
        tuple(failing),
        len(gone),
    )
