"""Which addresses a project may name; nothing here leaves the machine."""

import ipaddress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.addresses import AddressRefusedError, checked_address, host_and_port, is_public

PRIVATE = [
    "0.0.0.0",  # noqa: S104 - an address to refuse, not to bind to
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:c0a8:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo: 127.0.0.1 behind a public relay
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "192.167.255.255",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
# Spellings of 127.0.0.1 and friends that resolvers take.
OTHER_SPELLINGS = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "0",
    "2852039166",
    "0xa9fea9fe",
    "3232235521",
    "[::1]",
    "[::ffff:7f00:1]",
    "LOCALHOST",
    "fe80::1%lo",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    """Loopback, private, link-local, reserved, multicast: none of them is public, however embedded."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    """An address that anybody on the internet reaches is public, also as IPv4 within IPv6."""
    assert is_public(address)


@pytest.mark.parametrize("host", [*PRIVATE, *OTHER_SPELLINGS])
def test_private_hosts_are_refused(host: str) -> None:
    """A private host is refused in every spelling, and the error names the setting that allows it."""
    with pytest.raises(AddressRefusedError, match="ALLOWED_HOSTS"):
        checked_address(host, 80, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_given_back(address: str) -> None:
    """A public address needs no permission and is what is connected to."""
    found = checked_address(address, 443, ())
    assert ipaddress.ip_address(found) == ipaddress.ip_address(address)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1:8080"),
        ("localhost", "localhost"),
        ("LocalHost", "localhost"),
        ("localhost", "LOCALHOST:8080"),
        ("::1", "::1"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]:8080"),
    ],
)
def test_allowed_hosts_may_be_private(host: str, allowed: str) -> None:
    """ALLOWED_HOSTS takes `host` and `host:port`, in any case, with IPv6 as in a URL too."""
    assert not is_public(checked_address(host, 8080, ("elsewhere.example", allowed)))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:81"),
        ("127.0.0.1", "127.0.0"),
        ("127.0.0.1", "7.0.0.1"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "*"),
        ("127.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_allowing_one_host_allows_no_other(host: str, allowed: str) -> None:
    """Permission is for that very host and port, not for what looks like it or resolves to it."""
    with pytest.raises(AddressRefusedError):
        checked_address(host, 80, (allowed,))


@pytest.mark.parametrize("host", ["", "a..b", "x y", "a" * 300, "\x00", "999.999.999.999", "-", "."])
def test_what_is_no_host_is_refused(host: str) -> None:
    """A host that cannot be found is refused in the same way, with a reason."""
    with pytest.raises(AddressRefusedError, match="cannot be found"):
        checked_address(host, 80, ())


@settings(deadline=None)
@given(st.ip_addresses())
@example(ipaddress.ip_address("::ffff:192.168.1.1"))
def test_is_public_never_allows_a_private_address(address: ipaddress.IPv4Address) -> None:
    """No address that Python calls private, reserved or multicast counts as public."""
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_counts_as_ipv4(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address is as public mapped into IPv6 or NAT64 as it is by itself."""
    mapped = ipaddress.IPv6Address(0xFFFF_0000_0000 + int(address))
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) + int(address))
    assert is_public(str(mapped)) == is_public(str(nat64)) == is_public(str(address))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host", ("host", 80)),
        ("https://host/v1", ("host", 443)),
        ("http://Host:8080/v1", ("host", 8080)),
        ("https://127.0.0.1:1/", ("127.0.0.1", 1)),
        ("http://[::1]:11434/v1", ("::1", 11434)),
        ("http://[::1]", ("::1", 80)),
    ],
)
def test_host_and_port(url: str, expected: tuple[str, int]) -> None:
    """The host and the port are those that a client connects to."""
    assert host_and_port(url) == expected


@pytest.mark.parametrize(
    "url", ["http://", "", "host", "http://:80", "http://h:99999", "http://h:x", "http://[::1"]
)
def test_a_url_without_host_or_port_is_an_error(url: str) -> None:
    """What names no host, or an impossible port, is a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        host_and_port(url)
