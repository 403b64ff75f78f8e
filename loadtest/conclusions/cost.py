"""What a thousand requests cost: the formula, and nothing else. No price is in here; the user gives it.

    cost of 1,000 requests = price a month / (requests/s x utilisation x 3,600 s/h x 730 h/month) x 1,000

A month is 730 hours: 8,760 hours of a year / 12. ``requests/s`` is a measured capacity: the largest rate within a
latency and an error limit. ``utilisation`` is the share of that capacity that is really asked for, averaged over the
month: 1 is a server that is never idle, so the result at 1 is the least that a request can cost.
"""

from __future__ import annotations

import math

from loadtest.cell import Cost
from loadtest.errors import UsageError

SECONDS_AN_HOUR = 3600
HOURS_A_MONTH = 730  # 8,760 / 12
FORMULA = "price a month / (requests/s x utilisation x 3,600 s x 730 h) x 1,000"


def requests_a_month(requests_per_s: float, utilisation: float = 1.0) -> float:
    """Requests answered in a month of 730 hours."""
    return requests_per_s * utilisation * SECONDS_AN_HOUR * HOURS_A_MONTH


def cost_of(
    option: str, monthly_price: float, requests_per_s: float, *, currency: str = "$", utilisation: float = 1.0
) -> Cost:
    """What 1,000 requests cost; see the formula above.

    Args:
        option: what is paid for.
        monthly_price: in ``currency``.
        requests_per_s: measured.
        currency: its sign.
        utilisation: above 0, up to 1.

    Raises:
        UsageError: a price, rate or utilisation that cannot be.
    """
    if not (math.isfinite(monthly_price) and monthly_price > 0):
        raise UsageError(f"--monthly-price {monthly_price:g}: expected the price of a month, more than 0")
    if not 0 < utilisation <= 1:
        raise UsageError(f"--utilisation {utilisation:g}: expected a share above 0, up to 1")
    if not (math.isfinite(requests_per_s) and requests_per_s > 0):
        raise UsageError(f"{requests_per_s:g} requests/s: a cost needs a measured rate above 0")
    per_1000 = monthly_price / requests_a_month(requests_per_s, utilisation) * 1000
    return Cost(option, monthly_price, currency, requests_per_s, utilisation, per_1000)


def worked(cost: Cost) -> str:
    """The formula with the numbers of ``cost`` in it."""
    return (
        f"{cost.currency}{cost.monthly_price:,.2f} / ({cost.requests_per_s:.4g} requests/s x {cost.utilisation:g} x "
        f"{SECONDS_AN_HOUR:,} s x {HOURS_A_MONTH} h) x 1,000 = {cost.currency}{cost.per_1000_requests:.4g}"
    )
