"""The mistakes in DNS records that `mailstack dns check` knows by name: what is published, what it says, what to paste.

The site is example.com on mail.example.com with the address 192.0.2.25, and everything else of it is right.
"""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from mailstack.keys import dkim

ADDRESS = "192.0.2.25"
PTR = "25.2.0.192.in-addr.arpa"


@cache
def private_key(number):
    """A real key; none of another number has its length."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048 + 8 * number)


def text_of_key(number):
    """Its record."""
    return dkim._record(private_key(number))


KEY = text_of_key(0)
P = KEY.partition("p=")[2]
OTHER_KEY = text_of_key(1)
SELECTOR = "default._domainkey.example.com"
DMARC = "v=DMARC1; p=none"
SPF = f"v=spf1 ip4:{ADDRESS} ~all"
INCLUDES = " ".join(f"include:_spf{number}.partner.example" for number in range(11))
OF_INCLUDES = {f"_spf{number}.partner.example TXT": ["v=spf1 -all"] for number in range(11)}

# Published in place of what the site needs; level and words of the finding; what to paste. The paste mends all of it.
MISTAKES = {
    "zone name twice: DKIM": (
        {f"{SELECTOR} TXT": [], f"{SELECTOR}.example.com TXT": [KEY]},
        "fault: the record lies at default._domainkey.example.com.example.com: the zone's name is there twice",
        f"{SELECTOR} TXT {KEY}",
    ),
    "zone name twice: DMARC": (
        {"_dmarc.example.com TXT": [], "_dmarc.example.com.example.com TXT": [DMARC]},
        "fault: the record lies at _dmarc.example.com.example.com: the zone's name is there twice",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "zone name twice: SPF": (
        {"example.com TXT": [], "example.com.example.com TXT": [SPF]},
        "fault: the record lies at example.com.example.com: the zone's name is there twice",
        f"example.com TXT {SPF}",
    ),
    "zone name twice: MX": (
        {"example.com MX": [], "example.com.example.com MX": ["10 mail.example.com."]},
        "fault: the record lies at example.com.example.com: the zone's name is there twice",
        "example.com MX 10 mail.example.com",
    ),
    "zone name twice: A": (
        {"mail.example.com A": [], "mail.example.com.example.com A": [ADDRESS]},
        "fault: the record lies at mail.example.com.example.com: the zone's name is there twice",
        f"mail.example.com A {ADDRESS}",
    ),
    "selector missing": (
        {f"{SELECTOR} TXT": [], "_domainkey.example.com TXT": [KEY]},
        "fault: the name lacks the selector default",
        f"{SELECTOR} TXT {KEY}",
    ),
    "_domainkey missing": (
        {f"{SELECTOR} TXT": [], "default.example.com TXT": [KEY]},
        "fault: the name lacks the label _domainkey",
        f"{SELECTOR} TXT {KEY}",
    ),
    "selector and _domainkey swapped": (
        {f"{SELECTOR} TXT": [], "_domainkey.default.example.com TXT": [KEY]},
        "fault: selector and _domainkey are the wrong way round",
        f"{SELECTOR} TXT {KEY}",
    ),
    "underscore missing: DKIM": (
        {f"{SELECTOR} TXT": [], "default.domainkey.example.com TXT": [KEY]},
        "fault: the name lacks its underscore",
        f"{SELECTOR} TXT {KEY}",
    ),
    "underscore missing: DMARC": (
        {"_dmarc.example.com TXT": [], "dmarc.example.com TXT": [DMARC]},
        "fault: the name lacks its underscore",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "DKIM at the domain itself": (
        {f"{SELECTOR} TXT": [], "example.com TXT": [SPF, KEY]},
        "fault: the record lies at the domain itself",
        f"{SELECTOR} TXT {KEY}",
    ),
    "DMARC at the domain itself": (
        {"_dmarc.example.com TXT": [], "example.com TXT": [SPF, DMARC]},
        "fault: the record lies at the domain itself",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "no DKIM record": (
        {f"{SELECTOR} TXT": []},
        "fault: there is no DKIM record",
        f"{SELECTOR} TXT {KEY}",
    ),
    "an SPF record at the selector (a wildcard)": (
        {f"{SELECTOR} TXT": [SPF]},
        "fault: the value is an SPF record",
        f"{SELECTOR} TXT {KEY}",
    ),
    "another key": (
        {f"{SELECTOR} TXT": [OTHER_KEY]},
        "fault: the record holds another key than the one that signs: one that this site does not have (2056-bit key)",
        f"{SELECTOR} TXT {KEY}",
    ),
    "backslashes: DKIM": (
        {f"{SELECTOR} TXT": [KEY.replace(";", "\\;")]},
        "fault: the value holds backslashes",
        f"{SELECTOR} TXT {KEY}",
    ),
    "backslashes: DMARC": (
        {"_dmarc.example.com TXT": ["v=DMARC1\\; p=none"]},
        "fault: the value holds backslashes",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "cut at the first semicolon: DKIM": (
        {f"{SELECTOR} TXT": ["v=DKIM1"]},
        "fault: the value is cut at its first semicolon",
        f"{SELECTOR} TXT {KEY}",
    ),
    "cut at the first semicolon: DMARC": (
        {"_dmarc.example.com TXT": ["v=DMARC1;"]},
        "fault: the value is cut at its first semicolon",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "cut after 255": (
        {f"{SELECTOR} TXT": [KEY[:255]]},
        "fault: the value is cut after 255 characters",
        f"{SELECTOR} TXT {KEY}",
    ),
    "cut elsewhere": (
        {f"{SELECTOR} TXT": [KEY[:300]]},
        f"fault: the value is cut after 300 of {len(KEY)} characters",
        f"{SELECTOR} TXT {KEY}",
    ),
    "one value in two records": (
        {f"{SELECTOR} TXT": [KEY[255:], KEY[:255]]},
        "fault: one value is cut into 2 records",
        f"{SELECTOR} TXT {KEY}",
    ),
    "quotes: DKIM": (
        {f"{SELECTOR} TXT": [f'"{KEY[:255]}" "{KEY[255:]}"']},
        "fault: the value holds quotation marks",
        f"{SELECTOR} TXT {KEY}",
    ),
    "quotes: SPF": (
        {"example.com TXT": [f'"{SPF}"']},
        "fault: the value holds quotation marks",
        f"example.com TXT {SPF}",
    ),
    "typographic quotes: DMARC": (
        {"_dmarc.example.com TXT": [f"“{DMARC}”"]},
        "fault: the value holds quotation marks",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "brackets": (
        {f"{SELECTOR} TXT": [f"( {KEY} )"]},
        "fault: the value holds brackets",
        f"{SELECTOR} TXT {KEY}",
    ),
    "a line of a zone file": (
        {f"{SELECTOR} TXT": [f'{SELECTOR}. 3600 IN TXT "{KEY}"']},
        "fault: the value holds a whole line of a zone file",
        f"{SELECTOR} TXT {KEY}",
    ),
    "a no-break space": (
        {"_dmarc.example.com TXT": ["v=DMARC1;\u00a0p=none"]},
        "fault: the value holds characters that are not ASCII",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "a space before SPF": (
        {"example.com TXT": [f" {SPF}"]},
        "fault: the value begins with a space",
        f"example.com TXT {SPF}",
    ),
    "a space before DMARC": (
        {"_dmarc.example.com TXT": [f" {DMARC}"]},
        "fault: the value begins with a space",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "base64 in lower case": (
        {f"{SELECTOR} TXT": [KEY.partition("p=")[0] + "p=" + P.lower()]},
        "fault: upper and lower case of p= were changed",
        f"{SELECTOR} TXT {KEY}",
    ),
    "h=rsa-sha256": (
        {f"{SELECTOR} TXT": [KEY.replace("h=sha256", "h=rsa-sha256")]},
        "fault: h=rsa-sha256 names a signature algorithm",
        f"{SELECTOR} TXT {KEY}",
    ),
    "h=sha1": (
        {f"{SELECTOR} TXT": [KEY.replace("h=sha256", "h=sha1")]},
        "fault: h= does not list sha256",
        f"{SELECTOR} TXT {KEY}",
    ),
    "k=ed25519 with an RSA key": (
        {f"{SELECTOR} TXT": [KEY.replace("k=rsa", "k=ed25519")]},
        "fault: k= names another type than the key has",
        f"{SELECTOR} TXT {KEY}",
    ),
    "s=tlsrpt": (
        {f"{SELECTOR} TXT": [f"{KEY}; s=tlsrpt"]},
        "fault: s= lists neither email nor *",
        f"{SELECTOR} TXT {KEY}",
    ),
    "v= is not the first tag": (
        {f"{SELECTOR} TXT": [f"k=rsa; v=DKIM1; p={P}"]},
        "warning: v= is not the first tag, as it must be",
        f"{SELECTOR} TXT {KEY}",
    ),
    "a sign that is not base64 in p=": (
        {f"{SELECTOR} TXT": [KEY.replace("MII", "MI!I")]},
        "fault: p= is not base64, so it holds no key",
        f"{SELECTOR} TXT {KEY}",
    ),
    "test flag": (
        {f"{SELECTOR} TXT": [f"{KEY}; t=y"]},
        "warning: the flag t=y says that the domain only tests DKIM",
        f"{SELECTOR} TXT {KEY}",
    ),
    "revoked": (
        {f"{SELECTOR} TXT": ["v=DKIM1; k=rsa; p="]},
        "fault: the key is revoked",
        f"{SELECTOR} TXT {KEY}",
    ),
    "p= twice": (
        {f"{SELECTOR} TXT": [f"{KEY}; p={P}"]},
        "fault: the value is no list of tags, each once",
        f"{SELECTOR} TXT {KEY}",
    ),
    "two keys at one selector": (
        {f"{SELECTOR} TXT": [KEY, OTHER_KEY]},
        "fault: 2 records share one selector, one of them with the key",
        f"{SELECTOR} TXT {KEY}",
    ),
    "a CNAME that leads nowhere": (
        {f"{SELECTOR} TXT": [], f"{SELECTOR} CNAME": ["gone.partner.example."]},
        "fault: the CNAME points to gone.partner.example, where there is no TXT record",
        f"{SELECTOR} TXT {KEY}",
    ),
    "a CNAME to another key": (
        {
            f"{SELECTOR} TXT": [],
            f"{SELECTOR} CNAME": ["s1.partner.example."],
            "s1.partner.example TXT": [OTHER_KEY],
        },
        "fault: the record holds another key",
        f"{SELECTOR} TXT {KEY}",
    ),
    "CNAME beside TXT": (
        {f"{SELECTOR} CNAME": ["s1.partner.example."], "s1.partner.example TXT": [OTHER_KEY]},
        "fault: a CNAME to s1.partner.example and TXT records share one name",
        "",
    ),
    "a CNAME at the domain": (
        {"example.com CNAME": ["www.partner.example."], "www.partner.example A": ["192.0.2.80"]},
        "fault: example.com is an alias, which hides the domain's MX, SPF and all other records",
        "",
    ),
    "a CNAME at the host name": (
        {"mail.example.com CNAME": ["www.partner.example."], "www.partner.example A": ["192.0.2.80"]},
        "fault: mail.example.com is an alias; a mail server's name has addresses of its own",
        "",
    ),
    "no SPF record": (
        {"example.com TXT": ["site-verification=1"]},
        "fault: there is no SPF record, only another TXT record",
        f"example.com TXT {SPF}",
    ),
    "two SPF records": (
        {"example.com TXT": [SPF, "v=spf1 include:_spf.partner.example ip4:192.0.2.25 -all"]},
        "fault: 2 SPF records share one name, so SPF has the result permerror",
        f"example.com TXT v=spf1 include:_spf.partner.example ip4:{ADDRESS} ~all",
    ),
    "SPF of others only": (
        {"example.com TXT": ["v=spf1 include:_spf.partner.example -all"]},
        f"fault: the record does not have ip4:{ADDRESS}",
        f"example.com TXT v=spf1 include:_spf.partner.example ip4:{ADDRESS} ~all",
    ),
    "SPF without its v=": (
        {"example.com TXT": [f"spf1 ip4:{ADDRESS} ~all"]},
        "fault: the value does not begin with 'v=spf1 '",
        f"example.com TXT {SPF}",
    ),
    "SPF with semicolons": (
        {"example.com TXT": [f"v=spf1; ip4:{ADDRESS}; ~all"]},
        "fault: the value does not begin with 'v=spf1 '",
        f"example.com TXT {SPF}",
    ),
    "+all": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} +all"]},
        "fault: +all lets every host of the Internet send in this name",
        f"example.com TXT {SPF}",
    ),
    "all without a qualifier": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} all"]},
        "fault: all lets every host of the Internet send in this name",
        f"example.com TXT {SPF}",
    ),
    "?all": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} ?all"]},
        "warning: ?all says nothing of other hosts",
        f"example.com TXT {SPF}",
    ),
    "ip4:0.0.0.0/0": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} ip4:0.0.0.0/0 ~all"]},
        "fault: ip4:0.0.0.0/0 lets every host of the Internet send in this name",
        f"example.com TXT {SPF}",
    ),
    "a/0": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} a/0 ~all"]},
        "fault: a/0 lets every host of the Internet send in this name",
        f"example.com TXT {SPF}",
    ),
    "too many look-ups": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} {INCLUDES} ~all"]},
        "fault: 11 terms need look-ups; with more than 10 the result is permerror",
        f"example.com TXT {SPF}",
    ),
    "too many look-ups, of which two are the site's own": (
        {"example.com TXT": [f"v=spf1 a mx {INCLUDES.partition(' ')[2]} ~all"], **OF_INCLUDES},
        "fault: 12 terms need look-ups; with more than 10 the result is permerror",
        f"example.com TXT v=spf1 ip4:{ADDRESS} {INCLUDES.partition(' ')[2]} ~all",
    ),
    "ptr": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} ptr ~all"]},
        "warning: ptr is slow, and some receivers ignore it",
        f"example.com TXT {SPF}",
    ),
    "a term after all": (
        {"example.com TXT": [f"v=spf1 ~all ip4:{ADDRESS}"]},
        f"fault: what follows 'all' is ignored: ip4:{ADDRESS}",
        f"example.com TXT {SPF}",
    ),
    "no all": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS}"]},
        "warning: the record says nothing of other hosts",
        f"example.com TXT {SPF}",
    ),
    "redirect beside all": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} redirect=_spf.partner.example ~all"]},
        "warning: redirect= has no effect beside 'all'",
        f"example.com TXT {SPF}",
    ),
    "a word that is no mechanism": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} ipv4:192.0.2.26 ~all"]},
        "fault: receivers refuse the record: it has a term that is not an SPF mechanism: 'ipv4:192.0.2.26'",
        f"example.com TXT {SPF}",
    ),
    "too many look-ups in what is included": (
        {
            "example.com TXT": [f"v=spf1 ip4:{ADDRESS} include:many.partner.example ~all"],
            "many.partner.example TXT": [f"v=spf1 {INCLUDES} -all"],
            **OF_INCLUDES,
        },
        "fault: with all that it includes, it needs more than 10 look-ups",
        f"example.com TXT {SPF}",
    ),
    "void look-ups": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} a:x.partner.example a:y.partner.example a:z.partner.example ~all"]},
        "fault: more than 2 of its look-ups find nothing",
        f"example.com TXT {SPF}",
    ),
    "include of a domain without a record": (
        {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} include:none.partner.example ~all"]},
        "fault: include:none.partner.example leads to a domain without an SPF record",
        f"example.com TXT {SPF}",
    ),
    "a term before ours that refuses": (
        {"example.com TXT": [f"v=spf1 -ip4:192.0.2.0/24 ip4:{ADDRESS} ~all"]},
        f"fault: SPF has the result fail for {ADDRESS}, from which this site sends",
        f"example.com TXT v=spf1 ip4:{ADDRESS} -ip4:192.0.2.0/24 ~all",
    ),
    "no DMARC record": (
        {"_dmarc.example.com TXT": []},
        "fault: there is no DMARC record",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "two DMARC records": (
        {"_dmarc.example.com TXT": [DMARC, "v=DMARC1; p=reject"]},
        "fault: 2 DMARC records share one name, so none of them counts",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "pct": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=none; pct=50"]},
        "warning: pct= was removed from DMARC",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "ri and rf": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=none; ri=86400; rf=afrf; adkim=s"]},
        "warning: rf=, ri= were removed from DMARC",
        f"_dmarc.example.com TXT {DMARC}; adkim=s",
    ),
    "no such policy": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=monitor"]},
        "fault: p=, sp= or np= is none of none, quarantine and reject",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "no such policy, but reports": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=monitor; rua=mailto:dmarc@example.com"]},
        "fault: p=, sp= or np= is none of none, quarantine and reject",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "no policy": (
        {"_dmarc.example.com TXT": ["v=DMARC1; adkim=r"]},
        "fault: the record has no p=, so it asks for nothing",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "no policy, but reports": (
        {"_dmarc.example.com TXT": ["v=DMARC1; rua=mailto:dmarc@example.com"]},
        "warning: the record has no p=, so receivers take p=none",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "another policy than the settings'": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=reject"]},
        "warning: the record asks for p=reject, and the settings for p=none",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "test mode": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=none; t=y"]},
        "warning: t=y asks receivers for one level less",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "rua without mailto:": (
        {"_dmarc.example.com TXT": ["v=DMARC1; p=none; rua=dmarc@example.com"]},
        "fault: an address in rua= lacks mailto:",
        f"_dmarc.example.com TXT {DMARC}; rua=mailto:dmarc@example.com",
    ),
    "commas": (
        {"_dmarc.example.com TXT": ["v=DMARC1, p=none"]},
        "fault: the tags are separated by commas",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "p before v": (
        {"_dmarc.example.com TXT": ["p=none; v=DMARC1"]},
        "fault: v=DMARC1 is not the first tag",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "v=dmarc1": (
        {"_dmarc.example.com TXT": ["v=dmarc1; p=none"]},
        "fault: the version is not written DMARC1, in upper case",
        f"_dmarc.example.com TXT {DMARC}",
    ),
    "no MX": (
        {"example.com MX": []},
        "fault: no MX record names this server",
        "example.com MX 10 mail.example.com",
    ),
    "MX of another server": (
        {"example.com MX": ["10 mx.partner.example."], "mx.partner.example A": ["192.0.2.99"]},
        "fault: no MX record names this server; mail goes to mx.partner.example",
        "example.com MX 10 mail.example.com",
    ),
    "MX with the zone name twice": (
        {"example.com MX": ["10 mail.example.com.example.com."]},
        "fault: mail.example.com.example.com has the zone's name twice: write mail.example.com. with its final dot",
        "example.com MX 10 mail.example.com",
    ),
    "MX to an address": (
        {"example.com MX": [f"10 {ADDRESS}."]},
        f"fault: {ADDRESS} is an address; an MX names a host",
        "example.com MX 10 mail.example.com",
    ),
    "MX to an alias": (
        {"example.com MX": ["10 mx.example.com."], "mx.example.com CNAME": ["mail.example.com."]},
        "fault: mx.example.com is an alias (CNAME) of mail.example.com",
        "example.com MX 10 mail.example.com",
    ),
    "MX to nowhere": (
        {"example.com MX": ["10 old.example.com."]},
        "fault: old.example.com has no address",
        "example.com MX 10 mail.example.com",
    ),
    "a null MX": (
        {"example.com MX": ["0 ."]},
        "fault: a null MX says that the domain takes no mail at all",
        "example.com MX 10 mail.example.com",
    ),
    "a null MX beside ours": (
        {"example.com MX": ["0 .", "10 mail.example.com."]},
        "fault: a null MX says that the domain takes no mail at all",
        "",
    ),
    "another MX that is preferred": (
        {"example.com MX": ["5 mx.partner.example.", "10 mail.example.com."], "mx.partner.example A": ["192.0.2.99"]},
        "warning: mail also goes to mx.partner.example, first",
        "",
    ),
    "host name without its address": (
        {"mail.example.com A": ["192.0.2.99"]},
        f"fault: the host name does not have the address {ADDRESS}",
        f"mail.example.com A {ADDRESS}",
    ),
    "host name with another address too": (
        {"mail.example.com A": [ADDRESS, "192.0.2.99"]},
        "warning: the host name also has 192.0.2.99, which the settings do not name",
        "",
    ),
    "an IPv6 address": (
        {"mail.example.com AAAA": ["2001:db8::25"]},
        "fault: nothing listens on IPv6",
        "",
    ),
    "no PTR": (
        {f"{PTR} PTR": []},
        f"fault: {ADDRESS} has no name",
        f"{PTR} PTR mail.example.com",
    ),
    "PTR that does not lead back": (
        {f"{PTR} PTR": ["host-25.partner.example."]},
        f"fault: {ADDRESS} has the name host-25.partner.example, which does not lead back to it",
        f"{PTR} PTR mail.example.com",
    ),
    "PTR of another name": (
        {f"{PTR} PTR": ["host-25.partner.example."], "host-25.partner.example A": [ADDRESS]},
        f"warning: {ADDRESS} has the name host-25.partner.example, and the server says HELO mail.example.com",
        f"{PTR} PTR mail.example.com",
    ),
    "two PTR": (
        {f"{PTR} PTR": ["mail.example.com.", "www.example.com."]},
        f"warning: {ADDRESS} has several names",
        "",
    ),
}
