"""What SPF says about our mail, and what its results do to mail from outside."""

from typing import Annotated, Literal

from pydantic import Field

from mailstack.settings.groups.kinds import TOKENS, Group, SkippedNetworks
from mailstack.values.mail import DomainName
from mailstack.values.spf import SpfRecord

SpfAction = Literal["tag", "reject-early"]
SpfFailAction = Literal["reject", "tag", "reject-early"]


class Spf(Group):
    spf_qualifier: Literal["~", "-", "?"] = Field(
        default="~",
        description="How the published SPF records end: '~' softfail, '-' fail, '?' neutral (RFC 7208 section 4.6.2).",
        examples=["-"],
    )
    spf_record: SpfRecord | None = Field(
        default=None,
        description="The whole SPF record of the domains, instead of the generated one.",
        examples=["v=spf1 mx include:_spf.example.net -all"],
    )
    spf_fail: SpfFailAction = Field(
        default="reject",
        description="What happens to mail with the SPF result fail: 'reject' (rejected after DATA, unless DKIM passes "
        "for the author's domain), 'tag' (delivered with the result) or 'reject-early' (rejected at RCPT, before DKIM "
        "is known; this also hits forwarded mail).",
        examples=["tag"],
    )
    spf_softfail: SpfAction = Field(
        default="tag", description="The same for softfail: 'tag' or 'reject-early'.", examples=["reject-early"]
    )
    spf_permerror: SpfAction = Field(
        default="tag",
        description="The same for permerror, an invalid record: 'tag' or 'reject-early'.",
        examples=["reject-early"],
    )
    spf_temperror: Literal["defer", "defer-early", "tag"] = Field(
        default="defer",
        description="The same for temperror, a failed DNS lookup: 'defer' (after DATA, where the result still matters "
        "with DKIM known; the sender retries), 'defer-early' (at RCPT, before DKIM is known) or 'tag'.",
        examples=["tag"],
    )
    spf_skip_networks: SkippedNetworks = Field(
        default=(),
        description="Relays that forward other people's mail (a backup MX, a forwarder): their mail is exempt from the "
        "SPF check. This grants nothing else; they may not relay.",
        examples=["192.0.2.53"],
    )
    spf_skip_domains: Annotated[tuple[DomainName, ...], *TOKENS] = Field(
        default=(),
        description="The same by domain: mail from hosts listed in this domain's SPF record is exempt from the SPF "
        "check.",
        examples=["forwarder.example.net"],
    )
