"""Segment a folder of photographs with Ray: `pip install 'ray[data]'`, then

python examples/ray_predict.py examples/scenes found-by-ray tiny
"""

import sys
from pathlib import Path
from typing import Any

import ray

from san_cli import Segmenter, parse_vocabulary


class Predict:
    """One worker: it loads the model once, and segments batch after batch."""

    def __init__(self, model: str, out: Path) -> None:
        self.segmenter, self.out = Segmenter.load(model), out
        self.vocabulary = parse_vocabulary(["emoji" if model == "tiny" else "coco"])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Write the label map of each path of a batch, and return where it is."""
        paths = [Path(path) for path in batch["item"]]
        results = self.segmenter.segment_batch(paths, self.vocabulary, batch=1)  # on a GPU 8
        for path, result in zip(paths, results, strict=True):
            result.save(self.out / path.stem, ["labels"])
        return {"labels": [str(self.out / f"{path.stem}.labels.png") for path in paths]}


if __name__ == "__main__":
    folder, out, model = (*map(Path, sys.argv[1:3]), sys.argv[3])
    photos = ray.data.from_items(sorted(str(path.resolve()) for path in folder.glob("*.jpg")))
    workers = ray.data.ActorPoolStrategy(size=2)
    made = photos.map_batches(
        Predict, fn_constructor_args=(model, out.resolve()), batch_size=2, compute=workers, num_cpus=1
    )  # of GPUs: num_gpus=1
    print(made.count(), "label maps in", out)
