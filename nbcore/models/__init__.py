"""Samples to features: image encoders (timm), report encoders (transformers) and the heads on top of them."""
