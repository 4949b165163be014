"""What went wrong in a run, in words with their evidence: the interface. No fault is looked for here yet."""

import dataclasses

from cnnjax.runs import Run


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing found in a run.

    Attributes:
      name: of it, such as "over-fitting".
      words: a sentence for a person.
      evidence: the figures it rests on.
      advice: what to try.
    """

    name: str
    words: str
    evidence: str
    advice: str


def diagnose(run: Run) -> list[Finding]:
    """What a run's history shows, the gravest first. Nothing is looked for yet: the list is empty."""
    return []


def cannot_see(run: Run) -> list[str]:
    """What could not be judged, a sentence each."""
    return ["Faults of training are not looked for yet."]
