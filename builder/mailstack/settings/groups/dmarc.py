"""What DMARC says about our mail, and how mail from outside is judged by it and beside it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mailstack.settings.groups.kinds import TOKENS, Group, SkippedNetworks
from mailstack.values import tokens
from mailstack.values.dmarc import DmarcRecord
from mailstack.values.mail import DomainName, Mailbox

# RFC 5321 section 4.5.4.1: senders try for four or five days.
MAX_WAIT = 96


class Dmarc(Group):
    dmarc_policy: Literal["none", "quarantine", "reject"] = Field(
        default="none", description="The published DMARC policy (RFC 9989).", examples=["reject"]
    )
    dmarc_report_addresses: Annotated[tuple[Mailbox, ...], *TOKENS] = Field(
        default=(),
        description="Where other servers send aggregate reports (rua).",
        examples=["dmarc@example.com"],
    )
    dmarc_record: DmarcRecord | None = Field(
        default=None,
        description="The whole DMARC record of the domains, instead of the generated one: its tags sp, np, t, adkim, "
        "aspf, ruf, fo and psd as well. It takes the place of DMARC_POLICY and DMARC_REPORT_ADDRESSES.",
        examples=["v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:dmarc@example.com"],
    )
    dmarc_action: Literal["follow", "reject", "mark"] = Field(
        default="follow",
        description="What happens to mail from outside that fails DMARC: 'follow' (what the policy of the author's "
        "domain asks for; but mail for which SPF or DKIM passes for another domain, as from a mailing list, is "
        "quarantined instead of rejected, RFC 9989 section 7.4), 'reject' (what the policy asks for, without that "
        "exception) or 'mark' (delivered, with the result in its header).",
        examples=["reject"],
    )
    dmarc_skip_networks: SkippedNetworks = Field(
        default=(),
        description="Networks of trusted forwarders and mailing lists: mail from them is delivered even if it fails "
        "DMARC. They also skip the tests of POSTSCREEN. They may not send through this host.",
        examples=["192.0.2.54"],
    )
    dmarc_skip_domains: Annotated[tuple[DomainName, ...], *TOKENS] = Field(
        default=(),
        description="Domains of trusted forwarders and mailing lists: mail for which SPF or DKIM passes for such a "
        "domain, or a name below it, is delivered even if it fails DMARC. This grants nothing else.",
        examples=["lists.example.net"],
    )
    dns_wait_hours: Annotated[int, BeforeValidator(tokens.whole_number(0, MAX_WAIT, "a number of hours"))] = Field(
        default=4,
        description="How many hours mail from outside is deferred at most (451) while a DNS lookup fails whose answer "
        "could change the decision. 0: it is not deferred.",
        examples=["24"],
    )
    dns_wait_action: Literal["quarantine", "reject"] = Field(
        default="quarantine",
        description="What happens to mail from outside if such a DNS lookup still fails after DNS_WAIT_HOURS: "
        "'quarantine' (delivered, with the reason in X-Mailstack-Quarantine) or 'reject'.",
        examples=["reject"],
    )
    unknown_sender_domain: Literal["defer", "reject", "accept"] = Field(
        default="defer",
        description="What happens to mail from outside whose MAIL FROM domain has neither MX nor address, so that no "
        "reply can be delivered: 'defer' (450, the sender retries), 'reject' (550) or 'accept'.",
        examples=["reject"],
    )
    local_sender: Literal["aligned", "envelope", "off"] = Field(
        default="aligned",
        description="Which mail from outside counts as forged use of our domains: 'aligned' (in the envelope sender or "
        "in From, without an SPF or DKIM pass for them), 'envelope' (in the envelope sender, whatever the results) or "
        "'off' (none).",
        examples=["envelope"],
    )
    local_sender_action: Literal["discard", "reject"] = Field(
        default="discard",
        description="What happens to mail from outside with a forged envelope sender if SPF and DKIM pass for no "
        "domain: 'discard' (answered 250 and discarded, because a bounce would go to the person whose address was "
        "used) or 'reject'. Other forged mail is rejected, or quarantined if SPF or DKIM passes for another domain.",
        examples=["reject"],
    )
