"""When what is under way is looked at again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

# Seconds between looks at an order while the CA does not say how long to wait.
LOOKS = (1.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)
DNS_LOOKS = 30.0  # seconds between looks at what is published in DNS, where nobody hurries them
EARLY = 0.5  # seconds before the first look after answering, unless the responder hurries it
AFTER_FINALIZE = 0.01  # seconds before the first look after finalize
SETTLE = 0.01  # seconds of quiet at the responder before the CA is taken to have seen enough
OLD = timedelta(days=8)  # longer than any CA keeps an order that is not done


@dataclass(frozen=True, slots=True)
class Look:
    """Look again in ``seconds``; earlier if something happens and ``hurry`` allows it."""

    seconds: float
    hurry: bool = False
