"""The guard: stands before every prediction and asks each channel whether a machine could have said that.

    parameters   what was learned of how channels go together; travels with the model
    fitting      learns it from accepted telemetry, at a stated false-alarm rate
    rules        what the contract alone says: missing, range, change a cycle
    guard        looks at every row, flags, repairs, abstains

Numpy and the contract only: it runs in the twin. What it does not find is said in docs/robustness.md: small coherent
shifts, and whoever knows it. No gate counts it as protection there.
"""
