"""The paper's numbers on efficiency (arXiv 2302.12242, Tables 2, 3 and 8), never mixed with what we measure."""

from dataclasses import dataclass

SOURCE = (
    "paper: Tables 3 and 8 of arXiv 2302.12242; its FPS is that of a Titan Xp, one 640×640 image at a time"
)
SIZE = 640  # pixels: the input of all four systems in the paper
CLASSES = 20  # the vocabulary (VOC's) with which the paper's GFLOPs come out


@dataclass(frozen=True)
class PaperRow:
    """One system or one resolution; None where the paper has no number."""

    params_m: float | None = None
    gflops: float | None = None
    fps: float | None = None
    miou: float | None = None  # percent, ADE20K-150


_TABLE_3 = {
    "simseg": PaperRow(61.1, 1916.7, 0.8, 20.5),
    "ovseg": PaperRow(147.2, 1916.7, 0.8, 24.8),
    "maskclip": PaperRow(63.1, 307.8, 4.1),  # its mIoU was published for ViT-L/14 only
}
_TABLE_8 = {  # CLIP's input in pixels: (GFLOPs, mIoU)
    192: (39.4, 25.3),
    224: (44.3, 26.3),
    320: (64.3, 27.8),
    448: (106.3, 26.1),
    640: (213.4, 24.6),
}


def paper_row(system: str, model: str, size: int, clip_size: int | None) -> PaperRow:
    """The paper's numbers for a system at an input size; parameters don't depend on the size.

    `model` is the preset of SAN, `clip_size` its CLIP input in pixels; the other systems have one of each.
    """
    if system != "san":
        row = _TABLE_3[system]
        return row if size == SIZE else PaperRow(params_m=row.params_m)
    if model != "vit-b-16":
        return PaperRow()
    gflops, miou = _TABLE_8.get(clip_size or 0, (None, None)) if size == SIZE else (None, None)
    return PaperRow(8.4, gflops, 15.2 if gflops == 64.3 else None, miou)
