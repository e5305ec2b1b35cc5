"""Speed and memory of pyfast_mmcl beside the libraries a user would otherwise call. Start at run.py."""
