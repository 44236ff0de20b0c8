"""The network as it is trained: from a batch of pixels and targets to the loss of Eq. 5."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from san_cli.engine.asked import best_word_logits
from san_cli.models.san import SAN, normalise
from san_cli.train.losses import Normalisers, SetLoss, set_loss
from san_cli.train.matcher import LossWeights
from san_cli.train.points import Draw
from san_cli.train.recipe import Recipe
from san_cli.train.targets import Targets
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.weights.checkpoint import Checkpoint


class TrainedModel(nn.Module):
    """A SAN with the words it is trained on; its forward is one module's, as DistributedDataParallel wants it."""

    def __init__(
        self, checkpoint: Checkpoint, text_embeddings: Tensor, vocabulary: Vocabulary, recipe: Recipe
    ) -> None:
        """`text_embeddings` [words, D] are those of `vocabulary.words`."""
        super().__init__()
        self.san = SAN(checkpoint.preset)
        own = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith("text.")}
        self.san.load_state_dict({name: tensor.float() for name, tensor in own.items()})
        self.text_embeddings = text_embeddings  # no buffer: the same in all processes, and in no checkpoint
        self.vocabulary = vocabulary
        self.points = recipe.points
        self.weights = LossWeights(
            recipe.ce_weight,
            recipe.mask_weight,
            recipe.dice_weight,
            recipe.no_object_weight,
            recipe.queries_per_mask,
        )

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Targets],
        normalisers: Normalisers,
        draw: Draw,
        precision: torch.dtype = torch.float32,
    ) -> SetLoss:
        """Return the loss of `images` uint8 [B, 3, H, W], all decoded layers together; the network in `precision`."""
        with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
            outputs = self.san(normalise(images), all_supervised=True)
        text = self.san.with_background(self.text_embeddings)
        logits = [
            (
                best_word_logits(self.san.classify(out.region_embeddings, text), self.vocabulary),
                out.mask_logits,
            )
            for out in outputs
        ]
        return set_loss(logits, targets, normalisers, draw, self.weights, self.points)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by our name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def checkpoint_of(model: TrainedModel, start: Checkpoint, metadata: dict[str, str]) -> Checkpoint:
    """Return the model as it is now, sharing its tensors; the text tower is the one that it started with."""
    state = {**start.without_image_side().state, **model.san.state_dict()}
    return Checkpoint(start.preset, state, metadata)
