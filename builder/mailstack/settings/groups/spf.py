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
        description="The whole SPF record of the domains, in place of the generated one.",
        examples=["v=spf1 mx include:_spf.example.net -all"],
    )
    spf_fail: SpfFailAction = Field(
        default="reject",
        description="Mail whose SPF result is fail: 'reject' (refused after DATA, unless DKIM shows that the author's "
        "domain sent it), 'tag' (delivered with the result), or 'reject-early' (refused at RCPT, before DKIM is known; "
        "forwarded mail suffers).",
        examples=["tag"],
    )
    spf_softfail: SpfAction = Field(
        default="tag", description="The same for softfail: 'tag' or 'reject-early'.", examples=["reject-early"]
    )
    spf_permerror: SpfAction = Field(
        default="tag",
        description="The same for permerror, a broken record: 'tag' or 'reject-early'.",
        examples=["reject-early"],
    )
    spf_temperror: Literal["defer", "defer-early", "tag"] = Field(
        default="defer",
        description="When DNS does not answer for an SPF record: 'defer' (the sender retries, where the result could "
        "matter once DKIM is known), 'defer-early' (at RCPT, before DKIM is known) or 'tag'.",
        examples=["tag"],
    )
    spf_skip_networks: SkippedNetworks = Field(
        default=(),
        description="Relays that hand on other people's mail (a backup MX, a forwarder): their mail is not judged by "
        "SPF. This grants nothing else; they may not relay.",
        examples=["192.0.2.53"],
    )
    spf_skip_domains: Annotated[tuple[DomainName, ...], *TOKENS] = Field(
        default=(),
        description="The same by domain: mail from hosts listed in this domain's SPF record is exempt from the SPF "
        "check.",
        examples=["forwarder.example.net"],
    )
