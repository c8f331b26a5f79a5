"""Label Studio's tokens: what one says of itself, and the header that shows it."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_backend.label_studio.tokens import AccessTokens, claims, is_personal, kind_of, problem_of
from testkit.stub_label_studio import ACCESS_TOKEN, LEGACY_TOKEN, PERSONAL_TOKEN, json_web_token

URL = "http://labels.example"


class Office:
    """Gives access tokens of this lifetime, each another, and remembers what was shown."""

    def __init__(self, lifetime: float | None) -> None:
        self.lifetime = lifetime
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, address: str, body: Any) -> bytes:
        """The body of its answer."""
        self.asked.append((address, body))
        expires = {} if self.lifetime is None else {"exp": time.time() + self.lifetime}
        return json.dumps({"access": json_web_token(number=len(self.asked), **expires)}).encode()


def test_a_legacy_token_is_sent_as_it_is() -> None:
    """Nothing is exchanged."""
    office = Office(300)
    assert AccessTokens().header(URL, LEGACY_TOKEN, office) == f"Token {LEGACY_TOKEN}"
    assert office.asked == []


def test_a_personal_access_token_is_exchanged_once() -> None:
    """It goes to one address only; the access token is kept for that Label Studio and that token."""
    office, tokens = Office(300), AccessTokens()
    shown = {tokens.header(URL, PERSONAL_TOKEN, office) for _ in range(3)}
    assert len(shown) == 1
    assert shown.pop().startswith("Bearer ey")
    assert office.asked == [(f"{URL}/api/token/refresh/", {"refresh": PERSONAL_TOKEN})]
    tokens.header("http://other.example", PERSONAL_TOKEN, office)
    tokens.header(URL, json_web_token(token_type="refresh", user=2), office)
    assert len(office.asked) == 3


@pytest.mark.parametrize("lifetime", [29, -5, None])
def test_what_expires_soon_is_not_kept(lifetime: float | None) -> None:
    """Nor is an access token that does not say when."""
    office, tokens = Office(lifetime), AccessTokens()
    assert tokens.header(URL, PERSONAL_TOKEN, office) != tokens.header(URL, PERSONAL_TOKEN, office)


def test_a_refused_access_token_is_replaced() -> None:
    """Whoever was refused with the one before gets the new one, which is not replaced again."""
    office, tokens = Office(300), AccessTokens()
    refused = tokens.header(URL, PERSONAL_TOKEN, office)
    new = tokens.header(URL, PERSONAL_TOKEN, office, refused=refused)
    assert new != refused
    assert tokens.header(URL, PERSONAL_TOKEN, office, refused=refused) == new
    assert len(office.asked) == 2


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b'{"access": null}', b'{"access": ""}', b"\xff", b"[" * 10**5]
)
def test_an_answer_without_a_token_is_an_error(body: bytes) -> None:
    """It is one of a kind that callers convert."""
    with pytest.raises(ValueError):  # noqa: PT011 - its text is for nobody
        AccessTokens().header(URL, PERSONAL_TOKEN, lambda *_: body)


@pytest.mark.parametrize(
    ("token", "kind"),
    [(LEGACY_TOKEN, "legacy token"), ("a.b.c", "legacy token"), ("", "legacy token"),
     (PERSONAL_TOKEN, "personal access token"), (PERSONAL_TOKEN.rpartition(".")[0], "personal access token")],
)  # fmt: skip
def test_the_kind_of_a_token(token: str, kind: str) -> None:
    """A personal access token is known by its form, even when it is cut off."""
    assert kind_of(token) == kind


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "no token"),
        (PERSONAL_TOKEN.rpartition(".")[0], "cut off"),
        (ACCESS_TOKEN, "is an access token"),
        (json_web_token(token_type="refresh", exp=1_600_000_000), "expired on 2020-09-13"),
        (json_web_token(token_type="refresh", exp=-1e30), "expired on 1970-01-01"),
        (LEGACY_TOKEN, None),
        (PERSONAL_TOKEN, None),
        (json_web_token(token_type="refresh", exp="soon"), None),
    ],
)
def test_what_a_token_tells_of_its_faults(token: str, says: str | None) -> None:
    """Whatever else is wrong with it, only Label Studio knows."""
    problem = problem_of(token)
    assert (problem is None) if says is None else (problem is not None and says in problem)


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join))
def test_any_text_is_read(token: str) -> None:
    """An operator may paste anything."""
    assert (claims(token) is not None) == is_personal(token)
    problem_of(token)
