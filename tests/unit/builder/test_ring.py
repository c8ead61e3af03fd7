"""mailstack.keys.ring: what is on disk, what is published, and what signs."""

from pathlib import Path

import pytest
from sites import key_of

from mailstack.keys.ring import DomainKey, KeyRing, on_disk

OLD, NEW = key_of("old")("a.example"), key_of("new")("a.example")


def of(*keys):
    return tuple(DomainKey("a.example", one) for one in keys)


def test_three_sets():
    """A key may rest on disk, and one that is published need not sign."""
    ring = KeyRing(frozenset({OLD.path, NEW.path}), published=of(OLD, NEW), signing=of(OLD))
    assert ring.signers == (OLD,)
    shared = (*of(OLD), DomainKey("b.example", OLD))
    assert KeyRing(frozenset({OLD.path, NEW.path}), published=shared, signing=shared).signers == (OLD,)


@pytest.mark.parametrize(
    ("there", "published", "signing"),
    [((OLD,), of(OLD), of(NEW)), ((OLD,), (), of(OLD)), ((OLD,), of(OLD, NEW), of(OLD)), ((), of(OLD), ())],
)
def test_what_signs_is_published_and_on_disk(there, published, signing):
    """No other ring can be made."""
    with pytest.raises(ValueError, match="that is not"):
        KeyRing(frozenset(one.path for one in there), published=published, signing=signing)


def test_on_disk(tmp_path: Path):
    """Private keys alone count; where there is no directory there are none."""
    assert on_disk(tmp_path) == frozenset()
    (tmp_path / OLD.path).parent.mkdir(parents=True)
    (tmp_path / OLD.path).write_text("")
    (tmp_path / OLD.path).with_suffix(".txt").write_text("")
    assert on_disk(tmp_path) == {OLD.path}
