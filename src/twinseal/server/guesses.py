"""Guesses: how many wrong passwords and tokens somebody may try, and what trying them costs this server.

To check a password costs a twentieth of a second of scrypt, on purpose. Of credentials that this process has not seen
to be right yet

- one address tries one at a time: of many that it sends at once, each waits until the one before is counted
- one address has `failed_logins_a_minute` wrong passwords for one account, and ten times as many for all accounts
- one address has `requests_a_minute` wrong tokens: their signature is checked in less than a millisecond
- all addresses together have two threads for passwords

Credentials that were right are checked each time too, but not as guesses: whoever tries passwords behind the same
proxy locks out nobody who works. Sessions are no guesses. An IPv6 network (/64) is one address: it is one customer's.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, Lock, to_thread
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers

from twinseal.server.people import Person, name_and_password
from twinseal.server.settings import ServerSettings
from twinseal.server.ways import NobodyError

ACCOUNTS = 10  # how many times as many wrong passwords an address has for all accounts together
PASSWORD_THREADS = 2
MAX_KNOWN = 10_000


class TooManyGuessesError(Exception):
    """An address has tried too many wrong passwords or tokens."""


class Guesses:
    """Asks who sends a request, and bounds how often in vain.

    Args:
        settings: How often.
        identify: Says who sends a request with these headers; raises NobodyError.
        threads: For all but passwords that are not known yet.
    """

    def __init__(self, settings: ServerSettings, identify: Callable[[Headers], Person], threads: CapacityLimiter):
        self._identify, self._threads, self._slow = identify, threads, CapacityLimiter(PASSWORD_THREADS)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())  # it forgets; the moving window does not
        self._one = RateLimitItemPerMinute(settings.failed_logins_a_minute)
        self._all = RateLimitItemPerMinute(ACCOUNTS * settings.failed_logins_a_minute)
        self._tokens = RateLimitItemPerMinute(settings.requests_a_minute)
        self._key, self._known = secrets.token_bytes(32), OrderedDict[bytes, None]()
        self._turns = WeakValueDictionary[tuple[bool, str], Lock]()

    async def identify(self, headers: Headers, address: str) -> Person:
        """Who sends a request with these headers from this address.

        Raises:
            NobodyError: Nobody who is known.
            TooManyGuessesError: The credentials were not looked at.
        """
        given = headers.get("authorization")
        if given is None:
            return await to_thread.run_sync(self._identify, headers, limiter=self._threads)
        mark = hmac.digest(self._key, given.encode(), "sha256")
        if mark in self._known:
            return await self._checked(headers, mark, self._threads)
        is_token, block = given[:7].lower() == "bearer ", _block(address)
        counts = self._counts(given, block, is_token=is_token)
        async with self._turns.setdefault((is_token, block), Lock()):
            if mark not in self._known and not all(self._limiter.test(*count) for count in counts):
                raise TooManyGuessesError
            try:
                return await self._checked(headers, mark, self._threads if is_token else self._slow)
            except NobodyError as error:
                for count in counts if error.is_guess else ():
                    self._limiter.hit(*count)
                raise

    async def _checked(self, headers: Headers, mark: bytes, threads: CapacityLimiter) -> Person:
        try:
            person = await to_thread.run_sync(self._identify, headers, limiter=threads)
        except NobodyError:
            self._known.pop(mark, None)
            raise
        self._known[mark] = None
        self._known.move_to_end(mark)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return person

    def _counts(self, given: str, block: str, *, is_token: bool) -> tuple[tuple[RateLimitItem, str], ...]:
        if is_token:
            return ((self._tokens, block),)
        name, _ = name_and_password(given) or ("", "")
        return ((self._one, f"{hashlib.sha256(name.encode()).hexdigest()} {block}"), (self._all, block))


def _block(address: str) -> str:
    """What belongs to one customer of a network: an IPv4 address, or the /64 of an IPv6 address.

    >>> [_block(address) for address in ("192.0.2.7", "2001:db8::7", "unknown")]
    ['192.0.2.7', '2001:db8::/64', 'unknown']
    """
    try:
        is_6 = ip_address(address).version == 6
    except ValueError:
        return address
    return str(ip_network(f"{address.partition('%')[0]}/64", strict=False)) if is_6 else address
