"""The twin: pull what the registry offers, admit what the evidence allows, run it behind a guard.

Light on purpose: no MLflow, no attacks, no training, no batch validation. Importing this package imports nothing else.
"""
