"""Whole sites as files: what a user finds on disk, and what the containers mount."""

import re
from pathlib import Path

import pytest
import yaml

from mailstack.render.compose import SITE, site
from mailstack.render.site import files
from mailstack.settings.model import Settings
from mailstack.tree import File, Tree
from mailstack.values.dnssec import ROOT_ANCHORS
from mailstack.version import version
from mailstack_auth.spf.query import MAX_SECONDS
from mailstack_auth.spf.service import GRACE_SECONDS
from unit.sites import settings, stack

GOLDEN = Path(__file__).parent

SITES = {
    "minimal": {},
    "forwarding": {
        "domains": "example.com,example.net",
        "mailboxes": "user@example.com,info@example.net",
        "delivery": "maildir,example.net=lmtp:dovecot:24",
        "aliases": "sales@example.com=user@example.com,sales@example.com=friend@example.org,"
        "info@example.net=info@example.net,info@example.net=friend+example@example.org,*@example.net=user@example.com",
    },
    "everything": {
        "hostname": "mx.example.net",
        "domains": "example.com,example.org,xn--bcher-kva.example",
        "public_addresses": "192.0.2.25,192.0.2.26",
        "delivery": "lmtp:dovecot:2424,example.org=smtp:mailboxes.example.net,xn--bcher-kva.example=maildir",
        "mailboxes": "user@example.com,o'neil+tag@xn--bcher-kva.example",
        "aliases": "sales@example.com=user@example.com,abuse@example.org=abuse@provider.example",
        "srs": "false",
        "postmaster": "sales@example.com",
        "dkim_selector": "s2026",
        "dkim_key_bits": "4096",
        "dkim_keys": "per-domain",
        "sign_subdomains": "false",
        "trusted_networks": "198.51.100.0/28,2001:db8:1::/48,203.0.113.9",
        "spf_qualifier": "-",
        "spf_record": "v=spf1 mx include:_spf.provider.example -all",
        "spf_fail": "reject-early",
        "spf_softfail": "reject-early",
        "spf_permerror": "reject-early",
        "spf_temperror": "tag",
        "spf_skip_networks": "203.0.113.53,2001:db8:2::/48",
        "spf_skip_domains": "relay.example.org,forwarder.example",
        "dmarc_policy": "reject",
        "dmarc_report_addresses": "dmarc@example.com,dmarc@reports.example",
        "dmarc_record": "v=DMARC1; p=reject; sp=none; rua=mailto:dmarc@example.com,mailto:dmarc@reports.example",
        "dmarc_action": "mark",
        "dns_wait_hours": "24",
        "unknown_sender_domain": "reject",
        "dns_wait_action": "reject",
        "dmarc_skip_networks": "203.0.113.54,2001:db8:3::/48",
        "dmarc_skip_domains": "lists.example.org",
        "local_sender": "envelope",
        "local_sender_action": "reject",
        "milter_default_action": "accept",
        "extra_milters": "unix:rspamd/milter.sock,inet:rspamd:7357",
        "sasl": "inet:dovecot:12345",
        "relay_host": "smtp.provider.example:465",
        "relay_user": "user@example.com",
        "relay_password": "secret",
        "relay_hosts": "example.org=smtp.provider.example:587,xn--bcher-kva.example=smarthost:2525",
        "relay_logins": "example.org=user@example.org:secret",
        "message_size": "25MiB",
        "limit_sessions": "40",
        "limit_connections": "0",
        "limit_messages": "100",
        "limit_recipients": "200",
        "limit_minutes": "60",
        "limit_user_sessions": "10",
        "limit_user_messages": "100",
        "limit_user_recipients": "0",
        "limit_user_minutes": "1440",
        "postscreen": "on",
        "dnsbl": "dnsbl.example.net,list.example.org=127.0.[0..255].[1;2..3]*-2",
        "dnsbl_threshold": "3",
        "proxy_networks": "192.0.2.10,198.51.100.32/28",
        "port_smtp_proxy": "2526",
        "port_submission_proxy": "0",
        "port_submissions_proxy": "4651",
        "publish_addresses": "192.0.2.25",
        "port_smtp": "2525",
        "outgoing_address": "192.0.2.26",
        "port_submission": "0",
        "port_submissions": "4650",
        "tls_directory": "/etc/letsencrypt",
        "resolver_forwarders": "192.0.2.53,192.0.2.54@5353",
        "resolver_trust_anchors": ",".join(ROOT_ANCHORS),
        "subnet": "10.99.0.0/24",
        "base_image": "registry.example.com:5000/debian:trixie-slim",
        "apt_mirror": "http://mirror.example.com/debian",
        "apt_snapshot": "20261101T000000Z",
        "build_proxy": "http://192.0.2.80:3142",
        "image_max_age": "7",
    },
}


