"""Random From fields: what is taken shows no reader, whatever its parser, an author of another domain than the judged one.

FROM_SEED and FROM_COUNT choose other fields, and how many.
"""

import os
import random
from collections.abc import Mapping, Sequence

import pytest

import from_fields
import readers
from mailstack_auth import names
from mailstack_auth.header.author import AmbiguousError, author_domain
from mailstack_auth.header.fields import Field, Fields

SEED = int(os.environ.get("FROM_SEED", random.SystemRandom().randrange(2**32)))
COUNT = int(os.environ.get("FROM_COUNT", "500"))

# By reader, the authors of each message.
Shown = Mapping[str, Sequence[Sequence[str]]]


def shown(values: Sequence[bytes], programs: Sequence[readers.Program], rspamd: readers.Reader) -> Shown:
    """Whom each reader shows as the authors of messages with these values of From."""
    messages = [b"From:" + value + b"\r\nTo: <user@bravo.example>\r\n\r\nA body.\r\n" for value in values]
    one_by_one: Mapping[str, readers.Reader] = {
        "Python": readers.by_python,
        "Python, compat32": readers.by_old_python,
        "Python, compat32, decoded": readers.by_decoding_python,
        "rspamd": rspamd,
    }
    found: dict[str, Sequence[Sequence[str]]] = {
        name: [read(content, "").authors for content in messages] for name, read in one_by_one.items()
    }
    for program in programs:
        found |= program.authors(messages)
    return found


def judged(value: bytes) -> str | None:
    sender = Field(b"Sender", b" <any@evil.example>")
    return author_domain(Fields([Field(b"From", value), sender]))


def domains(authors: Sequence[str]) -> set[str | None]:
    """The domains of addresses, as they are compared; what is no domain stays as it is."""
    hosts = {readers.host(one) for one in authors}
    return {names.domain(one) or one for one in hosts if one}


def test_what_is_taken_shows_nobody_else(
    programs: Sequence[readers.Program], rspamd: readers.Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of random fields, mostly near to well-formed ones, none is taken that some reader shows with another domain."""
    with capsys.disabled():
        print(f"\nFROM_SEED={SEED} FROM_COUNT={COUNT}")  # noqa: T201
    taken: dict[bytes, str | None] = {}
    for value in from_fields.Generator(SEED).fields(COUNT):
        try:
            taken[value] = judged(value)
        except AmbiguousError:
            continue
    # The generator is worth something: some are taken, and most of these are not of its plainest form.
    assert COUNT / 10 < len(taken) < COUNT / 2
    faults = [
        (SEED, name, value, authors, domain)
        for name, all_authors in shown(list(taken), programs, rspamd).items()
        for (value, domain), authors in zip(taken.items(), all_authors, strict=True)
        if not domains(authors) <= {domain}
    ]
    assert faults == []


def test_a_forgery_is_seen(programs: Sequence[readers.Program], rspamd: readers.Reader) -> None:
    """Each reader shows the second of two authors, so that "nobody else" means something."""
    for name, (authors,) in shown([b" any@evil.example, admin@bank.example"], programs, rspamd).items():
        assert domains(authors) == {"evil.example", "bank.example"}, name


@pytest.mark.parametrize("fooled", from_fields.FOOLED, ids=repr)
def test_what_fools_a_reader_is_refused(
    fooled: str, programs: Sequence[readers.Program], rspamd: readers.Reader
) -> None:
    """Some reader shows a name of the bank in it, which is why it is refused."""
    value = b" " + fooled.encode()
    found = shown([value], programs, rspamd)
    assert any("bank.example" in readers.host(one) for (authors,) in found.values() for one in authors), found
    with pytest.raises(AmbiguousError):
        judged(value)


@pytest.mark.parametrize("genuine", [*from_fields.GENUINE, *from_fields.LENIENT], ids=repr)
def test_genuine_fields(genuine: str, programs: Sequence[readers.Program], rspamd: readers.Reader) -> None:
    """What genuine senders write is taken, and every reader shows the author; or nobody, where its parser gives up."""
    value = b" " + genuine.encode()
    assert judged(value) == "author.example"
    for name, (authors,) in shown([value], programs, rspamd).items():
        found = domains(authors)
        assert found == {"author.example"} or (genuine in from_fields.LENIENT and not found), (name, authors)
