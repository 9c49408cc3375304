"""The sections of the report, one file each, as `report.section` finds them.

    gates, candidate, provenance, check
                                 the verdict in detail, where everything came from, what a reader can check
    data, accuracy, comparison   what the model was made from, how good it is, what other families would cost
    evasion, median_certificate  small changes of every reading, and controlled members of a median
    owned_sensors, falsified_histories, guard_aware, injection
                                 sensors under an attacker's control, without and with the guard
    extraction, membership       what somebody learns who may ask the model
    poisoning                    training on telemetry that an attacker has changed

To add a section, add a file that ends with `SECTION`. Open `injection` first: it is the shortest.
"""
