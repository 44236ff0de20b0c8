"""Small presets for tests."""

from dataclasses import replace

from san_cli.models.presets import VIT_B_16, ClipShape, Preset

# What the official implementation was run with for the small golden cases: ViT-B/16's structure, narrow.
GOLDEN_TINY: Preset = replace(
    VIT_B_16,
    name="golden-tiny",
    clip=ClipShape(
        width=64, layers=12, heads=4, patch_size=16, image_size=64, embed_dim=32,
        text_width=32, text_layers=2, text_heads=2,
    ),
    input_size=128,
    side_width=48,
    queries=10,
    decoder_width=32,
)  # fmt: skip
