"""Telemetry: fleets of machines in one long form, the contract they must meet, where they come from, who is let in."""
