"""Any text in any variable: it ends in Settings, or in an error that names variable, value and remedy."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mailstack.errors import SettingsError
from mailstack.settings.load import load, read_settings
from mailstack.settings.model import Settings
from unit.sites import environment, variable

FIELDS = Settings.model_fields
# What other programs read as something else than text, and what breaks parsers.
ODD = [
    *("null", "none", "None", "nil", "~", "true", "false", "yes", "off", "[]", "{}", '""', "''", '"', "[null]", '{"a": 1}'),
    *("0", "1", "25", "-1", "1e400", "9" * 5000, "9" * 400 + "kB", "1.5", "0x10", "٢٥", "²", "NaN", "Infinity", "\x00", "a\x00b"),
    *("\udcff", "\ud800", "a" * 70_000, "." * 300, "=" * 300, "@", "@@", ":", "[", "[]:25", "[::]:25", "//", "%", "%{", "xn--", "xn--a.example"),
    *("127.1", "0.0.0.0", "::ffff:192.0.2.1", "\N{FULLWIDTH FULL STOP}", "\u2028", "\ufeff", "\N{BYTE ORDER MARK}a.example"),  # noqa: S104
    *("smtp.example.net:" + "9" * 5000, "192.0.2.53@" + "9" * 5000, f"http://a.example:{'9' * 5000}", "v=spf1 a/" + "9" * 5000),
    *(". DS 1 8 2 \\", ". DS 99999999 8 2 00", ". DNSKEY x", f". DS {'9' * 5000} 8 2 00", ". DS 1 8 2 \udcff", '. DNSKEY 257 3 8 "'),
]  # fmt: skip
EXAMPLES = [text for field in FIELDS.values() for text in field.examples]
TEXT = st.text(st.characters(exclude_categories=()))
# Whole oddities, and what is valid with an oddity put into it, in front or behind.
VALUES = (
    st.sampled_from(ODD)
    | TEXT
    | st.builds(lambda text, at, odd: text[:at] + odd + text[at:], st.sampled_from(EXAMPLES), st.integers(0, 40), TEXT)
)


def outcome(read: Callable[[], Settings]) -> Settings | SettingsError:
    try:
        return read()
    except SettingsError as error:
        return error


def judged(name: str, value: str) -> Settings | SettingsError:
    """What comes of a value; of an error, that a person can use it."""
    found = outcome(lambda: load(environment() | {variable(name): value}))
    if isinstance(found, SettingsError):
        assert variable(name) in str(found)
        for fault in found.faults:
            assert fault.variable in {variable(one) for one in FIELDS}
            assert fault.remedy
            assert len(str(fault)) < 1000
            assert str(fault).isprintable()
    return found


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value[:20]))
@pytest.mark.parametrize("name", FIELDS)
def test_odd_values(name: str, value: str) -> None:
    """Nothing is decoded as another language's value: what is set is never taken for what is not set."""
    chosen = judged(name, value)
    if isinstance(chosen, Settings) and value.strip() and FIELDS[name].default is None:
        assert getattr(chosen, name) is not None


@given(name=st.sampled_from(list(FIELDS)), value=VALUES)
@example(name="relay_host", value="25")
@example(name="delivery", value="true")
@hypothesis_settings(max_examples=1000)
def test_any_text(name: str, value: str) -> None:
    """Whatever a variable of the environment holds, nothing but Settings or a usable error comes of it."""
    judged(name, value)


@given(st.dictionaries(st.sampled_from(list(FIELDS)), VALUES, min_size=2, max_size=5))
@hypothesis_settings(max_examples=500)
def test_any_texts(values: dict[str, str]) -> None:
    """The same for several variables at once, whose values are compared with each other."""
    found = outcome(lambda: load(environment(**values)))
    if isinstance(found, SettingsError):
        assert {fault.variable for fault in found.faults} <= {variable(one) for one in FIELDS}
        assert str(found).replace("\n", "").isprintable()


@given(name=st.sampled_from(list(FIELDS)), value=VALUES | st.binary())
@hypothesis_settings(max_examples=500)
def test_any_content_of_a_file(tmp_path_factory: pytest.TempPathFactory, name: str, value: str | bytes) -> None:
    """The same for the content of a file that NAME_FILE names, which may hold any octets."""
    directory = tmp_path_factory.getbasetemp()
    content = value if isinstance(value, bytes) else value.encode(errors="surrogatepass")
    (directory / "value").write_bytes(content)
    around = {one: text for one, text in environment().items() if one != variable(name)}
    named = around | {f"{variable(name)}_FILE": "value"}
    found = outcome(lambda: read_settings(directory, named))
    if isinstance(found, SettingsError):
        assert variable(name) in str(found)
        assert str(found).replace("\n", "").isprintable()


@given(line=TEXT)
@hypothesis_settings(max_examples=500)
def test_any_line_of_env(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    """The same for a line of .env."""
    directory = tmp_path_factory.getbasetemp()
    (directory / ".env").write_bytes(f"MAILSTACK_HOSTNAME=mail.example.com\n{line}\n".encode(errors="surrogatepass"))
    found = outcome(lambda: read_settings(directory, {}))
    (directory / ".env").unlink()
    if isinstance(found, SettingsError):
        assert str(found).replace("\n", "").isprintable()
