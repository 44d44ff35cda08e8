"""One file per paper, only what it adds to the standard stages; `mmrl/registry.py` has the names."""
