"""Addresses that others chose and this server calls: looked at first, and called by the very one that was looked at.

A name that answers otherwise the second time can't trick us, nor a redirection. Knows nothing of what is sent.
"""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx

from finery.core.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A URL, and where its host is."""

    parts: SplitResult
    ip: str


def allowed(url: str, *, private: bool) -> Address:
    """The address behind a URL, if it may be called.

    Raises:
        InvalidRequest: not https, or an address of a private network where those aren't allowed.
        OSError: the name isn't known.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise InvalidRequest(f"{url!r} is not a URL.", param="url") from error
    if parts.scheme not in ("https", "http"):
        raise InvalidRequest(f"{url!r} is not an https URL.", param="url")
    if not parts.hostname:
        raise OSError(f"{url!r} names no host")
    found = {str(info[4][0]) for info in socket.getaddrinfo(parts.hostname, port, proto=socket.IPPROTO_TCP)}
    public = all(ipaddress.ip_address(address).is_global for address in found)
    if public and parts.scheme != "https":
        raise InvalidRequest(f"{url} isn't https; what is told there could be read on the way.", param="url")
    if not public and not private:
        raise InvalidRequest(
            f"{url} leads to a private address. The operator can allow that with FINERY_PRIVATE_WEBHOOKS=1.",
            param="url",
        )
    return Address(parts=parts, ip=sorted(found)[0])


async def post(address: Address, body: bytes, headers: dict[str, str], *, seconds: float) -> httpx.Response:
    """What is answered there.

    Raises:
        httpx.HTTPError: nothing, or too late.
    """
    parts = address.parts
    host = f"[{address.ip}]" if ":" in address.ip else address.ip
    port = f":{parts.port}" if parts.port else ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    async with httpx.AsyncClient(timeout=seconds, follow_redirects=False, trust_env=False) as client:
        return await client.post(
            f"{parts.scheme}://{host}{port}{path}",
            content=body,
            headers={"host": parts.netloc.rpartition("@")[2], **headers},
            extensions={"sni_hostname": parts.hostname} if parts.scheme == "https" else {},
        )
