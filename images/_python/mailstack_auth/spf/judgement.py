"""What policyd-spf finds about a message, for itself and for who comes after it."""

import json
import re
from typing import Any, Literal, NamedTuple

from mailstack_auth import names
from mailstack_auth.spf.evaluation import Evaluation, Result

Exemption = Literal["authenticated", "trusted", "forwarder"]

# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets.
_MAX_REASON = 160


class Judgement(NamedTuple):
    """A message's evaluation, or why there is none."""

    evaluation: Evaluation | None = None
    exempt: Exemption | None = None
    # A forwarder domain's record could not be looked up, so that a refusal might hit a forwarder.
    doubtful: bool = False

    @property
    def judged(self) -> Result | None:
        """The result that policyd-spf goes by."""
        return self.evaluation and self.evaluation.judged

    @property
    def identifier(self) -> Result | None:
        """MAIL FROM's result; for the null sender HELO's (RFC 7208 section 2.4), which is not always the judged one."""
        return self.evaluation and (self.evaluation.mailfrom or self.evaluation.helo)

    @property
    def passed(self) -> str | None:
        """The authenticated domain."""
        return self.identifier.domain if self.identifier and self.identifier.result == "pass" else None

    def line(self) -> bytes:
        """As one line of JSON."""
        evaluation = self.evaluation and {
            name: result and result._replace(reason=explain(result))._asdict()
            for name, result in self.evaluation._asdict().items()
        }
        return json.dumps(self._asdict() | {"evaluation": evaluation}).encode("ascii") + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "Judgement":
        """What line() wrote. What is no domain authenticates nothing; "" aligns with nothing.

        Raises OSError where policyd-spf could not say, and another Exception for any other line.
        """
        found = json.loads(line)
        if "error" in found:
            raise OSError(f"policyd-spf: {found['error']}")
        evaluation = found["evaluation"] and Evaluation(
            **{name: result and _result(result) for name, result in found["evaluation"].items()}
        )
        if any(evaluation or ()) == bool(found["exempt"]):
            raise ValueError("neither an evaluation nor the reason for none")
        return cls(evaluation, found["exempt"], found["doubtful"])


def _result(found: dict[str, Any]) -> Result:
    result = Result(**found)
    return result._replace(domain=names.domain(result.domain) or "")


def explain(judged: Result) -> str:
    """The reason as one printable line of ASCII, since parts of it are the domain's own text."""
    text = re.sub(r"^SPF (?:Permanent|Temporary) Error: ", "", judged.reason)
    return re.sub(r"[^ -~]+", "?", text)[:_MAX_REASON]
