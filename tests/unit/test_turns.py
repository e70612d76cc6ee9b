"""Who is let in where there is only so much room."""

from __future__ import annotations

import asyncio

from certd.challenges.turns import Turns


async def come(turns: Turns, owner: str, inside: list[str], over: asyncio.Event) -> None:
    async with turns.one(owner):
        inside.append(owner)
        await over.wait()


async def let_in(most: int, each: int, owners: str) -> list[str]:
    """In the order of their coming in, all leaving once as many are inside as can be."""
    turns, inside = Turns(most, each), list[str]()
    over = asyncio.Event()
    comers = [asyncio.create_task(come(turns, owner, inside, over)) for owner in owners]
    for _ in range(3):
        await asyncio.sleep(0)
    inside.append("|")
    over.set()
    await asyncio.gather(*comers)
    return inside


def test_of_one_owner_only_so_many_are_inside() -> None:
    assert "".join(asyncio.run(let_in(9, 2, "aaaaab"))) == "aab|aaa"


def test_owners_take_turns() -> None:
    inside = "".join(asyncio.run(let_in(2, 2, "aaaaaabc")))
    assert inside.startswith("aa|")
    assert set(inside[3:6]) == {"a", "b", "c"}


def test_who_gives_up_makes_room() -> None:
    async def give_up() -> list[str]:
        turns, inside, over = Turns(1, 1), list[str](), asyncio.Event()
        comers = [asyncio.create_task(come(turns, owner, inside, over)) for owner in "abc"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for comer in comers[:2]:  # one that is inside, and one that waits
            comer.cancel()
        over.set()
        await asyncio.gather(*comers, return_exceptions=True)
        return inside

    assert asyncio.run(give_up()) == ["a", "c"]
