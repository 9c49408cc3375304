"""The candidate in words: what kind of model it is, one sentence a fact, from its own signed config."""

from __future__ import annotations

from twinseal.assurance.candidate_config import CandidateConfig, EnsembleFacts

FAMILIES = {
    "accurate": "The family `accurate` is built for the smallest error without an attack, and has no defence.",
    "robust": "The family `robust` is hardened against small changes of every reading.",
    "certified": "The family `certified` is a median of networks. Controlling few of them moves it little.",
}
WHOSE = {"plain": "The networks for any unit", "commissioned": "The networks that read the signed baseline"}


def sentences(config: CandidateConfig) -> tuple[str, ...]:
    """Family, networks, defence, baseline."""
    return (
        FAMILIES[config.family],
        f"{networks(config)} Each is a small feed-forward network over means and slopes of the last "
        f"{config.window_cycles} cycles of up to {config.channels} channels. It states at most "
        f"{config.rul_cap_cycles:g} cycles.",
        *shared(config),
        *(defence(facts) for facts in config.ensembles),
        baseline(config),
    )


def networks(config: CandidateConfig) -> str:
    """How many networks, and what is made of their estimates."""
    members, aggregation = config.plain.members, config.plain.aggregation
    if members == 1:
        return "The estimate is that of one network."
    return f"The estimate is the {aggregation} of {members} networks."


def shared(config: CandidateConfig) -> tuple[str, ...]:
    """What the members of a median do not share; nothing for a mean."""
    if config.against is None:
        return ()
    what = {"sensors": "read a common sensor", "units": "learned from a common training unit"}[config.against]
    who = {"sensors": "sensors", "units": "the telemetry of training units"}[config.against]
    return (f"No two of them {what}, so an attacker who controls few {who} controls few votes of the median.",)


def defence(facts: EnsembleFacts) -> str:
    """Whether an ensemble was trained against changes of its input, and against how large ones."""
    whose = WHOSE[facts.mode]
    if facts.epsilon_sigma is None:
        return f"{whose}: no sound record says how they were trained."
    if not facts.defended:
        return f"{whose} were trained without a defence against changed readings."
    return (
        f"{whose} were trained with interval bound propagation against changes of up to {facts.epsilon_sigma:g} σ of "
        "every reading."
    )


def baseline(config: CandidateConfig) -> str:
    """Whether there are networks that read the signed baseline."""
    if config.commissioned is None:
        return "No network reads the signed baseline: units with one get the same estimate as units without."
    return (
        f"A second ensemble, of {config.commissioned.members} networks, answers for units with a signed baseline: "
        "their first cycles, signed when the machine was commissioned."
    )
