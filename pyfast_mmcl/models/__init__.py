"""Things with weights: encoders, fusion, heads, adapters, prompts, masks, generators."""
