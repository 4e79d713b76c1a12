import asyncio

import pytest

pytestmark = pytest.mark.anyio


async def book(client, room=2, guest=2, day=5):
    return await client.post(f"/rooms/{room}/bookings", params={"guest": guest, "day": day})


@pytest.mark.parametrize("guest", range(1, 11))
async def test_each_first_booking_costs_the_same(client, guest):
    answer = await book(client, room=guest, guest=guest)
    assert (answer.status_code, answer.json()) == (201, {"id": 2, "credit": 70})


async def test_a_room_is_taken_once_a_day(client):
    assert (await book(client, guest=2)).status_code == 201
    assert (await book(client, guest=3)).status_code == 409
    assert (await client.get("/rooms/2")).json()["days"] == [5]


async def test_credit_ends(client):
    codes = [(await book(client, day=day)).status_code for day in range(1, 6)]
    assert codes == [201, 201, 201, 402, 402]


async def test_bookings_at_the_same_time(client):
    answers = await asyncio.gather(*(book(client, room=room, guest=room) for room in range(5, 13)))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert (await client.get("/counts")).json()["booking"] == 9


async def test_only_one_of_many_gets_the_room(client):
    answers = await asyncio.gather(*(book(client, guest=guest) for guest in range(5, 11)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
