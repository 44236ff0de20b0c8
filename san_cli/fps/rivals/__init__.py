"""The systems that the paper compares SAN's efficiency with (Table 3), built for measuring: weights are random.

All three find masks with the same MaskFormer and name them with a CLIP ViT-B/16. What is known of them, and what is
not, is said in each module. A model takes images [B, 3, H, W] of 0..255 and text embeddings [C, 512] and returns
mask logits [B, 100, h, w] and class probabilities [B, 100, C], from which `segmentation_map` makes label maps.
"""
