"""How tests wait, and what they hold times and rates against.

A test asserts what happens, and in which order. How fast it happens depends on what else the machine does. So a wait ends long after
what is promised: only what never comes fails. What took longer than promised, and every measured figure, is told at the end of the run.
`make measure` asserts them: it is for a machine that does nothing else.
"""

import asyncio
import os
import time

# How many times longer than promised something may take: the Makefile sets it where a sanitizer slows the server.
PATIENCE = float(os.environ.get("SLUICE_PATIENCE", 1))
# Whether a figure that misses its bound fails the test.
IS_STRICT = os.environ.get("SLUICE_MEASURE") == "1"
# What has not come by then never comes. Longer promises are waited for three times as long.
GIVES_UP_SECONDS = 120 * PATIENCE

# The figures of the test that runs, and whether each is within its bound. conftest.py takes them.
measured = []


def last_moment(promised):
    """For how many seconds something is waited for that is promised within these."""
    return max(3 * promised, GIVES_UP_SECONDS)


def figure(what, value, at_most=None, at_least=None, unit="s"):
    """Notes a measured figure and its bound, in words for people. Asserts the bound where the machine is there for measuring."""
    bounds = [f"{sign} {bound:g}" for sign, bound in (("≤", at_most), ("≥", at_least)) if bound is not None]
    text = f"{what}: {value:.3g} {unit}" + (f" ({', '.join(bounds)} promised)" if bounds else "")
    print(text)
    is_kept = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    measured.append((text, is_kept))
    assert is_kept or not IS_STRICT, text


def took(started, promised, what):
    """Notes how long a wait took, where that is longer than promised."""
    seconds = time.monotonic() - started
    if seconds > promised:
        # What stood there while it waited comes behind a semicolon.
        figure(f"waited until {what.partition(';')[0]}", seconds, at_most=promised)


async def until(check, promised, what):
    """Waits until the coroutine function `check` returns something true, and returns it. `promised` is in seconds."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(last_moment(promised)):
            while not (result := await check()):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"after {last_moment(promised):g} s still not: {what}") from None
    took(started, promised, what)
    return result


def wait_for(condition, promised, what):
    """`until`, for a plain function."""
    started = time.monotonic()
    while not (result := condition()):
        if time.monotonic() - started > last_moment(promised):
            raise AssertionError(f"after {last_moment(promised):g} s still not: {what}")
        time.sleep(0.02)
    took(started, promised, what)
    return result


async def steadily(measure, what, at_least, unit, windows=3):
    """Measures up to some windows in a row until one is good, and notes the best: two cores can be busy with something else in one."""
    best = None
    for _ in range(windows):
        value = await measure()
        best = value if best is None else max(best, value)
        if best >= at_least:
            break
    figure(what, best, at_least=at_least, unit=unit)
    return best
