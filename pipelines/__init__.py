"""The stages of dvc.yaml, one script each: read, call one verb, write. Run as `python -m pipelines.<stage>`."""
