"""What a person can do about what a twin that runs has met, for its alerts."""

from __future__ import annotations

WAY = "Look at the way from the gateway: its network, the broker, and the gateway itself."
STRANGERS = "A commissioner enrolls machines: twinseal unit enroll. Or look at what sends names that nobody knows."
REPORT = "This is a fault of twinseal. Report it, with what its log says."
SPACE = "Make room on the disk of the twin's state, or look at it: df, dmesg."
COUNTER = (
    "Look at the machine's counter. If it was set, or a stolen key has sent a false count, a commissioner says what it "
    "shows now: twinseal unit counter-replaced"
)
_REFUSED = "Look at what sends them, and at the clocks: docs/operating.md says what each reason means."
OLDER = "Find out whether a pull was killed, or somebody put an older release back. Then: twinseal pull"
LOST = "Machines are unknown until a commissioner vouches for each of them: twinseal unit counter-replaced"
_FORGED = "Somebody signs with another key than the device's. Find out who."
_OF_REASONS = {"a count that fell": COUNTER, "forged": _FORGED}


def of_refusal(reason: str) -> str:
    """What to do where frames or rows are refused for a reason."""
    return _OF_REASONS.get(reason, _REFUSED)
