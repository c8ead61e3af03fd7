"""What a person does first with a site that was built."""

import shlex

from mailstack.settings.model import Settings


def first_steps(chosen: Settings) -> str:
    """How to send a first message with this site, and what comes before mail goes out into the world."""
    mailbox = next(iter(chosen.mailboxes), f"postmaster@{chosen.domains[0]}")
    local, _, domain = mailbox.partition("@")
    # A printf format in a shell's words; an address may hold what either would read.
    message = f"From: {mailbox}\nTo: {mailbox}\nSubject: hello\n\nIt works.\n"
    quoted = shlex.quote(message.replace("%", "%%").replace("\n", "\\n"))
    path = shlex.quote(f"/var/vmail/{domain}/{local}/Maildir/new")
    lines = [
        "Send a first message from inside, and read it:",
        "",
        f"  printf {quoted} |",
        f"    docker compose exec -T postfix sendmail -f {shlex.quote(mailbox)} -t",
    ]
    hop = chosen.next_hops.get(domain)
    if hop is None:
        lines.append(f"  docker compose exec -T postfix sh -c {shlex.quote(f'sleep 2; cat {path}/*')}")
    else:
        lines.append(f"  docker compose logs postfix    # status=sent, by {hop.server}")
    lines += [
        "",
        "Before you send mail to the world: publish the records (mailstack dns records), let",
        f"{chosen.hostname} resolve to this host's IPv4 address and the address back to the name (PTR),",
        "without an AAAA record, and check that port 25 is open in both directions.",
    ]
    return "\n".join(lines) + "\n"
