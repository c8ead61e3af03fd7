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
        description="What happens to mail from outside with the SPF result fail: 'reject' (rejected after DATA, unless "
        "DKIM passes for the author's domain), 'tag' (delivered, with the result in its header) or 'reject-early' "
        "(rejected at RCPT, before DKIM is known; this also rejects forwarded mail).",
        examples=["tag"],
    )
    spf_softfail: SpfAction = Field(
        default="tag",
        description="What happens to mail from outside with the SPF result softfail: 'tag' (delivered, with the result "
        "in its header) or 'reject-early' (rejected at RCPT, before DKIM is known).",
        examples=["reject-early"],
    )
    spf_permerror: SpfAction = Field(
        default="tag",
        description="What happens to mail from outside with the SPF result permerror (the sender's SPF record is "
        "invalid): 'tag' (delivered, with the result in its header) or 'reject-early' (rejected at RCPT, before DKIM "
        "is known).",
        examples=["reject-early"],
    )
    spf_temperror: Literal["defer", "defer-early", "tag"] = Field(
        default="defer",
        description="What happens to mail from outside with the SPF result temperror (a DNS lookup failed): "
        "'defer' (deferred after DATA if SPF could still decide; the sender retries), 'defer-early' (deferred at RCPT, "
        "before DKIM is known) or 'tag' (delivered, with the result in its header).",
        examples=["tag"],
    )
    spf_skip_networks: SkippedNetworks = Field(
        default=(),
        description="Networks of hosts that forward mail of other senders to this one, such as a backup MX: mail from "
        "them is exempt from the SPF check. They also skip the tests of POSTSCREEN. They may not send through this "
        "host.",
        examples=["192.0.2.53"],
    )
    spf_skip_domains: Annotated[tuple[DomainName, ...], *TOKENS] = Field(
        default=(),
        description="Domains of forwarders: mail from the hosts that the SPF record of such a domain lists is exempt "
        "from the SPF check. This grants nothing else; they may not send through this host.",
        examples=["forwarder.example.net"],
    )
