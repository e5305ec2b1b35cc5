"""What can be put on the towers of a CLIP model: kind → "module:function", imported on first use."""

from __future__ import annotations

# A function is called as ``function(clip, **config) -> nn.Module``: it wraps modules of an open_clip model in place.
ATTACHMENTS: dict[str, str] = {}
