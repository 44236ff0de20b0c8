"""Published numbers that ours stand beside, each quoted from its source and never mixed with what we measure.

`OFFICIAL_LOG` is the end-of-training evaluation (iteration 60,000) in the logs that SAN's authors released; its
mIoU is by the ground-truth rule. `TABLE_2` is Table 2 of the paper (arXiv 2302.12242): mIoU by the rule of
detectron2 v0.6, for SAN the mean and deviation of 5 trials.
"""

from dataclasses import dataclass

TABLE_2_SOURCE = "quoted from Table 2 of the paper (arXiv 2302.12242); mIoU by the rule of detectron2 v0.6"
OFFICIAL_LOG_SOURCE = (
    "quoted from the training logs that SAN's authors released (single run, iteration 60,000)"
)
TABLE_2_DATASETS = ("ade847", "pc459", "ade150", "pc59", "voc")


@dataclass(frozen=True)
class LoggedResult:
    """One evaluation in the official log; percent."""

    mIoU: float
    fwIoU: float
    mACC: float
    pACC: float


OFFICIAL_LOG: dict[tuple[str, str], LoggedResult] = {  # by model preset and dataset
    ("vit-b-16", "coco"): LoggedResult(41.9324, 53.7602, 56.7667, 67.7236),
    ("vit-b-16", "voc"): LoggedResult(93.9470, 94.8517, 96.6679, 97.1560),
    ("vit-b-16", "pc59"): LoggedResult(54.0705, 67.2342, 72.9851, 77.7733),
    ("vit-b-16", "ade150"): LoggedResult(27.5579, 56.1391, 45.6339, 67.1584),
    ("vit-b-16", "pc459"): LoggedResult(16.7053, 55.2473, 32.7717, 64.4326),
    ("vit-b-16", "ade847"): LoggedResult(10.2127, 46.5619, 21.2050, 55.0640),
    ("vit-l-14", "coco"): LoggedResult(45.5674, 56.1346, 59.5234, 69.7740),
    ("vit-l-14", "voc"): LoggedResult(95.1841, 95.6952, 97.6121, 97.6354),
    ("vit-l-14", "pc59"): LoggedResult(57.5250, 68.0868, 77.5642, 78.8931),
    ("vit-l-14", "ade150"): LoggedResult(31.9254, 60.0304, 50.7191, 71.0087),
    ("vit-l-14", "pc459"): LoggedResult(20.8311, 57.3094, 39.4865, 66.7897),
    ("vit-l-14", "ade847"): LoggedResult(12.9597, 48.4130, 25.3522, 57.2655),
}


@dataclass(frozen=True)
class PaperRow:
    """A row of Table 2; `mIoU` as printed, in the order of TABLE_2_DATASETS, None where the table has a dash."""

    method: str
    backbone: str
    training_data: str
    ensemble: bool
    mIoU: tuple[str | None, ...]
    model: str | None = None  # our preset of the same network


TABLE_2 = (
    PaperRow("Group-ViT", "rand. init.", "CC12M+YFCC", False, (None, None, None, "22.4", "52.3")),
    PaperRow("LSeg+", "ALIGN RN101", "COCO", False, ("2.5", "5.2", "13.0", "36.0", "59.0")),
    PaperRow("OpenSeg", "ALIGN RN101", "COCO", False, ("4.0", "6.5", "15.3", "36.9", "60.0")),
    PaperRow("LSeg+", "ALIGN EN-B7", "COCO", False, ("3.8", "7.8", "18.0", "46.5", None)),
    PaperRow("OpenSeg", "ALIGN EN-B7", "COCO", False, ("6.3", "9.0", "21.1", "42.1", None)),
    PaperRow("OpenSeg", "ALIGN EN-B7", "COCO+Loc. Narr.", False, ("8.8", "12.2", "28.6", "48.2", "72.2")),
    PaperRow("SimSeg", "CLIP ViT-B/16", "COCO", True, ("7.0", "8.7", "20.5", "47.7", "88.4")),
    PaperRow("SimSeg†", "CLIP ViT-B/16", "COCO", True, ("6.9", "9.7", "21.1", "51.9", "91.8")),
    PaperRow("OvSeg", "CLIP ViT-B/16", "COCO", True, ("7.1", "11.0", "24.8", "53.3", "92.6")),
    PaperRow(
        "SAN", "CLIP ViT-B/16", "COCO", False,
        ("10.1 ± 0.23", "12.6 ± 0.44", "27.5 ± 0.34", "53.8 ± 0.57", "94.0 ± 0.21"), "vit-b-16",
    ),
    PaperRow("MaskCLIP", "CLIP ViT-L/14", "COCO", False, ("8.2", "10.0", "23.7", "45.9", None)),
    PaperRow("SimSeg†", "CLIP ViT-L/14", "COCO", True, ("7.1", "10.2", "21.7", "52.2", "92.3")),
    PaperRow("OvSeg", "CLIP ViT-L/14", "COCO", True, ("9.0", "12.4", "29.6", "55.7", "94.5")),
    PaperRow(
        "SAN", "CLIP ViT-L/14", "COCO", False,
        ("12.4 ± 0.27", "15.7 ± 0.26", "32.1 ± 0.42", "57.7 ± 0.34", "94.6 ± 0.42"), "vit-l-14",
    ),
)  # fmt: skip


def paper_value(model: str | None, dataset: str) -> str | None:
    """Return what Table 2 prints for a model (a preset's name) and a dataset; None if it has no such number."""
    if dataset not in TABLE_2_DATASETS:
        return None
    column = TABLE_2_DATASETS.index(dataset)
    return next((row.mIoU[column] for row in TABLE_2 if model is not None and row.model == model), None)


def paper_rows() -> list[list[str]]:
    """Return Table 2 as a table of text, its head first; the first column says that the rows are quoted."""
    rows = [["method (quoted, Table 2)", "VL model", "training data", "ensemble", *TABLE_2_DATASETS]]
    for row in TABLE_2:
        kind = [row.method, row.backbone, row.training_data, "yes" if row.ensemble else "no"]
        rows.append([*kind, *(value or "–" for value in row.mIoU)])
    return rows