def stable(path: str, file: File) -> str:
    """A file without what changes with an image or a release: tags, digests and the version."""
    text = file.content.decode()
    if path == "compose.yaml":
        text = re.sub(r"^# sha256 [0-9a-f]{64}$", "# sha256 DIGEST", text, flags=re.MULTILINE)
        text = re.sub(r"(image: mailstack/[a-z-]+):[0-9a-f]{12}$", r"\1:DIGEST", text, flags=re.MULTILINE)
        text = re.sub(r"((?:mailstack\.files: |\./\.mailstack/)[a-z-]+)/[0-9a-f]{12}\b", r"\1/DIGEST", text)
        text = text.replace(f"Made by mailstack {version()} ", "Made by mailstack VERSION ", 1)
    return text


def test_everything_is_everything():
    """In 'everything' no setting has its default, nor 'minimal's value."""
    default = settings()
    changed = settings(**SITES["everything"])
    assert [name for name in Settings.model_fields if getattr(changed, name) == getattr(default, name)] == []


@pytest.mark.parametrize("name", SITES)
def test_site(name: str, *, update: bool):
    """A site renders to exactly the files below tests/golden/<name>: none is missing, none is left over."""
    files = site(stack(**SITES[name]))
    # The directory that is named by the digest of what is in it is left out of the paths.
    rendered = {
        re.sub(rf"^({re.escape(SITE)}/[^/]+)/[0-9a-f]{{12}}/", r"\1/", path): stable(path, files[path])
        for path in files
    }
    if update:
        Tree({f"{name}/{path}": File(text.encode()) for path, text in rendered.items()}).write(GOLDEN, owned=name)
    root = GOLDEN / name
    expected = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert sorted(rendered) == sorted(expected)
    for path, text in rendered.items():
        assert text == expected[path], path


@pytest.mark.parametrize("name", SITES)
def test_files_can_be_read_in_the_containers(name: str):
    """Daemons read their files as users of their own; nothing that is mounted is secret, writable or run."""
    assert {file.mode for file in site(stack(**SITES[name])).values()} == {0o644}


def digests(bits: int = 2048, authserv_id: str = "a secret", **changes: str) -> dict[str, str]:
    """Service → the digest in its label, by which compose sees whether it has to be recreated."""
    compose = yaml.safe_load(site(stack(bits, authserv_id, **changes))["compose.yaml"].content)
    return {name: service["labels"]["mailstack.files"] for name, service in compose["services"].items()}


@pytest.mark.parametrize(
    ("changes", "services"),
    [
        ({"message_size": "25MiB"}, {"postfix"}),
        ({"trusted_networks": "192.0.2.0/28"}, {"postfix", "opendkim", "policyd-spf"}),
        ({"spf_fail": "reject-early"}, {"policyd-spf", "dmarc"}),
        ({"spf_softfail": "reject-early"}, {"policyd-spf"}),
        ({"dmarc_action": "mark"}, {"dmarc"}),
        ({"local_sender": "envelope"}, {"postfix", "policyd-spf", "dmarc"}),
        ({"authserv_id": "another secret"}, {"opendkim", "dmarc"}),
        ({"resolver_forwarders": "192.0.2.53"}, {"resolver"}),
        ({"dmarc_policy": "reject", "public_addresses": "192.0.2.25"}, set()),
        ({"bits": 4096}, {"opendkim"}),
    ],
)
def test_change_recreates_only_its_services(changes, services):
    """A changed setting, or another key, changes the digest of the services that read it and of no other."""
    before, after = digests(), digests(**changes)
    assert {name for name in before if before[name] != after[name]} == services


def test_time_limits_fit():
    """Postfix waits longer than an evaluation may take, and so does compose for those in hand; the daemon is between."""
    tree = site(stack())
    main_cf = files(stack())["postfix"]["etc/postfix/main.cf"].content.decode()
    (timeout,) = re.findall(r"^smtpd_policy_service_timeout = (\d+)s$", main_cf, flags=re.MULTILINE)
    service = yaml.safe_load(tree["compose.yaml"].content)["services"]["policyd-spf"]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    # The sender, and the domains of relays.
    assert int(timeout) > 2 * MAX_SECONDS
    assert grace > GRACE_SECONDS > MAX_SECONDS >= 20
