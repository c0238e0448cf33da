"""May we connect to this address? Only to a public unicast one, or to one the operator allows by name of its range.

Platforms choose where webhooks go and where images come from, so every such address is an attempt, until shown
otherwise, to reach something that only we can reach. The ranges are written out, from the IANA special-purpose
registries, because `ipaddress.is_global` says yes to several of them (NAT64 and 6to4 forms of loopback, multicast).
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from screening.errors import AssayError, ConfigurationError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED_V4 = {
    IPv4Network("0.0.0.0/8"): "this network",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "shared (carrier NAT)",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("168.63.129.16/32"): "a metadata service",  # Azure's, on an address that looks public
    IPv4Network("169.254.0.0/16"): "link-local",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "protocol assignments",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.31.196.0/24"): "AS112",
    IPv4Network("192.52.193.0/24"): "AMT",
    IPv4Network("192.88.99.0/24"): "6to4 relays",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("192.175.48.0/24"): "AS112",
    IPv4Network("198.18.0.0/15"): "benchmarking",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
# Only 2000::/3 is handed out as global unicast (RFC 4291, section 2.4); these are its exceptions.
GLOBAL_V6 = IPv6Network("2000::/3")
REFUSED_V6 = {
    IPv6Network("2001::/32"): "Teredo",
    IPv6Network("2001::/23"): "protocol assignments",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("2620:4f:8000::/48"): "AS112",
    IPv6Network("3fff::/20"): "documentation",
}
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # the upper half of the interface identifier; RFC 5214, section 6.1


class AddressRefusedError(AssayError):
    """The address is not public and lies in no allowed range."""


def parse_ranges(text: str) -> tuple[Network, ...]:
    """The CIDR ranges of ASSAY_ALLOWED_RANGES, comma-separated. Raises ConfigurationError for what is none."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigurationError(f"ASSAY_ALLOWED_RANGES takes CIDR ranges, comma-separated: {error}") from error


def literal(host: str) -> Address | None:
    """The address that a URL's host spells in standard form, or None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an operator's range holds the address."""
    plain = _unmapped(address)
    return any(plain in network for network in allowed)


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why an address may not be connected to, or None where it may."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "a zone id"  # names an interface of ours
    plain = _unmapped(address)
    if is_allowed(plain, allowed):
        return None
    return _refusal_v4(plain) if isinstance(plain, IPv4Address) else _refusal_v6(plain)


def check(address: Address, allowed: Sequence[Network] = ()) -> None:
    """Raise AddressRefusedError where the address may not be connected to."""
    reason = refusal(address, allowed)
    if reason is not None:
        raise AddressRefusedError(f"{address} is refused: {reason}")


def _unmapped(address: Address) -> Address:
    """The system sends ::ffff:a.b.c.d to a.b.c.d, so it is judged as that."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _refusal_v4(address: IPv4Address) -> str | None:
    return next((name for network, name in REFUSED_V4.items() if address in network), None)


def _refusal_v6(address: IPv6Address) -> str | None:
    inner = _embedded(address)
    if inner is not None and (reason := _refusal_v4(inner)) is not None:
        return f"{reason}, embedded"
    if address in NAT64:
        return None
    if address not in GLOBAL_V6:
        return "not global unicast"
    return next((name for network, name in REFUSED_V6.items() if address in network), None)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address a gateway would take out of this one: NAT64 (RFC 6052), 6to4 (RFC 3056) or ISATAP."""
    number = int(address)
    if address in NAT64 or (number >> 32) & 0xFFFF_FFFF in ISATAP:
        return IPv4Address(number & 0xFFFF_FFFF)
    return address.sixtofour
