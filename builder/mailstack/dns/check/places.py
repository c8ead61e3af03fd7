"""The wrong names under which records lie, by the mistakes that lead there."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

LABEL_MISSING = "label-missing"
ZONE_TWICE = ("zone-twice", "the zone's name is there twice: the form adds it, so type the name without it")


class Place(NamedTuple):
    """A name where a record may lie by mistake, and that mistake: a sentence."""

    name: str
    code: str
    what: str


def places(name: str, zone: str, ours: Collection[str]) -> list[Place]:
    """Where the record of a name may lie instead, none of them a name of the site's own; zone is the name's."""
    found = [one for one in _places(name, zone) if one.name not in ours and one.name != name]
    return list({one.name: one for one in reversed(found)}.values())[::-1]


def _places(name: str, zone: str) -> Iterator[Place]:
    yield Place(f"{name}.{zone}", *ZONE_TWICE)
    label, mark, domain = _parts(name)
    if domain != zone and domain.endswith(f".{zone}"):
        labels = domain.removesuffix(f".{zone}")
        what = f"the name lacks the sub-domain's label {labels}"
        yield Place(f"{label}{mark}{zone}", LABEL_MISSING, what)
    if not mark:
        return
    if label:
        yield Place(f"{mark[1:]}{domain}", "selector-missing", f"the name lacks the selector {label}")
        yield Place(f"{label}.{domain}", "domainkey-missing", "the name lacks the label _domainkey")
        yield Place(f"_domainkey.{label}.{domain}", "labels-swapped", "selector and _domainkey are the wrong way round")
    yield Place(f"{label}{mark.replace('_', '')}{domain}", "underscore-missing", "the name lacks its underscore")
    yield Place(domain, "at-the-domain", "the record lies at the domain itself")


def _parts(name: str) -> tuple[str, str, str]:
    """A name in three: selector, what marks its purpose, domain."""
    for mark in ("._domainkey.", "._report._dmarc."):
        if mark in name:
            label, _, domain = name.partition(mark)
            return label, mark, domain
    if name.startswith("_dmarc."):
        return "", "_dmarc.", name.removeprefix("_dmarc.")
    return "", "", name
