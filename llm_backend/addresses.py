"""Which network addresses may be connected to on behalf of somebody who is not the operator."""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from llm_backend.errors import BackendError


class AddressRefusedError(BackendError):
    """The address is in a private network and not in `ALLOWED_HOSTS`, or its name does not resolve."""

    code = "address_refused"
    status = 422
    may_quote = True


def checked_address(host: str, port: int, allowed_hosts: Collection[str]) -> str:
    """The first of `checked_addresses`."""
    return checked_addresses(host, port, allowed_hosts)[0]


def checked_addresses(host: str, port: int, allowed_hosts: Collection[str]) -> list[str]:
    """The IP addresses of `host`. Connect to these: another look-up could give others than those checked.

    Raises:
        AddressRefusedError: an address of the host is not public and ALLOWED_HOSTS has neither
            `host` nor `host:port`.
    """
    host = host.strip("[]").lower()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressRefusedError(f"The host {host} cannot be found: check the address") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    allowed = {name.replace("[", "").replace("]", "").lower() for name in allowed_hosts}
    if not {host, f"{host}:{port}"} & allowed and not all(map(is_public, addresses)):
        raise AddressRefusedError(
            f"The host {host} is in a private network: the operator can allow it with ALLOWED_HOSTS={host}"
        )
    return list(dict.fromkeys(addresses))


def is_public(address: str) -> bool:
    """Whether anybody on the internet reaches the IP address; IPv4 inside IPv6 counts as IPv4."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        if embedded is not None:
            return is_public(str(embedded))
        if parsed in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
        if parsed.is_site_local:
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def host_and_port(url: str) -> tuple[str, int]:
    """The host and port that the URL connects to.

    Raises:
        ValueError: the URL names no host, or an impossible port.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url} names no host")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
